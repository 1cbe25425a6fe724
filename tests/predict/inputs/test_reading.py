"""What enters, against embeddings that are drawn; and what is refused, by the argument's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tests.predict.inputs.readings import bert, llama, vit

from translimit.core import ArgumentError, ArgumentTypeError, MemoryLimitError, named_key
from translimit.describe import (
    Attention,
    Embedding,
    Norm,
    Normalisation,
    Stack,
    StackReading,
    pre_norm_stack,
)
from translimit.predict.inputs import Tokens, distinct_tokens, read_tokens

DIM = 16_384
IDS = [5, 3, 5, 8, 0, 8, 5, 2, 0, 9]


def wide(embedding: Embedding, norm: Norm = Norm.RMS, **more: Any) -> StackReading:
    attention = Attention(4, 8, 0.1, 0.1, 0.1, 0.1)
    of = Normalisation(norm, 1e-6)
    stack = pre_norm_stack(DIM, 1, attention, norm=of, embedding=embedding)
    return StackReading("own", stack, vocabulary=10, **more)


def drawn_cov(of: Embedding, ids: list[int], norm: Norm, rng: np.random.Generator) -> np.ndarray:
    """<x_i, x_j> / D of one table of width D; means removed where a layer norm will."""
    table = of.multiplier * of.std * rng.standard_normal((10, DIM))
    if of.padding is not None:
        table[of.padding] = 0.0
    x = table[ids] + of.position_std * rng.standard_normal((len(ids), DIM))
    x += of.type_std * rng.standard_normal(DIM)
    if norm is Norm.LAYER:
        x -= x.mean(axis=1, keepdims=True)
    return x @ x.T / DIM


def deviation(found: Tokens, drawn: np.ndarray) -> float:
    """The largest gap in standard errors, ((C_ii C_jj + C_ij^2) / D)^(1/2) of Gaussian tokens."""
    c = found.cov
    squares = np.outer(np.diagonal(c), np.diagonal(c))
    error = np.sqrt((squares + c**2) / DIM)
    zero = error == 0
    assert np.all(drawn[zero] == 0)
    return float((np.abs(drawn - c)[~zero] / error[~zero]).max())


@pytest.mark.parametrize("norm", [Norm.RMS, Norm.LAYER])
@pytest.mark.parametrize(
    "embedding",
    [
        Embedding(0.3, padding=0),
        Embedding(0.3, multiplier=2.0, position_std=0.2, type_std=0.1, padding=0),
    ],
)
def test_the_covariance_is_that_of_drawn_embeddings(embedding: Embedding, norm: Norm) -> None:
    drawn = drawn_cov(embedding, IDS, norm, np.random.default_rng(1))
    found = read_tokens(wide(embedding, norm), ids=IDS, key=0)
    assert deviation(found, drawn) < 4
    # Without repeats, and without the padding row, it is refuted.
    others = distinct_tokens(wide(embedding, norm), len(IDS))
    full = read_tokens(wide(Embedding(0.3, embedding.multiplier), norm), ids=IDS, key=0)
    assert np.abs(drawn - others.cov).max() > 10 * np.sqrt(2 / DIM) * found.cov.max()
    assert np.abs(drawn - full.cov).max() > 10 * np.sqrt(2 / DIM) * found.cov.max()


def test_what_is_told_of_ids() -> None:
    found = read_tokens(wide(Embedding(0.3, padding=0)), ids=IDS, key=0)
    assert found.count == 10
    assert found.different == 6
    assert found.source == "10 tokens of ids as given, 6 different"
    assert found.warnings == (
        "2 of 10 tokens have the padding id 0, whose row is zero at initialisation",
    )
    same = np.equal.outer(IDS, IDS)
    np.testing.assert_array_equal(np.equal.outer(found.groups, found.groups), same)
    np.testing.assert_array_equal(found.targets, IDS[1:])
    np.testing.assert_array_equal(found.ids, IDS)


def test_a_part_has_the_id_after_it_as_last_target() -> None:
    found = read_tokens(llama(), ids=IDS, tokens=4, key=0)
    np.testing.assert_array_equal(found.ids, IDS[:4])
    np.testing.assert_array_equal(found.targets, IDS[1:5])
    assert found.source == "the first 4 of 10 tokens of ids as given, 3 different"
    assert found.warnings == ()
    assert read_tokens(bert(), ids=IDS, key=0).targets is None


def test_what_is_beyond_the_context_is_cut_and_told() -> None:
    short = llama(max_position_embeddings=6)
    found = read_tokens(short, ids=IDS, key=0)
    assert found.count == 6
    assert found.warnings == ("cut to the first 6 of 10 tokens (the context)",)
    with pytest.raises(ArgumentError, match="tokens: got 7; pass at most the context, 6"):
        read_tokens(short, ids=IDS, tokens=7, key=0)
    long = read_tokens(llama(), ids=np.arange(2000) % 50, key=0)
    assert long.count == 512
    told = "cut to the first 512 of 2000 tokens (pass tokens for another number)"
    assert long.warnings == (told,)
    assert read_tokens(llama(), ids=np.arange(2000) % 50, tokens=600, key=0).count == 600


def test_the_default_is_a_stated_sample() -> None:
    found = read_tokens(llama(vocab_size=32_000), key=0)
    assert found.count == 48
    assert found.source.startswith(
        "48 tokens drawn from the vocabulary of 32000 by Zipf's law (the word of rank r has a "
        "share in proportion to 1 / (r + 2.7)), "
    )
    assert found.targets is not None
    assert found.ids is not None
    np.testing.assert_array_equal(found.targets[:-1], found.ids[1:])
    assert len(found.targets) == 48
    again = read_tokens(llama(vocab_size=32_000), key=named_key(0))
    np.testing.assert_array_equal(again.ids, found.ids)
    other = read_tokens(llama(vocab_size=32_000), key=jax.random.key(1))
    assert not np.array_equal(other.ids, found.ids)
    assert read_tokens(llama(max_position_embeddings=9), key=0).count == 9
    untold = read_tokens(llama(), tokens=5, key=0)
    assert untold.different == 5
    assert untold.source == "5 tokens, all different: no vocabulary is told"


def test_different_tokens() -> None:
    found = distinct_tokens(llama(vocab_size=100, pad_token_id=2), 5)
    np.testing.assert_array_equal(found.ids, [0, 1, 3, 4, 5])
    assert found.different == found.count == 5
    assert found.warnings == ()
    beyond = distinct_tokens(llama(vocab_size=4), 5)
    assert beyond.different == 5
    assert beyond.warnings == ("the vocabulary has 4 different tokens, fewer than 5",)
    assert distinct_tokens(vit(), 17).count == 17


def test_an_image_has_its_own_number_of_tokens() -> None:
    found = read_tokens(vit(), key=0)
    assert found.source == "independent pixels of variance one: 16 patches and 1 class token"
    assert found.ids is None
    assert found.targets is None
    np.testing.assert_array_equal(found.groups, np.arange(17))
    assert read_tokens(vit(), tokens=17, key=0).count == 17
    with pytest.raises(ArgumentError, match="tokens: got 16, and an image has 17; pass 17"):
        read_tokens(vit(), tokens=16, key=0)
    with pytest.raises(ArgumentError, match="n: got 16, and an image has 17"):
        distinct_tokens(vit(), 16)
    with pytest.raises(MemoryLimitError, match="inner products of 15745025 tokens need about"):
        read_tokens(vit(image_size=500_000, patch_size=126), key=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": IDS, "gram": np.eye(3)}, "gram: is given beside ids; pass one of them"),
        ({"ids": IDS, "tokenizer": "tokenizer.json"}, "tokenizer: is given without a text"),
        ({"tokens": 1}, "tokens: got 1; pass at least 2"),
        ({"tokens": 10**7}, "tokens: inner products of 10000000 tokens need about"),
        ({"ids": [7]}, "ids: 1 token is in it, and two tokens at least must enter"),
        ({"ids": []}, "ids: 0 tokens are in it"),
        ({"ids": IDS, "tokens": 11}, "tokens: got 11, and ids holds 10; pass at most 10"),
        ({"ids": [1, 500, 2]}, r"ids: the id at position 1 \(from 0\) is 500, and the vocabulary"),
        ({"ids": [1, 2, -3]}, r"ids: the id at position 2 \(from 0\) is -3"),
        ({"image": "cat.png"}, "image: llama reads tokens of a text; pass text or ids"),
        ({"gram": np.eye(3), "tokens": 4}, "tokens: got 4, and gram has 3"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_tokens(llama(vocab_size=500), **arguments, key=0)


@pytest.mark.usefixtures("as_user")
def test_what_is_asked_of_another_stack() -> None:
    with pytest.raises(ArgumentError, match="ids: vit reads images; pass image"):
        read_tokens(vit(), ids=IDS, key=0)
    with pytest.raises(ArgumentTypeError, match="reading"):
        read_tokens(llama().stack, key=0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentTypeError, match="tokens"):
        read_tokens(llama(), tokens="many", key=0)  # pyright: ignore[reportArgumentType]
    bare = StackReading("own", Stack(64, llama().stack.layers))
    with pytest.raises(ArgumentError, match="gram: is missing"):
        read_tokens(bare, key=0)
    with pytest.raises(ArgumentError, match="ids: cannot be read: the stack has no embedding"):
        read_tokens(bare, ids=IDS, key=0)
    with pytest.raises(ArgumentError, match="a stack without an embedding"):
        distinct_tokens(bare, 4)
    assert read_tokens(bare, gram=np.eye(3), key=0).source == "the covariance of 3 tokens"


def test_a_folder_or_nothing_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    reads = {
        "text": llama(vocab_size=256),
        "ids": llama(),
        "image": vit(),
        "gram": llama(),
    }
    for name, reading in reads.items():
        for path, why in (
            (tmp_path, "it is a folder"),
            (tmp_path / "none", "No such file or directory"),
            (tmp_path / "empty", "is empty"),
            (tmp_path / "a\0b", "null"),
        ):
            with pytest.raises(ArgumentError, match=why) as caught:
                read_tokens(reading, **{name: path}, key=0)
            assert caught.value.argument == name
            assert caught.value.remedy.startswith("pass ")
