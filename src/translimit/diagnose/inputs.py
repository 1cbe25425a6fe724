"""Sequences that are sent through a checkpoint: of ids, of a text, of the packaged text, of images.

The independent unit is the sequence, so that several pieces of different places are taken: lines of
ids, paragraphs of a text, windows of the packaged one. Sequences are cut at the context.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from translimit.core import ArgumentError, ArrayInput, ConfigError, brief, cause_of, require_package
from translimit.diagnose.byte_model import held_out_windows
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.gguf_files import gguf_encoder

#: Windows of the packaged text: this many characters, one every so many.
WINDOW, EVERY = 200, 12_000
#: Sequences of a text at most, and their tokens.
MOST_SEQUENCES, MOST_TOKENS = 16, 512


@dataclass(frozen=True, eq=False)
class Inputs:
    """Sequences and what they are.

    Attributes:
        rows: ids [n] of every sequence, or patches [n, pixels].
        source: in words.
        notes: what was cut or left out.
    """

    rows: tuple[np.ndarray, ...]
    source: str
    notes: tuple[str, ...] = ()


def as_inputs(given: object, checkpoint: Checkpoint) -> Inputs:
    """Sequences from what a caller passes.

    Args:
        given: rows of ids, of one length or of several; one row; or patches [n, pixels] of every
            image.
        checkpoint: that reads them.

    Raises:
        ArgumentError: no sequence, ids that are no whole numbers, a sequence of one token.
    """
    if isinstance(given, Inputs):
        return given
    rows: Sequence[Any] = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
    if len(rows) and not checkpoint.patches and np.ndim(rows[0]) == 0:
        rows = [rows]
    if len(rows) and checkpoint.patches and np.ndim(rows[0]) == 1:
        rows = [rows]
    found, cut = [], 0
    for row in rows:
        array = np.asarray(row)
        if not checkpoint.patches and (
            array.ndim != 1 or not np.issubdtype(array.dtype, np.integer)
        ):
            raise ArgumentError("inputs", f"got {brief(row)}", "pass rows of whole numbers")
        limit = len(array) if checkpoint.patches else (checkpoint.context or len(array))
        cut += max(len(array) - limit, 0)
        found.append(array[:limit])
    if not found or min(map(len, found)) < (1 if checkpoint.patches else 2):
        raise ArgumentError(
            "inputs", "hold no sequence of two tokens", "pass sequences of two tokens at least"
        )
    return Inputs(tuple(found), f"{_count(found)} as given", _dropped(cut))


def read_id_lines(path: str | Path) -> list[Int[np.ndarray, " n"]]:
    """Sequences of ids, one a line.

    Args:
        path: whole numbers between spaces or commas.

    Raises:
        ConfigError: the file cannot be read, or a line holds something else.
    """
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = re.split(r"[\s,]+", line.strip(" \t,[]"))
        if words == [""]:
            continue
        if not all(re.fullmatch(r"[0-9]{1,9}", one) for one in words):
            problem = f"line {number} is no row of ids: {brief(line[:60])}"
            raise ConfigError(str(path), problem, "write one sequence a line, spaces between")
        rows.append(np.array([int(one) for one in words], np.int64))
    return rows


def text_inputs(path: str | Path, checkpoint: Checkpoint, folder: Path | None) -> Inputs:
    """Paragraphs of a text as sequences; a model of bytes reads its bytes.

    Args:
        path: of the text.
        checkpoint: that reads it.
        folder: where its `tokenizer.json` is.

    Raises:
        ConfigError: no tokenizer, or a file that cannot be read.
        ArgumentError: no paragraph of two tokens.
    """
    parts = [one.strip() for one in re.split(r"\n\s*\n", _text(path)) if one.strip()]
    parts = [re.sub(r"\s+", " ", one) for one in parts]
    return _of_texts(parts, Path(path).name, checkpoint, folder, "paragraphs")


def packaged_inputs(checkpoint: Checkpoint, folder: Path | None) -> Inputs:
    """Windows of the packaged text, for a checkpoint that nobody gave an input.

    The byte model reads what it was not trained on.

    Args:
        checkpoint: that reads them.
        folder: where its `tokenizer.json` is.

    Raises:
        ConfigError: no tokenizer, or a model of images.
    """
    if checkpoint.patches:
        raise ConfigError("--image", "is missing", f"{checkpoint.family} reads images: pass one")
    if _reads_bytes(checkpoint, folder):
        rows = held_out_windows(MOST_SEQUENCES)
        limit = min(checkpoint.context or rows.shape[1], rows.shape[1])
        source = f"{len(rows)} windows of the packaged text that the byte model did not see"
        return Inputs(tuple(row[:limit] for row in rows), source)
    from translimit.data import byte_text

    whole = bytes(np.asarray(byte_text().ids)).decode("ascii")
    places = range(EVERY, len(whole) - WINDOW, EVERY)
    parts = [whole[place : place + WINDOW] for place in places][:12]
    return _of_texts(parts, "the packaged text", checkpoint, folder, "windows")


def _of_texts(
    parts: list[str], name: str, checkpoint: Checkpoint, folder: Path | None, word: str
) -> Inputs:
    limit = min(checkpoint.context or MOST_TOKENS, MOST_TOKENS)
    rows, cut, left = [], 0, max(len(parts) - MOST_SEQUENCES, 0)
    encode = _encoder(checkpoint, folder)
    for part in parts[:MOST_SEQUENCES]:
        ids = encode(part)
        cut += max(len(ids) - limit, 0)
        if len(ids[:limit]) > 1:
            rows.append(ids[:limit])
    if not rows:
        raise ArgumentError("text", f"{name} holds no two tokens", "pass a longer text")
    notes = _dropped(cut)
    notes += (f"{left} more {word} are not read",) if left else ()
    return Inputs(tuple(rows), f"{_count(rows)}: {word} of {name}", notes)


def _encoder(checkpoint: Checkpoint, folder: Path | None) -> Any:
    """From a text to ids."""
    if _reads_bytes(checkpoint, folder):
        return lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    beside = folder is not None and (folder / "tokenizer.json").is_file()
    packed = [] if folder is None or beside else [folder, *sorted(folder.glob("*.gguf"))]
    file = next((one for one in packed if one.suffix == ".gguf"), None)
    if file is not None:
        return gguf_encoder(file)
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        where = "the folder" if folder is None else str(folder)
        raise ConfigError(where, "has no tokenizer.json", "pass --ids with one sequence a line")
    require_package("tokenizers", "diagnose")
    import tokenizers

    try:
        found = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        problem = f"cannot be read ({cause_of(error)})"
        raise ConfigError(str(path), problem, "pass --ids with one sequence a line") from error
    found.no_padding()
    found.no_truncation()
    return lambda text: np.array(found.encode(text).ids, np.int64)


def _reads_bytes(checkpoint: Checkpoint, folder: Path | None) -> bool:
    beside = folder is not None and (folder / "tokenizer.json").is_file()
    return checkpoint.vocabulary == 256 and not beside


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path), f"cannot be read ({cause_of(error)})", "pass a text"
        ) from error


def _count(rows: Sequence[ArrayInput]) -> str:
    lengths = [len(row) for row in rows]  # pyright: ignore[reportArgumentType]
    tokens = f"{lengths[0]}" if len(set(lengths)) == 1 else f"{min(lengths)} to {max(lengths)}"
    return f"{len(rows)} {'sequence' if len(rows) == 1 else 'sequences'} of {tokens} tokens"


def _dropped(count: int) -> tuple[str, ...]:
    return (f"{count} tokens beyond the context are dropped",) if count else ()
