"""Decoders whose keys and values come from a latent of low rank, most with experts."""

from __future__ import annotations

from translimit.describe.families import decoder_names as names
from translimit.describe.families import mixture_changes as mix
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.family import Family

#: Families with latent attention, by their records.
LATENT_FAMILIES = (
    Family(
        name="deepseek_v2",
        reader=Decoder(head_dim=64, adjust=mix.deepseek_v2).read,
        names=names.LATENTS,
    ),
    Family(
        name="deepseek_v3",
        reader=Decoder(head_dim=64, adjust=mix.deepseek()).read,
        aliases=("kimi_k2",),
        names=names.LATENTS,
    ),
    Family(
        name="glm4_moe_lite",
        reader=Decoder(
            norm_eps=1e-5,
            head_dim=64,
            adjust=mix.deepseek(count=64, factor=1.8, groups=(1, 1), dense=1),
        ).read,
        names=names.LATENTS,
    ),
    Family(
        name="sarvam_mla",
        names=names.LATENTS,
        reader=Decoder(
            head_dim=64, std=0.006, adjust=mix.deepseek(count=128, groups=(1, 1), dense=1)
        ).read,
    ),
    Family(name="axk1", names=names.AXK1, reader=Decoder(head_dim=64, adjust=mix.axk1).read),
    Family(
        name="deepseek_v32",
        names=names.INDEXED,
        reader=Decoder(head_dim=64, adjust=mix.deepseek()).read,
    ),
    Family(
        name="glm_moe_dsa",
        names=names.INDEXED,
        reader=Decoder(
            norm_eps=1e-5, head_dim=64, adjust=mix.deepseek(groups=(1, 1), dense=3)
        ).read,
    ),
    Family(
        name="youtu",
        reader=Decoder(head_dim=64, tied=True, adjust=mix.youtu).read,
        names=names.LATENTS,
    ),
    Family(
        name="minicpm3",
        names=names.LATENTS,
        reader=Decoder(norm_eps=1e-5, head_dim=32, std=0.1, tied=True, adjust=mix.minicpm3).read,
    ),
)
