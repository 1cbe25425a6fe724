r"""Fixed sinusoidal positions, of tokens in a row or of patches in a plane.

Entries are sines and cosines of the place times a frequency, so that, whatever their order,

    <p_i, p_j> = sum_p cos((i - j) theta_p),

of a plane with one such sum for its rows and one for its columns.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from translimit.core import NOT_NEGATIVE, ArgumentError, require_count, require_flag, require_real
from translimit.describe.frequencies import Frequencies


@dataclass(frozen=True)
class Sinusoids:
    """Positions that are not drawn; see the module's docstring.

    Attributes:
        thetas: the frequencies, one a pair of entries; of a plane the same for both directions.
        first: the place of the first token.
        plane: whether places have a row and a column.

    Raises:
        ArgumentError: no frequencies, a negative one, a negative place.
    """

    thetas: tuple[float, ...]
    first: int = 0
    plane: bool = False

    def __post_init__(self) -> None:
        if not self.thetas:
            raise ArgumentError("thetas", "are none", "pass a frequency for every pair of entries")
        for theta in self.thetas:
            require_real(theta, "thetas", NOT_NEGATIVE)
        require_count(self.first, "first", 0)
        require_flag(self.plane, "plane")

    @classmethod
    def spread_evenly(cls, entries: int, base: float | int = 10_000.0, first: int = 0) -> Sinusoids:
        """theta_p = base^(-p / (entries / 2 - 1)), from 1 to 1 / base with both ends.

        Args:
            entries: of a token, even and at least 4.
            base: the ratio of the ends.
            first: the place of the first token.
        """
        half = require_count(entries, "entries", 4) // 2
        return cls(tuple(float(base) ** (-p / (half - 1)) for p in range(half)), first)

    @classmethod
    def geometric(
        cls, entries: int, base: float | int = 10_000.0, *, plane: bool = False
    ) -> Sinusoids:
        """theta_p = base^(-2 p / entries), of a plane base^(-4 p / entries).

        Args:
            entries: of a token, a multiple of two, of a plane of four.
            base: of the series.
            plane: whether places have a row and a column.
        """
        own = entries // 2 if plane else entries
        return cls(Frequencies.geometric(own, base).thetas, plane=plane)

    @property
    def entries(self) -> int:
        """Of a token."""
        return (4 if self.plane else 2) * len(self.thetas)

    def rows(self, places: Int[np.ndarray, "n axes"]) -> Float[np.ndarray, "n entries"]:
        """The entries of tokens at these places.

        Args:
            places: from 0; of a plane row and column.
        """
        angles = (places[:, :, None] + self.first) * np.array(self.thetas)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).reshape(len(places), -1)

    def cov(self, places: Int[np.ndarray, "n axes"], *, centred: bool) -> Float[np.ndarray, "n n"]:
        """<p_i, p_j> over the dimension.

        Args:
            places: from 0; of a plane row and column.
            centred: whether the mean of the entries of each token is taken away first.
        """
        rows = self.rows(places)
        if centred:
            rows = rows - rows.mean(axis=1, keepdims=True)
        return rows @ rows.T / self.entries
