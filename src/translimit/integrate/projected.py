r"""Runge-Kutta steps that return to a manifold: step, measure the drift, project.

y_{k+1} = P(step(y_k)). The state is the pair (y, drift), whose second entry has derivative zero
and keeps the largest drift that any accepted step had before its projection, an indicator of the
error of the steps along the normal of the manifold.

A field that is constant along the fibres of the projection, f(P(y)) = f(y), has the same value
before and after the projection, so that solvers that reuse their last evaluation stay consistent.
The projection keeps the order of the solver.

Reference: Hairer, Lubich and Wanner, Geometric Numerical Integration, section IV.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array


@final
class ProjectedSolver(diffrax.AbstractWrappedSolver):
    """A solver for the state (y, drift) that projects y after every step.

    Attributes:
        solver: any explicit diffrax solver.
        project: y to (projected y, drift), the drift a number.
    """

    solver: diffrax.AbstractSolver  # pyright: ignore[reportIncompatibleVariableOverride]
    project: Callable[[Any], tuple[Any, Array]] = eqx.field(static=True)

    @property
    def term_structure(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the solver."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the solver; interpolated states are not projected."""
        return self.solver.interpolation_cls

    def order(self, terms: Any) -> int | None:
        """That of the solver."""
        return self.solver.order(terms)

    def strong_order(self, terms: Any) -> Any:
        """That of the solver."""
        return self.solver.strong_order(terms)

    def error_order(self, terms: Any) -> Any:
        """That of the solver."""
        return self.solver.error_order(terms)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        """That of the solver."""
        return self.solver.init(terms, t0, t1, y0, args)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        """One step of the solver, then the projection."""
        (y1, _), error, dense, state, result = self.solver.step(
            terms, t0, t1, y0, args, solver_state, made_jump
        )
        projected, drift = self.project(y1)
        return (projected, jnp.maximum(y0[1], drift)), error, dense, state, result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return self.solver.func(terms, t0, y0, args)
