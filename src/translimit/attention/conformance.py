r"""What every variant of attention promises, as checks that anybody can run on a variant.

The checks themselves are in `promises`.

Reference: documentation, "Extending", a variant of attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from translimit.attention.base import AbstractAttention
from translimit.attention.promises import (
    CHECKS,
    Case,
    DenseField,
    NotApplicableError,
    ViolationError,
    definition,
)
from translimit.core import ArgumentError, ArgumentTypeError


@dataclass(frozen=True)
class VariantReport:
    """What `check_variant` found.

    Attributes:
        variant: name of the class.
        passed: checks that hold.
        failed: checks that do not, with what was found.
        skipped: checks that do not apply, with the reason.
    """

    variant: str
    passed: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [f"{self.variant}: {len(self.passed)} passed, {len(self.failed)} failed"]
        rows += [f"  passed   {name}" for name in self.passed]
        rows += [f"  failed   {name}: {what}" for name, what in self.failed.items()]
        rows += [f"  skipped  {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(rows)


def check_variant(
    attention: AbstractAttention,
    *,
    dense: DenseField | None = None,
    seed: int = 0,
    throw: bool = True,
) -> VariantReport:
    """Check a variant of attention against what all of them promise.

    Args:
        attention: an instance, whose scores of tokens of size one are of order one: with maps far
            from that the tolerances mean nothing.
        dense: the velocity by its definition in NumPy, every score at once.
        seed: of the tokens.
        throw: raise when a check fails; otherwise look at `failed`.

    Returns:
        The report; `print(report)` is one line a check.

    Raises:
        ArgumentTypeError: no variant of attention.
        ArgumentError: some checks failed (with `throw=True`); the message is the report.

    Examples:
        >>> import numpy as np
        >>> from translimit.attention import Softmax, check_variant
        >>> report = check_variant(Softmax(Q=np.eye(2), K=np.eye(2), V=np.eye(2)))
        >>> report.failed
        {}
    """
    if not isinstance(attention, AbstractAttention):
        raise ArgumentTypeError(
            "attention", f"is {type(attention).__name__}", "pass an instance of a variant"
        )
    case = Case.drawn(attention, seed)
    checks = dict(CHECKS)
    if dense is not None:
        checks["its definition"] = lambda case: definition(case, dense)
    passed, failed, skipped = [], {}, {}
    for name, check in checks.items():
        try:
            check(case)
        except NotApplicableError as reason:
            skipped[name] = str(reason)
        except Exception as error:  # a variant may raise anything: that is a finding too
            failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
            if isinstance(error, ViolationError):
                failed[name] = str(error)
        else:
            passed.append(name)
    report = VariantReport(type(attention).__name__, tuple(passed), failed, skipped)
    if failed and throw:
        raise ArgumentError(
            "attention",
            f"is a variant that breaks promises\n{report}\n",
            "correct it, or pass throw=False for the report",
        )
    return report
