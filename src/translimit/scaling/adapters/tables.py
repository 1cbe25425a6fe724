"""Which name table a module goes by: that of its family, or one for plain modules of PyTorch.

Tables of families are in their records, `translimit.describe.FAMILIES`. Two more are here:

| table | packed | score scale |
|---|---|---|
| torch | in_proj_weight of `torch.nn.MultiheadAttention` | fixed at N^{-1/2} |
| plain | - | `scaling`, `scale` or `softmax_scale` above the query projection |

Every family is pre-LN. BERT and its relatives normalise after the sum and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

from translimit.core import ArgumentError, ArgumentTypeError, brief, nearest
from translimit.describe import (
    FAMILIES,
    POST_NORM,
    QKV,
    QKV_BIAS,
    READOUT_NAMES,
    NameTable,
    Role,
    linear_names,
    norm_names,
)
from translimit.scaling.adapters.foreign import Module
from translimit.scaling.errors import UnsupportedModuleError

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
    scale=(),
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
    remark="; tables of known families go by `config.model_type` or names='gpt2', 'llama', ...",
)

#: A family, a table, or patterns with their roles; None for the module's own table.
Names: TypeAlias = str | NameTable | Mapping[str, Role | str | tuple[Role | str, ...]] | None


def table_of_model(model: Module) -> NameTable:
    """The table of a module: by the `model_type` of its configuration, else that of plain ones.

    Raises:
        UnsupportedModuleError: it normalises after the sum, like BERT.
    """
    inner = unwrapped(model)
    named = getattr(getattr(inner, "config", None), "model_type", None)
    if isinstance(named, str):
        _require_pre_norm(named)
    for name, module in inner.named_modules():
        if getattr(module, "norm_first", None) is False:
            raise UnsupportedModuleError(
                name or "model",
                "normalises after the residual sum (post-LN)",
                "build it with norm_first=True: the rules are for pre-LN",
            )
    return _table_called(named) or PLAIN


def table_of(model: Module, names: Names = None) -> NameTable:
    """The table that `names` says: a family, a table, or patterns beside the module's own table.

    Raises:
        ArgumentError: no such family or role.
        ArgumentTypeError: names of another type.
        UnsupportedModuleError: a module that normalises after the sum.
    """
    if isinstance(names, NameTable):
        return names
    if isinstance(names, str) and names != "auto":
        _require_pre_norm(names)
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
    return FAMILIES[name].names if name in FAMILIES else None


def unwrapped(model: Module) -> Module:
    """The module inside of torch.compile, DDP, DataParallel and FSDP."""
    wrappers = {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}
    while True:
        if type(model).__name__ == "OptimizedModule":
            model = cast("Module", model._orig_mod)
        elif type(model).__name__ in wrappers:
            model = cast("Module", model.module)
        else:
            return model


def _require_pre_norm(family: str) -> None:
    if family.lower().replace("_", "-") in POST_NORM:
        raise UnsupportedModuleError(
            "model",
            f"{family!r} normalises after the residual sum (post-LN)",
            "the rules are for pre-LN stacks, like GPT-2, Llama or ViT",
        )
