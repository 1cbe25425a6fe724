r"""Does a sub-block read more of its tokens than their mean and covariance? Rotated surrogates.

n tokens differ from their law by their sampling, so a Gaussian closure with infinitely many tokens
is never met. Instead tokens are replaced by

    x~ = 1 mean^T + Q (x - 1 mean^T),     Q orthogonal, uniform, Q 1 = 1,

with exactly the same mean and covariance, and as Gaussian as n tokens can be. R of them go through
the true sub-block, norm, softmax and all. With C the covariance that the tokens leave, C_r that of
surrogate r and C- their mean,

    err = |C - C-| / |C|,    d_r = |C_r - C-_{-r}| / |C|,    floor = rms of d_r,
    z = (err^2 - floor^2) / sd of d_r^2,     p = (1 + #{d_r >= err}) / (R + 1),
    share explained = 1 - max(0, err^2 - floor^2) |C|^2 / |C - C_in|^2.

If the law of the tokens did not change under Q, err would be the distance of one more surrogate.
Attention: surrogates of x, C of x + a before any norm. MLP: surrogates of y, C of y + f. Where the
sub-block changes the covariance by less than two floors, nothing is resolved.

Tokens under a mask are not exchangeable: a rotation mixes positions, and is refused.

Reference: Castin et al., arXiv 2501.18322 (Gaussian closures); documentation, "Diagnosing a
checkpoint".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    Key,
    NoSuchLimitError,
    named_key,
    require_count,
)
from translimit.diagnose.layers import Layer, units_of
from translimit.diagnose.nulls import generator, haar
from translimit.diagnose.passing import doubled, in_layer, normalised, transform

#: Surrogates that are drawn, and errors of z from which on a sub-block reads more than two moments.
SURROGATES, BEYOND = 12, 4.0


@dataclass(frozen=True)
class SurrogateTest:
    """The covariance that a sub-block leaves, beside that of rotated surrogates.

    Attributes:
        error: relative distance to the mean of the surrogates.
        floor: of one more surrogate to the others.
        z: of the squares; right-skewed: a verdict needs more than four.
        p: share of surrogates at least as far, counting one more.
        share: of the change of the covariance that two moments explain; NaN where not resolved.
        resolved: whether the sub-block changes the covariance by more than two floors.
    """

    error: float
    floor: float
    z: float
    p: float
    share: float
    resolved: bool

    def __str__(self) -> str:
        if not self.resolved:
            return "not resolved: the sub-block changes the covariance by less than two floors"
        return (
            f"mean and covariance explain {self.share:.0%} of what it does to the covariance "
            f"(z = {self.z:.1f}, p = {self.p:.2f}, floor {self.floor:.0%})"
        )


def rotation(rng: np.random.Generator, count: int) -> Float[np.ndarray, "n n"]:
    """A uniform orthogonal matrix that keeps the vector of ones.

    Args:
        rng: randomness.
        count: n, at least 3.

    Raises:
        ArgumentError: fewer than 3.
    """
    n = require_count(count, "count", 3)
    ones = np.full((n, 1), n**-0.5)
    # A fixed basis beside the ones, turned uniformly: Q = 1 1^T / n + B R B^T.
    beside = np.linalg.qr(np.concatenate([ones, np.eye(n)[:, 1:]], axis=1))[0][:, 1:]
    return ones @ ones.T + beside @ haar(rng, n - 1, n - 1) @ beside.T


def surrogate_of(
    tokens: Float[np.ndarray, "n D"], rng: np.random.Generator, atoms: Sequence[int] = ()
) -> Float[np.ndarray, "n D"]:
    """Tokens with the same mean and covariance, rotated among each other.

    Args:
        tokens: x.
        rng: randomness.
        atoms: tokens that stay, negative ones from the end.
    """
    free = _free(len(tokens), atoms)
    rest, found = tokens[free], np.array(tokens)
    mean = rest.mean(axis=0)
    found[free] = mean + rotation(rng, len(free)) @ (rest - mean)
    return found


def surrogate_test(
    layer: Layer,
    tokens: Float[np.ndarray, "n D"],
    part: Literal["attention", "mlp"],
    *,
    key: Key | int,
    draws: int = SURROGATES,
    atoms: Sequence[int] = (),
) -> SurrogateTest:
    """Whether a sub-block reads more than the mean and the covariance of its tokens.

    Args:
        layer: whose sub-block it is.
        tokens: x for attention; y, the stream between the branches, for the MLP.
        part: attention or mlp.
        key: of the surrogates.
        draws: R, at least 4.
        atoms: tokens that stay unrotated and are left out of the covariances: special tokens.

    Raises:
        NoSuchLimitError: a mask, or positions that turn queries and keys; a parallel block's MLP.
        ArgumentError: fewer than four surrogates or three rotated tokens; an unknown part.
    """
    if part not in ("attention", "mlp"):
        raise ArgumentError("part", f"got {part!r}", "pass attention or mlp")
    if part == "attention" and (layer.causal or layer.attention.rotary is not None):
        problem = "positions are not exchangeable: a rotation would mix them"
        raise NoSuchLimitError("layer", problem, "test the MLP, or a model without a mask")
    if part == "mlp" and (units_of(layer.blocks) is None or len(layer.blocks) < 2):
        raise NoSuchLimitError("layer", "has no MLP after its attention", "test its attention")
    draws, free = require_count(draws, "draws", 4), _free(len(tokens), atoms)
    x = np.asarray(tokens, np.float64)
    root = named_key(key, "surrogates", part)
    rngs = (generator(named_key(root, r)) for r in range(draws))
    clouds = [x, *(surrogate_of(x, rng, atoms) for rng in rngs)]
    own = doubled(layer)
    covs = [_cov(_left(own, part, cloud)[free]) for cloud in clouds]
    return _compared(covs[0], np.stack(covs[1:]), _cov(x[free]))


def _compared(
    cov: Float[np.ndarray, "D D"],
    surrogates: Float[np.ndarray, "draws D D"],
    before: Float[np.ndarray, "D D"],
) -> SurrogateTest:
    size, draws = np.linalg.norm(cov), len(surrogates)
    mean = surrogates.mean(axis=0)
    error = float(np.linalg.norm(cov - mean) / size)
    # The mean of the others is (R mean - C_r) / (R - 1).
    apart = np.linalg.norm(surrogates - mean, axis=(1, 2)) * draws / (draws - 1) / size
    floor = float(np.sqrt(np.mean(apart**2)))
    z = float((error**2 - floor**2) / np.std(apart**2, ddof=1))
    p = float((1 + np.count_nonzero(apart >= error)) / (draws + 1))
    change = float(np.linalg.norm(cov - before) / size)
    resolved = change > 2 * floor
    share = 1 - max(0.0, error**2 - floor**2) / change**2 if resolved else float("nan")
    return SurrogateTest(error, floor, z, p, share, resolved)


def _left(layer: Layer, part: str, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    """What the sub-block leaves before any norm."""
    blocks, own = layer.blocks, layer.parameters
    if part == "attention":
        return np.asarray(blocks[0].residual * x + in_layer(layer, x).branch)
    last, units = blocks[-1], units_of(blocks)
    assert units is not None
    f = last.branch * transform(units, own, normalised(last.norm_in, own, "mlp_in", x))
    return np.asarray(last.residual * x + normalised(last.norm_out, own, "mlp_out", f))


def _cov(tokens: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "D D"]:
    centred = tokens - tokens.mean(axis=0)
    return centred.T @ centred / len(tokens)


def _free(count: int, atoms: Sequence[int]) -> np.ndarray:
    kept = np.ones(count, bool)
    for one in atoms:
        if not -count <= one < count:
            raise ArgumentError(
                "atoms", f"has {one}, of {count} tokens", "name tokens that are there"
            )
        kept[one] = False
    if kept.sum() < 3:
        raise ArgumentError("atoms", f"leave {kept.sum()} tokens", "leave three at least to rotate")
    return np.flatnonzero(kept)
