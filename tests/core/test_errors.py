"""The typed errors: catchable as their builtin, readable, and able to cross a process pool."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import translimit
from translimit import core
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    CellError,
    ConfigError,
    DataError,
    DiskFullError,
    MemoryLimitError,
    MissingExtraError,
    NoSuchLimitError,
    OvertakenError,
    PrecisionError,
    ReportError,
    SolveError,
    StoreError,
    TranslimitError,
    brief,
    cause_of,
    nearest,
)

EXAMPLES: list[tuple[TranslimitError, type[Exception], str]] = [
    (ArgumentError("t1", "got -1", "pass t1 > 0"), ValueError, "t1: got -1; pass t1 > 0"),
    (ArgumentTypeError("key", "is missing", "pass one"), TypeError, "key: is missing; pass one"),
    (ConfigError("a.toml", "unknown key 'x'", "known: y"), ValueError, "a.toml: unknown key 'x'"),
    (DataError("seed", "2 at layers=4", "give 3"), ValueError, "seed: 2 at layers=4; give 3"),
    (NoSuchLimitError("attention", "no closure", "use b"), NotImplementedError, "attention: no c"),
    (MemoryLimitError("heads", "need 9 GiB", "take fewer"), MemoryError, "heads: need 9 GiB; "),
    (PrecisionError("needs float64"), RuntimeError, "needs float64"),
    (StoreError("runs/x", "is of version 2", "use --fresh"), OSError, "runs/x: is of version 2; "),
    (DiskFullError("runs/x", "is full", "make room"), OSError, "runs/x: is full; make room"),
    (OvertakenError("runs/x", "was started again", "wait"), OSError, "runs/x: was started again"),
    (ReportError("a/b", "figure c", "no cell"), RuntimeError, "a/b: figure c cannot be shown: no"),
    (CellError("2 cells failed", {"a: b": "traceback"}), RuntimeError, "2 cells failed"),
    (MissingExtraError("torch", "torch"), ImportError, "torch is not installed; install the extra"),
    (SolveError("too many steps", {"ts": 1}), RuntimeError, "too many steps"),
]


@pytest.mark.parametrize(("error", "builtin", "text"), EXAMPLES)
def test_each_error_is_the_builtin_that_fits_and_says_its_message(
    error: TranslimitError, builtin: type[Exception], text: str
) -> None:
    assert isinstance(error, TranslimitError)
    assert isinstance(error, builtin)
    assert str(error).startswith(text)
    assert "\n" not in str(error)


@pytest.mark.parametrize(("error", "builtin", "text"), EXAMPLES)
def test_each_error_survives_pickling(
    error: TranslimitError, builtin: type[Exception], text: str
) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_the_examples_are_all_the_errors_there_are() -> None:
    public = {
        value
        for value in (getattr(core, name) for name in core.__all__)
        if isinstance(value, type) and issubclass(value, TranslimitError)
    }
    assert public == {type(error) for error, _, _ in EXAMPLES} | {TranslimitError}


def test_the_extra_is_named_as_pip_wants_it() -> None:
    assert "pip install 'translimit[ray]'" in str(MissingExtraError("ray", "ray"))


def test_nearest_names_the_closest_known_word_and_all_of_them() -> None:
    assert nearest("partcles", ["tokens", "particles"]) == (
        "did you mean 'particles'? known: particles, tokens"
    )
    assert nearest("zzz", ["tokens", "particles"]) == "known: particles, tokens"
    assert nearest("zzz", []) == "known: none"


def test_a_received_value_is_told_in_one_short_line() -> None:
    assert brief("tanh") == "'tanh'"
    assert brief(np.array([1.0, 2.0])) == "[1. 2.]"
    assert brief(np.float64(2.5)) == repr(np.float64(2.5))
    assert brief(np.zeros((50, 3))) == "an array of shape (50, 3)"
    long = brief({"name": ["a", "b"] * 50})
    assert len(long) <= 80
    assert long.endswith(" ...")
    assert brief(type("Lines", (), {"__repr__": lambda self: "a\n  b"})()) == "a b"


def test_a_cause_is_told_without_number_and_path() -> None:
    assert cause_of(FileNotFoundError(2, "No such file or directory", "x.toml")) == (
        "No such file or directory"
    )
    assert cause_of(ValueError("two\nlines")) == "two lines"
    assert cause_of(KeyError()) == "KeyError"
    assert cause_of(UnicodeDecodeError("utf-8", b"x", 0, 1, "odd")) == "it is not UTF-8 text"


def constant_text(node: ast.expr) -> str:
    """The text of a string or f-string, with `{}` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(v, ast.FormattedValue) else v.value for v in node.values)
    return "{}"


def test_every_message_has_one_voice() -> None:
    """`argument: problem; remedy`: lower case, no full stop, and what to do instead of a "must"."""
    found, faults = 0, []
    for path in sorted(Path(translimit.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", getattr(node, "attr", ""))
            if not (isinstance(node, ast.Call) and name.endswith("Error") and len(node.args) == 3):
                continue
            found += 1
            for text in map(constant_text, node.args[1:]):
                first = text.split(" ")[0]
                wrong = text == "" or text[-1] in ".;:!" or re.search(r"\bmust\b|;;|\.;|  ", text)
                if wrong or (first.isalpha() and first.istitle() and len(first) > 1):
                    faults.append(f"{path.name}:{node.lineno}: {text}")
    assert found > 400
    assert faults == []
