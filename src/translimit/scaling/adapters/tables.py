"""Which name table a module goes by: that of its family, or one for plain modules of PyTorch.

Tables of families are in their records, `translimit.describe.FAMILIES`. Two more are here:

| table | packed | score scale |
|---|---|---|
| torch | in_proj_weight of `torch.nn.MultiheadAttention` | fixed at N^{-1/2} |
| plain | - | `scaling`, `scale` or `softmax_scale` above the query projection |

Families whose blocks the rules are not known for are refused, by what their stack is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias, cast

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Json,
    JsonObject,
    NoSuchLimitError,
    TorchModule,
    brief,
    nearest,
)
from translimit.describe import (
    FAMILIES,
    QKV,
    QKV_BIAS,
    READOUT_NAMES,
    NameTable,
    Role,
    family_called,
    linear_names,
    norm_names,
    read_stack,
)
from translimit.scaling.errors import UnsupportedModuleError
from translimit.scaling.facts import module_facts, unknown_block
from translimit.scaling.reading import Configuration

#: torch.nn.TransformerEncoder and torch.nn.MultiheadAttention, whose score scale is fixed.
_TORCH = NameTable(
    family="torch",
    roles={
        "self_attn.in_proj_weight": QKV,
        "self_attn.in_proj_bias": QKV_BIAS,
        **linear_names("self_attn.out_proj", Role.ATTENTION_OUT),
        **linear_names("linear1", Role.MLP_IN),
        **linear_names("linear2", Role.MLP_OUT),
        **norm_names("layers.*.{norm1,norm2}", "block"),
    },
    attention=("self_attn",),
    score_scale=(),
)

_STACK = "{blocks,layers,h}.*"
#: Names that modules of one's own often have; `names` adds others.
PLAIN = NameTable(
    family="plain",
    roles={
        **_TORCH.roles,
        "{token_embedding,tok_embeddings,embed_tokens,embedding,embed,wte}.weight": (
            Role.TOKEN_EMBEDDING
        ),
        "{position_embedding,pos_embedding,wpe}.weight": Role.POSITION_EMBEDDING,
        "{position,positions,position_embedding,pos_embedding,cls_token}": Role.POSITION_EMBEDDING,
        "{patch_embedding,patch_embed}.weight": Role.PATCH_EMBEDDING,
        "{patch_embedding,patch_embed}.bias": Role.PATCH_BIAS,
        **linear_names(_STACK + ".*.{q,query,q_proj,wq,to_q}", Role.QUERY),
        **linear_names(_STACK + ".*.{k,key,k_proj,wk,to_k}", Role.KEY),
        **linear_names(_STACK + ".*.{v,value,v_proj,wv,to_v}", Role.VALUE),
        **linear_names(_STACK + ".*.{o,o_proj,wo,to_out,attention_out}", Role.ATTENTION_OUT),
        **linear_names(_STACK + ".*.{up,fc1,up_proj,mlp_in,c_fc}", Role.MLP_IN),
        **linear_names(_STACK + ".*.{gate,gate_proj,mlp_gate}", Role.MLP_GATE),
        **linear_names(_STACK + ".*.{down,fc2,down_proj,mlp_out}", Role.MLP_OUT),
        **norm_names(_STACK + ".{ln1,ln2,ln_1,ln_2,attention_norm,mlp_norm,ffn_norm}", "block"),
        **norm_names("{ln_f,final_norm,norm_f,norm}", "final"),
        **linear_names("{readout,head,unembed,output}", Role.READOUT),
        **READOUT_NAMES,
    },
    attention=(),
    by_number=True,
    remark="; tables of known families go by `config.model_type` or names='gpt2', 'llama', ...",
)

#: A family, a table, or patterns with their roles; None for the module's own table.
Names: TypeAlias = str | NameTable | Mapping[str, Role | str | tuple[Role | str, ...]] | None


def table_of_model(model: TorchModule) -> NameTable:
    """The table of a module: by the `model_type` of its configuration, else that of plain ones.

    Raises:
        UnsupportedModuleError: its blocks are not those of the rules: it normalises after the sum,
            like BERT, or multiplies what it adds.
    """
    inner = unwrapped(model)
    config = getattr(inner, "config", None)
    named = getattr(config, "model_type", None)
    if isinstance(named, str):
        told = config.to_dict() if isinstance(config, Configuration) else None
        _require_known_block(named, told)
    for name, module in inner.named_modules():
        if getattr(module, "norm_first", None) is False:
            raise UnsupportedModuleError(
                name or "model",
                "normalises after the residual sum (post-LN)",
                "build it with norm_first=True: the rules are for pre-LN",
            )
    return _table_called(named) or _plain_of(named)


def table_of(model: TorchModule, names: Names = None) -> NameTable:
    """The table that `names` says: a family, a table, or patterns beside the module's own table.

    Raises:
        ArgumentError: no such family or role.
        ArgumentTypeError: names of another type.
        UnsupportedModuleError: blocks that are not those of the rules.
    """
    if isinstance(names, NameTable):
        return names
    if isinstance(names, str) and names != "auto":
        _require_known_block(names, None)
        found = _table_called(names)
        if found is None:
            known = (*FAMILIES, PLAIN.family)
            raise ArgumentError("names", f"unknown table {names!r}", nearest(names, known))
        return found
    if isinstance(names, Mapping):
        return table_of_model(model).extended(names)
    if names is not None and names != "auto":
        raise ArgumentTypeError(
            "names", f"got {brief(names)}", "pass a family, a NameTable or {pattern: role}"
        )
    return table_of_model(model)


def _table_called(name: str | None) -> NameTable | None:
    """The table of a family, or that of plain modules by its name."""
    if name == PLAIN.family:
        return PLAIN
    family = None if name is None else family_called(name)
    return None if family is None else family.names


def _plain_of(name: str | None) -> NameTable:
    """The table of plain modules; with why a family has none of its own."""
    family = None if not isinstance(name, str) else family_called(name)
    if family is None or not family.unnamed:
        return PLAIN
    return replace(PLAIN, remark=f"; there is no table of {family.name}: it {family.unnamed}")


def facts_of_model(model: TorchModule) -> dict[str, bool]:
    """What the configuration of a module says about norms, embedding and gates.

    Nothing where there is no configuration, or one of a family without a reader.
    """
    config = getattr(unwrapped(model), "config", None)
    if not isinstance(config, Configuration) or not hasattr(config, "model_type"):
        return {}
    try:
        reading = read_stack(config.to_dict())
    except (ArgumentError, NoSuchLimitError):
        return {}
    return module_facts(reading)


def unwrapped(model: TorchModule) -> TorchModule:
    """The module inside of torch.compile, DDP, DataParallel and FSDP."""
    wrappers = {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}
    while True:
        if type(model).__name__ == "OptimizedModule":
            model = cast("TorchModule", model._orig_mod)
        elif type(model).__name__ in wrappers:
            model = cast("TorchModule", model.module)
        else:
            return model


def _require_known_block(family: str, told: JsonObject | None) -> None:
    """Refuse a family whose blocks are not those of the rules; sizes do not matter where not told.

    What cannot be read is left to the table: it says which parameter has no role.
    """
    try:
        problem = unknown_block(
            read_stack(told or {"model_type": family, **_SIZES}).stack, any_scale=True
        )
    except NoSuchLimitError as error:
        problem = error.problem
    except ArgumentError:
        return
    if problem is not None:
        raise UnsupportedModuleError(
            "model",
            f"{family!r} {problem}",
            "the rules are for blocks whose norms are in the branches, like those of GPT-2, Llama, "
            "Gemma or ViT",
        )


#: Sizes that every reader understands, for a look at a family's block.
_SIZES: dict[str, Json] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 256,
}
