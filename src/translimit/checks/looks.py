"""When a coordinate check looks at what it has, and what that costs: both are fixed beforehand.

A check looks after its first seeds, decides what it can, and adds seeds until all is decided, the
looks are used up or the budget would be exceeded. At its last look it may add a size twice the
largest, where a promise is open and its coordinate bends. Chances of a wrong decision allow for the
number of looks (`Levels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from translimit.core import ArgumentError, require_count

#: Seeds of the looks, and seconds a check may take, unless told.
SEEDS, BUDGET = (3, 6, 12, 24), 600.0


def looks_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Numbers of seeds at the looks.

    Args:
        seeds: of the only look, or of all.

    Raises:
        ArgumentError: none, one below 1, or numbers that do not increase.
    """
    given = tuple(seeds) if isinstance(seeds, Iterable) else (seeds,)
    looks = tuple(require_count(count, "seeds") for count in given)
    told = ", ".join(map(str, looks)) or "none"
    if not looks or any(a >= b for a, b in pairwise(looks)):
        raise ArgumentError(
            "seeds", f"got {told}", "pass a number of at least 1, or increasing numbers"
        )
    return looks


@dataclass(frozen=True)
class Forecast:
    """Seconds of networks, from those that were timed.

    Attributes:
        timed: seconds of one network, by its size along the axis.
    """

    timed: Mapping[int, float]

    def network(self, size: int) -> float:
        """Seconds of one network of a size: between and beyond those timed, a power law.

        Args:
            size: along the axis.
        """
        known = sorted(self.timed)
        if size in self.timed or len(known) < 2:
            return self.timed.get(size, self.timed[known[0]] if known else 0.0)
        low, high = known[0], known[-1]
        slope = math.log(self.timed[high] / self.timed[low]) / math.log(high / low)
        # Small networks cost what calls do, larger ones at least in proportion.
        return self.timed[high] * (size / high) ** (max(slope, 1.0) if size > high else slope)

    def networks(self, sizes: Sequence[int], seeds: int) -> float:
        """Seconds of networks of several sizes.

        Args:
            sizes: along the axis.
            seeds: of each.
        """
        return seeds * sum(self.network(size) for size in sizes)

    def in_words(self, sizes: Sequence[int], looks: Sequence[int], larger: bool) -> str:
        """What a check will take, before most of it is done.

        Args:
            sizes: along the axis.
            looks: numbers of seeds.
            larger: whether the last look may add a size.
        """
        first, last = (seconds_in_words(self.networks(sizes, n)) for n in (looks[0], looks[-1]))
        if len(looks) == 1:
            return f"takes about {first}"
        most = first if first == last else last
        more = ""
        if larger:
            whole = self.networks((*sizes, 2 * sizes[-1]), looks[-1])
            more = f", {seconds_in_words(whole)} with a larger size"
        return f"takes about {first}; {most} if all {len(looks)} looks are needed{more}"


def seconds_in_words(seconds: float) -> str:
    """A duration, to what a forecast is good for.

    >>> seconds_in_words(0.3), seconds_in_words(42.0), seconds_in_words(300.0)
    ('1 s', '42 s', '5 min')
    """
    return f"{max(1, math.ceil(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"
