"""Blocks of rows and triangles, which many tokens take, give what whole matrices give."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import solve
from translimit.describe import (
    Activation,
    Attention,
    Experts,
    FeedForward,
    Frequencies,
    LatentAttention,
    Norm,
    QueryKeyNorm,
    Scores,
    pre_norm_stack,
)
from translimit.limits.signal import (
    Chain,
    Recursion,
    SignalPropagation,
    attention,
    attention_back,
    kernels,
    norms,
    watch,
    watching,
)

N, DIM = 150, 32
LOOK = Attention(2, 16, 0.3, 0.3, 0.3, 0.3)
#: Of every kind of scores, with few and many values against the tokens.
MIXERS = {
    "plain": LOOK,
    "many values": Attention(2, 80, 0.3, 0.3, 0.3, 0.3, scores=Scores(softcap=2.0, sink=True)),
    "rotary": Attention(
        2,
        16,
        0.3,
        0.3,
        0.3,
        0.3,
        rotary=Frequencies.geometric(8, 1e4),
        qk_norm=QueryKeyNorm(Norm.RMS, 1e-5),
        scores=Scores(window=40, slopes=(0.5, 0.25)),
    ),
    "latent": LatentAttention(
        heads=2,
        nope_dim=8,
        rope_dim=8,
        value_dim=16,
        query_rank=12,
        kv_rank=12,
        std=0.3,
        out_std=0.3,
        rotary=Frequencies.geometric(8, 1e4),
    ),
}


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No blocks, triangles or factors by halves."""
    for module in (attention, attention_back, norms):
        monkeypatch.setattr(module, "FEW_TOKENS", N)


def tokens() -> tuple[np.ndarray, np.ndarray]:
    """A covariance, and two Gram matrices of gradients."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(N, 2 * N)), rng.normal(size=(2, N, 2 * N))
    return x @ x.T / (2 * N), g @ g.swapaxes(1, 2) / (2 * N)


def averages(mixer: Attention | LatentAttention) -> list[np.ndarray]:
    cov, grads = tokens()
    with jax.enable_x64(True):
        key = jax.random.key(0)
        mixed = jax.jit(functools.partial(attention.mix, mixer, DIM, True))(cov, key, 2)
        pulled = jax.jit(functools.partial(attention_back.pull, mixer, DIM, True))(
            cov, grads, key, 2
        )
    return [np.asarray(one) for one in (*mixed, *pulled)]


@pytest.mark.parametrize(
    "name",
    [
        "rotary",
        *(pytest.param(name, marks=pytest.mark.slow) for name in MIXERS if name != "rotary"),
    ],
)
def test_blocks_of_rows_give_the_averages_of_whole_matrices(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_back, "DRAWN", 10**6)
    monkeypatch.setattr(attention_back, "MOST_DRAWN", 10**6)
    blocks = averages(MIXERS[name])
    whole(monkeypatch)
    for one, other in zip(blocks, averages(MIXERS[name]), strict=True):
        assert np.allclose(one, other, rtol=1e-8, atol=1e-8 * np.abs(other).max())


def test_fewer_drawn_values_have_the_same_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of queries and keys from 4 columns against 16, over 256 heads each."""
    cov, grads = tokens()
    found = []
    for drawn in (4, 16):
        monkeypatch.setattr(attention_back, "DRAWN", drawn)
        monkeypatch.setattr(attention_back, "MOST_DRAWN", drawn)
        with jax.enable_x64(True):
            pull = jax.jit(functools.partial(attention_back.pull, LOOK, DIM, True))
            keys = jax.random.split(jax.random.key(0), 8)
            runs = [pull(cov, grads, one, 16) for one in keys]
        found.append(np.array([[run.query, run.key, run.value] for run in runs]))
    means, errors = zip(
        *((one.mean(axis=0), one.std(axis=0, ddof=1) / 8**0.5) for one in found), strict=True
    )
    assert np.all(np.hypot(*errors) < 0.03 * means[0])  # a tenth more would be seen
    assert np.all(np.abs(means[0] - means[1]) < 4.5 * np.hypot(*errors))


def slopes(few: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    for module in (attention, attention_back, norms):
        monkeypatch.setattr(module, "FEW_TOKENS", few)
    cov, changes = tokens()
    with jax.enable_x64(True):
        pulled = functools.partial(attention.pull_average, LOOK, DIM, True)
        return np.asarray(jax.jit(pulled)(cov, changes, jax.random.key(0), 2, 1))


def test_triangles_give_the_slopes_of_whole_products(monkeypatch: pytest.MonkeyPatch) -> None:
    triangles, others = slopes(128, monkeypatch), slopes(N, monkeypatch)
    assert np.allclose(triangles, others, rtol=1e-8, atol=1e-8 * np.abs(others).max())
    assert np.allclose(triangles, triangles.swapaxes(-1, -2))
    assert not np.array_equal(triangles[0], others[0])  # they are other programs
    # Of two slopes one has joined.
    assert np.abs(triangles[0]).max() > 0
    assert np.all(triangles[1] == 0)


@pytest.mark.parametrize("activation", [Activation.SILU, Activation.GELU_TANH])
def test_kernels_in_blocks_are_those_of_whole_matrices(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jax.enable_x64(True):
        cov = jnp.asarray(tokens()[0])
        blocks = kernels.kernels(activation, cov), kernels.kernel_slopes(activation, cov)
        single = kernels.kernels(activation, cov.astype(np.float32))
        kernels.kernels.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
        whole(monkeypatch)
        others = kernels.kernels(activation, cov), kernels.kernel_slopes(activation, cov)
    for one, other in zip((*blocks[0], *blocks[1]), (*others[0], *others[1]), strict=True):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-14)
    for one, other in zip(single, others[0], strict=True):
        assert one.dtype == np.float32
        one, other = np.asarray(one, float), np.asarray(other)
        assert np.abs(one - other).max() < 2e-6 * np.abs(other).max()


MOE = Experts(
    expert=FeedForward(24, Activation.SILU, 0.2, 0.2, gated=True),
    count=4,
    active=2,
    router_std=0.2,
)


@pytest.mark.parametrize(
    ("units", "method"),
    [
        (None, Recursion(4, 3)),
        pytest.param(MOE, Recursion(4, 3), marks=pytest.mark.slow),
        pytest.param(None, Chain(3, 2), marks=pytest.mark.slow),
    ],
)
def test_watched_numbers_are_those_of_the_solution(units, method, monkeypatch) -> None:
    """Two gradients at once, two copies at a time, and the first copies alone: the same numbers."""
    stack = pre_norm_stack(DIM, 2, LOOK, FeedForward(48, Activation.GELU, 0.2, 0.2))
    if isinstance(units, Experts):
        layer = (stack.layers[0][0], replace(stack.layers[0][1], branches=(units,)))
        stack = replace(stack, layers=(layer, layer))
    rng = np.random.default_rng(1)
    g = rng.normal(size=(5, 9))
    above, cov, key = g @ g.T, np.eye(5) + 0.3, jax.random.key(3)
    monkeypatch.setattr(watching, "AT_ONCE", 4)
    found = watch(
        SignalPropagation(stack=stack, initial=cov),
        method,
        key=key,
        look=lambda covs: {"corner": covs[:, :, 0, 1]},
        tops={"own": lambda last: np.eye(5), "other": lambda last: above},
    )
    for name, top in (("own", np.eye(5)), ("other", above)):
        problem = SignalPropagation(stack=stack, initial=cov, top_gradient=top)
        solution = solve(problem, method, key=key)
        traces = np.diagonal(solution.grad_grams, axis1=-2, axis2=-1).mean(axis=-1)
        assert np.allclose(found.gradients[name].squares, traces, rtol=1e-9)
        assert np.allclose(found.gradients[name].weights, solution.weight_squares, rtol=1e-9)
    assert np.allclose(found.told["corner"], solution.covs[:, :, 0, 1], rtol=1e-12)
    told = found.summary
    assert np.allclose(told.attention_entropies, solution.attention_entropies, rtol=1e-12)
    assert np.allclose(told.entropies, solution.entropies, rtol=1e-12)
    assert np.allclose(found.cov, solution.covs[:2, -1].mean(axis=0), rtol=1e-12)
    alone = watch(
        SignalPropagation(stack=stack, initial=cov),
        method,
        key=key,
        look=lambda covs: {"corner": covs[:, :, 0, 1]},
        copies=1,
    )
    assert not alone.gradients
    assert np.allclose(alone.mean_squares, found.mean_squares[:1], rtol=1e-12)


def test_a_factor_by_halves_and_its_slopes_are_those_of_lapack() -> None:
    from translimit.core import quick_cholesky

    cov, grads = tokens()
    with jax.enable_x64(True):
        cov, above = jnp.asarray(cov), jnp.asarray(grads[0])

        def told(cholesky, cov):
            return jnp.sum(cholesky(cov) * above)

        assert np.allclose(quick_cholesky(cov), np.linalg.cholesky(cov), rtol=1e-11, atol=1e-13)
        own = jax.grad(functools.partial(told, quick_cholesky))(cov)
        other = jax.grad(functools.partial(told, jnp.linalg.cholesky))(cov)
        assert np.allclose(own, (other + other.T) / 2, rtol=1e-9, atol=1e-10)
        assert np.isnan(quick_cholesky(-cov)).any()


def _axes_of_factorisations(jaxpr: Any) -> list[int]:
    """How many axes what is factorised or solved with has, in a program and in its parts."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in {"cholesky", "triangular_solve"}:
            found.append(equation.invars[0].aval.ndim)
        parts = jax.tree.leaves(list(equation.params.values()))  # a jaxpr is a leaf
        for part in (getattr(one, "jaxpr", one) for one in parts):
            found += _axes_of_factorisations(part) if hasattr(part, "eqns") else []
    return found


@pytest.mark.parametrize("n", [5, N])
def test_no_batch_of_factorisations_waits_for_threads(n: int) -> None:
    """In jaxlib 0.10 one waits for threads of a pool in which all may be waiting for others."""
    cov = np.eye(n) + 0.3
    grads = np.stack([np.eye(n), np.ones((n, n)), cov])
    pull = functools.partial(attention_back.pull, LOOK, DIM, True)
    with jax.enable_x64(True):
        program = jax.make_jaxpr(pull)(cov, grads, jax.random.key(0), 2)
    axes = _axes_of_factorisations(program.jaxpr)
    assert len(axes) >= 2
    assert set(axes) == {2}
