"""Observables inside the solver: those of the states that are kept, without the states, traced."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.attention import Sigmoid, Sinkhorn, Softmax
from translimit.core import (
    AbstractProblem,
    ArgumentError,
    MemoryLimitError,
    NoSuchLimitError,
    solve,
)
from translimit.limits.meanfield import (
    FixedODE,
    GaussianFlow,
    GaussianLimit,
    MomentClosure,
    ParticleFlow,
    PreNormFlow,
    SphereFlow,
)
from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving

DIM = 2
EYE = np.eye(DIM)
SOFTMAX = Softmax(Q=EYE, K=EYE, V=-EYE)
CLOUD = np.random.default_rng(0).normal(size=(5, DIM))
TIMES = np.array([0.0, 0.1, 0.3, 0.4])
COV = np.array([[1.0, 0.3], [0.3, 0.5]])


@dataclass(frozen=True)
class Case:
    problem: AbstractProblem[Any]
    states: Any  # from a solution to the states as f(t, state) sees them, time by time
    method: Any = None

    def solve(self, **options: Any) -> Any:
        key = None if self.method is None else jax.random.key(3)
        return solve(self.problem, self.method, key=key, save=TIMES, **options)


def moments(solution: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(solution.mean, solution.cov, strict=True))


def tokens(solution: Any) -> list[np.ndarray]:
    return list(solution.tokens)


def covs(solution: Any) -> list[np.ndarray]:
    return list(np.moveaxis(solution.cov, 1, 0))


SDE = CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=COV, t1=0.5)
LAW = {"mean": [1.0, 0.0], "cov": COV, "t1": 0.5}
CASES = {
    "Gaussian": Case(GaussianFlow(attention=SOFTMAX, **LAW), moments),
    "Gaussian, units": Case(
        GaussianFlow(
            attention=Softmax(Q=1e-30 * EYE, K=1e-30 * EYE, V=-EYE),
            mean=[1e30, 0.0],
            cov=1e60 * COV,
            t1=0.5,
        ),
        moments,
    ),
    "moments": Case(
        MomentClosure(attention=Sigmoid(Q=EYE, K=EYE, V=-EYE, bias=0.0), **LAW), moments
    ),
    "particles": Case(ParticleFlow(attention=SOFTMAX, initial=CLOUD, t1=0.5), tokens),
    "particles, units": Case(
        ParticleFlow(
            attention=Softmax(Q=1e-180 * EYE, K=1e-180 * EYE, V=-EYE), initial=1e180 * CLOUD, t1=0.5
        ),
        tokens,
    ),
    "Sinkhorn": Case(
        ParticleFlow(attention=Sinkhorn(Q=EYE, K=EYE, V=-EYE), initial=CLOUD, t1=0.5), tokens
    ),
    "sphere": Case(SphereFlow(initial=CLOUD, t1=0.5, beta=1.0), tokens),
    "pre-norm": Case(PreNormFlow(initial=CLOUD, t1=0.5, beta=1.0), tokens),
    "pre-norm, units": Case(PreNormFlow(initial=1e200 * CLOUD, t1=0.5, beta=1.0), tokens),
    "SDE": Case(SDE, covs, StructurePreserving(paths=7, max_step=0.05)),
    "SDE, units": Case(
        CovarianceSDE(block=Block(gamma=0.5, tau0=2e40), initial=1e40 * COV, t1=0.5),
        covs,
        StructurePreserving(paths=7, max_step=0.05),
    ),
}


def weighted(t: Any, state: Any) -> Any:
    """Something of every entry, and of the time."""
    leaves = jax.tree.leaves(state)
    return (1.0 + t) * sum(
        jnp.sum(jnp.arange(1.0, leaf.size + 1) * leaf.ravel()) for leaf in leaves
    )


def corner(t: Any, state: Any) -> Any:
    return jax.tree.leaves(state)[-1][:2, :2]


@pytest.mark.parametrize("name", CASES)
def test_an_observable_is_its_function_of_the_states(name: str):
    case = CASES[name]
    observe = {"weighted": weighted, "corner": corner}
    both = case.solve(observe=observe)
    bare = case.solve(observe=observe, keep_states=False)
    assert both.states_kept
    assert not bare.states_kept
    for key, function in observe.items():
        with jax.enable_x64(True):
            each = function if case.method is None else jax.vmap(function, (None, 0))
            found = [each(t, state) for t, state in zip(TIMES, case.states(both), strict=True)]
            expected = np.stack(found, 0 if case.method is None else 1)
        scale = np.abs(expected).max()
        for solution in (both, bare):
            got = solution.observed[key]
            np.testing.assert_allclose(got / scale, expected / scale, rtol=1e-9, atol=1e-12)
    assert len(case.states(bare)) == 0
    assert set(bare.to_xarray().data_vars) == set(observe)
    assert bare.to_xarray().sizes["time"] == len(TIMES)
    assert bool(np.all(bare.outcome == both.outcome))


@pytest.mark.parametrize("name", ["particles", "SDE"])
def test_without_states_their_memory_is_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch):
    case, many = CASES[name], np.linspace(0.0, 0.5, 2000)
    method = case.problem.default_method() if case.method is None else case.method
    free = 0.5 * case.problem.memory(method, len(many))
    key = None if case.method is None else jax.random.key(0)
    monkeypatch.setattr("translimit.core.memory.SMALL", 0)
    monkeypatch.setattr("translimit.core.memory.available_memory", lambda: free)
    observe: dict[str, Any] = {"weighted": weighted}
    with pytest.raises(MemoryLimitError):
        solve(case.problem, method, key=key, save=many, observe=observe)
    bare = solve(case.problem, method, key=key, save=many, observe=observe, keep_states=False)
    assert bare.observed["weighted"].shape[-1] == len(many)
    # The pairs that tell the error of the step have covariances at a few times.
    sizes = sum(leaf.size for leaf in jax.tree.leaves(bare) if isinstance(leaf, np.ndarray))
    assert 8 * sizes < free


def test_observables_are_differentiated_and_mapped():
    def at_end(mean: Any) -> Any:
        law = GaussianFlow(attention=SOFTMAX, mean=mean, cov=COV, t1=0.4)
        observe = {"square": lambda t, state: jnp.sum(state[0] ** 2)}
        solution = solve(law, FixedODE(steps=8), save=[0.4], observe=observe, keep_states=False)
        return solution.observed["square"][0]

    with jax.enable_x64(True):
        mean, other = jnp.array([1.0, 0.5]), jnp.array([0.3, -0.2])
        h = 1e-5
        slope = (at_end(mean + h * other) - at_end(mean - h * other)) / (2 * h)
        gradient = jax.jit(jax.grad(at_end))(mean)
        np.testing.assert_allclose(gradient @ other, slope, rtol=1e-7)
        both = jax.vmap(at_end)(jnp.stack([mean, other]))
        np.testing.assert_allclose(both, [at_end(mean), at_end(other)], rtol=1e-12)


def test_observables_end_with_the_solution():
    """V A cov = 1 / 2: the law ceases to exist at t = 1."""
    one = Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]])
    flow = GaussianFlow(attention=one, mean=[0.0], cov=[[0.5]], t1=2.0)
    solution = solve(
        flow,
        save=[0.5, 1.5],
        observe={"count": lambda t, state: jnp.asarray(3)},
        keep_states=False,
    )
    assert solution.blow_up_time == pytest.approx(1.0)
    np.testing.assert_array_equal(solution.observed["count"], [3.0, np.nan])


def test_what_can_not_be_observed_is_refused():
    limit = GaussianLimit(attention=SOFTMAX, cov=COV)
    with pytest.raises(NoSuchLimitError, match="the solver of GaussianLimit has no state to show"):
        solve(limit, observe={"weighted": weighted})
    with pytest.raises(ArgumentError, match="keep_states: is False, and nothing is observed"):
        solve(SDE, key=jax.random.key(0), keep_states=False)
    bare = CASES["sphere"].solve(observe={"weighted": weighted}, keep_states=False)
    with pytest.raises(ArgumentError, match="keep_states: was False"):
        bare.plot()
