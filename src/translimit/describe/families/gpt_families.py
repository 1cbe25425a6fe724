"""Decoders that grew out of GPT-2 and GPT-J: LayerNorm, biases, mostly no gate."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.families import decoder_changes as change
from translimit.describe.families import decoder_names as names
from translimit.describe.families import embedding_changes as embed
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.family import Family
from translimit.describe.families.positions import SLIDING
from translimit.describe.norm import Norm

LAYER = Norm.LAYER

_PYTHIA = Decoder(
    norm=LAYER,
    norm_eps=1e-5,
    parallel=True,
    rotary=0.25,
    activation="gelu",
    gated=False,
    padded=False,
    adjust=change.neox,
)
_GPT2 = Decoder(
    norm=LAYER,
    norm_eps=1e-5,
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
_COHERE = Decoder(norm=LAYER, norm_eps=1e-5, parallel=True, tied=True, pad=0, adjust=change.cohere)

#: Families with a LayerNorm, by their records.
GPT_FAMILIES = (
    Family(name="gpt2", reader=_GPT2.read, names=names.GPT2, diagnosed=True, float64=True),
    Family(
        name="imagegpt",
        reader=replace(
            _GPT2, norm=Norm.RMS, activation="quick_gelu", tied=False, adjust=change.imagegpt
        ).read,
        names=names.IMAGE_GPT,
    ),
    Family(
        name="gpt_neo",
        reader=replace(_GPT2, depth_scaled=False, adjust=change.gpt_neo).read,
        names=names.GPT_NEO,
    ),
    Family(
        name="gptj",
        reader=replace(
            _PYTHIA,
            rotary=1.0,
            activation="gelu_new",
            mlp_ratio=4.0,
            adjust=lambda k, parts: parts,
        ).read,
        names=names.GPTJ,
    ),
    Family(
        name="gpt_neox",
        reader=_PYTHIA.read,
        aliases=("gpt-neox",),
        names=names.GPT_NEOX,
        diagnosed=True,
    ),
    Family(
        name="gpt_neox_japanese",
        reader=replace(
            _PYTHIA, rotary=1.0, parallel=False, mlp_ratio=4.0, adjust=change.neox_japanese
        ).read,
        names=names.JAPANESE,
        packed=True,
    ),
    Family(
        name="codegen",
        unnamed="packs values between queries and keys, in four groups",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            parallel=True,
            activation="gelu_new",
            gated=False,
            mlp_ratio=4.0,
            padded=False,
        ).read,
        packed=True,
    ),
    Family(
        name="gpt_bigcode",
        unnamed="packs queries, keys and values in an order that one of its switches sets",
        reader=replace(_GPT2, activation="gelu_pytorch_tanh", adjust=change.gpt_bigcode).read,
        packed=True,
    ),
    Family(
        name="opt",
        reader=replace(
            _GPT2, activation="relu", depth_scaled=False, padded=True, pad=1, adjust=change.opt
        ).read,
        names=names.OPT,
        diagnosed=True,
    ),
    Family(
        name="bloom",
        reader=replace(
            _GPT2, activation="gelu_tanh", learned=False, depth_scaled=False, adjust=change.bloom
        ).read,
        names=names.BLOOM,
    ),
    Family(
        name="mpt",
        reader=replace(
            _GPT2, activation="gelu", learned=False, depth_scaled=False, adjust=change.mpt
        ).read,
        names=names.MPT,
    ),
    Family(
        name="falcon",
        unnamed="packs queries, keys and values in an order that its switches set",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            activation="gelu",
            gated=False,
            mlp_ratio=4.0,
            tied=True,
            padded=False,
            adjust=change.falcon,
        ).read,
        packed=True,
    ),
    Family(
        name="biogpt",
        reader=replace(
            _GPT2, activation="gelu", depth_scaled=False, padded=True, pad=1, adjust=embed.biogpt
        ).read,
        names=names.BIOGPT,
    ),
    Family(
        name="xglm",
        reader=replace(
            _GPT2,
            activation="gelu",
            learned=False,
            depth_scaled=False,
            padded=True,
            pad=1,
            adjust=embed.xglm,
        ).read,
        names=names.XGLM,
    ),
    Family(
        name="ctrl",
        reader=replace(
            _GPT2,
            norm_eps=1e-6,
            activation="relu",
            learned=False,
            depth_scaled=False,
            adjust=embed.ctrl,
        ).read,
        names=names.CTRL,
    ),
    Family(
        name="openai-gpt",
        reader=replace(
            _GPT2, placement="post", activation="gelu_new", depth_scaled=False, adjust=change.openai
        ).read,
        names=names.OPENAI,
        packed=True,
    ),
    Family(
        name="persimmon",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            rotary=0.5,
            activation="relu2",
            gated=False,
            adjust=change.persimmon,
        ).read,
        names=names.PERSIMMON,
        packed=True,
    ),
    Family(
        name="phi",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            parallel=True,
            rotary=0.5,
            activation="gelu_new",
            gated=False,
            adjust=change.phi,
        ).read,
        names=names.PHI,
        diagnosed=True,
    ),
    Family(
        name="stablelm",
        reader=Decoder(norm=LAYER, norm_eps=1e-5, rotary=0.25, adjust=change.stablelm).read,
        names=names.STABLELM,
    ),
    Family(
        name="starcoder2",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            kv_heads=2,
            kinds=change.windowed,
            activation="gelu_pytorch_tanh",
            gated=False,
            std=0.018042,
            tied=True,
        ).read,
        names=names.LLAMA,
    ),
    Family(
        name="nemotron",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            gain=2.0,
            rotary=0.5,
            activation="relu2",
            gated=False,
            std=0.0134,
        ).read,
        names=replace(names.LLAMA, gain_offset=1.0),
    ),
    Family(
        name="cohere",
        reader=_COHERE.read,
        names=names.LLAMA,
    ),
    Family(
        name="cohere2",
        reader=replace(_COHERE, kinds=change.pattern(4), rotary_kinds=(SLIDING,), window=4096).read,
        names=names.LLAMA,
    ),
    Family(
        name="cohere_compass_text",
        reader=replace(_COHERE, window=4096, adjust=change.cohere_compass).read,
        classes=("CohereCompassText",),
        names=names.LLAMA,
    ),
    Family(
        name="jais2",
        reader=Decoder(norm=LAYER, norm_eps=1e-5, activation="relu2", gated=False).read,
        names=names.LLAMA,
    ),
)
