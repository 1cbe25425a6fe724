"""Texts, by tokenizers made here and by bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.predict.inputs.readings import bert, llama

from translimit.core import ArgumentError, MissingExtraError
from translimit.data.text import SENTENCE
from translimit.predict.inputs import read_tokens


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE, encoding="utf-8")
    return path


def make_tokenizer(path: Path, **more: Any) -> Any:
    """Byte-level pairs of the sentence with a token in front, as a file."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    made.train_from_iterator([SENTENCE], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    if more.get("cut"):
        made.enable_truncation(4)
        made.enable_padding(length=400)
    made.save(str(path))
    return made


def test_bytes_of_a_vocabulary_of_bytes(text: Path) -> None:
    found = read_tokens(llama(vocab_size=256), text=text, key=0)
    np.testing.assert_array_equal(found.ids, list(SENTENCE.encode()))
    different = len(Counter(SENTENCE))
    assert found.different == different
    assert found.source == f"117 tokens of text.txt, its bytes, ids 0 to 255, {different} different"
    more = read_tokens(llama(vocab_size=259), text=text, tokens=9, key=0)
    assert more.source == (
        "the first 9 of 117 tokens of text.txt, its bytes, ids 0 to 255; the other 3 of 259 are "
        "taken for special ones, 6 different"
    )
    # No text at all: a byte is a byte.
    text.write_bytes(bytes(range(256)))
    np.testing.assert_array_equal(
        read_tokens(llama(vocab_size=256), text=text, key=0).ids, range(256)
    )


def test_mean_overlap_of_bytes_is_that_of_their_counts(text: Path) -> None:
    # m_0 = sum of squared counts over n^2, where no position is added.
    cov = read_tokens(llama(vocab_size=256), text=text, key=0).cov
    counts = np.array(list(Counter(SENTENCE.encode()).values()))
    assert cov.mean() / cov[0, 0] == pytest.approx((counts**2).sum() / len(SENTENCE) ** 2)


def test_the_tokenizer_beside_the_configuration(tmp_path: Path, text: Path) -> None:
    own = make_tokenizer(tmp_path / "tokenizer.json").encode(SENTENCE)
    found = read_tokens(llama(vocab_size=300), text=text, folder=tmp_path, key=0)
    np.testing.assert_array_equal(found.ids, own.ids)
    assert own.tokens[0] == "<s>"
    assert found.source.startswith(
        f"{len(own.ids)} tokens of text.txt, by tokenizer.json, 1 special among them, "
    )
    given = read_tokens(llama(vocab_size=300), text=text, tokenizer=tmp_path, key=0)
    np.testing.assert_array_equal(given.ids, own.ids)
    with pytest.raises(ArgumentError, match=r"tokenizer: the id at position \d+ .* vocabulary has"):
        read_tokens(llama(vocab_size=100), text=text, folder=tmp_path, key=0)


def test_truncation_and_padding_of_a_file_are_left_out(tmp_path: Path, text: Path) -> None:
    whole = make_tokenizer(tmp_path / "tokenizer.json").encode(SENTENCE).ids
    make_tokenizer(tmp_path / "other.json", cut=True)
    found = read_tokens(llama(), text=text, tokenizer=tmp_path / "other.json", key=0)
    np.testing.assert_array_equal(found.ids, whole)


def test_pairs_of_gpt2(tmp_path: Path, text: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.ByteLevelBPETokenizer()
    own.train_from_iterator([SENTENCE], vocab_size=300, show_progress=False)
    own.save_model(str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "merges.txt",
        "text.txt",
        "vocab.json",
    ]
    found = read_tokens(llama(), text=text, folder=tmp_path, key=0)
    np.testing.assert_array_equal(found.ids, own.encode(SENTENCE).ids)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ArgumentError, match=r"merges.txt is not beside vocab.json"):
        read_tokens(llama(), text=text, folder=tmp_path, key=0)


def test_pieces_of_words_of_bert(tmp_path: Path, text: Path) -> None:
    pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "is", "a", "truth", "##s", "It"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    text.write_text("It is a truth")
    found = read_tokens(bert(), text=text, folder=tmp_path, key=0)
    np.testing.assert_array_equal(found.ids, [2, 5, 6, 7, 8, 3])
    assert found.targets is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    cased = read_tokens(bert(), text=text, folder=tmp_path, key=0)
    np.testing.assert_array_equal(cased.ids, [2, 10, 6, 7, 8, 3])


def test_a_long_text_is_read_at_its_start(tmp_path: Path, text: Path) -> None:
    text.write_text("ä" * 2**20, encoding="utf-8")
    make_tokenizer(tmp_path / "tokenizer.json")
    found = read_tokens(llama(), text=text, folder=tmp_path, tokens=4, key=0)
    assert found.count == 4
    assert ", 1 special among them, of its first 1 MiB, " in found.source
    text.write_bytes(b"a" + "ä".encode() * 2**20)  # the cut is inside of a character
    assert read_tokens(llama(), text=text, folder=tmp_path, tokens=4, key=0).count == 4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tokenizer.model", "tokenizer.model is a file of sentencepiece, which is not read"),
        ("spiece.model", "sentencepiece"),
        ("qwen.tiktoken", "tiktoken"),
        ("tekken.json", "mistral-common"),
    ],
)
def test_files_of_other_libraries_are_refused_by_name(
    tmp_path: Path, text: Path, name: str, says: str
) -> None:
    (tmp_path / name).write_bytes(b"\x0a\x0e")
    for arguments in ({"folder": tmp_path}, {"tokenizer": tmp_path / name}):
        with pytest.raises(ArgumentError, match=says) as caught:
            read_tokens(llama(), text=text, **arguments, key=0)
        assert "tokenizer.json" in caught.value.remedy


def test_without_a_tokenizer_the_wanted_file_is_named(tmp_path: Path, text: Path) -> None:
    for reading in (llama(vocab_size=500), llama()):
        with pytest.raises(ArgumentError, match=r"needs its tokenizer; put tokenizer.json beside"):
            read_tokens(reading, text=text, folder=tmp_path, key=0)
    with pytest.raises(ArgumentError, match=r"holds none of tokenizer.json, vocab.json, vocab.txt"):
        read_tokens(llama(), text=text, tokenizer=tmp_path, key=0)
    with pytest.raises(ArgumentError, match=r"tokenizer: .*none.json is not there"):
        read_tokens(llama(), text=text, tokenizer=tmp_path / "none.json", key=0)


def test_a_file_that_is_no_tokenizer_and_one_that_is_no_text(tmp_path: Path, text: Path) -> None:
    pytest.importorskip("tokenizers")
    wrong = tmp_path / "tokenizer.json"
    for content in ("{}", "[", json.dumps({"model": {"type": "odd"}})):
        wrong.write_text(content)
        with pytest.raises(ArgumentError, match=r"tokenizer: .*tokenizer.json cannot be read \("):
            read_tokens(llama(), text=text, tokenizer=wrong, key=0)
    make_tokenizer(wrong)
    text.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ArgumentError, match=r"text: .*text.txt is not UTF-8 text"):
        read_tokens(llama(), text=text, tokenizer=wrong, key=0)
    text.write_bytes(b"a\0b")
    with pytest.raises(ArgumentError, match="null characters"):
        read_tokens(llama(), text=text, tokenizer=wrong, key=0)


def test_the_extra_is_named_where_the_library_is_missing(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'translimit\[huggingface\]'"):
        read_tokens(llama(), text=text, folder=tmp_path, key=0)
