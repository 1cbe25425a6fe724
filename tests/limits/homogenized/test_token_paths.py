"""Observables inside the solvers of tokens on the sphere: what they see, and what is not kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import observe, solve
from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import FiniteHeads, GaussianHeads, ShiftedHeads
from translimit.integrate import AdaptiveODE
from translimit.limits.homogenized import (
    ArtanhEuler,
    BallisticFlow,
    ModifiedFlow,
    ModifiedSDE,
    OverlapSDE,
    SimplexClosure,
    SlowOverlap,
    SphereEuler,
    TokenSDE,
)

LAW = GaussianHeads.of_score_std(1.0, dim=5)
TOKENS = np.eye(3, 5)
METHOD = SphereEuler(max_step=0.05, paths=4)
KEY = jax.random.key(0)
SAVE = [0.0, 0.1, 0.22]
ASKED = {
    "overlap": lambda t, tokens: observe.mean_overlap(tokens),
    "first": lambda t, tokens: tokens[0, 0],
    "norms": lambda t, tokens: jnp.sum(tokens**2, axis=-1),
    "time": lambda t, tokens: t,
}
PATHS = {
    "overlaps": OverlapSDE(law=LAW, initial=np.eye(3), t1=0.25),
    "tokens": TokenSDE(law=LAW, initial=TOKENS, t1=0.25),
    "modified": ModifiedSDE(
        law=FiniteHeads.drawn_from(LAW, 2, key=jax.random.key(3)),
        initial=TOKENS,
        t1=0.25,
        step=0.1,
        heads=2,
    ),
}


def of_states(tokens: np.ndarray, ts: Any) -> dict[str, np.ndarray]:
    """The same observables of states that were kept [samples, times, ...]."""
    return {
        "overlap": observe.mean_overlap(tokens),
        "first": tokens[..., 0, 0],
        "norms": np.sum(tokens**2, axis=-1),
        "time": np.broadcast_to(ts, tokens.shape[:2]),
    }


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "modified" else []) for n in PATHS]
)
def test_observables_of_paths_are_functions_of_their_states(name: str) -> None:
    problem = PATHS[name]
    plain = solve(problem, METHOD, key=KEY, save=SAVE)
    both = solve(problem, METHOD, key=KEY, save=SAVE, observe=ASKED)
    np.testing.assert_array_equal(both.tokens, plain.tokens)
    alone = solve(problem, METHOD, key=KEY, save=SAVE, observe=ASKED, keep_states=False)
    assert alone.tokens.shape[:2] == (4, 0)
    assert not alone.states_kept
    for label, expected in of_states(plain.tokens, SAVE).items():
        np.testing.assert_allclose(both.observed[label], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(alone.observed[label], both.observed[label])
    assert alone.discretisation == pytest.approx(plain.discretisation, rel=1e-6, abs=1e-12)
    assert bool(alone.outcome == plain.outcome)
    data = alone.to_xarray()
    assert data["overlap"].dims == ("sample", "time")
    assert data["norms"].dims == ("sample", "time", "norms_0")
    assert "overlaps" not in data


def test_many_tokens_are_observed_without_their_overlaps() -> None:
    """256 tokens at 400 times: kept, their overlaps would take 0.2 GB a path."""
    count = 256
    problem = TokenSDE(
        law=GaussianHeads(dim=count, beta=0.0, sigma_a=1.0), initial=np.eye(count), t1=0.02
    )
    save = np.linspace(0.0, 0.02, 400)
    overlap = {"overlap": ASKED["overlap"]}
    method = SphereEuler(max_step=0.02, paths=2)
    found = solve(problem, method, key=KEY, save=save[[0, 200, 399]], observe=overlap)
    alone = solve(
        problem,
        method,
        key=KEY,
        save=save[[0, 200, 399]],
        observe=overlap,
        keep_states=False,
    )
    np.testing.assert_allclose(alone.observed["overlap"], found.mean_overlaps, atol=1e-12)
    assert sum(leaf.size for leaf in jax.tree.leaves(alone) if hasattr(leaf, "size")) < 100
    assert problem.memory(method, 2) < 0.01 * problem.memory(method, 400)


def test_paths_are_observed_under_jit_and_vmap() -> None:
    def overlap(scale: Any) -> Any:
        start = jnp.asarray(TOKENS, jnp.float32) + scale * jnp.eye(3, 5, k=1, dtype=jnp.float32)
        problem = TokenSDE(law=LAW, initial=start, t1=0.1, normalize=True)
        found = solve(
            problem, METHOD, key=KEY, save=[0.1], observe=ASKED, keep_states=False
        ).observed
        return found["overlap"]

    scales = jnp.asarray([0.0, 0.3], jnp.float32)
    one = jnp.stack([overlap(scale) for scale in scales])
    np.testing.assert_allclose(jax.jit(jax.vmap(overlap))(scales), one, atol=1e-6)


def test_an_observable_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="keep_states"):
        solve(PATHS["tokens"], METHOD, key=KEY, keep_states=False)
    for problem, method in (
        (SlowOverlap(initial=0.1, t1=0.1, drift_coefficient=1.0), ArtanhEuler(paths=4)),
        (SimplexClosure(law=LAW, tokens=3, t1=0.1), None),
    ):
        key = None if method is None else KEY
        with pytest.raises(NoSuchLimitError, match=type(problem).__name__):
            solve(problem, method, key=key, observe=ASKED)


V = np.array([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.0, 0.4, 0.6]])
MEAN = ShiftedHeads(mean_v=V, mean_a=np.eye(3), beta=1.0)
START = np.array([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4]])


def test_observables_of_flows_are_functions_of_their_states() -> None:
    for flow in (
        BallisticFlow(law=MEAN, initial=START, t1=1.0, normalize=True),
        ModifiedFlow(law=MEAN, initial=START, t1=1.0, step=0.1, normalize=True),
    ):
        plain = solve(flow, save=SAVE, observe=ASKED)
        alone = solve(flow, save=SAVE, observe=ASKED, keep_states=False)
        assert alone.tokens.shape == (0, 2, 3)
        for label, expected in of_states(plain.tokens[None], SAVE).items():
            np.testing.assert_allclose(plain.observed[label], expected[0], rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(alone.observed[label], plain.observed[label])
        assert alone.to_xarray()["norms"].dims == ("time", "norms_0")
        np.testing.assert_array_equal(solve(flow, save=SAVE).tokens, plain.tokens)


@pytest.mark.slow
def test_flows_are_observed_under_jit_vmap_and_grad() -> None:
    def overlap(angle: Any) -> Any:
        start = jnp.stack([jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([0.0, 1.0, 0.0])])
        start = start.at[1, 0].set(angle)
        flow = BallisticFlow(law=MEAN, initial=start, t1=1.0, normalize=True)
        return solve(
            flow, AdaptiveODE(rtol=1e-5, atol=1e-6), save=[1.0], observe=ASKED, keep_states=False
        ).observed["overlap"][0]

    angles = jnp.asarray([0.2, 0.7])
    one = jnp.stack([overlap(angle) for angle in angles])
    np.testing.assert_allclose(jax.jit(jax.vmap(overlap))(angles), one, atol=1e-4)
    slope = (overlap(angles[0] + 0.05) - overlap(angles[0] - 0.05)) / 0.1
    assert float(jax.grad(overlap)(angles[0])) == pytest.approx(float(slope), rel=2e-2)
