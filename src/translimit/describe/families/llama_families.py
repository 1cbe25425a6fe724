"""Decoders that grew out of Llama: RMSNorm, rotary positions, gated feed-forward blocks."""

from __future__ import annotations

import math
from dataclasses import replace

from translimit.describe.families import decoder_changes as change
from translimit.describe.families import decoder_names as names
from translimit.describe.families import mixture_changes as mix
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.family import Family
from translimit.describe.families.positions import FULL, SLIDING
from translimit.describe.families.sparse_layers import both
from translimit.describe.norm import Norm

LAYER = Norm.LAYER

_LLAMA = Decoder()
_GEMMA = Decoder(
    head_dim=256, activation="gelu_pytorch_tanh", tied=True, pad=0, adjust=change.gemma
)
_GEMMA2 = replace(
    _GEMMA,
    placement="peri",
    kinds=change.pattern(2),
    window=4096,
    logit_softcap=30.0,
    adjust=change.gemma2,
)
_OLMO2 = Decoder(norm_eps=1e-5, placement="reordered", qk_norm="all", pad=1, theta=1e4)

#: Families like Llama, by their records.
LLAMA_FAMILIES = (
    Family(name="llama", reader=_LLAMA.read, names=names.LLAMA, diagnosed=True),
    Family(
        name="mistral",
        reader=replace(_LLAMA, kv_heads=8, kinds=change.windowed, window=4096).read,
        names=names.LLAMA,
        diagnosed=True,
    ),
    Family(
        name="ministral",
        reader=replace(_LLAMA, kv_heads=8, kinds=change.windowed).read,
        names=names.LLAMA,
    ),
    Family(
        name="qwen2",
        reader=replace(_LLAMA, kinds=change.qwen2_kinds, adjust=change.qwen2).read,
        names=names.LLAMA,
        diagnosed=True,
    ),
    Family(
        name="phi3",
        reader=replace(_LLAMA, norm_eps=1e-5, kinds=change.windowed, pad=32000).read,
        names=names.PHI3,
        diagnosed=True,
    ),
    Family(
        name="arcee",
        reader=replace(_LLAMA, norm_eps=1e-5, activation="relu2", gated=False).read,
        names=names.LLAMA,
    ),
    Family(
        name="helium",
        reader=replace(_LLAMA, norm_eps=1e-8, pad=3, theta=1e5).read,
        names=names.LLAMA,
    ),
    Family(name="seed_oss", reader=replace(_LLAMA, head_dim=128, pad=1).read, names=names.LLAMA),
    Family(
        name="ernie4_5",
        reader=replace(_LLAMA, norm_eps=1e-5, pad=0, theta=5e5, tied=True).read,
        names=names.LLAMA,
    ),
    Family(
        name="smollm3",
        reader=replace(_LLAMA, pad=128004, theta=2e6, tied=True, adjust=change.smollm3).read,
        names=names.LLAMA,
    ),
    Family(
        name="granite",
        reader=replace(_LLAMA, adjust=change.granite).read,
        names=names.LLAMA,
        diagnosed=True,
    ),
    Family(
        name="qwen3",
        reader=replace(
            _LLAMA, head_dim=128, qk_norm="head", kinds=change.qwen2_kinds, adjust=change.qwen2
        ).read,
        names=names.LLAMA,
        diagnosed=True,
    ),
    Family(
        name="exaone4",
        reader=Decoder(
            norm_eps=1e-5,
            placement="reordered",
            qk_norm="head",
            kinds=change.pattern(4),
            rotary_kinds=(SLIDING,),
            window=4096,
        ).read,
        names=names.LLAMA,
    ),
    Family(
        name="olmo",
        reader=Decoder(norm=LAYER, norm_eps=1e-5, pad=1, adjust=change.clipped).read,
        names=names.LLAMA,
    ),
    Family(name="olmo2", reader=_OLMO2.read, names=names.LLAMA, diagnosed=True),
    Family(
        name="olmo3",
        reader=replace(_OLMO2, kinds=change.pattern(4), window=4096).read,
        names=names.LLAMA,
    ),
    Family(
        name="gemma",
        reader=_GEMMA.read,
        names=replace(names.LLAMA, gain_offset=1.0),
        diagnosed=True,
    ),
    Family(
        name="gemma2",
        reader=_GEMMA2.read,
        names=replace(names.LLAMA, gain_offset=1.0),
        diagnosed=True,
    ),
    Family(
        name="gemma3_text",
        reader=replace(
            _GEMMA2,
            qk_norm="head",
            kinds=change.pattern(6),
            theta=1e6,
            logit_softcap=math.inf,
            adjust=change.gemma3,
        ).read,
        classes=("Gemma3",),
        names=replace(names.LLAMA, gain_offset=1.0),
    ),
    Family(
        name="glm", reader=Decoder(norm_eps=1.5625e-7, rotary=0.5).read, names=names.GATE_IN_ONE
    ),
    Family(
        name="glm4",
        reader=Decoder(norm_eps=1.5625e-7, rotary=0.5, placement="peri").read,
        names=replace(
            names.GATE_IN_ONE,
            norm_order=(
                "input_layernorm",
                "post_self_attn_layernorm",
                "post_attention_layernorm",
                "post_mlp_layernorm",
            ),
        ),
    ),
    Family(
        name="baichuan",
        unnamed="is no class of transformers, so that its names are not checked",
        reader=Decoder(pad=0, adjust=change.baichuan).read,
        packed=True,
    ),
    Family(
        name="chatglm",
        unnamed="is no class of transformers, so that its names are not checked",
        reader=Decoder(
            norm_eps=1e-5, rotary=0.5, pad=None, padded=False, adjust=change.chatglm
        ).read,
        packed=True,
    ),
    Family(
        name="qwen",
        unnamed="is no class of transformers, so that its names are not checked",
        reader=Decoder(depth_scaled=True, padded=False, adjust=change.qwen).read,
        packed=True,
    ),
    Family(
        name="emu3_text_model",
        names=names.LLAMA,
        reader=replace(_LLAMA, norm_eps=1e-5, kv_heads=8, pad=151643, theta=1e6).read,
        classes=("Emu3Text",),
    ),
    Family(
        name="exaone",
        reader=replace(_LLAMA, norm_eps=1e-5, kv_heads=8, pad=0, theta=5e5).read,
        names=names.LLAMA,
    ),
    Family(
        name="iquestcoder",
        reader=replace(_LLAMA, norm_eps=1e-5, kv_heads=8, head_dim=128).read,
        names=names.LLAMA,
    ),
    Family(
        name="apertus",
        names=names.APERTUS,
        reader=Decoder(
            norm_eps=1e-5,
            theta=12e6,
            qk_norm="head",
            activation="xielu",
            gated=False,
            pad=3,
            adjust=change.apertus,
        ).read,
        aliases=("apertus1p5_text",),
    ),
    Family(
        name="granite_swa",
        names=names.WITH_SINKS,
        reader=replace(
            _LLAMA,
            norm_eps=1e-5,
            kv_heads=4,
            tied=True,
            kinds=change.every_fourth_full,
            window=128,
            adjust=both(change.granite, mix.sinks),
        ).read,
    ),
    Family(
        name="internlm3",
        reader=replace(_LLAMA, norm_eps=1e-5, kv_heads=2, head_dim=128, pad=2).read,
        names=names.LLAMA,
    ),
    Family(
        name="ministral3",
        reader=replace(
            _LLAMA,
            norm_eps=1e-5,
            kv_heads=8,
            head_dim=128,
            kinds=change.windowed,
            adjust=change.ministral3,
        ).read,
        names=names.LLAMA,
    ),
    Family(
        name="hyperclovax",
        reader=replace(_LLAMA, placement="peri", adjust=change.hyperclovax).read,
        names=replace(
            names.LLAMA,
            norm_order=("input_layernorm", "post_norm1", "post_attention_layernorm", "post_norm2"),
        ),
    ),
    Family(
        name="cwm",
        reader=Decoder(
            norm_eps=1e-5,
            kv_heads=8,
            head_dim=128,
            theta=1e6,
            kinds=lambda k: lambda index: SLIDING if index % 4 else FULL,
            window=8192,
        ).read,
        names=names.LLAMA,
    ),
    Family(
        name="vaultgemma",
        reader=replace(_GEMMA2, placement="pre").read,
        names=replace(names.LLAMA, gain_offset=1.0),
    ),
    Family(
        name="hunyuan_v1_dense",
        reader=replace(_LLAMA, norm_eps=1e-5, pad=0, adjust=change.hunyuan).read,
        names=names.LLAMA,
    ),
    Family(
        name="nanochat",
        reader=Decoder(
            kv_heads=6,
            activation="relu2",
            gated=False,
            pad=1,
            logit_softcap=15.0,
            adjust=change.nanochat,
        ).read,
        names=names.LLAMA,
    ),
)
