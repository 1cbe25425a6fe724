"""Statements of the papers, and which claims test each: the coverage of a paper.

Reference: documentation, "Statements and claims".
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Statement:
    """One checkable statement of a paper.

    Attributes:
        says: the statement, in our words (`$...$` is mathematics).
        claims: patterns of claims that test it, as "experiment/claim" without the paper.
        missing: what of it is not done, with the reason.
    """

    says: str
    claims: tuple[str, ...] = ()
    missing: str = ""

    def tested_by(self, names: Sequence[str]) -> list[str]:
        """The claims that test it.

        Args:
            names: of all claims of the paper, as "experiment/claim".
        """
        return [n for n in names if any(fnmatchcase(n, pattern) for pattern in self.claims)]


def statements_of(paper: str) -> tuple[Statement, ...]:
    """The statements of a paper, in its order.

    Args:
        paper: the first half of the names of its experiments.
    """
    module = importlib.import_module(f"translimit.experiments.{paper}.statements")
    return module.STATEMENTS
