"""More families of decoders with experts: what distinguishes each."""

from __future__ import annotations

from translimit.describe.families import decoder_changes as change
from translimit.describe.families import mixture_changes as mix
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.positions import FULL, SLIDING, alternating
from translimit.describe.families.sparse_layers import Sparse, both
from translimit.describe.norm import Norm

_MOE = "moe_intermediate_size"
_SHARED = "shared_expert_intermediate_size"
_FACTOR = "routed_scaling_factor"

#: Families of decoders with experts by `model_type`.
MORE_MIXTURES: dict[str, Decoder] = {
    "exaone_moe": Decoder(
        eps=1e-5,
        qk_norm="head",
        kinds=change.pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
        pad=0,
        adjust=Sparse(
            count=64,
            active=8,
            routing="sigmoid",
            width=(_MOE, 1024),
            shared=("num_shared_experts", 1),
            factor=(_FACTOR, 2.5),
            groups=(1, 1),
            dense=1,
        ),
    ),
    "hunyuan_v1_moe": Decoder(eps=1e-5, pad=0, adjust=mix.hunyuan_moe),
    "hy_v3": Decoder(
        eps=1e-5,
        kv_heads=8,
        head_dim=128,
        qk_norm="head",
        theta=11_158_840.0,
        std=0.006,
        adjust=Sparse(
            count=192,
            active=8,
            routing="sigmoid",
            width=(_MOE, 1536),
            shared=("num_shared_experts", 1),
            factor=("router_scaling_factor", 2.826),
            dense=1,
        ),
    ),
    "kolibri1": Decoder(
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
    ),
    "flint": Decoder(
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
    ),
    "minimax_m2": Decoder(
        kv_heads=8,
        head_dim=128,
        qk_norm="all",
        theta=5e6,
        adjust=Sparse(count=256, active=8, routing="sigmoid"),
    ),
    "mimo_v2_flash": Decoder(
        eps=1e-5,
        kv_heads=4,
        head_dim=192,
        rotary=0.334,
        kinds=lambda k: lambda index: FULL if index == 0 or (index + 1) % 6 == 0 else SLIDING,
        window=129,
        adjust=both(
            mix.mimo,
            Sparse(
                count=256,
                active=8,
                routing="sigmoid",
                width=(_MOE, 2048),
                factor=(_FACTOR, 1.0),
                groups=(1, 1),
                dense=1,
            ),
        ),
    ),
    "cohere2_moe": Decoder(
        norm=Norm.LAYER,
        eps=1e-5,
        parallel=True,
        head_dim=128,
        tied=True,
        pad=0,
        kinds=change.pattern(4),
        rotary_kinds=(SLIDING,),
        window=4096,
        adjust=mix.cohere2_moe,
    ),
    "aria_text": Decoder(
        pad=2,
        adjust=Sparse(
            count=8, active=2, routing="softmax_top", shared=("moe_num_shared_experts", 2)
        ),
    ),
    "sarvam_moe": Decoder(
        kv_heads=4,
        head_dim=64,
        theta=8e6,
        std=0.006,
        pad=0,
        adjust=both(
            mix.normed_heads(True),
            Sparse(
                count=128,
                active=6,
                routing="sigmoid",
                width=(_MOE, 1024),
                shared=("n_shared_experts", 1),
                factor=(_FACTOR, 2.5),
                groups=(1, 1),
                dense=1,
            ),
        ),
    ),
    "solar_open": Decoder(
        eps=1e-5,
        kv_heads=8,
        head_dim=128,
        theta=1e6,
        mlp_ratio=1.0,
        adjust=Sparse(
            count=128,
            active=8,
            routing="sigmoid",
            width=(_MOE, 1280),
            shared=("n_shared_experts", 1),
            factor=(_FACTOR, 1.0),
            groups=(1, 1),
        ),
    ),
    "granitemoeshared": Decoder(adjust=mix.granitemoe),
    "granitemoe_swa": Decoder(
        kinds=change.every_fourth_full, window=128, adjust=both(mix.granitemoe, mix.sinks)
    ),
    "glm4_moe_lite": Decoder(
        eps=1e-5,
        head_dim=64,
        adjust=mix.deepseek(count=64, factor=1.8, groups=(1, 1), dense=1),
    ),
    "sarvam_mla": Decoder(
        head_dim=64, std=0.006, adjust=mix.deepseek(count=128, groups=(1, 1), dense=1)
    ),
    "axk1": Decoder(head_dim=64, adjust=mix.axk1),
    "deepseek_v32": Decoder(head_dim=64, adjust=mix.deepseek()),
    "glm_moe_dsa": Decoder(eps=1e-5, head_dim=64, adjust=mix.deepseek(groups=(1, 1), dense=3)),
    "youtu": Decoder(head_dim=64, tied=True, adjust=mix.youtu),
}
