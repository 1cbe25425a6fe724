r"""Steps for vector fields that jump at known times t_1 < t_2 < ...

A step that straddles a jump is only first-order accurate, and so is one that ends on a jump when
the field there is already the new one. Steps therefore end at the last float before a jump and the
next one starts behind it, with the field evaluated anew.
"""

from __future__ import annotations

from typing import Any

import diffrax
import equinox.internal as eqxi
import jax.numpy as jnp
from jaxtyping import Array, Float

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

    def wrap(self, direction: Any) -> _EqualSteps:
        return self

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Any,
        error_order: Any,
    ) -> tuple[Any, Any]:
        return self._next(t0, t0, t1, dt0), (t0, t1, dt0)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        start, end, step = controller_state
        jumped = jnp.any(eqxi.nextafter(t1) == self.jumps)
        # From the last float before the jump to the first one behind it.
        behind = eqxi.nextafter(eqxi.nextafter(t1))
        next_t0 = jnp.where(jumped, behind, t1)
        next_t1 = self._next(next_t0, start, end, step)
        return True, next_t0, next_t1, jumped, controller_state, diffrax.RESULTS.successful

    def _next(self, t: Any, start: Any, end: Any, step: Any) -> Any:
        """The end of the step from t: the next grid point, or the next jump if that is sooner."""
        number = jnp.floor((t - start) / step + _COINCIDE) + 1
        grid = jnp.minimum(start + number * step, end)
        grid = jnp.where(grid > end - _COINCIDE * step, end, grid)
        jump = jnp.min(jnp.where(self.jumps > eqxi.nextafter(t), self.jumps, jnp.inf))
        return jnp.where(jump <= grid + _COINCIDE * step, eqxi.prevbefore(jump), grid)
