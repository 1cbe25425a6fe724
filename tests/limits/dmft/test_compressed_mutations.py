"""Wrong terms of the compressed solver, refuted by differentiation or by a printed figure.

Readouts, normalisations and sampled heads are differentiated by themselves, which needs no pass.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft import test_mutations
from tests.limits.dmft.cases import RICH, ring4
from tests.limits.dmft.language import lm12, sin6
from tests.limits.dmft.test_compressed import compressed
from tests.limits.dmft.test_heads import heads, numbers
from tests.limits.dmft.test_mutations import NORMED, PLAIN, TODAY

from translimit.limits.dmft.compressed import blocks, known, one_step, population
from translimit.limits.dmft.compressed.heads import Heads, LinearHeads
from translimit.limits.dmft.compressed.passes import compressed_pass
from translimit.limits.dmft.compressed.setup import numbers_of, shape_of
from translimit.limits.dmft.compressed.state import initial_state
from translimit.limits.dmft.compressed.step import Step, through_norm
from translimit.limits.dmft.methods import CausalSampling

KEY = jax.random.key(0)


def mutated(function: Any, old: str, new: str) -> Any:
    """The function with another text in its source."""
    return test_mutations.mutated(inspect.unwrap(function), old, new)


def readout_gap(problem: Any, readout: Any) -> float:
    """How far the gradient of a readout is from that of its outputs, for given errors."""
    method, rng = CausalSampling(heads=100), np.random.default_rng(0)
    shape = shape_of(problem.equations, method, 1)
    with jax.enable_x64(True):
        constants = numbers_of(problem.equations, method, shape)
        step = Step(shape, constants, jnp.asarray(1), KEY)
        h = jnp.asarray(rng.standard_normal((shape.fields, shape.sources)))
        error = jnp.asarray(rng.standard_normal((shape.rows, shape.outputs)))
        given = one_step.Given(error, jnp.asarray(True))
        state = initial_state(shape, 1.0)

        def paired(h: Any) -> Any:
            return constants.gamma0 * jnp.sum(error * readout(step, state, h, given).f)

        expected = jax.grad(paired)(h)
        found = readout(step, state, h, given).g
        return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize("problem", [lm12(eta0=0.5), sin6(eta0=0.3, final_norm=True)])
def test_gradients_of_readouts(problem: Any) -> None:
    assert readout_gap(problem, one_step.readout) < 1e-12
    for old, new in (
        ("g = through_norm(g, hb, rho)", "g = g / rho"),
        (
            "shape.fields), error @ w",
            "shape.fields), error @ w / shape.tokens",
        ),  # 1 / S once too often
    ):
        assert readout_gap(problem, mutated(one_step.readout, old, new)) > 0.01


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("_through_norm", "P - unit * jnp.mean(unit * P, axis=2, keepdims=True)", "P"),
        ("_through_norm", "/ norm", "/ 1"),
        ("backward", "k_unit, k_norm))", "self._turned(k_unit) * factor, k_norm))"),
        ("backward", "shared = factor * self", "shared = self"),
    ],
)
def test_wrong_gradients_of_sampled_heads(
    name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `test_heads`: a projection, a norm, a gain inside the projection, a missing gain."""
    site, rng = heads(1, qk_norm="rms"), np.random.default_rng(0)
    with jax.enable_x64(True):
        constants, gain = numbers(), jnp.asarray(1.7)
        y = jnp.asarray(rng.standard_normal((site.fields, site.families * site.width)))
        r = jnp.asarray(rng.standard_normal((site.fields, site.written * site.width)))
        expected = jax.grad(lambda y: jnp.sum(r * site.forward(y, constants, gain).x))(y)
        saved = site.forward(y, constants, gain).saved
        right = site.backward(r, saved, constants, gain).p
        np.testing.assert_allclose(right, expected, atol=1e-12)
        monkeypatch.setattr(Heads, name, mutated(getattr(Heads, name), old, new))
        wrong = site.backward(r, saved, constants, gain).p
    assert np.abs(wrong - expected).max() > 1e-3 * np.abs(expected).max()


def scatter(seeds: int) -> float:
    """Mean variance of predictions over populations."""
    problem = ring4(steps=6, eta0=0.05, head_dim=2, **RICH)
    shape = shape_of(problem.equations, method := CausalSampling(heads=300), 1)
    constants = numbers_of(problem.equations, method, shape)
    passes = [
        compressed_pass(shape, constants, problem.steps, jax.random.key(seed), 1).f
        for seed in range(seeds)
    ]
    return float(np.mean(np.var(passes, axis=0, ddof=1)))


@pytest.mark.slow
def test_innovations_that_are_not_projected_scatter_as_networks_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = scatter(6)
    wrong = mutated(population.matched, "white, _ = apart(white, basis, rank, 1 / width)", "")
    monkeypatch.setattr(known, "matched", wrong)
    jax.clear_caches()
    try:
        assert scatter(6) > 5 * right
    finally:
        jax.clear_caches()


#: Module, function, text, what replaces it, the model and what is printed of it.
MUTATIONS: dict[str, tuple[Any, Any, str, str, dict[str, Any], tuple[float, float]]] = {
    "final norm not projected": (
        one_step,
        one_step.readout,
        "g = through_norm(g, hb, rho)",
        "g = g / rho",
        {},
        PLAIN,
    ),
    "one over tokens": (
        one_step,
        one_step.readout,
        "shape.fields), error @ w",
        "shape.fields), error @ w / shape.tokens",
        {},
        PLAIN,
    ),
    "norm before sub-blocks not projected": (
        blocks,
        through_norm,
        "(back - hb * jnp.sum(back * hb, axis=1, keepdims=True)) / rho",
        "back / rho",
        {},
        PLAIN,
    ),
    "gain in the projection of keys": (
        LinearHeads,
        LinearHeads.backward,
        "p_k - kh * jnp.sum(M * a, axis=2)",
        "p_k - kh * jnp.sum(gain * M * a, axis=2)",
        TODAY,
        NORMED,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *MUTATIONS])
def test_a_wrong_term_is_refuted(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mutation both figures are met: to 1e-5 and 1e-6."""
    for case in [MUTATIONS[name]] if name else [next(iter(MUTATIONS.values()))]:
        owner, function, old, new, options, (loss, score) = case
        if name:
            monkeypatch.setattr(owner, function.__name__, mutated(function, old, new))
        jax.clear_caches()
        try:
            problem = lm12(eta0=0.5, **options)
            found = compressed(problem, tol=1e-12)
        finally:
            jax.clear_caches()
        equations = problem.equations
        last = equations.total_loss(equations.row_losses(found.f[None]))[0, -1]
        right = abs(last - loss) < 1e-5
        right &= abs(found.scores[7, 0, 0, 0, 1, 0] - score) < 1e-6
        assert bool(right) == (name is None)
