"""Tokenizers from files that are there: never a download.

`tokenizer.json` is read as it is; the pair `vocab.json` and `merges.txt` as the byte-level pairs of
GPT-2 (or the pairs of CLIP, whose words end in `</w>`), and `vocab.txt` as BERT's pieces of words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit.core import ArgumentError, MissingExtraError, cause_of, config, require_package

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Files by which a folder tells its tokenizer, the first that is there.
KNOWN = ("tokenizer.json", "vocab.json", "vocab.txt")
#: Files of other libraries.
_FOREIGN = {
    "tokenizer.model": "sentencepiece",
    "spiece.model": "sentencepiece",
    "sentencepiece.bpe.model": "sentencepiece",
    "qwen.tiktoken": "tiktoken",
    "tiktoken.model": "tiktoken",
    "tekken.json": "mistral-common",
}
_REMEDY = "pass its tokenizer.json (AutoTokenizer's save_pretrained writes one)"


def find_tokenizer(tokenizer: str | Path | None, folder: str | Path | None) -> Path | None:
    """The file that tells the tokenizer: the given one, else the one beside the configuration.

    Args:
        tokenizer: a file, or a folder that holds one.
        folder: where the configuration is, or None.

    Raises:
        ArgumentError: no such file; a file of another library, by its name.
    """
    given = folder if tokenizer is None else tokenizer
    if given is None:
        return None
    path = Path(given)
    if path.is_dir():
        found = next((path / name for name in KNOWN if (path / name).is_file()), None)
        foreign = next((name for name in _FOREIGN if (path / name).is_file()), None)
        if found is None and foreign is not None:
            raise _foreign(path / foreign)
        if found is None and tokenizer is not None:
            problem = f"the folder {path} holds none of {', '.join(KNOWN)}"
            raise ArgumentError("tokenizer", problem, _REMEDY)
        return found
    if tokenizer is None:
        return None
    if not path.is_file():
        raise ArgumentError("tokenizer", f"{path} is not there", _REMEDY)
    if path.name in _FOREIGN or path.suffix in (".model", ".tiktoken"):
        raise _foreign(path)
    return path


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a file tells, without truncation and padding.

    Args:
        path: `tokenizer.json`, `vocab.json` with `merges.txt` beside it, or `vocab.txt`.

    Raises:
        ArgumentError: the file is none of these.
        MissingExtraError: the library tokenizers is not installed.
    """
    require_package("tokenizers", "huggingface")
    try:
        import tokenizers
    except ImportError as error:  # there, and broken
        raise MissingExtraError("tokenizers", "huggingface") from error
    try:
        found = _loaded(path, tokenizers)
        found.no_truncation()
        found.no_padding()
    except ArgumentError:
        raise
    except BaseException as error:
        require_own(error)
        problem = f"{path} cannot be read ({cause_of(error)})"
        raise ArgumentError("tokenizer", problem, _REMEDY) from error
    return found


def require_own(error: BaseException) -> None:
    """Let pass what is not an error of tokenizers: its panics are no `Exception`.

    Args:
        error: what was raised.

    Raises:
        BaseException: the error itself, where it means the whole process, as an interrupt does.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def _loaded(path: Path, tokenizers: Any) -> Any:
    if path.name == "vocab.txt":
        lower = _told(path.with_name("tokenizer_config.json"), "do_lower_case", True)
        return tokenizers.BertWordPieceTokenizer(str(path), lowercase=lower)
    if path.name in ("vocab.json", "merges.txt"):
        return _pairs(path.with_name("vocab.json"), path.with_name("merges.txt"), tokenizers)
    return tokenizers.Tokenizer.from_file(str(path))


def _pairs(words: Path, merges: Path, tokenizers: Any) -> Any:
    """Byte-level pairs, or pairs of characters with ends of words."""
    for path in (words, merges):
        if not path.is_file():
            problem = f"{path.name} is not beside {(merges if path is words else words).name}"
            raise ArgumentError("tokenizer", problem, _REMEDY)
    known = json.loads(words.read_text(encoding="utf-8"))
    if any(word.startswith("Ġ") for word in known):
        return tokenizers.ByteLevelBPETokenizer(str(words), str(merges))
    if any(word.endswith("</w>") for word in known):
        return tokenizers.CharBPETokenizer(
            str(words), str(merges), unk_token=_unknown(known), suffix="</w>", lowercase=True
        )
    problem = f"{words} is of no kind that is known: neither byte-level nor with ends of words"
    raise ArgumentError("tokenizer", problem, _REMEDY)


def _unknown(known: Any) -> str:
    return next((one for one in ("<unk>", "<|endoftext|>") if one in known), "<unk>")


def _told(path: Path, key: str, default: bool) -> bool:
    """A switch of a file that may not be there."""
    value = config.read_file(path).get(key) if path.is_file() else None
    return value if isinstance(value, bool) else default


def _foreign(path: Path) -> ArgumentError:
    library = _FOREIGN.get(path.name, "another library")
    return ArgumentError("tokenizer", f"{path} is a file of {library}, which is not read", _REMEDY)
