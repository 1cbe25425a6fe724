"""Encoders of text that are built like decoders, without a mask: what distinguishes each."""

from __future__ import annotations

from dataclasses import replace

from translimit.describe.families import decoder_names as names
from translimit.describe.families import embedding_changes as embed
from translimit.describe.families import encoder_changes as encode
from translimit.describe.families import encoder_names
from translimit.describe.families.decoders import Decoder
from translimit.describe.families.family import Family
from translimit.describe.norm import Norm

LAYER = Norm.LAYER

_NOMIC_BERT = Decoder(
    norm=LAYER,
    norm_eps=1e-12,
    placement="post",
    causal=False,
    theta=1000.0,
    pad=0,
    tied=True,
    dense_head=True,
    adjust=embed.typed,
)

#: Families without a mask, by their records.
BIDIRECTIONAL_FAMILIES = (
    Family(
        name="eurobert",
        reader=Decoder(norm_eps=1e-5, causal=False, theta=250_000.0, pad=128001).read,
        names=names.LLAMA,
    ),
    Family(
        name="ultrabert",
        reader=Decoder(
            causal=False,
            pad=0,
            kinds=encode.ultrabert_kinds,
            window=128,
            adjust=encode.ultrabert,
        ).read,
        names=names.ULTRABERT,
    ),
    Family(
        name="esmc",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-5,
            causal=False,
            qk_norm="all",
            padded=False,
            dense_head=True,
            adjust=encode.esmc,
        ).read,
        names=names.NOMIC_BERT,
    ),
    Family(
        name="esm",
        reader=Decoder(
            norm=LAYER,
            norm_eps=1e-12,
            causal=False,
            activation="gelu",
            gated=False,
            tied=True,
            dense_head=True,
            adjust=embed.esm,
        ).read,
        names=encoder_names.ESM,
    ),
    Family(name="nomic_bert", reader=_NOMIC_BERT.read, names=names.NOMIC_BERT),
    Family(
        name="gte",
        reader=replace(_NOMIC_BERT, activation="gelu", theta=160_000.0, pad=1).read,
        names=names.NOMIC_BERT,
    ),
    Family(
        name="jina_embeddings_v3",
        reader=replace(_NOMIC_BERT, activation="gelu", gated=False, theta=20_000.0, pad=1).read,
        names=names.NOMIC_BERT,
    ),
)
