"""Sinkhorn's iteration in its two forms: agreement, POT, underflow, derivatives, memory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from translimit.core import (
    Outcome,
    kernel_fits,
    sinkhorn_potential,
    symmetric_sinkhorn_potential,
)
from translimit.core import sinkhorn as sinkhorn_module

TOKENS = 40


class Problem(NamedTuple):
    """Features whose products are the scores, and weights."""

    queries: Any
    keys: Any
    weights: Any

    @property
    def scores(self):
        return self.queries @ self.keys.T


def problem(seed, scale=1.0, outliers=1.0, zeros=False, offsets=0.0):
    """Tokens in R^3, the first two so many times farther out; scores may have offsets u_i + v_j."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(TOKENS, 3))
    cloud[:2] *= outliers
    weights = np.full(TOKENS, 1 / TOKENS)
    if zeros:  # an outlier among those of weight zero
        weights = rng.random(TOKENS) * (np.arange(TOKENS) % 4 > 0)
        weights /= weights.sum()
    Q, K = rng.normal(size=(2, 3, 3)) * np.sqrt(scale)
    u, v = offsets * rng.normal(size=(2, TOKENS, 1))
    one = np.ones((TOKENS, 1))
    return Problem(np.hstack([cloud @ Q.T, u, one]), np.hstack([cloud @ K.T, one, v]), weights)


#: Largest scores 17, 260, 55, 34, 1,200 and 5,900, 5,500. The last two leave the first kernel.
PROBLEMS = {
    "easy": problem(0, 0.5),
    "scores of hundreds": problem(6, 1.0, offsets=60.0),
    "strong": problem(1, 3.0),
    "outliers": problem(2, 0.1, outliers=10.0),
    "outlier of weight zero": problem(3, 0.3, outliers=10.0, zeros=True),
    "underflow": problem(4, 0.5, offsets=1000.0),
    "underflow, outlier of weight zero": problem(5, 0.1, 20.0, True, 1000.0),
}
EASY = PROBLEMS["easy"]


def solve(data, form, *, symmetric=False, tol=1e-10, limit=20_000, logs=True, initial=None):
    """The result in one form; without `logs` a round in logs is NaN."""
    queries, keys, weights = (jnp.asarray(a) for a in data)
    log_weights = jnp.log(weights)

    def lse(left, right, bias):
        value = logsumexp(left @ right.T + bias, axis=1)
        return value if logs else value * jnp.nan

    def rows(g):
        return lse(queries, keys, log_weights - g)

    options = {"tol": tol, "max_iterations": limit}
    if form == "kernel":
        options["scores"] = lambda start, stop: queries[start:stop] @ keys.T
    initial = jnp.zeros_like(weights) if initial is None else initial
    if symmetric:
        return symmetric_sinkhorn_potential(rows, initial, weights, **options)
    columns = lambda f: lse(keys, queries, log_weights - f)  # noqa: E731
    return sinkhorn_potential(rows, columns, initial, weights, **options)


solve_in_jit = jax.jit(solve, static_argnames=("form", "symmetric", "tol", "limit", "logs"))


class Found(NamedTuple):
    """A result in NumPy."""

    potential: np.ndarray
    iterations: int
    error: float
    converged: bool


def found(*args, **options):
    """`solve` in jit, in NumPy; to be called in the 64-bit mode where the data are float64."""
    result = solve_in_jit(*args, **options)
    return Found(
        np.asarray(result.potential),
        int(result.iterations),
        float(result.error),
        bool(result.outcome == Outcome.successful),
    )


def coupling(data, g):
    """w_i kappa_ij of a column potential [rows of positive weight, tokens], rows exact, in NumPy.

    Two tokens of weight zero have a kappa too, of any size.
    """
    on = data.weights > 0
    lowered = data.scores[on] - g
    top = lowered[:, on].max(axis=1, keepdims=True)
    rows = np.exp(lowered - top)
    return data.weights[on, None] * rows / (rows[:, on] @ data.weights[on])[:, None]


@pytest.mark.parametrize("name", PROBLEMS)
def test_two_routes_the_forms_agree_and_the_columns_average_to_one(name):
    data = PROBLEMS[name]
    with jax.enable_x64(True):
        kernel, logs = (found(data, form) for form in ("kernel", "log"))
    for result in (kernel, logs):
        assert result.converged
        assert result.error < 1e-10
        # Of every column, those of weight zero too: scores of thousands round to 1e-12.
        columns = coupling(data, result.potential).sum(axis=0)
        np.testing.assert_allclose(columns, 1.0, rtol=0, atol=1.1e-10)
    assert kernel.iterations == logs.iterations
    np.testing.assert_allclose(kernel.potential, logs.potential, rtol=0, atol=1e-10)
    np.testing.assert_allclose(data.weights @ kernel.potential, 0.0, atol=1e-10)


@pytest.mark.parametrize("name", PROBLEMS)
def test_two_routes_pot_in_logs(name):
    ot = pytest.importorskip("ot", reason="POT is not installed: nothing to compare with")
    data = PROBLEMS[name]
    on = data.weights > 0
    cost, part = -data.scores[np.ix_(on, on)], data.weights[on]
    plan = ot.sinkhorn(part, part, cost, 1.0, "sinkhorn_log", 20_000, 1e-13, warn=False)
    with jax.enable_x64(True):
        g = found(data, "kernel", tol=1e-12).potential
    ours = coupling(data, g)[:, on] * part
    np.testing.assert_allclose(ours, plan, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PROBLEMS)
def test_identity_float32_meets_its_tolerance_in_both_forms(name):
    data = PROBLEMS[name]
    rounding = np.abs(data.scores).max() * np.finfo(np.float32).eps
    narrow = Problem(*(a.astype(np.float32) for a in data))
    tol = max(1e-5, 8 * rounding)
    kernel, logs = (found(narrow, form, tol=float(tol)) for form in ("kernel", "log"))
    assert kernel.potential.dtype == jnp.float32
    for result in (kernel, logs):
        assert result.converged
        columns = coupling(data, result.potential.astype(float)).sum(axis=0)
        np.testing.assert_allclose(columns, 1.0, rtol=0, atol=4 * tol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identity_an_easy_cloud_makes_no_round_in_logs_and_an_underflowing_one_does(dtype):
    """Rounds in logs are broken here: whoever makes one ends with NaN."""
    with jax.enable_x64(dtype == np.float64):
        tol = 1e-4 if dtype == np.float32 else 1e-10
        for name, converges in [("easy", True), ("underflow", False)]:
            data = Problem(*(a.astype(dtype) for a in PROBLEMS[name]))
            result = found(data, "kernel", logs=False, tol=tol)
            assert result.converged == converges
            assert np.isfinite(result.error) == converges


def symmetric(data):
    """The same cloud with S = S^T: positive semi-definite scores and the offsets v_i + v_j."""
    return data._replace(queries=data.keys[:, [0, 1, 2, 4, 3]])


@pytest.mark.parametrize("name", PROBLEMS)
def test_two_routes_symmetric_updates_agree_in_both_forms_and_with_alternating_ones(name):
    data = symmetric(PROBLEMS[name])
    with jax.enable_x64(True):
        kernel, logs = (found(data, form, symmetric=True) for form in ("kernel", "log"))
        alternating = found(data, "kernel")
    assert kernel.converged
    assert logs.converged
    assert alternating.converged
    assert kernel.iterations == logs.iterations
    np.testing.assert_allclose(kernel.potential, logs.potential, rtol=0, atol=1e-10)
    want, got = (coupling(data, result.potential) for result in (alternating, kernel))
    np.testing.assert_allclose(got * data.weights, want * data.weights, rtol=0, atol=1e-8)


def test_identity_warm_starts_blocks_and_batches(monkeypatch):
    clouds = [PROBLEMS[name] for name in ("easy", "underflow", "outlier of weight zero")]
    with jax.enable_x64(True):
        one_by_one = [found(data, "kernel") for data in clouds]
        # In a batch one member makes rounds in logs while the others do not.
        stacked = Problem(*(jnp.stack(parts) for parts in zip(*clouds, strict=True)))
        batch = jax.jit(jax.vmap(lambda data: solve(data, "kernel")))(stacked)
        for index, single in enumerate(one_by_one):
            assert abs(batch.iterations[index] - single.iterations) <= 1
            np.testing.assert_allclose(batch.potential[index], single.potential, atol=1e-8)
        for data, cold in zip(clouds, one_by_one, strict=True):
            # A start at the solution ends with the first round, wherever its constant is.
            warm = found(data, "kernel", initial=cold.potential + 7.0)
            assert warm.iterations == 1
            np.testing.assert_allclose(warm.potential, cold.potential, atol=1e-8)
        monkeypatch.setattr(sinkhorn_module, "BLOCK_BYTES", 7 * TOKENS * 8)
        for data, whole in zip(clouds, one_by_one, strict=True):
            cut = jax.jit(lambda data: solve(data, "kernel"))(data)
            assert abs(cut.iterations - whole.iterations) <= 1
            np.testing.assert_allclose(cut.potential, whole.potential, rtol=0, atol=1e-8)


def test_identity_rounds_are_counted_to_the_limit_and_nan_ends_them():
    with jax.enable_x64(True):
        for name in ("strong", "underflow"):
            for form in ("kernel", "log"):
                short = found(PROBLEMS[name], form, limit=3)
                assert short.iterations == 3
                assert not short.converged
                assert np.isfinite(short.potential).all()
        broken = EASY._replace(queries=EASY.queries * np.nan)
        result = found(broken, "kernel")
        assert not result.converged
        assert result.iterations == 1


@pytest.mark.parametrize("form", ["kernel", "log"])
@pytest.mark.parametrize(
    ("data", "averaged"),
    [(EASY, False), (PROBLEMS["outlier of weight zero"], False), (symmetric(EASY), True)],
    ids=["easy", "zeros", "symmetric"],
)
def test_two_routes_derivatives_equal_central_differences(form, data, averaged):
    """Forward, reverse, and reverse of reverse, along a direction of all that the scores hold."""
    rng = np.random.default_rng(7)
    along = data._replace(
        queries=rng.normal(size=data.queries.shape), keys=rng.normal(size=data.keys.shape)
    )
    if averaged:
        along = along._replace(queries=along.keys)
    else:  # weights that move and keep their sum; those of zero have no derivative through logs
        on = data.weights > 0
        shift = np.where(on, rng.normal(size=TOKENS), 0.0) * data.weights
        along = along._replace(weights=shift - data.weights * shift.sum())
    probe = rng.normal(size=TOKENS)

    def loss(step, weights=True):
        moved = [a + step * b for a, b in zip(data, along, strict=True)]
        if (data.weights == 0).any():
            moved[2] = data.weights
        result = solve(Problem(*moved), form, symmetric=averaged, tol=1e-13)
        return jnp.sum(probe * result.potential)

    with jax.enable_x64(True):
        value, slope = jax.jit(loss), jax.jit(jax.grad(loss))
        h = 1e-5
        difference = (value(h) - value(-h)) / (2 * h)
        np.testing.assert_allclose(slope(0.0), difference, rtol=1e-6)
        forward = jax.jit(lambda step: jax.jvp(loss, (step,), (1.0,))[1])(0.0)
        np.testing.assert_allclose(forward, difference, rtol=1e-6)
        bend = jax.jit(jax.jvp, static_argnums=0)(jax.grad(loss), (0.0,), (1.0,))[1]
        np.testing.assert_allclose(bend, (slope(h) - slope(-h)) / (2 * h), rtol=1e-5)


def test_two_routes_the_derivative_of_an_underflowing_cloud_is_that_of_logs():
    data = PROBLEMS["underflow, outlier of weight zero"]
    probe = np.random.default_rng(8).normal(size=TOKENS)

    def slopes(form):
        def loss(queries):
            result = solve(data._replace(queries=queries), form, tol=1e-11)
            return jnp.sum(probe * result.potential)

        return jax.jit(jax.grad(loss))(data.queries)

    with jax.enable_x64(True):
        kernel, logs = slopes("kernel"), slopes("log")
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(kernel, logs, rtol=0, atol=1e-5 * np.abs(logs).max())


def test_orders_memory_of_the_kernel_form_is_two_kernels():
    tokens = 4096
    assert kernel_fits(tokens)
    assert not kernel_fits(8192)
    shape = jax.ShapeDtypeStruct((tokens, 3), jnp.float32)

    def potential(queries, keys):
        # The log form is left out: how much memory it takes is the caller's.
        return sinkhorn_potential(
            lambda g: g,
            lambda f: f,
            jnp.zeros(tokens),
            jnp.full(tokens, 1 / tokens),
            tol=1e-5,
            max_iterations=100,
            scores=lambda start, stop: queries[start:stop] @ keys.T,
        ).potential

    used = jax.jit(potential).lower(shape, shape).compile().memory_analysis()
    assert used.temp_size_in_bytes < 2.2 * tokens**2 * 4  # pyright: ignore[reportOptionalMemberAccess]
