"""Names of parameters of encoders, as in the reference implementations of transformers 5."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.parameter_names import (
    QKV,
    READOUT_NAMES,
    NameTable,
    linear_names,
    norm_names,
)
from translimit.describe.roles import Role

BERT = NameTable(
    family="bert",
    roles={
        "embeddings.word_embeddings.weight": Role.TOKEN_EMBEDDING,
        "embeddings.{position,token_type}_embeddings.weight": Role.POSITION_EMBEDDING,
        **norm_names("embeddings.LayerNorm", "embedding"),
        **linear_names("{embeddings_project,embedding_hidden_mapping_in}", Role.EMBEDDING_MATRIX),
        **linear_names("layer.*.attention.{self.query,attention.query,attn.q}", Role.QUERY),
        **linear_names("layer.*.attention.{self.key,attention.key,attn.k}", Role.KEY),
        **linear_names("layer.*.attention.{self.value,attention.value,attn.v}", Role.VALUE),
        **linear_names("layer.*.attention.{output.dense,attn.o}", Role.ATTENTION_OUT),
        "relative_attention_bias.weight": Role.POSITION_EMBEDDING,
        **norm_names("layer.*.{attention.output,output,attention,intermediate}.LayerNorm", "block"),
        **norm_names("layer.*.{LayerNorm,ln,attention.ln,attention.self_attn_layer_norm}", "block"),
        **norm_names("encoder.{LayerNorm,ln,emb_layer_norm_after}", "final"),
        **norm_names("roberta_prelayernorm.LayerNorm", "final"),
        **linear_names("layer.*.intermediate.dense", Role.MLP_IN),
        **linear_names("layer.*.output.dense", Role.MLP_OUT),
        **linear_names(
            "{predictions.transform.dense,predictions.dense,lm_head.dense,generator_predictions.dense}",
            Role.READOUT_DENSE,
        ),
        **linear_names("pooler.dense", Role.READOUT_DENSE),
        **norm_names(
            "{predictions.transform.LayerNorm,predictions.LayerNorm,lm_head.layer_norm,"
            "generator_predictions.LayerNorm}",
            "final",
        ),
        **linear_names("{predictions.decoder,lm_head.decoder,generator_lm_head}", Role.READOUT),
        "{cls.predictions,lm_head}.bias": Role.READOUT_BIAS,
    },
    attention=("layer.*.attention.self",),
    score_scale=("scaling",),
)

ESM = replace(
    BERT,
    family="esm",
    score_scale=(),  # queries are scaled before, and the attribute says 1
    roles={**BERT.roles, "contact_head.regression.{weight,bias}": Role.UNSCALED},
)

#: Its waves are among its parameters, and are not drawn.
ROFORMER = replace(BERT, roles={**BERT.roles, "encoder.embed_positions.weight": Role.UNSCALED})

XLM = NameTable(
    family="xlm",
    roles={
        "embeddings.weight": Role.TOKEN_EMBEDDING,
        "position_embeddings.weight": Role.POSITION_EMBEDDING,
        **norm_names("layer_norm_emb", "embedding"),
        **linear_names("attentions.*.q_lin", Role.QUERY),
        **linear_names("attentions.*.k_lin", Role.KEY),
        **linear_names("attentions.*.v_lin", Role.VALUE),
        **linear_names("attentions.*.out_lin", Role.ATTENTION_OUT),
        **norm_names("{layer_norm1,layer_norm2}.*", "block"),
        **linear_names("ffns.*.lin1", Role.MLP_IN),
        **linear_names("ffns.*.lin2", Role.MLP_OUT),
        **linear_names("pred_layer.proj", Role.READOUT),
    },
    attention=("attentions.*",),
    score_scale=(),
)

MODERNBERT = NameTable(
    family="modernbert",
    roles={
        "embeddings.tok_embeddings.weight": Role.TOKEN_EMBEDDING,
        **norm_names("embeddings.norm", "embedding"),
        **norm_names("layers.*.{attn_norm,mlp_norm}", "block"),
        "layers.*.attn.Wqkv.weight": QKV,
        **linear_names("layers.*.attn.q_proj", Role.QUERY),
        **linear_names("layers.*.attn.k_proj", Role.KEY),
        **linear_names("layers.*.attn.v_proj", Role.VALUE),
        **linear_names("layers.*.attn.Wo", Role.ATTENTION_OUT),
        "layers.*.mlp.Wi.weight": (Role.MLP_GATE, Role.MLP_IN),
        **linear_names("layers.*.mlp.Wo", Role.MLP_OUT),
        **norm_names("{final_norm,head.norm,lm_head.norm}", "final"),
        **linear_names("{head.dense,lm_head.dense}", Role.READOUT_DENSE),
        **linear_names("decoder", Role.READOUT),
    },
    attention=("layers.*.attn",),
    score_scale=(),  # the scale is written into the attention of the encoder
)

MODERNBERT_DECODER = replace(
    MODERNBERT,
    roles={name: role for name, role in MODERNBERT.roles.items() if role != QKV},
    score_scale=("scaling",),
)

DISTILBERT = NameTable(
    family="distilbert",
    roles={
        "embeddings.word_embeddings.weight": Role.TOKEN_EMBEDDING,
        "embeddings.position_embeddings.weight": Role.POSITION_EMBEDDING,
        **norm_names("embeddings.LayerNorm", "embedding"),
        **linear_names("layer.*.attention.q_lin", Role.QUERY),
        **linear_names("layer.*.attention.k_lin", Role.KEY),
        **linear_names("layer.*.attention.v_lin", Role.VALUE),
        **linear_names("layer.*.attention.out_lin", Role.ATTENTION_OUT),
        **norm_names("layer.*.{sa_layer_norm,output_layer_norm}", "block"),
        **linear_names("layer.*.ffn.lin1", Role.MLP_IN),
        **linear_names("layer.*.ffn.lin2", Role.MLP_OUT),
        **linear_names("vocab_transform", Role.READOUT_DENSE),
        **norm_names("vocab_layer_norm", "final"),
        **linear_names("vocab_projector", Role.READOUT),
    },
    attention=("layer.*.attention",),
    score_scale=("scaling",),
)

VIT = NameTable(
    family="vit",
    roles={
        "embeddings.{cls_token,mask_token,distillation_token,register_tokens}": (
            Role.POSITION_EMBEDDING
        ),
        "embeddings.position_embeddings": Role.POSITION_EMBEDDING,
        "patch_embeddings.projection.weight": Role.PATCH_EMBEDDING,
        "patch_embeddings.projection.bias": Role.PATCH_BIAS,
        **norm_names("{layers,layer}.*.{layernorm_before,layernorm_after,norm1,norm2}", "block"),
        **linear_names("{layers,layer}.*.attention.q_proj", Role.QUERY),
        **linear_names("{layers,layer}.*.attention.k_proj", Role.KEY),
        **linear_names("{layers,layer}.*.attention.v_proj", Role.VALUE),
        **linear_names("{layers,layer}.*.attention.o_proj", Role.ATTENTION_OUT),
        "layer.*.{layer_scale1,layer_scale2}.lambda1": Role.BRANCH_GAIN,
        "{layers,layer}.*.{lambda_1,lambda_2}": Role.BRANCH_GAIN,
        **linear_names("{layers,layer}.*.mlp.gate_proj", Role.MLP_GATE),
        **linear_names("{layers,layer}.*.mlp.{fc1,up_proj}", Role.MLP_IN),
        **linear_names("{layers,layer}.*.mlp.{fc2,down_proj}", Role.MLP_OUT),
        "relative_position_bias_table": Role.UNSCALED,  # added to the scores of each head
        **norm_names("layernorm", "final"),
        **linear_names("pooler.dense", Role.READOUT_DENSE),
        **linear_names("{cls_classifier,distillation_classifier}", Role.READOUT),
        **READOUT_NAMES,
    },
    attention=("{layers,layer}.*.attention",),
    score_scale=("scaling",),
)

CLIP = NameTable(
    family="clip_vision_model",
    roles={
        "embeddings.class_embedding": Role.POSITION_EMBEDDING,
        "embeddings.position_embedding.weight": Role.POSITION_EMBEDDING,
        "embeddings.token_embedding.weight": Role.TOKEN_EMBEDDING,
        "embeddings.patch_embedding.weight": Role.PATCH_EMBEDDING,
        "embeddings.patch_embedding.bias": Role.PATCH_BIAS,
        **norm_names("pre_layrnorm", "embedding"),
        **norm_names("layers.*.{layer_norm1,layer_norm2}", "block"),
        **linear_names("layers.*.self_attn.q_proj", Role.QUERY),
        **linear_names("layers.*.self_attn.k_proj", Role.KEY),
        **linear_names("layers.*.self_attn.v_proj", Role.VALUE),
        **linear_names("layers.*.self_attn.out_proj", Role.ATTENTION_OUT),
        **linear_names("layers.*.mlp.fc1", Role.MLP_IN),
        **linear_names("layers.*.mlp.fc2", Role.MLP_OUT),
        **norm_names("{post_layernorm,final_layer_norm}", "final"),
    },
    attention=("layers.*.self_attn",),
    score_scale=("scale",),
)

#: Of the text tower; a readout maps the last token.
SIGLIP_TEXT = replace(
    CLIP, family="siglip_text_model", roles={**CLIP.roles, **linear_names("head", Role.READOUT)}
)

DATA2VEC_VISION = replace(VIT, roles={**VIT.roles, **BERT.roles}, attention=BERT.attention)
