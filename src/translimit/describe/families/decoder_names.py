"""Names of parameters of decoders, as in the reference implementations of transformers 5.

A table has the names of several families where they do not collide: of two norms that one family
lacks, the patterns match nothing there.
"""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.parameter_names import (
    QKV,
    QKV_BIAS,
    READOUT_NAMES,
    NameTable,
    linear_names,
    norm_names,
)
from translimit.describe.roles import Role

#: Gate and other input of a gated block in one tensor, one after the other.
GATE_AND_IN = (Role.MLP_GATE, Role.MLP_IN)

_GPT = {
    "wte.weight": Role.TOKEN_EMBEDDING,
    "wpe.weight": Role.POSITION_EMBEDDING,
    **norm_names("h.*.{ln_1,ln_2}", "block"),
    **norm_names("ln_f", "final"),
    **READOUT_NAMES,
}

GPT2 = NameTable(
    family="gpt2",
    roles={
        **_GPT,
        "h.*.attn.c_attn.weight": QKV,
        "h.*.attn.c_attn.bias": QKV_BIAS,
        **linear_names("h.*.attn.c_proj", Role.ATTENTION_OUT),
        **linear_names("h.*.mlp.c_fc", Role.MLP_IN),
        **linear_names("h.*.mlp.c_proj", Role.MLP_OUT),
    },
    transposed=("h.*.attn.{c_attn,c_proj}.weight", "h.*.mlp.{c_fc,c_proj}.weight"),
    attention=("h.*.attn",),
    score_scale=("scaling",),
    depth_scaled=True,
)

IMAGE_GPT = replace(GPT2, family="imagegpt", score_scale=())

GPT_NEO = NameTable(
    family="gpt_neo",
    roles={
        **_GPT,
        "h.*.attn.attention.q_proj.weight": Role.QUERY,
        "h.*.attn.attention.k_proj.weight": Role.KEY,
        "h.*.attn.attention.v_proj.weight": Role.VALUE,
        **linear_names("h.*.attn.attention.out_proj", Role.ATTENTION_OUT),
        **linear_names("h.*.mlp.c_fc", Role.MLP_IN),
        **linear_names("h.*.mlp.c_proj", Role.MLP_OUT),
    },
    attention=("h.*.attn.attention",),
    score_scale=(),
)

GPTJ = NameTable(
    family="gptj",
    roles={
        **_GPT,
        "h.*.attn.q_proj.weight": Role.QUERY,
        "h.*.attn.k_proj.weight": Role.KEY,
        "h.*.attn.v_proj.weight": Role.VALUE,
        "h.*.attn.out_proj.weight": Role.ATTENTION_OUT,
        **linear_names("h.*.mlp.fc_in", Role.MLP_IN),
        **linear_names("h.*.mlp.fc_out", Role.MLP_OUT),
    },
    attention=("h.*.attn",),
    score_scale=("scale_attn",),
)

_BLOCK_OF_NEOX = {
    **norm_names("{layers,h}.*.{input_layernorm,post_attention_layernorm}", "block"),
    "{layers,h}.*.{attention,self_attention}.query_key_value.weight": QKV,
    "{layers,h}.*.{attention,self_attention}.query_key_value.bias": QKV_BIAS,
    **linear_names("{layers,h}.*.{attention,self_attention}.dense", Role.ATTENTION_OUT),
    **linear_names("{layers,h}.*.mlp.dense_h_to_4h", Role.MLP_IN),
    **linear_names("{layers,h}.*.mlp.dense_4h_to_h", Role.MLP_OUT),
    **READOUT_NAMES,
}

GPT_NEOX = NameTable(
    family="gpt_neox",
    roles={
        **_BLOCK_OF_NEOX,
        "embed_in.weight": Role.TOKEN_EMBEDDING,
        **norm_names("final_layer_norm", "final"),
        "embed_out.weight": Role.READOUT,
    },
    attention=("layers.*.attention",),
    score_scale=("scaling",),
    interleaved=True,
)

BLOOM = NameTable(
    family="bloom",
    roles={
        **_BLOCK_OF_NEOX,
        "word_embeddings.weight": Role.TOKEN_EMBEDDING,
        **norm_names("word_embeddings_layernorm", "embedding"),
        **norm_names("ln_f", "final"),
    },
    attention=("h.*.self_attention",),
    score_scale=("inv_norm_factor",),
    interleaved=True,
)

MPT = NameTable(
    family="mpt",
    roles={
        "wte.weight": Role.TOKEN_EMBEDDING,
        **norm_names("blocks.*.{norm_1,norm_2}", "block"),
        "blocks.*.attn.Wqkv.weight": QKV,
        "blocks.*.attn.out_proj.weight": Role.ATTENTION_OUT,
        "blocks.*.ffn.up_proj.weight": Role.MLP_IN,
        "blocks.*.ffn.down_proj.weight": Role.MLP_OUT,
        **norm_names("norm_f", "final"),
        **READOUT_NAMES,
    },
    attention=("blocks.*.attn",),
    score_scale=("softmax_scale",),
)

OPT = NameTable(
    family="opt",
    roles={
        "embed_tokens.weight": Role.TOKEN_EMBEDDING,
        "embed_positions.weight": Role.POSITION_EMBEDDING,
        **norm_names("layers.*.{self_attn_layer_norm,final_layer_norm}", "block"),
        **linear_names("layers.*.self_attn.q_proj", Role.QUERY),
        **linear_names("layers.*.self_attn.k_proj", Role.KEY),
        **linear_names("layers.*.self_attn.v_proj", Role.VALUE),
        **linear_names("layers.*.self_attn.out_proj", Role.ATTENTION_OUT),
        **linear_names("layers.*.fc1", Role.MLP_IN),
        **linear_names("layers.*.fc2", Role.MLP_OUT),
        **norm_names("decoder.final_layer_norm", "final"),
        **READOUT_NAMES,
    },
    attention=("layers.*.self_attn",),
    score_scale=("scaling",),
)

BIOGPT = replace(
    OPT,
    family="biogpt",
    roles={
        **OPT.roles,
        **norm_names("biogpt.layer_norm", "final"),
        "output_projection.weight": Role.READOUT,
    },
)

XGLM = replace(
    OPT,
    family="xglm",
    roles={**OPT.roles, **norm_names("{model.layer_norm,layer_norm}", "final")},
)

CTRL = NameTable(
    family="ctrl",
    roles={
        "w.weight": Role.TOKEN_EMBEDDING,
        **norm_names("h.*.{layernorm1,layernorm2}", "block"),
        **linear_names("h.*.multi_head_attention.Wq", Role.QUERY),
        **linear_names("h.*.multi_head_attention.Wk", Role.KEY),
        **linear_names("h.*.multi_head_attention.Wv", Role.VALUE),
        **linear_names("h.*.multi_head_attention.dense", Role.ATTENTION_OUT),
        **linear_names("h.*.ffn.0", Role.MLP_IN),
        **linear_names("h.*.ffn.2", Role.MLP_OUT),
        **norm_names("layernorm", "final"),
        **READOUT_NAMES,
    },
    attention=("h.*.multi_head_attention",),
    score_scale=(),
)

OPENAI = replace(
    GPT2,
    family="openai-gpt",
    roles={
        **GPT2.roles,
        "tokens_embed.weight": Role.TOKEN_EMBEDDING,
        "positions_embed.weight": Role.POSITION_EMBEDDING,
    },
    depth_scaled=False,
)

JAPANESE = replace(
    GPT_NEOX,
    family="gpt_neox_japanese",
    roles={**GPT_NEOX.roles, "layers.*.attention.dense_bias": Role.ATTENTION_OUT_BIAS},
)

_NORMS_OF_LLAMA = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "post_self_attn_layernorm",
    "post_mlp_layernorm",
    "post_norm1",
    "post_norm2",
)

LLAMA = NameTable(
    family="llama",
    roles={
        "embed_tokens.weight": Role.TOKEN_EMBEDDING,
        **norm_names(f"layers.*.{{{','.join(_NORMS_OF_LLAMA)}}}", "block"),
        **linear_names("layers.*.self_attn.q_proj", Role.QUERY),
        **linear_names("layers.*.self_attn.k_proj", Role.KEY),
        **linear_names("layers.*.self_attn.v_proj", Role.VALUE),
        **linear_names("layers.*.self_attn.{o_proj,dense}", Role.ATTENTION_OUT),
        "layers.*.self_attn.{q_norm,q_layernorm,query_layernorm}.weight": Role.QUERY_NORM_GAIN,
        "layers.*.self_attn.{k_norm,k_layernorm,key_layernorm}.weight": Role.KEY_NORM_GAIN,
        **linear_names("layers.*.mlp.gate_proj", Role.MLP_GATE),
        **linear_names("layers.*.mlp.{up_proj,fc1,c_fc}", Role.MLP_IN),
        **linear_names("layers.*.mlp.{down_proj,fc2,c_proj}", Role.MLP_OUT),
        **norm_names("{norm,final_layernorm}", "final"),
        **READOUT_NAMES,
    },
    attention=("layers.*.self_attn",),
    score_scale=("scaling",),
)

#: The activation's own numbers are as many at any size.
APERTUS = replace(
    LLAMA,
    roles={
        **LLAMA.roles,
        **norm_names("layers.*.{attention_layernorm,feedforward_layernorm}", "block"),
        "layers.*.mlp.act_fn.{alpha_p,alpha_n}": Role.UNSCALED,
    },
)

#: A sink is one more score of a head, and scores keep their size.
_SINKS = {"layers.*.self_attn.sinks": Role.UNSCALED}
WITH_SINKS = replace(LLAMA, roles={**LLAMA.roles, **_SINKS})

PHI3 = replace(
    LLAMA,
    roles={
        **LLAMA.roles,
        "layers.*.self_attn.qkv_proj.weight": QKV,
        "layers.*.mlp.gate_up_proj.weight": GATE_AND_IN,
    },
)

NOMIC_BERT = replace(
    LLAMA,
    roles={
        **LLAMA.roles,
        "embeddings.word_embeddings.weight": Role.TOKEN_EMBEDDING,
        "embeddings.token_type_embeddings.weight": Role.POSITION_EMBEDDING,
        **norm_names("embeddings.LayerNorm", "embedding"),
        **linear_names(
            "{pooler.dense,predictions.transform.dense,lm_head.dense}", Role.READOUT_DENSE
        ),
        **norm_names("{transform,lm_head}.layer_norm", "final"),
        **linear_names("{predictions.decoder,lm_head.decoder}", Role.READOUT),
        "{cls.predictions,lm_head}.bias": Role.READOUT_BIAS,
    },
)

ULTRABERT = replace(
    LLAMA,
    family="ultrabert",
    roles={
        **LLAMA.roles,
        **linear_names("head.{linear1,linear2}", Role.READOUT_DENSE),
        "head.decoder.weight": Role.READOUT,
    },
)

#: Of layer norms of queries and keys that all heads share.
_HEAD_NORM_BIASES = {
    "layers.*.self_attn.q_layernorm.bias": Role.QUERY_BIAS,
    "layers.*.self_attn.k_layernorm.bias": Role.KEY_BIAS,
}

PERSIMMON = replace(
    LLAMA,
    family="persimmon",
    roles={
        **LLAMA.roles,
        "layers.*.self_attn.query_key_value.weight": QKV,
        "layers.*.self_attn.query_key_value.bias": QKV_BIAS,
        **_HEAD_NORM_BIASES,
        **linear_names("layers.*.mlp.dense_h_to_4h", Role.MLP_IN),
        **linear_names("layers.*.mlp.dense_4h_to_h", Role.MLP_OUT),
    },
    interleaved=True,
)

PHI = replace(LLAMA, family="phi", roles={**LLAMA.roles, **_HEAD_NORM_BIASES})

#: Every head of queries and of keys has a norm of its own where `qk_layernorm` is set.
STABLELM = replace(
    LLAMA,
    family="stablelm",
    roles={
        **LLAMA.roles,
        "layers.*.self_attn.q_layernorm.norms.*.weight": Role.QUERY_NORM_GAIN,
        "layers.*.self_attn.k_layernorm.norms.*.weight": Role.KEY_NORM_GAIN,
    },
)

_SHARED = "layers.*.mlp.{shared_experts,shared_expert,shared_mlp}"

MIXTURE = replace(
    LLAMA,
    roles={
        **LLAMA.roles,
        **linear_names("layers.*.{mlp.gate,mlp.gate.wg,mlp.router}", Role.ROUTER),
        "layers.*.block_sparse_moe.router.weight": Role.ROUTER,
        "layers.*.mlp.gate.moe_statics.e_score_correction_bias": Role.ROUTER_BIAS,
        "layers.*.{mlp,block_sparse_moe}.experts.gate_up_proj": GATE_AND_IN,
        "layers.*.{mlp,block_sparse_moe}.experts.down_proj": Role.MLP_OUT,
        **linear_names(
            "layers.*.mlp.{shared_experts,shared_expert,shared_mlp}.gate_proj", Role.MLP_GATE
        ),
        **linear_names(
            "layers.*.mlp.{shared_experts,shared_expert,shared_mlp}.up_proj", Role.MLP_IN
        ),
        **linear_names(
            "layers.*.mlp.{shared_experts,shared_expert,shared_mlp}.down_proj", Role.MLP_OUT
        ),
        "layers.*.mlp.shared_expert_gate.weight": Role.ROUTER,
        "layers.*.shared_mlp.input_linear.weight": GATE_AND_IN,
        "layers.*.shared_mlp.output_linear.weight": Role.MLP_OUT,
    },
)

MIXTURE_WITH_SINKS = replace(MIXTURE, roles={**MIXTURE.roles, **_SINKS})

#: Experts' matrices are stored (in, out).
ARIA = replace(MIXTURE, transposed=("layers.*.mlp.experts.{gate_up_proj,down_proj}",))

GPT_OSS = replace(
    ARIA,
    roles={
        **MIXTURE_WITH_SINKS.roles,
        "layers.*.mlp.experts.gate_up_proj_bias": (Role.MLP_GATE_BIAS, Role.MLP_IN_BIAS),
        "layers.*.mlp.experts.down_proj_bias": Role.MLP_OUT_BIAS,
    },
)

GATE_IN_ONE = replace(LLAMA, roles={**LLAMA.roles, "layers.*.mlp.gate_up_proj.weight": GATE_AND_IN})

#: Beside the maps of latents, dense layers stand before those with experts.
LATENTS = replace(
    MIXTURE,
    roles={
        **MIXTURE.roles,
        "layers.*.self_attn.q_a_proj.weight": Role.QUERY_DOWN,
        "layers.*.self_attn.q_a_layernorm.weight": Role.QUERY_LATENT_GAIN,
        "layers.*.self_attn.q_b_proj.weight": Role.QUERY_UP,
        "layers.*.self_attn.kv_a_proj_with_mqa.weight": Role.KEY_VALUE_DOWN,
        "layers.*.self_attn.kv_a_layernorm.weight": Role.KEY_VALUE_LATENT_GAIN,
        "layers.*.self_attn.kv_b_proj.weight": Role.KEY_VALUE_UP,
    },
)

AXK1 = replace(
    LATENTS,
    roles={**LATENTS.roles, **norm_names("layers.*.mlp.post_mlp_layernorm", "block")},
)

#: What chooses keys gets no gradient of the loss.
INDEXED = replace(
    LATENTS,
    roles={
        **LATENTS.roles,
        "layers.*.self_attn.indexer.{wq_b,wk,k_norm,weights_proj}.{weight,bias}": Role.UNSCALED,
    },
)
