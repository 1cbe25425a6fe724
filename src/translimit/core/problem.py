"""Problem, method, solution, and the one verb `solve`.

- A *problem* is the mathematics: immutable, an infinite size is part of it.
- A *method* is the discretisation: solver, tolerances, sample counts.
- A *solution* holds times, states, the outcome and error estimates.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from translimit.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    SolveError,
)
from translimit.core.memory import fits, require_free
from translimit.core.module import Module
from translimit.core.outcome import RESULTS, Outcome
from translimit.core.precision import ArrayInput, as_float64, is_traced
from translimit.core.solution import AbstractSolution
from translimit.core.types import Key, Number, Observables, Progress, Times

#: How many equally spaced times a solution keeps when `save` is not given.
DEFAULT_SAVE = 101


class AbstractMethod(Module):
    """How a problem is solved: discretisation, tolerances, sample counts; no mathematics."""

    #: Whether the method draws random numbers; then `solve` requires a key, else it refuses one.
    random: eqx.AbstractClassVar[bool]


#: A state: a pytree of arrays.
Y = TypeVar("Y", bound=PyTree[Array])


class Keep(eqx.Module):
    """What a solve keeps at its times: a pytree, so that compiled solvers take it as an argument.

    Attributes:
        observe: functions of time and state by name.
        states: whether the states are kept beside them.
    """

    observe: Observables = eqx.field(default_factory=dict)
    states: bool = eqx.field(static=True, default=True)

    def observed(self, t: Array, state: Any) -> dict[str, Array]:
        """Every observable of one state as floats; for use inside a solver, under jit and vmap."""
        found = {name: jnp.asarray(function(t, state)) for name, function in self.observe.items()}
        # NaN after the end of a solution asks for floats.
        return {name: value.astype(jnp.result_type(value, float)) for name, value in found.items()}

    def kept(self, state: Y) -> Y:
        """What a solver keeps of one state: itself, or arrays of no size."""
        return state if self.states else jax.tree.map(lambda leaf: leaf[None][:0], state)

    def stacked(self, kept: Y) -> Y:
        """States along a leading axis from what was kept at one time or more."""
        return kept if self.states else jax.tree.map(lambda leaf: leaf[0], kept)


S = TypeVar("S", bound=AbstractSolution, covariant=True)


class AbstractProblem(Module, Generic[S]):
    """The mathematics of one limit; subclasses are final and validated at construction.

    The type parameter is the type of its solution.
    """

    t1: eqx.AbstractVar[Number]

    #: The state that observables are called with, in words; "" where there is none.
    state: ClassVar[str] = ""

    @property
    @abc.abstractmethod
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """The method classes that can solve this problem."""

    @abc.abstractmethod
    def default_method(self) -> AbstractMethod:
        """The method that `solve` uses when none is given."""

    def default_times(self) -> Times:
        """The times kept when `save` is not given: 101 equally spaced ones, ends included."""
        if is_traced(self.t1):
            return jnp.linspace(0.0, 1.0, DEFAULT_SAVE) * self.t1
        return np.linspace(0.0, float(self.t1), DEFAULT_SAVE)

    def memory(self, method: Any = None, times: int | None = None) -> float:
        """Bytes that a solve needs at its peak, about; nothing is computed.

        Args:
            method: a method of this problem; the default one when not given.
            times: how many times are kept; those of `default_times` when not given.
        """
        method = self.default_method() if method is None else method
        return self._bytes(method, len(self.default_times()) if times is None else times)

    def _bytes(self, method: Any, times: int) -> float:
        """Leading terms of `memory`, by which `solve` refuses; 0 where `run` looks for itself."""
        return 0.0

    @abc.abstractmethod
    def run(
        self,
        method: Any,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> S:
        """Solve with a validated method, times and key; called by `solve`, not by users."""


def solve(
    problem: AbstractProblem[S],
    method: AbstractMethod | None = None,
    *,
    key: Key | None = None,
    save: ArrayInput | None = None,
    observe: Observables | None = None,
    keep_states: bool = True,
    throw: bool = True,
    progress: Progress | bool | None = None,
) -> S:
    """Solve a problem: one verb for every limit.

    Args:
        problem: the mathematics.
        method: the discretisation; the problem's own default when not given.
        key: required by a random method, refused by a deterministic one.
        save: the times to keep [times], increasing within [0, t1]; `problem.default_times()` by
            default: 101 equally spaced ones, unless the problem says otherwise.
        observe: functions f(t, state) of JAX by name, evaluated inside the solver at the kept
            times; found in `solution.observed` and in `to_xarray()`. `problem.state` says in words
            what the state is; for paths it is that of one path.
        keep_states: with False only what is observed is kept, and the states have no times.
        throw: raise `SolveError` when the method failed. Blow-up and divergence are results,
            never raised: look at `solution.outcome` and `solution.blow_up_time`.
        progress: True for a progress bar on standard error (quiet when standard output is no
            terminal), or a function of the fraction done.

    Returns:
        The problem's solution, of the type that the problem names.

    Raises:
        ArgumentTypeError: a method that does not belong to the problem; a key missing or refused.
        ArgumentError: times that are not increasing or outside [0, t1]; nothing to keep.
        NoSuchLimitError: observables of a problem whose solver has no state to show.
        MemoryLimitError: what is kept does not fit into the memory that is free.
        SolveError: the method failed (with `throw=True`); it carries the solution so far.
        PrecisionError: a float64 limit was traced with JAX's 64-bit mode off.
    """
    method = problem.default_method() if method is None else method
    if not isinstance(method, problem.methods):
        names = ", ".join(sorted(m.__name__ for m in problem.methods))
        raise ArgumentTypeError(
            "method",
            f"{type(method).__name__} does not solve {type(problem).__name__}",
            f"use one of: {names}",
        )
    if method.random and key is None:
        raise ArgumentTypeError(
            "key", f"{type(method).__name__} draws random numbers", "pass key=jax.random.key(seed)"
        )
    if not method.random and key is not None:
        raise ArgumentTypeError(
            "key", f"{type(method).__name__} is deterministic", "leave the key out"
        )
    ts = problem.default_times() if save is None else _save_times(problem.t1, save)
    keep = _keep(problem, observe, keep_states)
    _require_memory(problem, method, len(ts) if keep.states else min(len(ts), 2))
    if progress is True:
        from translimit.core.progress import progress_bar  # rich, only when asked for

        with progress_bar(type(problem).__name__) as report:
            solution = problem.run(method, ts=ts, key=key, keep=keep, progress=report)
    else:
        solution = problem.run(method, ts=ts, key=key, keep=keep, progress=progress or None)
    return _throw(solution) if throw else solution


def _keep(problem: AbstractProblem[Any], observe: Observables | None, states: bool) -> Keep:
    """What is kept, or an error."""
    if not observe and not states:
        raise ArgumentError(
            "keep_states", "is False, and nothing is observed", "pass observe={name: function}"
        )
    if (observe or not states) and not problem.state:
        raise NoSuchLimitError(
            "observe",
            f"the solver of {type(problem).__name__} has no state to show",
            "use the statistics of its solution",
        )
    for name, function in (observe or {}).items():
        if not callable(function):
            raise ArgumentTypeError(
                "observe", f"{name!r} is a {type(function).__name__}", "pass f(t, state)"
            )
    return Keep(dict(observe or {}), states)


def _save_times(t1: Any, save: Any) -> Any:
    """The validated times to keep, float64 unless traced."""
    ts = as_float64(save, "save")
    if ts.ndim != 1 or ts.size == 0:
        raise ArgumentError(
            "save", f"has shape {ts.shape}", "pass a non-empty one-dimensional list of times"
        )
    if is_traced(ts, t1):
        wrong = (ts[0] < 0) | (ts[-1] > t1) | jnp.any(jnp.diff(ts) <= 0)
        return eqx.error_if(ts, wrong, "save: pass strictly increasing times within [0, t1]")
    if ts[0] < 0 or ts[-1] > t1 or np.any(np.diff(ts) <= 0):
        raise ArgumentError(
            "save",
            f"times run from {ts[0]:g} to {ts[-1]:g}",
            f"pass strictly increasing times within [0, {float(t1):g}]",
        )
    return ts


def _require_memory(problem: AbstractProblem[Any], method: AbstractMethod, times: int) -> None:
    """Refuse a solve that will not fit, by what there is too much of: paths, or times kept."""
    need = problem._bytes(method, times)
    if fits(need):
        return
    paths = getattr(method, "paths", None)
    many = paths is not None and not fits(problem._bytes(method, 2))
    of_paths = "" if paths is None else f" of {paths} paths"
    require_free(
        need,
        "paths" if many else "save",
        f"{times} times{of_paths} of {type(problem).__name__}",
        "take fewer paths" if many else "keep fewer times, or solve in parts",
    )


def _throw(solution: Any) -> Any:
    """Raise when the method failed; inside a trace, arm the solution's numbers with the error."""
    outcome = solution.outcome
    failed = ~_any_of(outcome, RESULTS)
    if is_traced(failed):
        numbers, others = eqx.partition(solution, eqx.is_inexact_array)
        return eqx.combine(outcome.error_if(numbers, failed), others)
    if bool(np.any(np.asarray(failed))):
        raise SolveError(f"{type(solution).__name__}: {Outcome[outcome]}", solution)
    return solution


def _any_of(outcome: Outcome, members: tuple[Any, ...]) -> Any:
    matches = [outcome == member for member in members]
    result = matches[0]
    for match in matches[1:]:
        result = result | match
    return result
