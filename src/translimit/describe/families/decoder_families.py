"""The families of decoders: what distinguishes each, as in the reference implementations."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.families import decoder_changes as change
from translimit.describe.families import embedding_changes as embed
from translimit.describe.families import encoder_changes as encode
from translimit.describe.families import mixture_changes as mix
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.mixture_families import MORE_MIXTURES
from translimit.describe.families.positions import FULL, SLIDING, alternating
from translimit.describe.families.sparse_layers import Sparse, both
from translimit.describe.norm import Norm

LAYER = Norm.LAYER

_LLAMA = Decoder()
_PYTHIA = Decoder(
    norm=LAYER,
    eps=1e-5,
    parallel=True,
    rotary=0.25,
    activation="gelu",
    gated=False,
    padded=False,
    adjust=change.neox,
)
_GPT2 = Decoder(
    norm=LAYER,
    eps=1e-5,
    rotary=0.0,
    learned=True,
    activation="gelu_new",
    gated=False,
    mlp_ratio=4.0,
    depth_scaled=True,
    tied=True,
    padded=False,
    adjust=change.gpt2,
)
_GEMMA = Decoder(
    head_dim=256, activation="gelu_pytorch_tanh", tied=True, pad=0, adjust=change.gemma
)
_GEMMA2 = replace(
    _GEMMA, placement="peri", kinds=change.pattern(2), window=4096, adjust=change.gemma2
)
_OLMO2 = Decoder(eps=1e-5, placement="reordered", qk_norm="all", pad=1, theta=1e4)

_NOMIC_BERT = Decoder(
    norm=LAYER,
    eps=1e-12,
    placement="post",
    causal=False,
    theta=1000.0,
    pad=0,
    tied=True,
    dense_head=True,
    adjust=embed.typed,
)

#: Families of decoders by `model_type`.
DECODERS: dict[str, Decoder] = {
    "gpt2": _GPT2,
    "imagegpt": replace(
        _GPT2, norm=Norm.RMS, activation="quick_gelu", tied=False, adjust=change.imagegpt
    ),
    "gpt_neo": replace(_GPT2, depth_scaled=False, adjust=change.gpt_neo),
    "gptj": replace(
        _PYTHIA,
        rotary=1.0,
        activation="gelu_new",
        mlp_ratio=4.0,
        adjust=lambda k, parts: parts,
    ),
    "gpt_neox": _PYTHIA,
    "codegen": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        activation="gelu_new",
        gated=False,
        mlp_ratio=4.0,
        padded=False,
    ),
    "gpt_bigcode": replace(_GPT2, activation="gelu_pytorch_tanh", adjust=change.gpt_bigcode),
    "opt": replace(
        _GPT2, activation="relu", depth_scaled=False, padded=True, pad=1, adjust=change.opt
    ),
    "bloom": replace(
        _GPT2, activation="gelu_tanh", learned=False, depth_scaled=False, adjust=change.bloom
    ),
    "mpt": replace(_GPT2, activation="gelu", learned=False, depth_scaled=False, adjust=change.mpt),
    "falcon": Decoder(
        norm=LAYER,
        eps=1e-5,
        activation="gelu",
        gated=False,
        mlp_ratio=4.0,
        tied=True,
        padded=False,
        adjust=change.falcon,
    ),
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, kv_heads=8, kinds=change.windowed, window=4096),
    "ministral": replace(_LLAMA, kv_heads=8, kinds=change.windowed),
    "qwen2": replace(_LLAMA, kinds=change.qwen2_kinds, adjust=change.qwen2),
    "phi3": replace(_LLAMA, eps=1e-5, kinds=change.windowed, pad=32000),
    "arcee": replace(_LLAMA, eps=1e-5, activation="relu2", gated=False),
    "helium": replace(_LLAMA, eps=1e-8, pad=3, theta=1e5),
    "seed_oss": replace(_LLAMA, head_dim=128, pad=1),
    "ernie4_5": replace(_LLAMA, eps=1e-5, pad=0, theta=5e5, tied=True),
    "smollm3": replace(_LLAMA, pad=128004, theta=2e6, tied=True, adjust=change.smollm3),
    "granite": replace(_LLAMA, adjust=change.granite),
    "qwen3": replace(
        _LLAMA, head_dim=128, qk_norm="head", kinds=change.qwen2_kinds, adjust=change.qwen2
    ),
    "exaone4": Decoder(
        eps=1e-5,
        placement="reordered",
        qk_norm="head",
        kinds=change.pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
    ),
    "olmo": Decoder(norm=LAYER, eps=1e-5, pad=1, adjust=change.clipped),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, kinds=change.pattern(4), window=4096),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": replace(
        _GEMMA2, qk_norm="head", kinds=change.pattern(6), theta=1e6, adjust=change.gemma3
    ),
    "glm": Decoder(eps=1.5625e-7, rotary=0.5),
    "glm4": Decoder(eps=1.5625e-7, rotary=0.5, placement="peri"),
    "glm4_moe": Decoder(eps=1e-5, rotary=0.5, adjust=both(mix.normed_heads(False), mix.GLM4_MOE)),
    "phi": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        rotary=0.5,
        activation="gelu_new",
        gated=False,
        adjust=change.phi,
    ),
    "stablelm": Decoder(norm=LAYER, eps=1e-5, rotary=0.25, adjust=change.stablelm),
    "starcoder2": Decoder(
        norm=LAYER,
        eps=1e-5,
        kv_heads=2,
        kinds=change.windowed,
        activation="gelu_pytorch_tanh",
        gated=False,
        std=0.018042,
        tied=True,
    ),
    "nemotron": Decoder(
        norm=LAYER,
        eps=1e-5,
        gain=2.0,
        rotary=0.5,
        activation="relu2",
        gated=False,
        std=0.0134,
    ),
    "cohere": Decoder(norm=LAYER, eps=1e-5, parallel=True, tied=True, pad=0, adjust=change.cohere),
    "cohere2": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        tied=True,
        pad=0,
        kinds=change.pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
        adjust=change.cohere,
    ),
    "cohere_compass_text": Decoder(
        norm=LAYER,
        eps=1e-5,
        parallel=True,
        tied=True,
        pad=0,
        window=4096,
        adjust=change.cohere_compass,
    ),
    "mixtral": Decoder(
        eps=1e-5,
        kv_heads=8,
        theta=1e6,
        kinds=change.windowed,
        adjust=mix.mixture("softmax_renormalised", "", count=8, active=2),
    ),
    "olmoe": Decoder(
        eps=1e-5,
        qk_norm="all",
        pad=1,
        adjust=mix.mixture("softmax", "", count=64, active=8, renormalised="norm_topk_prob"),
    ),
    "qwen3_moe": Decoder(
        qk_norm="head",
        kinds=change.qwen2_kinds,
        adjust=mix.mixture(
            "softmax",
            "moe_intermediate_size",
            count=128,
            active=8,
            renormalised="norm_topk_prob",
        ),
    ),
    "qwen2_moe": Decoder(
        kinds=mix.qwen2_moe_kinds,
        adjust=mix.qwen2_moe,
    ),
    "deepseek_v3": Decoder(head_dim=64, adjust=mix.deepseek()),
    "baichuan": Decoder(pad=0, adjust=change.baichuan),
    "chatglm": Decoder(eps=1e-5, rotary=0.5, pad=None, padded=False, adjust=change.chatglm),
    "qwen": Decoder(depth_scaled=True, padded=False, adjust=change.qwen),
    "gpt_oss": Decoder(
        eps=1e-5,
        kv_heads=8,
        head_dim=64,
        theta=150_000.0,
        kinds=lambda k: alternating(2),
        window=128,
        adjust=mix.gpt_oss,
    ),
    "emu3_text_model": replace(_LLAMA, eps=1e-5, kv_heads=8, pad=151643, theta=1e6),
    "exaone": replace(_LLAMA, eps=1e-5, kv_heads=8, pad=0, theta=5e5),
    "iquestcoder": replace(_LLAMA, eps=1e-5, kv_heads=8, head_dim=128),
    "apertus": Decoder(
        eps=1e-5,
        theta=12e6,
        qk_norm="head",
        activation="xielu",
        gated=False,
        pad=3,
        adjust=change.apertus,
    ),
    "granite_swa": replace(
        _LLAMA,
        eps=1e-5,
        kv_heads=4,
        tied=True,
        kinds=change.every_fourth_full,
        window=128,
        adjust=both(change.granite, mix.sinks),
    ),
    "internlm3": replace(_LLAMA, eps=1e-5, kv_heads=2, head_dim=128, pad=2),
    "ministral3": replace(
        _LLAMA, eps=1e-5, kv_heads=8, head_dim=128, kinds=change.windowed, adjust=change.ministral3
    ),
    "hyperclovax": replace(_LLAMA, placement="peri", adjust=change.hyperclovax),
    "jais2": Decoder(norm=LAYER, eps=1e-5, activation="relu2", gated=False),
    "cwm": Decoder(
        eps=1e-5,
        kv_heads=8,
        head_dim=128,
        theta=1e6,
        kinds=lambda k: lambda index: SLIDING if index % 4 else FULL,
        window=8192,
    ),
    "vaultgemma": replace(_GEMMA2, placement="pre"),
    "hunyuan_v1_dense": replace(_LLAMA, eps=1e-5, pad=0, adjust=change.hunyuan),
    "nanochat": Decoder(kv_heads=6, activation="relu2", gated=False, pad=1, adjust=change.nanochat),
    "persimmon": Decoder(
        norm=LAYER,
        eps=1e-5,
        rotary=0.5,
        activation="relu2",
        gated=False,
        adjust=change.persimmon,
    ),
    "biogpt": replace(
        _GPT2, activation="gelu", depth_scaled=False, padded=True, pad=1, adjust=embed.biogpt
    ),
    "xglm": replace(
        _GPT2,
        activation="gelu",
        learned=False,
        depth_scaled=False,
        padded=True,
        pad=1,
        adjust=embed.xglm,
    ),
    "ctrl": replace(
        _GPT2,
        eps=1e-6,
        activation="relu",
        learned=False,
        depth_scaled=False,
        adjust=embed.ctrl,
    ),
    "gpt_neox_japanese": replace(
        _PYTHIA, rotary=1.0, parallel=False, mlp_ratio=4.0, adjust=change.neox_japanese
    ),
    "openai-gpt": replace(
        _GPT2, placement="post", activation="gelu_new", depth_scaled=False, adjust=change.openai
    ),
    "eurobert": Decoder(eps=1e-5, causal=False, theta=250_000.0, pad=128001),
    "ultrabert": Decoder(
        causal=False,
        pad=0,
        kinds=encode.ultrabert_kinds,
        window=128,
        adjust=encode.ultrabert,
    ),
    "esmc": Decoder(
        norm=LAYER,
        eps=1e-5,
        causal=False,
        qk_norm="all",
        pad=1,
        dense_head=True,
        adjust=encode.esmc,
    ),
    "esm": Decoder(
        norm=LAYER,
        eps=1e-12,
        causal=False,
        activation="gelu",
        gated=False,
        tied=True,
        dense_head=True,
        adjust=embed.esm,
    ),
    "nomic_bert": _NOMIC_BERT,
    "gte": replace(_NOMIC_BERT, activation="gelu", theta=160_000.0, pad=1),
    "jina_embeddings_v3": replace(
        _NOMIC_BERT, activation="gelu", gated=False, theta=20_000.0, pad=1
    ),
    "granitemoe": replace(_LLAMA, adjust=mix.granitemoe),
    "flex_olmo": replace(
        _OLMO2,
        eps=1e-6,
        pad=100277,
        theta=5e5,
        adjust=mix.mixture("softmax", "", count=7, active=5, renormalised="norm_topk_prob"),
    ),
    "dots1": Decoder(
        qk_norm="head",
        kinds=lambda k: lambda index: FULL,
        window=4096,
        adjust=both(mix.normed_heads(False), mix.GLM4_MOE),
    ),
    "mellum": Decoder(
        kv_heads=4,
        head_dim=128,
        qk_norm="head",
        window=1024,
        adjust=Sparse(
            count=64,
            active=8,
            routing="softmax_renormalised",
            width=("moe_intermediate_size", 896),
        ),
    ),
    "ernie4_5_moe": replace(
        _LLAMA, eps=1e-5, kv_heads=4, pad=0, theta=5e5, tied=True, adjust=mix.ernie4_5_moe
    ),
    "deepseek_v2": Decoder(head_dim=64, adjust=mix.deepseek_v2),
    "minicpm3": Decoder(eps=1e-5, head_dim=32, std=0.1, tied=True, adjust=mix.minicpm3),
    **MORE_MIXTURES,
}
