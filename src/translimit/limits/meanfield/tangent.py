r"""What accompanies a flow of tokens: its tangent flow, and the leading error of finite depth.

With F(x) the velocities of all tokens of a cloud, x' = F(x):

    delta' = DF(x) delta                            the tangent flow,
    e' = DF(x) (e - F(x) / 2),    e(0) = 0          a network of L layers is off by (t1 / L) e.

For small noise epsilon delta the best coupling of a cloud and the same with the noise is the
identity, so that W_2(t) / W_2(0) tends to |delta(t)| / |delta(0)|. Both go by Runge-Kutta steps
of their own, with one forward derivative of the field a stage.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention import AbstractAttention
from translimit.core import AnyArray, ArgumentError, as_float


def tangent_flow(
    attention: AbstractAttention,
    initial: Float[AnyArray, "tokens dim"],
    direction: Float[AnyArray, "tokens dim"],
    *,
    t1: float,
    steps: int = 32,
    positions: Float[AnyArray, " tokens"] | None = None,
) -> tuple[Float[AnyArray, "tokens dim"], Float[AnyArray, "tokens dim"]]:
    """A cloud of tokens of equal weights and the derivative of its flow along a direction, at t1.

    Can be traced.

    Args:
        attention: of the tokens.
        initial: tokens at depth 0 [tokens, dim].
        direction: delta at depth 0 [tokens, dim].
        t1: final depth.
        steps: Runge-Kutta steps, at least one.
        positions: of a causal attention [tokens].

    Returns:
        Tokens and delta at t1, each [tokens, dim].

    Raises:
        ArgumentError: no step.
    """
    return _carry(attention, as_float(initial, "initial"), direction, 0.0, t1, steps, positions)


def depth_error(
    attention: AbstractAttention,
    initial: Float[AnyArray, "tokens dim"],
    *,
    t1: float = 1.0,
    steps: int = 64,
    positions: Float[AnyArray, " tokens"] | None = None,
) -> tuple[Float[AnyArray, "tokens dim"], Float[AnyArray, "tokens dim"]]:
    """The flow of a cloud and e: L layers with step t1 / L end at the flow plus (t1 / L) e.

    Can be traced. The tokens of a layer are updated at once.

    Args:
        attention: of the tokens.
        initial: tokens at depth 0 [tokens, dim].
        t1: final depth.
        steps: Runge-Kutta steps, at least one.
        positions: of a causal attention [tokens].

    Returns:
        Tokens of the flow and e at t1, each [tokens, dim].

    Raises:
        ArgumentError: no step.
    """
    tokens = as_float(initial, "initial")
    return _carry(attention, tokens, jnp.zeros_like(tokens), -0.5, t1, steps, positions)


def cloud_field(
    attention: AbstractAttention, positions: Float[AnyArray, " tokens"] | None = None
) -> Callable[[Array], Array]:
    """F: the velocities of all tokens of a cloud of equal weights, a function of the cloud.

    Args:
        attention: of the tokens.
        positions: of a causal attention [tokens].
    """

    def field(x: Array) -> Array:
        equal = jnp.full(x.shape[0], -jnp.log(float(x.shape[0])), x.dtype)
        places = None if positions is None else jnp.asarray(positions, x.dtype)
        return attention.velocity(x, x, equal, places, places)

    return field


def _carry(
    attention: AbstractAttention,
    x: AnyArray,
    e: AnyArray,
    source: float,
    t1: float,
    steps: int,
    positions: AnyArray | None,
) -> tuple[AnyArray, AnyArray]:
    """X' = F(x) and e' = DF(x) (e + source F(x))."""
    if steps < 1:
        raise ArgumentError("steps", f"got {steps}", "pass at least 1")
    field, h = cloud_field(attention, positions), t1 / steps

    def slope(x: Array, e: Array) -> tuple[Array, Array]:
        return jax.jvp(field, (x,), (e + source * field(x) if source else e,))

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        x, e = state
        a, b = slope(x, e)
        c, d = slope(x + h / 2 * a, e + h / 2 * b)
        f, g = slope(x + h / 2 * c, e + h / 2 * d)
        p, q = slope(x + h * f, e + h * g)
        return (x + h / 6 * (a + 2 * c + 2 * f + p), e + h / 6 * (b + 2 * d + 2 * g + q)), None

    start = jnp.asarray(x), jnp.asarray(e, x.dtype)
    return jax.lax.scan(step, start, length=steps)[0]
