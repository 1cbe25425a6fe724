r"""Steps for vector fields that jump at known times t_1 < t_2 < ...

A step that straddles a jump is only first-order accurate, and so is one that ends on a jump when
the field there is already the new one. Steps therefore end at the last float before a jump and the
next one starts behind it, with the field evaluated anew.
"""

from __future__ import annotations

from collections.abc import Callable

import diffrax
import equinox.internal as eqxi
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from translimit.core import Number

#: Start, end and step of a grid of times.
_Grid = tuple[Number, Number, Number]

#: Grid points and jumps that differ by this fraction of a step are one and the same.
_COINCIDE = 1e-5


def restarting_at(
    controller: diffrax.AbstractStepSizeController, jumps: Float[Array, " jumps"] | None
) -> diffrax.AbstractStepSizeController:
    """The controller, made to stop before every jump and to restart behind it.

    Args:
        controller: an adaptive controller, or constant steps, which keep their grid.
        jumps: increasing times; None for a field that does not jump.
    """
    if jumps is None:
        return controller
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        return diffrax.ClipStepSizeController(controller, jump_ts=jumps)
    return _EqualSteps(jumps)


class _EqualSteps(diffrax.AbstractStepSizeController):
    """The grid t0 + k dt0, refined by the jumps; a jump beside a grid point replaces it."""

    jumps: Array

    def wrap(self, direction: Number | Int[Array, ""]) -> _EqualSteps:
        return self

    def init(
        self,
        terms: PyTree[diffrax.AbstractTerm],
        t0: Number,
        t1: Number,
        y0: PyTree[Array],
        dt0: Number,
        args: PyTree,
        func: Callable[..., PyTree[Array]],
        error_order: Number | None,
    ) -> tuple[Number, _Grid]:
        return self._next(t0, t0, t1, dt0), (t0, t1, dt0)

    def adapt_step_size(
        self,
        t0: Number,
        t1: Number,
        y0: PyTree[Array],
        y1_candidate: PyTree[Array],
        args: PyTree,
        y_error: PyTree[Array] | None,
        error_order: Number,
        controller_state: _Grid,
    ) -> tuple[bool, Number, Number, Bool[Array, ""], _Grid, diffrax.RESULTS]:
        start, end, step = controller_state
        jumped = jnp.any(eqxi.nextafter(t1) == self.jumps)
        # From the last float before the jump to the first one behind it.
        behind = eqxi.nextafter(eqxi.nextafter(t1))
        next_t0 = jnp.where(jumped, behind, t1)
        next_t1 = self._next(next_t0, start, end, step)
        return True, next_t0, next_t1, jumped, controller_state, diffrax.RESULTS.successful

    def _next(self, t: Number, start: Number, end: Number, step: Number) -> Number:
        """The end of the step from t: the next grid point, or the next jump if that is sooner."""
        number = jnp.floor((t - start) / step + _COINCIDE) + 1
        grid = jnp.minimum(start + number * step, end)
        grid = jnp.where(grid > end - _COINCIDE * step, end, grid)
        jump = jnp.min(jnp.where(self.jumps > eqxi.nextafter(t), self.jumps, jnp.inf))
        return jnp.where(jump <= grid + _COINCIDE * step, eqxi.prevbefore(jump), grid)
