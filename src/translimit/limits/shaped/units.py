r"""Units in which a covariance is an ordinary matrix, and whether steps resolve what happens to it.

With V = u V' the covariance SDE of a block of temperature tau0 is that of V' with tau0 / u: scores
are bilinear in the tokens, and all else is homogeneous in V. Covariances far from one are followed
in a power of two next to their size, and given back in the caller's; others have the unit one and
are followed as they are.

What no unit changes is V / tau0. The attention moves V at rates of the order of (V / tau0)^2: where
a step is far longer than the time of that, its trace explodes in the first step whatever the SDE
does, and the solve is refused.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from translimit.core import AnyArray, ArgumentError, Floats, is_traced, unit_of
from translimit.limits.shaped.block import Block, ShapedMLP

F = TypeVar("F", bound=Floats)
Part = TypeVar("Part", bound=Block | ShapedMLP)

#: Sizes, and temperatures in units of them, are within two to this power of one.
MOST = 960
#: The largest relative change of the covariance by attention in a step, squared where it is noise.
LARGEST_CHANGE = 10.0
#: The largest covariance over tau0 for softmax itself: scores of paths, which may grow by 10^8,
#: then keep their differences.
LARGEST_SCORE = 2.0**36
#: The steps of a path are counted by 32 bits.
MOST_STEPS = 2.0**31


def unit_of_covariance(
    block: Block | ShapedMLP, cov: Float[AnyArray, "tokens tokens"], name: str
) -> float:
    """The unit of a covariance: one where it is ordinary, or where anything is traced.

    Args:
        block: whose temperature is measured in that unit.
        cov: covariance [tokens, tokens].
        name: of the covariance as an argument.

    Raises:
        ArgumentError: the covariance is at the ends of float64, or beyond all temperatures.
    """
    if is_traced(block, cov):
        return 1.0
    largest = float(np.max(np.abs(np.asarray(cov))))
    if largest and not 2.0**-MOST <= largest <= 2.0**MOST:
        raise ArgumentError(
            name,
            f"has entries up to {largest:.3g}, at the end of the range of float64",
            "measure the tokens in other units, and tau0 in the square of them",
        )
    unit = float(unit_of(np.asarray(cov)))
    if isinstance(block, Block) and not block.tau0 / unit > 2.0**-MOST:
        raise ArgumentError(
            name,
            f"is {largest:.3g} with tau0 = {block.tau0:.3g}: scores are beyond float64",
            "pass a smaller covariance or a larger tau0",
        )
    return unit


def in_unit(block: Part, unit: float) -> Part:
    """The block of covariances over `unit`: tau0 over it, and all else as it is."""
    if unit == 1.0 or isinstance(block, ShapedMLP):
        return block
    # A temperature beyond float64 leaves the linear part alone, to all digits.
    return eqx.tree_at(lambda b: b.tau0, block, block.tau0 / unit)


def is_extreme(cov: Float[AnyArray, "tokens tokens"]) -> Bool[Array, ""]:
    """Whether a covariance, traced perhaps, is not finite or has a unit other than one."""
    largest = jnp.max(jnp.abs(cov))
    return ~jnp.isfinite(largest) | (unit_of(largest) != 1.0)


def require_steps(end: float, max_step: float) -> None:
    """Refuse more steps than can be counted.

    Raises:
        ArgumentError: more than 2^31 of them.
    """
    if not end / max_step <= MOST_STEPS:
        raise ArgumentError(
            "t1",
            f"is {end:.3g}, and the block asks for steps of {max_step:.3g}: {end / max_step:.3g} "
            "of them",
            "pass a shorter t1, or a block whose noise and slopes are smaller",
        )


def require_resolved(
    rate: float, max_step: float | None, adaptive: float | None, growth_limit: float
) -> None:
    """Refuse steps in which the attention changes the covariance many times over.

    Args:
        rate: at which attention changes the initial covariance relative to itself.
        max_step: the largest step, where it does not follow that rate.
        adaptive: the tolerance of steps that do.
        growth_limit: of the trace along a path; the rate grows by its square.

    Raises:
        ArgumentError: the step is too long for the initial covariance, or an adaptive one would be
            no float.
    """
    if adaptive is not None:
        if not rate * growth_limit**2 <= 2.0**MOST * adaptive**2:
            raise ArgumentError(
                "initial",
                f"is changed by attention at a rate of {rate:.3g}, for which no step is short "
                "enough",
                "pass a smaller covariance or a larger tau0, or take bounded=True",
            )
        return
    if max_step is not None and not rate * max_step <= LARGEST_CHANGE:
        raise ArgumentError(
            "initial",
            f"is changed by attention at a rate of {rate:.3g}, which steps of {max_step:.3g} do "
            "not resolve: an explosion in the first one would say nothing",
            "pass a smaller covariance, a larger tau0 or a smaller max_step, or take adaptive=0.1 "
            "or bounded=True of StructurePreserving",
        )


def require_resolved_scores(
    block: Block | ShapedMLP, cov: Float[AnyArray, "tokens tokens"]
) -> None:
    """Refuse scores whose differences are rounding.

    Args:
        block: attention block, full block, or MLP block alone.
        cov: initial covariance [tokens, tokens].

    Raises:
        ArgumentError: the largest entry of the covariance is beyond 2^36 tau0.
    """
    largest = float(np.max(np.abs(np.asarray(cov))))
    if isinstance(block, Block) and not largest <= LARGEST_SCORE * block.tau0:
        raise ArgumentError(
            "initial",
            f"is {largest / block.tau0:.3g} times tau0, and scores of that size are known up to "
            "rounding only",
            "pass a smaller covariance or a larger tau0",
        )


def finite(value: F, name: str) -> F:
    """A result that float64 holds; traced ones as they are.

    Raises:
        ArgumentError: it has infinite or NaN entries; `name` is the covariance it was made from.
    """
    if not is_traced(value) and not np.isfinite(np.asarray(value)).all():
        raise ArgumentError(
            name, "gives numbers beyond float64", "pass a smaller covariance or a larger tau0"
        )
    return value
