"""Decoders with experts: what distinguishes each."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.families import decoder_changes as change
from translimit.describe.families import decoder_names as names
from translimit.describe.families import mixture_changes as mix
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.family import Family
from translimit.describe.families.positions import FULL, SLIDING, alternating
from translimit.describe.families.sparse_layers import Sparse, both
from translimit.describe.norm import Norm

_MOE = "moe_intermediate_size"
_SHARED = "shared_expert_intermediate_size"
_FACTOR = "routed_scaling_factor"
_LLAMA = Decoder()
_OLMO2 = Decoder(norm_eps=1e-5, placement="reordered", qk_norm="all", pad=1, theta=1e4)
#: Experts that sigmoids weight, beside one that all tokens pass, after one dense layer.
_SIGMOID = Sparse(
    count=128,
    active=8,
    routing="sigmoid",
    width=(_MOE, 1024),
    shared=("n_shared_experts", 1),
    factor=(_FACTOR, 2.5),
    groups=(1, 1),
    dense=1,
)

#: Families with experts, by their records.
MIXTURE_FAMILIES = (
    Family(
        name="glm4_moe",
        reader=Decoder(
            norm_eps=1e-5, rotary=0.5, adjust=both(mix.normed_heads(False), mix.GLM4_MOE)
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="mixtral",
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=8,
            theta=1e6,
            kinds=change.windowed,
            adjust=mix.mixture("softmax_renormalised", "", count=8, active=2),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="olmoe",
        reader=Decoder(
            norm_eps=1e-5,
            qk_norm="all",
            pad=1,
            adjust=mix.mixture("softmax", "", count=64, active=8, renormalised="norm_topk_prob"),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="qwen3_moe",
        reader=Decoder(
            qk_norm="head",
            kinds=change.qwen2_kinds,
            adjust=mix.mixture(
                "softmax",
                "moe_intermediate_size",
                count=128,
                active=8,
                renormalised="norm_topk_prob",
            ),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="qwen2_moe",
        reader=Decoder(
            kinds=mix.qwen2_moe_kinds,
            adjust=mix.qwen2_moe,
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="gpt_oss",
        names=names.GPT_OSS,
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=8,
            head_dim=64,
            theta=150_000.0,
            kinds=lambda k: alternating(2),
            window=128,
            adjust=mix.gpt_oss,
        ).read,
    ),
    Family(
        name="granitemoe", reader=replace(_LLAMA, adjust=mix.granitemoe).read, names=names.MIXTURE
    ),
    Family(
        name="flex_olmo",
        reader=replace(
            _OLMO2,
            norm_eps=1e-6,
            pad=100277,
            theta=5e5,
            adjust=mix.mixture("softmax", "", count=7, active=5, renormalised="norm_topk_prob"),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="dots1",
        reader=Decoder(
            qk_norm="head",
            kinds=lambda k: lambda index: FULL,
            window=4096,
            adjust=both(mix.normed_heads(False), mix.GLM4_MOE),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="ernie4_5_moe",
        reader=replace(
            _LLAMA, norm_eps=1e-5, kv_heads=4, pad=0, theta=5e5, tied=True, adjust=mix.ernie4_5_moe
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="mellum",
        reader=Decoder(
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
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="exaone_moe",
        reader=Decoder(
            norm_eps=1e-5,
            qk_norm="head",
            kinds=change.pattern(4),
            rotary_kinds=(SLIDING,),
            window=4096,
            pad=0,
            adjust=replace(_SIGMOID, count=64, shared=("num_shared_experts", 1)),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="hunyuan_v1_moe",
        reader=Decoder(norm_eps=1e-5, pad=0, adjust=mix.hunyuan_moe).read,
        names=names.MIXTURE,
    ),
    Family(
        name="hy_v3",
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=8,
            head_dim=128,
            qk_norm="head",
            theta=11_158_840.0,
            std=0.006,
            adjust=replace(
                _SIGMOID,
                count=192,
                width=(_MOE, 1536),
                shared=("num_shared_experts", 1),
                factor=("router_scaling_factor", 2.826),
                groups=None,
            ),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="kolibri1",
        reader=Decoder(
            placement="peri",
            kv_heads=4,
            head_dim=128,
            qk_norm="head",
            kinds=lambda k: alternating(5),
            rotary_kinds=(SLIDING,),
            window=513,
            mlp_ratio=1.0,
            adjust=Sparse(
                count=384,
                active=6,
                routing="sigmoid",
                unnormalised="sigmoid_kept",
                normalised=False,
                width=(_MOE, 512),
                shared_width=(_SHARED, 512),
            ),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="flint",
        names=names.MIXTURE_WITH_SINKS,
        reader=Decoder(
            kv_heads=4,
            head_dim=128,
            qk_norm="head",
            kinds=mix.flint_kinds,
            rotary_kinds=(SLIDING,),
            window=513,
            adjust=both(
                mix.flint,
                Sparse(
                    count=256,
                    active=6,
                    routing="sigmoid",
                    unnormalised="sigmoid_kept",
                    width=(_MOE, 512),
                    shared_width=(_SHARED, 1024),
                ),
            ),
        ).read,
    ),
    Family(
        name="minimax_m2",
        reader=Decoder(
            kv_heads=8,
            head_dim=128,
            qk_norm="all",
            theta=5e6,
            adjust=Sparse(count=256, active=8, routing="sigmoid"),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="mimo_v2_flash",
        names=names.MIXTURE_WITH_SINKS,
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=4,
            head_dim=192,
            rotary=0.334,
            kinds=lambda k: lambda index: FULL if index == 0 or (index + 1) % 6 == 0 else SLIDING,
            window=129,
            adjust=both(
                mix.mimo,
                replace(
                    _SIGMOID, count=256, width=(_MOE, 2048), shared=None, factor=(_FACTOR, 1.0)
                ),
            ),
        ).read,
    ),
    Family(
        name="cohere2_moe",
        names=names.MIXTURE,
        reader=Decoder(
            norm=Norm.LAYER,
            norm_eps=1e-5,
            parallel=True,
            head_dim=128,
            tied=True,
            pad=0,
            kinds=change.pattern(4),
            rotary_kinds=(SLIDING,),
            window=4096,
            adjust=mix.cohere2_moe,
        ).read,
    ),
    Family(
        name="aria_text",
        names=names.ARIA,
        reader=Decoder(
            pad=2,
            adjust=Sparse(
                count=8, active=2, routing="softmax_top", shared=("moe_num_shared_experts", 2)
            ),
        ).read,
    ),
    Family(
        name="sarvam_moe",
        reader=Decoder(
            kv_heads=4,
            head_dim=64,
            theta=8e6,
            std=0.006,
            pad=0,
            adjust=both(mix.normed_heads(True), replace(_SIGMOID, active=6)),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="solar_open",
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=8,
            head_dim=128,
            theta=1e6,
            mlp_ratio=1.0,
            adjust=replace(_SIGMOID, width=(_MOE, 1280), factor=(_FACTOR, 1.0), dense=0),
        ).read,
        names=names.MIXTURE,
    ),
    Family(
        name="granitemoeshared", reader=Decoder(adjust=mix.granitemoe).read, names=names.MIXTURE
    ),
    Family(
        name="granitemoe_swa",
        names=names.MIXTURE_WITH_SINKS,
        reader=Decoder(
            kinds=change.every_fourth_full, window=128, adjust=both(mix.granitemoe, mix.sinks)
        ).read,
    ),
)
