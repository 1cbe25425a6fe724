"""What is observed of paths of tokens on the sphere: overlaps, collapse, clusters.

Paths are those of a stochastic limit or the networks of a chain; both have these members.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from translimit.core import SPHERE, AnyArray, Module, Times
from translimit.observe.clusters import cluster_counts
from translimit.observe.overlaps import collapse_times, mean_overlap


class AbstractSpherePaths(Module):
    """Paths of unit tokens at the times kept.

    Attributes:
        ts: the times kept, layers for networks [times].
        tokens: unit tokens [paths, times, tokens, width].
    """

    ts: eqx.AbstractVar[Times]
    tokens: eqx.AbstractVar[Float[AnyArray, "paths times tokens width"]]

    @property
    def overlaps(self) -> Float[AnyArray, "paths times tokens tokens"]:
        """R_ij = <x_i, x_j> [paths, times, tokens, tokens]."""
        return self.tokens @ self.tokens.swapaxes(-1, -2)

    @property
    def separations(self) -> Float[AnyArray, "paths times tokens tokens"]:
        """1 - R_ij [paths, times, tokens, tokens], exact where tokens collapse."""
        return SPHERE.separations(self.tokens)

    @property
    def mean_overlaps(self) -> Float[AnyArray, "paths times"]:
        """Mean of the off-diagonal overlaps of every path [paths, times]; NaN for one token."""
        return mean_overlap(self.tokens)

    def collapse_time(self, threshold: float | int = 0.5) -> Float[np.ndarray, " paths"]:
        """When the mean overlap of each path first reaches a threshold, on the line between the
        times kept; infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, in (-1, 1].

        Raises:
            ArgumentError: a threshold outside its bounds.
        """
        return collapse_times(self.ts, self.mean_overlaps, threshold)

    def clusters(self, delta: float | int) -> Int[np.ndarray, "paths times"]:
        """The number of clusters of each path at every time kept.

        Args:
            delta: angle in (0, pi]; `observe.cluster_angle(beta)` is the usual one.

        Raises:
            ArgumentError: an angle outside its bounds.
        """
        return cluster_counts(self.tokens, float(delta))
