"""Encoders of text: no mask.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.describe.activation import Activation
from translimit.describe.blocks import SubBlock
from translimit.describe.embedding import Embedding
from translimit.describe.families import encoder_names as names
from translimit.describe.families.encoders import TRUNCATED_STD, equal_layers, sizes, told_beside
from translimit.describe.families.family import Family
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import FULL, SLIDING, frequencies
from translimit.describe.families.reading import StackReading
from translimit.describe.frequencies import Frequencies
from translimit.describe.mixers import Attention, FeedForward, Scores
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack import Stack


def bert(
    norm_eps: float,
    *,
    types: bool = True,
    pad: int,
    pad_fixed: bool = False,
    post: bool = True,
    normalised: bool = True,
    eps_fixed: bool = False,
    inner_key: str = "embedding_size",
    inner_size: int | None = None,
    biased: bool = False,
    turned: bool = False,
    dense_head: bool = True,
) -> Callable[[Keys, str], StackReading]:
    """BERT and those who share its parts: learned positions, plain units, most of them post-LN.

    Args:
        norm_eps: of the norms.
        types: whether all tokens share a row of token types.
        pad: the padding id where not told.
        pad_fixed: whether the configuration does not change it.
        post: whether norms come after the sum, not before the branches.
        normalised: whether the embedding is.
        eps_fixed: whether the configuration does not change the norms' epsilon.
        inner_key: what tells the entries of the embedding where a matrix maps them to the stream.
        inner_size: these where not told; None where there is no matrix unless they differ.
        biased: whether scores have a drawn table of relative positions, one for all layers.
        turned: whether positions turn queries and keys instead of being learned.
        dense_head: whether a dense layer stands before the readout.
    """

    def read(k: Keys, name: str) -> StackReading:
        _, dim, heads, head_dim = sizes(k)
        std = k.number("std", 0.02)
        k.require("position_embedding_type", "absolute")
        k.require("is_decoder", False)
        norm = Normalisation(Norm.LAYER, norm_eps if eps_fixed else k.number("norm_eps", norm_eps))
        scores = Scores()
        if biased:
            buckets = k.count("relative_attention_num_buckets", 32)
            scores = Scores(bias_std=std, bias_buckets=buckets)
        rotary = Frequencies.geometric(head_dim) if turned else None
        k.require("rotary_value", False)
        attention = Attention(heads, head_dim, std, std, std, std, rotary=rotary, scores=scores)
        width = k.count("mlp_dim", 4 * dim)
        units = FeedForward(width, k.activation("gelu"), std, std)
        inner = k.count(inner_key, inner_size) if k.given(inner_key) else inner_size or dim
        k.inert("sinusoidal_pos_embds")
        embedding = Embedding(
            std,
            position_std=0.0 if turned else std,
            type_std=std if types else 0.0,
            padding=pad if pad_fixed else k.padding(pad),
            norm=norm if normalised else None,
            inner=None if inner == dim and not inner_size else inner,
            inner_std=0.0 if inner == dim and not inner_size else std,
        )
        k.require("use_task_id", False)
        k.inert("output_embedding_size")
        k.inert(
            "type_vocab_size", "task_type_vocab_size", *(("pad_token_id",) if pad_fixed else ())
        )
        layers = equal_layers(k, attention, units, norm, post=post)
        stack = Stack(dim, layers, embedding, False, None if post else norm)
        reading = told_beside(k, name, stack, tied=True, readout_std=std)
        return replace(reading, own_token=not dense_head)

    return read


def xlm(k: Keys, name: str) -> StackReading:
    """XLM and FlauBERT: the block of BERT, pre-LN where asked for; words have their own deviation.

    Args:
        k: the configuration.
        name: of the family.
    """
    _, dim, heads, head_dim = sizes(k)
    std, first = k.number("std", 0.02), k.number("embed_init_std", 2048**-0.5)
    k.require("sinusoidal_embeddings", False)
    pre = k.flag("pre_norm", False)
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-12))
    attention = Attention(heads, head_dim, std, std, std, std)
    kind = Activation.GELU if k.flag("gelu_activation", True) else Activation.RELU
    layers = equal_layers(k, attention, FeedForward(4 * dim, kind, std, std), norm, post=not pre)
    if k.count("n_langs", 1) > 1 and k.flag("use_lang_emb", True):
        k.assumptions.append("no embedding of a language is added: none is told with the tokens")
    row = k.padding(k.padding(2, "pad_index"))
    k.inert("bos_index", "eos_index", "unk_index", "mask_index", "asm")
    k.inert("is_encoder", "lang_id", "mask_token_id", "start_n_top", "end_n_top", "n_words")
    k.inert("lang2id", "id2lang", "n_langs", "use_lang_emb")
    embedding = Embedding(first, position_std=first, padding=row, norm=norm)
    stack = Stack(dim, layers, embedding, k.flag("causal", False), None)
    reading = told_beside(k, name, stack, tied=True, readout_std=std)
    return replace(reading, own_token=reading.tied)  # its head has no dense layer


def modernbert_decoder(k: Keys, name: str) -> StackReading:
    """ModernBERT with a mask: a window is the number of tokens that a query sees.

    Args:
        k: the configuration.
        name: of the family.
    """
    k.inert("window")
    reading = modernbert(k, name)
    layers = tuple((_causal(first), units) for first, units in reading.stack.layers)
    stack = replace(reading.stack, layers=layers, causal=True)
    return replace(reading, stack=stack)


def _causal(block: SubBlock) -> SubBlock:
    """The sub-block with windows that do not hold one token more."""
    (mixer,) = block.branches
    assert isinstance(mixer, Attention)
    if mixer.scores.window is None:
        return block
    scores = replace(mixer.scores, window=mixer.scores.window - 1)
    return replace(block, branches=(replace(mixer, scores=scores),))


def modernbert(k: Keys, name: str) -> StackReading:
    """ModernBERT: pre-LN without a norm before the first attention, windows, gated units.

    Args:
        k: the configuration.
        name: of the family.
    """
    count, dim, heads, head_dim = sizes(k)
    std = k.number("std", 0.02)
    inner, outer = TRUNCATED_STD * std, TRUNCATED_STD * std / math.sqrt(2 * count)
    k.inert("initializer_cutoff_factor")
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-5))
    window = k.count("local_attention", 128)
    every = k.count("global_attn_every_n_layers", 3)
    kinds = k.words("layer_types") or [
        FULL if index % every == 0 else SLIDING for index in range(count)
    ]
    bases = {
        FULL: k.number("global_rope_theta", 160_000.0),
        SLIDING: k.number("local_rope_theta", 10_000.0),
    }
    units = FeedForward(k.count("mlp_dim", 1152), k.activation("gelu"), inner, outer, gated=True)
    layers = []
    for index, kind in enumerate(kinds[:count]):
        turned = frequencies(k, head_dim, theta=bases[kind], kind=kind)
        scores = Scores(window=window // 2 + 1 if kind == SLIDING else None)
        attention = Attention(
            heads, head_dim, inner, inner, inner, outer, rotary=turned, scores=scores
        )
        first = SubBlock((attention,), None if index == 0 else norm)
        layers.append((first, SubBlock((units,), norm)))
    k.inert("pad")  # the class draws that row as well
    embedding = Embedding(inner, norm=norm)
    stack = Stack(dim, tuple(layers), embedding, causal=False)
    return told_beside(k, name, stack, tied=True, readout_std=inner)


def t5(k: Keys, name: str) -> StackReading:
    """The encoder of T5: no scale of scores, a drawn table of relative positions.

    Args:
        k: the configuration.
        name: of the family.
    """
    layers, dim, heads = (k.count(one) for one in ("layers", "dim", "heads"))
    head_dim = k.count("d_kv", 64)
    factor = k.number("initializer_factor", 1.0)
    k.inert("num_decoder_layers", "scale_decoder_outputs", "output_past", "n_positions")
    read = factor * dim**-0.5
    scores = Scores(
        score_scale=1.0,
        bias_std=read,
        bias_buckets=k.count("relative_attention_num_buckets", 32),
        bias_reach=k.count("relative_attention_max_distance", 128),
    )
    attention = Attention(
        heads,
        head_dim,
        factor * (dim * head_dim) ** -0.5,
        read,
        read,
        factor * (heads * head_dim) ** -0.5,
        scores=scores,
    )
    told = k.word("feed_forward_proj", "relu")
    gated = told.startswith("gated-")
    word = {"gated-gelu": "gelu_new", "relu": "relu", "gated-silu": "silu"}.get(told)
    if word is None:
        raise k.refuse("feed_forward_proj", "write relu, gated-gelu or gated-silu")
    k.inert("is_gated_act", "activation")
    width = k.count("mlp_dim", 2048)
    units = FeedForward(
        width,
        {"relu": Activation.RELU, "gelu_new": Activation.GELU_TANH, "silu": Activation.SILU}[word],
        read,
        factor * width**-0.5,
        gated=gated,
    )
    if factor == 0:
        raise k.refuse("initializer_factor", "write a positive number")
    norm = Normalisation(Norm.RMS, k.number("norm_eps", 1e-6), factor)
    layer = tuple(SubBlock((one,), norm) for one in (attention, units))
    stack = Stack(dim, (layer,) * layers, Embedding(factor), causal=False, norm_final=norm)
    scaled = k.flag("tie_word_embeddings", True)
    reading = told_beside(k, name, stack, tied=True, readout_std=factor)
    return replace(reading, tied=True, logit_scale=dim**-0.5 if scaled else 1.0)


def whisper(k: Keys, name: str) -> StackReading:
    """The encoder half of Whisper. What its convolutions make of sound must be given.

    Args:
        k: the configuration.
        name: of the family.
    """
    _, dim, heads, head_dim = sizes(k)
    std = k.number("std", 0.02)
    norm = Normalisation(Norm.LAYER, 1e-5)
    attention = Attention(heads, head_dim, std, std, std, std)
    units = FeedForward(k.count("mlp_dim", 4 * dim), k.activation("gelu"), std, std)
    layers = equal_layers(k, attention, units, norm, post=False)
    k.inert("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "num_mel_bins")
    k.inert("scale_embedding", "median_filter_width", "vocabulary", "num_hidden_layers", "pad")
    k.inert("mask_time_length", "mask_time_min_masks", "mask_feature_length")
    k.inert("mask_feature_min_masks", "tie_word_embeddings")
    k.assumptions.append(
        "the encoder is read; the covariance of what its two convolutions return must be given"
    )
    context = k.count("max_source_positions", 1500)
    return StackReading(name, Stack(dim, layers, None, False, norm), context=context)


#: Why T5 and Whisper have no table of names.
_ENCODER_ALONE = "is read as its encoder, and its classes hold a decoder that attends to it"

#: Families of encoders of text, by their records.
TEXT_ENCODERS = (
    Family(name="bert", reader=bert(1e-12, pad=0), names=names.BERT, diagnosed=True, float64=True),
    Family(
        name="roberta",
        reader=bert(1e-12, pad=1),
        classes=("XLMRoberta", "Camembert", "Data2VecText"),
        aliases=("xlm-roberta", "camembert", "data2vec-text"),
        names=names.BERT,
        diagnosed=True,
        float64=True,
    ),
    Family(
        name="electra", reader=bert(1e-12, pad=0), names=names.BERT, diagnosed=True, float64=True
    ),
    Family(name="ernie", reader=bert(1e-12, pad=0), names=names.BERT),
    Family(name="roberta-prelayernorm", reader=bert(1e-12, pad=1, post=False), names=names.BERT),
    Family(
        name="megatron-bert",
        reader=bert(1e-12, pad=0, post=False, normalised=False),
        names=names.BERT,
    ),
    Family(
        name="xlm-roberta-xl",
        reader=bert(1e-5, pad=1, post=False, normalised=False),
        names=names.BERT,
    ),
    Family(
        name="distilbert",
        reader=bert(1e-12, types=False, pad=0, eps_fixed=True),
        names=names.DISTILBERT,
        diagnosed=True,
        float64=True,
    ),
    Family(
        name="bert-generation",
        reader=bert(1e-12, types=False, pad=0, dense_head=False),
        names=names.BERT,
    ),
    Family(
        name="rembert",
        reader=bert(1e-12, pad=0, inner_key="input_embedding_size", inner_size=256),
        names=names.BERT,
    ),
    Family(
        name="roformer",
        names=names.ROFORMER,
        reader=bert(1e-12, pad=0, turned=True),
    ),
    Family(
        name="mpnet",
        reader=bert(1e-12, types=False, pad=1, pad_fixed=True, biased=True),
        names=names.BERT,
    ),
    Family(name="xlm", names=names.XLM, reader=xlm),
    Family(name="flaubert", names=names.XLM, reader=xlm),
    Family(name="modernbert", names=names.MODERNBERT, reader=modernbert),
    Family(name="modernbert-decoder", names=names.MODERNBERT_DECODER, reader=modernbert_decoder),
    Family(
        name="t5",
        unnamed=_ENCODER_ALONE,
        reader=t5,
        classes=("T5Encoder",),
    ),
    Family(
        name="whisper",
        unnamed=_ENCODER_ALONE,
        reader=whisper,
    ),
)
