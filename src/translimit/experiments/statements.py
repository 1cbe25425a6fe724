"""Statements of the papers, and which claims test each: the coverage of a paper.

Reference: documentation, "Statements and claims".
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

#: A claim in braces; those of mathematics hold no word with a slash in it.
_ESTIMATE = re.compile(r"\{([a-z][\w-]+/[^{}\s]+)\}")


@dataclass(frozen=True)
class Statement:
    """One checkable statement of a paper.

    Attributes:
        says: the statement, in our words (`$...$` is mathematics).
        claims: patterns of claims that test it, as "experiment/claim" without the paper.
        note: what the claims compare where it is not networks with a limit; what was measured
            where it is not what the statement says. "{experiment/claim}" stands for the estimate of
            a stored run (see `filled`).
        missing: what of it is not done, with the reason.
    """

    says: str
    claims: tuple[str, ...] = ()
    note: str = ""
    missing: str = ""

    def tested_by(self, names: Sequence[str]) -> list[str]:
        """The claims that test it.

        Args:
            names: of all claims of the paper, as "experiment/claim".
        """
        return [n for n in names if any(fnmatchcase(n, pattern) for pattern in self.claims)]

    def filled(self, estimate: Callable[[str], str]) -> str:
        """The note with estimates in the places of the claims that it names.

        Args:
            estimate: of a claim, "experiment/claim", in words.
        """
        return _ESTIMATE.sub(lambda found: estimate(found[1]), self.note)


def statements_of(paper: str) -> tuple[Statement, ...]:
    """The statements of a paper, in its order.

    Args:
        paper: the first half of the names of its experiments.
    """
    module = importlib.import_module(f"translimit.experiments.{paper}.statements")
    return module.STATEMENTS
