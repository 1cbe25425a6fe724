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
from typing import final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from translimit.core import AnyArray, Number

#: What diffrax integrates, and the state: what is projected, and its largest drift.
Terms = PyTree[diffrax.AbstractTerm]
State = tuple[Float[Array, "*state"], Float[Array, ""]]


@final
class ProjectedSolver(diffrax.AbstractWrappedSolver):
    """A solver for the state (y, drift) that projects y after every step.

    Attributes:
        solver: any explicit diffrax solver.
        project: y to (projected y, drift), the drift a number.
    """

    solver: diffrax.AbstractSolver  # pyright: ignore[reportIncompatibleVariableOverride]
    project: Callable[[Array], tuple[Array, Array]] = eqx.field(static=True)

    @property
    def term_structure(self) -> PyTree:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the solver."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Callable[..., diffrax.AbstractLocalInterpolation]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the solver; interpolated states are not projected."""
        return self.solver.interpolation_cls

    def order(self, terms: Terms) -> int | None:
        """That of the solver."""
        return self.solver.order(terms)

    def strong_order(self, terms: Terms) -> Number | None:
        """That of the solver."""
        return self.solver.strong_order(terms)

    def error_order(self, terms: Terms) -> Number | None:
        """That of the solver."""
        return self.solver.error_order(terms)

    def init(self, terms: Terms, t0: Number, t1: Number, y0: State, args: PyTree) -> PyTree:
        """That of the solver."""
        return self.solver.init(terms, t0, t1, y0, args)

    def step(
        self,
        terms: Terms,
        t0: Number,
        t1: Number,
        y0: State,
        args: PyTree,
        solver_state: PyTree,
        made_jump: bool | Bool[AnyArray, ""],
    ) -> tuple[State, State | None, dict[str, PyTree], PyTree, diffrax.RESULTS]:
        """One step of the solver, then the projection."""
        (y1, _), error, dense, state, result = self.solver.step(
            terms, t0, t1, y0, args, solver_state, made_jump
        )
        projected, drift = self.project(y1)
        return (projected, jnp.maximum(y0[1], drift)), error, dense, state, result

    def func(self, terms: Terms, t0: Number, y0: State, args: PyTree) -> State:
        """The vector field."""
        return self.solver.func(terms, t0, y0, args)
