"""The name tables that are known: Hugging Face's families, and plain modules of PyTorch.

| table | packed | stored (in, out) | logit scale |
|---|---|---|---|
| gpt2 | c_attn | c_attn, c_proj, c_fc | `attn.scaling` |
| llama, mistral, qwen2 | - | - | `self_attn.scaling` |
| gpt_neox | query_key_value (head by head) | - | `attention.scaling` |
| vit | - | - | `attention.scaling` |
| torch | in_proj_weight of `torch.nn.MultiheadAttention` | - | fixed at N^{-1/2} |
| plain | - | - | `scaling`, `scale` or `softmax_scale` above the query projection |

Every family is pre-LN. BERT and its relatives normalise after the sum and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from translimit.core import ArgumentError, ArgumentTypeError, brief, nearest
from translimit.describe import POST_NORM, Role
from translimit.scaling.adapters.names import QKV, QKV_BIAS, NameTable
from translimit.scaling.errors import UnsupportedModuleError

_HEADS = {
    "{lm_head,score,classifier}.weight": Role.READOUT,
    "{lm_head,score,classifier}.bias": Role.READOUT_BIAS,
}


def _affine(pattern: str, role: Role) -> dict[str, Role]:
    """Weight and bias of a linear map."""
    return {f"{pattern}.weight": role, f"{pattern}.bias": Role(f"{role.value}_bias")}


def _norm(pattern: str, kind: str) -> dict[str, Role]:
    return {
        f"{pattern}.weight": Role(f"{kind}_norm_gain"),
        f"{pattern}.bias": Role(f"{kind}_norm_bias"),
    }


_GPT2 = NameTable(
    family="gpt2",
    roles={
        "wte.weight": Role.TOKEN_EMBEDDING,
        "wpe.weight": Role.POSITION_EMBEDDING,
        **_norm("h.*.{ln_1,ln_2}", "block"),
        "h.*.attn.c_attn.weight": QKV,
        "h.*.attn.c_attn.bias": QKV_BIAS,
        **_affine("h.*.attn.c_proj", Role.ATTENTION_OUT),
        **_affine("h.*.mlp.c_fc", Role.MLP_IN),
        **_affine("h.*.mlp.c_proj", Role.MLP_OUT),
        **_norm("ln_f", "final"),
        **_HEADS,
    },
    transposed=("h.*.attn.{c_attn,c_proj}.weight", "h.*.mlp.{c_fc,c_proj}.weight"),
    attention=("h.*.attn",),
    scale=("scaling",),
    depth_scaled=True,
)

_LLAMA = NameTable(
    family="llama",
    roles={
        "embed_tokens.weight": Role.TOKEN_EMBEDDING,
        **_norm("layers.*.{input_layernorm,post_attention_layernorm}", "block"),
        **_affine("layers.*.self_attn.q_proj", Role.QUERY),
        **_affine("layers.*.self_attn.k_proj", Role.KEY),
        **_affine("layers.*.self_attn.v_proj", Role.VALUE),
        **_affine("layers.*.self_attn.o_proj", Role.ATTENTION_OUT),
        **_affine("layers.*.mlp.gate_proj", Role.MLP_GATE),
        **_affine("layers.*.mlp.up_proj", Role.MLP_IN),
        **_affine("layers.*.mlp.down_proj", Role.MLP_OUT),
        "model.norm.weight": Role.FINAL_NORM_GAIN,
        **_HEADS,
    },
    attention=("layers.*.self_attn",),
    scale=("scaling",),
)

_GPT_NEOX = NameTable(
    family="gpt_neox",
    roles={
        "embed_in.weight": Role.TOKEN_EMBEDDING,
        **_norm("layers.*.{input_layernorm,post_attention_layernorm}", "block"),
        "layers.*.attention.query_key_value.weight": QKV,
        "layers.*.attention.query_key_value.bias": QKV_BIAS,
        **_affine("layers.*.attention.dense", Role.ATTENTION_OUT),
        **_affine("layers.*.mlp.dense_h_to_4h", Role.MLP_IN),
        **_affine("layers.*.mlp.dense_4h_to_h", Role.MLP_OUT),
        **_norm("final_layer_norm", "final"),
        "embed_out.weight": Role.READOUT,
        **_HEADS,
    },
    attention=("layers.*.attention",),
    scale=("scaling",),
)

_VIT = NameTable(
    family="vit",
    roles={
        "embeddings.{cls_token,mask_token,position_embeddings}": Role.POSITION_EMBEDDING,
        "patch_embeddings.projection.weight": Role.PATCH_EMBEDDING,
        "patch_embeddings.projection.bias": Role.PATCH_BIAS,
        **_norm("layers.*.{layernorm_before,layernorm_after}", "block"),
        **_affine("layers.*.attention.q_proj", Role.QUERY),
        **_affine("layers.*.attention.k_proj", Role.KEY),
        **_affine("layers.*.attention.v_proj", Role.VALUE),
        **_affine("layers.*.attention.o_proj", Role.ATTENTION_OUT),
        **_affine("layers.*.mlp.fc1", Role.MLP_IN),
        **_affine("layers.*.mlp.fc2", Role.MLP_OUT),
        **_norm("layernorm", "final"),
        **_HEADS,
    },
    attention=("layers.*.attention",),
    scale=("scaling",),
)

#: torch.nn.TransformerEncoder and torch.nn.MultiheadAttention, whose logit scale is fixed.
_TORCH = NameTable(
    family="torch",
    roles={
        "self_attn.in_proj_weight": QKV,
        "self_attn.in_proj_bias": QKV_BIAS,
        **_affine("self_attn.out_proj", Role.ATTENTION_OUT),
        **_affine("linear1", Role.MLP_IN),
        **_affine("linear2", Role.MLP_OUT),
        **_norm("layers.*.{norm1,norm2}", "block"),
    },
    attention=("self_attn",),
    scale=(),
)

_STACK = "{blocks,layers,h}.*"
#: Names that modules of one's own often have; `names` adds others.
_PLAIN = NameTable(
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
        **_affine(_STACK + ".*.{q,query,q_proj,wq,to_q}", Role.QUERY),
        **_affine(_STACK + ".*.{k,key,k_proj,wk,to_k}", Role.KEY),
        **_affine(_STACK + ".*.{v,value,v_proj,wv,to_v}", Role.VALUE),
        **_affine(_STACK + ".*.{o,o_proj,wo,to_out,attention_out}", Role.ATTENTION_OUT),
        **_affine(_STACK + ".*.{up,fc1,up_proj,mlp_in,c_fc}", Role.MLP_IN),
        **_affine(_STACK + ".*.{gate,gate_proj,mlp_gate}", Role.MLP_GATE),
        **_affine(_STACK + ".*.{down,fc2,down_proj,mlp_out}", Role.MLP_OUT),
        **_norm(_STACK + ".{ln1,ln2,ln_1,ln_2,attention_norm,mlp_norm,ffn_norm}", "block"),
        **_norm("{ln_f,final_norm,norm_f,norm}", "final"),
        **_affine("{readout,head,unembed,output}", Role.READOUT),
        **_HEADS,
    },
    attention=(),
    remark="; tables of known families go by `config.model_type` or names='gpt2', 'llama', ...",
)

TABLES: dict[str, NameTable] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, family="mistral"),
    "qwen2": replace(_LLAMA, family="qwen2"),
    "gpt_neox": _GPT_NEOX,
    "vit": _VIT,
    "plain": _PLAIN,
}

Names = str | NameTable | Mapping[str, Any] | None


def table_of_model(model: Any) -> NameTable:
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
    return TABLES.get(named or "plain", _PLAIN)


def table_of(model: Any, names: Names = None) -> NameTable:
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
        if names not in TABLES:
            raise ArgumentError("names", f"unknown table {names!r}", nearest(names, TABLES))
        return TABLES[names]
    if isinstance(names, Mapping):
        return table_of_model(model).extended(names)
    if names is not None and names != "auto":
        raise ArgumentTypeError(
            "names", f"got {brief(names)}", "pass a family, a NameTable or {pattern: role}"
        )
    return table_of_model(model)


def unwrapped(model: Any) -> Any:
    """The module inside of torch.compile, DDP, DataParallel and FSDP."""
    wrappers = {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}
    while True:
        if type(model).__name__ == "OptimizedModule":
            model = model._orig_mod
        elif type(model).__name__ in wrappers:
            model = model.module
        else:
            return model


def _require_pre_norm(family: str) -> None:
    if family.lower().replace("_", "-") in POST_NORM:
        raise UnsupportedModuleError(
            "model",
            f"{family!r} normalises after the residual sum (post-LN)",
            "the rules are for pre-LN stacks, like GPT-2, Llama or ViT",
        )
