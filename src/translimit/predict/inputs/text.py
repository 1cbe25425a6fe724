"""Ids of the tokens of a text: by a tokenizer that is there, or byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from translimit.core import ArgumentError
from translimit.predict.inputs.files import decoded, read_start
from translimit.predict.inputs.ids import require_vocabulary
from translimit.predict.inputs.tokenizer_files import (
    find_tokenizer,
    load_tokenizer,
    require_own,
)

#: Bytes of a text that are read; what follows is not met.
MOST_BYTES = 2**20
#: Vocabularies of bytes, and of bytes with a few special ids behind them.
_BYTES, _MORE_BYTES = 256, 260
_REMEDY = "pass a file of text"


def read_text(
    path: str | Path,
    vocabulary: int | None,
    tokenizer: str | Path | None,
    folder: str | Path | None,
) -> tuple[Int[np.ndarray, " n"], str]:
    """The ids of a text, and by what they were made, in words.

    Args:
        path: of the text.
        vocabulary: entries of the model's vocabulary, or None where it is not told.
        tokenizer: a file that tells it, or a folder that holds one.
        folder: where the configuration is, or None.

    Raises:
        ArgumentError: no text, no tokenizer, or one of another model.
        MissingExtraError: the library tokenizers is needed and not installed.
    """
    content, whole = read_start(path, "text", MOST_BYTES, _REMEDY)
    found = find_tokenizer(tokenizer, folder)
    part = "" if whole else f", of its first {MOST_BYTES // 2**20} MiB"
    if found is None:
        ids, how = _bytes(content, vocabulary)
        return ids, how + part
    text = decoded(content if whole else _whole_characters(content), path, "text", _REMEDY)
    kind = load_tokenizer(found)
    try:
        encoded = kind.encode(text)
    except BaseException as error:  # a word, say, that a tokenizer without an unknown one meets
        require_own(error)
        problem = f"{path} cannot be cut into tokens by {found}"
        raise ArgumentError("text", problem, "pass the tokenizer of this model") from error
    ids = np.array(encoded.ids, dtype=np.int64)
    require_vocabulary(ids, vocabulary, "tokenizer", "pass the tokenizer of this model")
    special = int(sum(encoded.special_tokens_mask))
    more = f", {special} special among them" if special else ""
    return ids, f"by {found.name}{more}{part}"


def _bytes(content: bytes, vocabulary: int | None) -> tuple[Int[np.ndarray, " n"], str]:
    if vocabulary is None or not _BYTES <= vocabulary <= _MORE_BYTES:
        entries = "of a size that is not told" if vocabulary is None else f"of {vocabulary} entries"
        raise ArgumentError(
            "text",
            f"a vocabulary {entries} needs its tokenizer",
            "put tokenizer.json beside the configuration, or pass it as tokenizer",
        )
    special = vocabulary - _BYTES
    more = f"; the other {special} of {vocabulary} are taken for special ones" if special else ""
    return np.frombuffer(content, np.uint8).astype(np.int64), f"its bytes, ids 0 to 255{more}"


def _whole_characters(content: bytes) -> bytes:
    """Bytes of UTF-8 that were cut anywhere, up to the last whole character."""
    start = len(content)
    while start > max(0, len(content) - 4):
        start -= 1
        if content[start] & 0xC0 != 0x80:  # the first byte of a character
            break
    return content[:start]
