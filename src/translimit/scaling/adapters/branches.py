"""What one forward pass tells of a module: its branches, and where every parameter is read.

`translimit.scaling.adapters.structure` finds it.

| fact | what it is |
|---|---|
| `reads_norm` | the first maps of a branch read the stream through a norm |
| `ends_in_norm` | a norm stands between the last maps of a branch and the sum |
| `parallel` | a branch, or a part of one, that reads the stream in front of the branch before |
| `normed_scores` | a norm stands between the maps of queries and keys and the scores |
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Place(enum.StrEnum):
    """Where a parameter is read."""

    EMBEDDING = "embedding"
    ENTRY = "entry"
    SCORE_MAP = "score_map"
    SCORES = "scores"
    INNER = "inner"
    END_MAP = "end_map"
    END = "end"
    STREAM = "stream"
    FINAL = "final"
    READOUT = "readout"
    NOWHERE = "nowhere"

    @property
    def in_words(self) -> str:
        """Where that is, as sentences say it."""
        return _WORDS[self]


_WORDS = {
    Place.EMBEDDING: "in front of the first branch",
    Place.ENTRY: "in a branch, in front of its first maps",
    Place.SCORE_MAP: "in a branch, as a map whose output makes the scores",
    Place.SCORES: "in a branch, between the maps of queries and keys and the scores",
    Place.INNER: "inside of a branch",
    Place.END_MAP: "in a branch, as its last map",
    Place.END: "in a branch, behind its last map",
    Place.STREAM: "on the stream itself, between two branches",
    Place.FINAL: "behind the last branch, in front of the readout",
    Place.READOUT: "behind the last branch, as the last map",
    Place.NOWHERE: "nowhere on the way to the output",
}


@dataclass(frozen=True)
class Branch:
    """What is added to the stream by one residual sum.

    Attributes:
        maps: the parameters that are matrices, in the order in which they are read.
        ends: the last of them.
        attention: whether it has scores.
        parallel: whether it, or a part of it, reads the stream in front of the branch before.
        reads_norm: whether its first maps read the stream through a norm.
        ends_in_norm: whether a norm stands between its last maps and the sum.
        normed_scores: whether a norm stands between queries and keys and the scores.
        gains: what multiplies entry by entry in front of its first maps.
    """

    maps: tuple[str, ...]
    ends: tuple[str, ...]
    attention: bool
    parallel: bool
    reads_norm: bool
    ends_in_norm: bool
    normed_scores: bool
    gains: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """What one forward pass tells of a module.

    Attributes:
        branches: in the order in which they are added.
        places: of the parameters for which one was found, by the name that they have in the
            unwrapped module; a tied one has two.
        gains: the parameters that multiply, entry by entry.
        final_norm: whether a norm stands between the last sum and the readout.
        never_called: the modules with parameters of their own that were not called, nor read.
    """

    branches: tuple[Branch, ...]
    places: Mapping[str, frozenset[Place]]
    gains: frozenset[str]
    final_norm: bool
    never_called: tuple[str, ...]
