r"""Two tokens under infinitely sharp attention: the chain with m(x) = A x / |A x|, H heads a layer.

It is what random heads do where tokens are dense on the sphere and scores are strong, with the
limiting attention imposed. Only the overlap of the two tokens is followed, exactly in law: the
cosine of A x and A y is the sample correlation of two Gaussian layers, head_dim and dim pairs,
drawn through Bartlett factors; so the cost does not depend on the dimension. All replicas make a
layer together, in NumPy, whose chi-square variates are drawn thirty times as fast as JAX's.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Key,
    Module,
    Number,
    as_float64,
    brief,
    require_count,
    require_number,
)
from translimit.describe import require_cosine
from translimit.models.pair_paths import PairPaths


class SharpHeadChain(Module):
    """A chain of sharp heads, two tokens.

    Args:
        dim: dimension of the tokens, at least 4.
        head_dim: columns of W and W', at least 2, or infinity: then A has independent entries;
            `dim` by default.
        diffusive_step: unit diffusive time of a layer, positive.
        heads: heads of a layer, at least 1.

    Raises:
        ArgumentError: numbers out of range.
        ArgumentTypeError: sizes that are no integers.
    """

    dim: int = eqx.field(static=True)
    head_dim: int | float = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    diffusive_step: Number

    def __init__(
        self,
        *,
        dim: int,
        head_dim: int | float | None = None,
        diffusive_step: ArrayInput,
        heads: int = 1,
    ):
        self.dim = require_count(dim, "dim", 4)
        columns = self.dim if head_dim is None else head_dim
        self.head_dim = columns if columns == math.inf else require_count(columns, "head_dim", 2)
        self.heads = require_count(heads, "heads", 1)
        self.diffusive_step = require_number(diffusive_step, "diffusive_step", POSITIVE)

    def simulate(
        self,
        initial: float,
        slow_times: ArrayInput,
        *,
        replicas: int,
        key: Key,
    ) -> PairPaths:
        """Overlaps at slow times tau / dim, rounded to whole layers.

        Args:
            initial: overlap at the start, in [-1, 1].
            slow_times: increasing, not negative [times].
            replicas: independent chains.
            key: of the draws.

        Raises:
            ArgumentError: numbers out of range, or times that do not increase.
        """
        times = np.asarray(as_float64(slow_times, "slow_times"))
        if times.ndim != 1 or times.size == 0 or times[0] < 0 or np.any(np.diff(times) <= 0):
            raise ArgumentError(
                "slow_times", f"got {brief(times)}", "pass increasing times of at least 0"
            )
        start = float(require_cosine(initial, "initial"))
        layers = np.rint(times * self.dim / float(self.diffusive_step)).astype(int)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        cosine = np.full(require_count(replicas, "replicas", 1), start)
        sine, kept, done = np.sqrt(1.0 - cosine**2), [], 0
        for last in layers:
            for _ in range(last - done):
                cosine, sine = _layer(self, cosine, sine, rng)
            kept.append(cosine)
            done = last
        return PairPaths(ts=times, overlaps=np.stack(kept, axis=1), samples=len(cosine))


def sample_cosine(
    cosine: Float[np.ndarray, "*pairs"],
    sine: Float[np.ndarray, "*pairs"],
    rows: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "*pairs"], Float[np.ndarray, "*pairs"]]:
    """Cosine and sine of the angle between G x and G y, a fresh Gaussian matrix G for every pair.

    Args:
        cosine: of the angles between x and y [pairs].
        sine: of these angles, not negative [pairs].
        rows: of G, at least 2.
        rng: of the draws.
    """
    first = np.sqrt(rng.chisquare(rows, cosine.shape))
    rest = np.sqrt(rng.chisquare(rows - 1, cosine.shape))
    along = cosine * first + sine * rng.standard_normal(cosine.shape)
    across = sine * rest
    length = np.hypot(along, across)
    return along / length, across / length


def _layer(
    chain: SharpHeadChain,
    cosine: Float[np.ndarray, " replicas"],
    sine: Float[np.ndarray, " replicas"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, " replicas"], Float[np.ndarray, " replicas"]]:
    """Cosine and sine of the angle between two tokens after one layer."""
    shape = (len(cosine), chain.heads)
    c, s = (np.broadcast_to(one[:, None], shape) for one in (cosine, sine))
    if chain.head_dim != math.inf:
        c, s = sample_cosine(c, s, int(chain.head_dim), rng)
    c, s = sample_cosine(c, s, chain.dim, rng)
    # The covariance of the update is the mean over heads; 1 - c without cancellation near one.
    lost = np.mean(np.where(c > 0, s**2 / (1.0 + np.abs(c)), 1.0 - c), axis=1)
    c, s = 1.0 - lost, np.sqrt(lost * (2.0 - lost))
    size = np.sqrt(float(chain.diffusive_step) / chain.dim)
    # Update of the first token, and what the second has beside it: two coordinates in the plane of
    # the tokens, two outside it (Bartlett's factor of the other dim - 2).
    count = len(cosine)
    own, other = size * rng.standard_normal((2, 4, count))
    own[2], own[3] = size * np.sqrt(rng.chisquare(chain.dim - 2, count)), 0.0
    other[3] = size * np.sqrt(rng.chisquare(chain.dim - 3, count))
    first, second = own, c * own + s * other
    first[0] += 1.0
    second[0] += cosine
    second[1] += sine
    first = first / np.sqrt(np.sum(first**2, axis=0))
    second = second / np.sqrt(np.sum(second**2, axis=0))
    cosine = np.sum(first * second, axis=0)
    return cosine, np.sqrt(np.sum((second - cosine * first) ** 2, axis=0))
