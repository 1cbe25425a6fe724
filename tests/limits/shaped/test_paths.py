"""How a step of the covariance SDE is computed: the formula, thin covariances, threads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.support import shaped_numpy
from tests.core.test_triangular import longdouble_log_det
from tests.limits.shaped.cases import FULL, ends, z

from translimit import solve
from translimit.core import (
    lower_factor,
    normals,
    try_cholesky,
    wishart_factor,
)
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    EulerMaruyama,
    ShapedMLP,
    StructurePreserving,
    covariance_drift,
    diffusion,
    linear_variance,
)

MANY = Block(gamma=0.6, tau0=0.7, heads=3, projection=True, growth_rate=0.5)
CAUSAL = Block(gamma=0.6, tau0=0.7, heads=2, causal=True)
LOUD = ShapedMLP(gamma=0.6, c_plus=1.0, c_minus=-1.0, normalised=False)


@pytest.mark.parametrize(
    ("kind", "block"),
    [
        ("taylor", MANY),
        ("taylor", CAUSAL),
        ("taylor", FULL),
        ("taylor", LOUD),
        ("softmax", CAUSAL),
        ("euler", MANY),
    ],
)
def test_one_step_has_the_mean_and_covariance_of_the_equation(kind: str, block) -> None:
    cov = np.array([[1.0, 0.5, 0.1], [0.5, 1.2, -0.3], [0.1, -0.3, 0.8]])
    h, paths = 1e-4, 40_000
    method = {
        "taylor": StructurePreserving(paths=paths, max_step=h),
        "softmax": StructurePreserving(paths=paths, max_step=h, bounded=True),
        "euler": EulerMaruyama(paths=paths, max_step=h),
    }[kind]
    change = (ends(block, cov, h, method).cov[:, 0] - cov) / h**0.5
    upper = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    flat = np.stack([change[:, i, j] for i, j in upper], axis=1)
    exact = diffusion(block, cov)
    for p, (a, b) in enumerate(upper):
        # The mean moves by sqrt(h) b, below the noise: that nothing larger moves it.
        assert abs(z(flat[:, p], h**0.5 * covariance_drift(block, cov)[a, b])) < 4.5
        for q, (c, d) in enumerate(upper[p:], start=p):
            product = flat[:, p] * flat[:, q]
            # The bias of a step is of relative order h.
            assert abs(z(product, exact[a, b, c, d])) < 4.5


def test_one_large_ensemble_sees_the_drift() -> None:
    # Attention alone moves E V; the linear noise is a martingale. Weak order: compare at two steps.
    block = Block(gamma=0.9, lam=0.19**0.5, tau0=0.15)
    cov = 0.25 * np.array([[1.0, 0.5, 0.1], [0.5, 1.2, -0.3], [0.1, -0.3, 0.8]])
    t1, paths = 0.02, 200_000
    end = ends(block, cov, t1, StructurePreserving(paths=paths, max_step=t1)).cov[:, 0]
    expected = t1 * covariance_drift(block, cov)
    for a, b in [(0, 0), (1, 1), (0, 2)]:
        error = end[:, a, b].std() / paths**0.5
        assert abs(end[:, a, b].mean() - cov[a, b] - expected[a, b]) < 4.5 * error + 0.5 * t1**2
    # A factor of 2 in the drift would be seen.
    assert expected[1, 1] > 9 * end[:, 1, 1].std() / paths**0.5 + 0.5 * t1**2


def covariance(kind: str, tokens: int) -> np.ndarray:
    """Ordinary; two tokens in one direction up to 1e-9, of different norms; repeated tokens."""
    rows = np.random.default_rng(tokens).normal(size=(tokens, tokens + 5)) / tokens**0.5
    if kind == "thin":
        rows[-1] = 1.5 * rows[0] + 1e-9 * rows[-1]
    if kind == "repeated":
        rows[3] = rows[-1] = rows[0]
    return rows


def advance(method, block, state, h, key):
    """One step with the noise of one key."""
    return method.advance(block, state, h, method.noise(block, state, h, key))


def after_attention(block: Block, factor: np.ndarray, h: float, normal: np.ndarray) -> np.ndarray:
    """Parts of V^ from the index form of E[A_1 V A_1^T] and E[A_2], in 64 bits of mantissa."""
    long, m = np.longdouble, len(factor)
    factor, normal = factor.astype(long), normal.astype(long)
    cov = factor @ factor.T
    centring = np.eye(m, dtype=long) - long(1) / m
    own = np.diagonal(centring @ cov @ centring)
    tau0, gamma = long(block.tau0), long(block.gamma)
    first = factor @ normal @ factor.T @ centring / (m * tau0)
    second = np.outer(np.diagonal(cov), own - own.mean()) / (2 * m * tau0**2)
    attention = np.eye(m, dtype=long) + np.sqrt(long(h) / block.heads) * first + h * second
    spread = np.sum((centring @ cov @ centring) ** 2) / (m * tau0) ** 2
    skip = long(block.lam) ** 2 + gamma**2 * h * (1 - long(1) / block.heads) * spread
    return np.concatenate([np.sqrt(skip) * factor, gamma * attention @ factor], axis=1)


@pytest.mark.parametrize("block", [Block(gamma=0.5, tau0=0.4), MANY], ids=["one head", "heads"])
@pytest.mark.parametrize("kind", ["ordinary", "thin", "repeated"])
@pytest.mark.parametrize("tokens", [3, 20, 70])
def test_a_step_is_the_formula_however_thin_the_covariance(kind, tokens, block) -> None:
    if kind == "repeated" and tokens == 3:
        tokens = 5
    h, key = 1 / (8 * tokens), jax.random.key(1)
    with jax.enable_x64(True):
        rows = covariance(kind, tokens)
        factor = lower_factor(jnp.asarray(rows))
        if kind == "repeated":
            pivots = np.diagonal(factor) > 1e-8
            factor = jnp.where(jnp.asarray(pivots)[None, :], factor, 0.0)
        step = jax.jit(lambda f: advance(StructurePreserving(), block, f, jnp.asarray(h), key))
        end = np.asarray(step(factor))
        mixing, wishart = jax.random.split(key)
        normal = np.asarray(normals(mixing, factor.shape), dtype=float)
        degrees = 1 / (float(linear_variance(block)) * h)
        root = np.asarray(wishart_factor(wishart, degrees, tokens)) / degrees**0.5
    parts = after_attention(block, np.asarray(factor), h, normal)
    growth = np.exp(block.growth_rate * h)
    moved = lower_factor_of(parts) @ root
    expected = growth * moved @ moved.T
    if kind == "repeated":
        # A singular matrix has many triangular factors, and only the law is that of any.
        assert np.abs(end[0] - end[-1]).max() < 1e-12 * np.abs(end).max()
        assert np.isfinite(end).all()
        return
    # The noise of attention is float32: this is its rounding.
    np.testing.assert_allclose(end @ end.T, expected, atol=2e-6 * np.abs(expected).max())
    exact = longdouble_log_det(parts) + 2 * np.sum(np.log(np.diagonal(root)))
    log_det = 2 * np.sum(np.log(np.abs(np.diagonal(end))))
    assert abs(log_det - exact - tokens * block.growth_rate * h) < 1e-4


def lower_factor_of(parts: np.ndarray) -> np.ndarray:
    """The lower-triangular factor by NumPy's QR decomposition; its diagonal is not negative."""
    upper = np.linalg.qr(parts.astype(float).T, mode="r")
    return np.transpose(upper * np.where(np.diagonal(upper) < 0, -1, 1)[:, None])


@pytest.mark.parametrize("tokens", [20, 70])
def test_cholesky_and_qr_make_the_same_step(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kernel and noise are the same numbers, so that only the rounding of float64 is left.
    block, h = Block(gamma=0.5, tau0=0.4), jnp.asarray(1 / (8 * tokens))
    with jax.enable_x64(True):
        factor = lower_factor(jnp.asarray(covariance("ordinary", tokens)))

        def step() -> np.ndarray:
            method = StructurePreserving()
            return np.asarray(
                jax.jit(lambda f: advance(method, block, f, h, jax.random.key(1)))(factor)
            )

        quick = step()
        module = "translimit.limits.shaped.mixing.try_cholesky"
        monkeypatch.setattr(module, lambda m: (jnp.asarray(False), try_cholesky(m)[1]))
        careful = step()
    np.testing.assert_allclose(quick, careful, rtol=1e-10, atol=1e-12)
    assert not np.array_equal(quick, careful)


@pytest.mark.parametrize("block", [CAUSAL, FULL], ids=["causal", "mlp"])
def test_one_thin_path_does_not_move_the_others(block) -> None:
    method, h = StructurePreserving(), jnp.asarray(0.002)
    with jax.enable_x64(True):
        states = jnp.stack(
            [
                lower_factor(jnp.asarray(covariance(kind, 20)))
                for kind in ("ordinary", "thin", "repeated")
            ]
        )
        keys = jax.random.split(jax.random.key(2), 3)

        def step(state: jax.Array, key: jax.Array) -> jax.Array:
            return advance(method, block, state, h, key)

        together = np.asarray(jax.jit(jax.vmap(step))(states, keys))
        alone = [np.asarray(jax.jit(step)(*each)) for each in zip(states, keys, strict=True)]
    for one, many in zip(alone, together, strict=True):
        assert np.isfinite(many).all()
        # Each program rounds the float32 noise of attention in its own way.
        np.testing.assert_allclose(np.sum(one**2, 1), np.sum(many**2, 1), rtol=1e-4)
    np.testing.assert_allclose(alone[0], together[0], rtol=0, atol=1e-8)
    if not getattr(block, "causal", False):
        # A singular matrix has many factors; what repeats is what is determined.
        for end in (alone[2], together[2]):
            np.testing.assert_allclose(end[[3, -1]], end[[0, 0]], rtol=0, atol=1e-8)


def test_the_plain_numpy_step_has_the_same_law() -> None:
    # The peer of benchmarks/shaped.py: the same equation, code and random numbers of its own.
    block, tokens, h, steps, paths = Block(gamma=0.5, tau0=0.4), 6, 0.02, 5, 20_000
    cov = 0.7 * np.eye(tokens) + 0.3
    ours = ends(block, cov, steps * h, StructurePreserving(paths=paths, max_step=h), seed=5).cov[
        :, 0
    ]
    rng = np.random.default_rng(6)
    factor = np.broadcast_to(np.linalg.cholesky(cov), (paths, tokens, tokens)).copy()
    for _ in range(steps):
        factor = shaped_numpy.step(rng, factor, h, block.gamma, block.tau0)
    theirs = factor @ factor.swapaxes(-1, -2)
    statistics = {
        "log det": lambda v: np.linalg.slogdet(v)[1],
        "log trace": lambda v: np.log(np.trace(v, axis1=-2, axis2=-1)),
        "correlation": lambda v: v[:, 0, 1] / (v[:, 0, 0] * v[:, 1, 1]) ** 0.5,
    }
    for statistic in statistics.values():
        one, other = statistic(ours), statistic(theirs)
        for power in (1, 2):
            a, b = ((x - other.mean()) ** power for x in (one, other))
            assert abs(a.mean() - b.mean()) < 4.5 * ((a.var() + b.var()) / paths) ** 0.5


def test_paths_on_several_threads_are_those_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    block, seen = Block(gamma=0.5, tau0=0.5), []
    method = StructurePreserving(paths=40, max_step=0.02)
    sde = CovarianceSDE(block=block, initial=np.eye(12), t1=0.1)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr("translimit.limits.shaped.paths.available_threads", lambda n=threads: n)
        results.append(solve(sde, method, key=jax.random.key(0), progress=seen.append).cov)
    np.testing.assert_array_equal(*results)
    assert seen[-1] == pytest.approx(1.0)
