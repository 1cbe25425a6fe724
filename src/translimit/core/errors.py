"""The typed errors: every one names what is wrong and what to do about it.

Each class derives from `TranslimitError` and from the builtin that fits, so a caller may catch
either, and each survives pickling, so that a worker process can raise it. User input is never
checked with `assert`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

_SHOWN_CHARACTERS, _SHOWN_ENTRIES = 80, 8


class TranslimitError(Exception):
    """The base of every error that translimit raises on purpose."""


class ArgumentError(TranslimitError, ValueError):
    """An argument has an unusable value.

    Args:
        argument: the argument's name as the caller wrote it.
        problem: what is wrong, with the value received.
        remedy: what the caller can do.
    """

    def __init__(self, argument: str, problem: str, remedy: str):
        super().__init__(argument, problem, remedy)
        self.argument, self.problem, self.remedy = argument, problem, remedy

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}; {self.remedy}"


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has the wrong type, or is required and absent, or refused and present."""


class ConfigError(ArgumentError):
    """A configuration, a preset or a name on the command line is not understood."""


class DataError(ArgumentError):
    """Measured data do not support what is asked of them; the message names what is missing."""


class NoSuchLimitError(ArgumentError, NotImplementedError):
    """Theory has no such limit or closure; the message says why and what exists instead."""


class MemoryLimitError(ArgumentError, MemoryError):
    """A computation needs more memory than there is; told before it starts."""


class PrecisionError(TranslimitError, RuntimeError):
    """A computation that needs float64 was traced while JAX's 64-bit mode was off."""


class StoreError(TranslimitError, OSError):
    """A run folder cannot be read or written, or belongs to another version."""

    def __init__(self, path: object, problem: str, remedy: str):
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.problem, self.remedy)


class DiskFullError(StoreError):
    """The disk is full, or a quota or file limit is reached; what is whole is kept."""


class OvertakenError(StoreError):
    """A job belongs to an earlier start of a run; what it would have stored is dropped."""


class CellError(TranslimitError, RuntimeError):
    """Cells of a run failed; the whole ones are kept and the run can be resumed.

    Args:
        message: which cells, why, and how to resume.
        failures: `experiment: cell` to its traceback.
    """

    def __init__(self, message: str, failures: Mapping[str, str] | None = None):
        super().__init__(message)
        self.failures = dict(failures or {})


class ReportError(TranslimitError, RuntimeError):
    """A report cannot be drawn from what a run stored; the message names the experiment.

    Args:
        experiment: the name of the experiment.
        part: which of its parts cannot be shown.
        problem: what is wrong with it.
    """

    def __init__(self, experiment: str, part: str, problem: str):
        super().__init__(f"{experiment}: {part} cannot be shown: {problem}")
        self.experiment, self.part, self.problem = experiment, part, problem

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.experiment, self.part, self.problem)


class MissingExtraError(TranslimitError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"{package} is not installed; install the extra: pip install 'translimit[{extra}]'"
        )
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.package, self.extra)


class SolveError(TranslimitError, RuntimeError):
    """A solve ended without success; `solution` holds what was computed up to there."""

    def __init__(self, message: str, solution: object = None):
        super().__init__(message)
        self.solution = solution


def brief(value: object) -> str:
    """A received value in one line: its repr, cut where it is long; of a large array the shape."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and all(isinstance(n, int) for n in shape):
        if math.prod(shape) > _SHOWN_ENTRIES:
            return f"an array of shape {tuple(shape)}"
        return " ".join(str(value).split())
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 4]} ..."


def cause_of(error: BaseException) -> str:
    """Why something failed, in one line: without the number and the path of an `OSError`."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    said = error.strerror if isinstance(error, OSError) else None
    return " ".join((said or str(error) or type(error).__name__).split()).rstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    # What was begun and not finished is meant before what is merely spelt alike.
    begun = [candidate for candidate in known if name and candidate.startswith(name)]
    close = begun or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
