"""Paths of the covariance SDE (docs/theory/shaped.md) against exact laws and two tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.support import shaped_numpy
from tests.core.test_triangular import longdouble_log_det

from translimit import solve
from translimit.core import (
    ArgumentError,
    NoSuchLimitError,
    Outcome,
    PrecisionError,
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
    aligned_probability,
    covariance_drift,
    diffusion,
    explosion_probability,
    linear_log_det_law,
    linear_norm_law,
    linear_second_moments,
    linear_variance,
    two_token_expectation,
)

LINEAR = Block(gamma=0.6, tau0=np.inf, lam=0.8)
FULL = Block(gamma=0.5, tau0=2.0, mlp=ShapedMLP(gamma=0.5, c_plus=0.0, c_minus=-1.0))
THREE = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.0]])


def ends(block, initial, t1, method, seed=0, **problem):
    sde = CovarianceSDE(block=block, initial=initial, t1=t1, **problem)
    return solve(sde, method, key=jax.random.key(seed), save=[t1])


def z(samples: np.ndarray, expected: float) -> float:
    """Distance in standard errors."""
    return (samples.mean() - expected) / (samples.std(ddof=1) / len(samples) ** 0.5)


# --- the linear part, whose laws are exact ---------------------------------------------------


@pytest.fixture(scope="module")
def linear_pair():
    method = StructurePreserving(paths=20_000, max_step=0.01)
    return ends(LINEAR, [[1.0, 0.3], [0.3, 1.2]], 0.8, method)


def test_second_moments_of_the_linear_part(linear_pair) -> None:
    expected = linear_second_moments(LINEAR, [[1.0, 0.3], [0.3, 1.2]], 0.8)
    np.testing.assert_allclose(expected, [0.95235, 1.64450, 2.57189], rtol=1e-5)
    cov = linear_pair.cov[:, 0]
    measured = [
        np.mean(cov[:, 0, 1] ** 2),
        np.mean(cov[:, 0, 0] * cov[:, 1, 1]),
        np.mean(cov[:, 0, 0] ** 2),
    ]
    # Bounds for 20,000 paths: log-normal tails, 5 % standard error for the third.
    for value, exact, bound in zip(measured, expected, (0.12, 0.12, 0.20), strict=True):
        assert abs(value / exact - 1) < bound
    assert abs(z(cov[:, 0, 0], 1.0)) < 4.5
    assert abs(z(cov[:, 0, 1], 0.3)) < 4.5


def test_arcsine_of_the_correlation_is_a_martingale(linear_pair) -> None:
    arcsine = np.arcsin(linear_pair.correlation[:, 0, 0, 1])
    assert abs(z(arcsine, np.arcsin(0.3 / 1.2**0.5))) < 4.5
    assert abs(arcsine.mean() - 0.27741) < 0.02


def test_norms_are_log_normal(linear_pair) -> None:
    from scipy.stats import kstest

    for token, norm in enumerate([1.0, 1.2]):
        mean, variance = linear_norm_law(LINEAR, norm, 0.8)
        sample = np.log(linear_pair.cov[:, 0, token, token])
        # Weak order one: the step of 0.01 shifts the law by less than half of a standard error.
        assert kstest(sample, "norm", (mean, variance**0.5)).statistic < 1.63 / 20_000**0.5 + 0.01


def test_log_det_of_three_tokens_and_what_euler_makes_of_it() -> None:
    mean, variance = linear_log_det_law(LINEAR, np.eye(3), 0.8)
    np.testing.assert_allclose([mean, variance], [-2.83392, 2.83392], rtol=1e-5)
    structured = ends(LINEAR, np.eye(3), 0.8, StructurePreserving(paths=20_000, max_step=0.01))
    log_det = structured.log_det[:, 0]
    assert abs(log_det.mean() - mean) < 0.05
    assert abs(log_det.var() / variance - 1) < 0.05
    np.testing.assert_allclose(log_det, np.linalg.slogdet(structured.cov[:, 0])[1], atol=1e-6)
    # At 20 steps Euler-Maruyama is off by -0.49 where this scheme is off by -0.05
    # (docs/theory/shaped.md, The solver).
    coarse = ends(LINEAR, np.eye(3), 0.8, StructurePreserving(paths=4000, max_step=0.04)).log_det
    euler = ends(LINEAR, np.eye(3), 0.8, EulerMaruyama(paths=4000, max_step=0.04)).log_det
    assert abs(coarse.mean() - mean) < 0.15
    assert np.mean(euler) < mean - 0.3


def test_long_horizons_keep_their_log_det() -> None:
    # 800 steps to T = 20; the scheme's exact mean is a sum of digammas, its limit -70.85.
    from scipy.special import digamma

    solution = ends(LINEAR, np.eye(3), 20.0, StructurePreserving(paths=500, max_step=0.025))
    degrees = 1 / (float(linear_variance(LINEAR)) * 0.025)
    step = sum(digamma((degrees - i) / 2) + np.log(2 / degrees) for i in range(3))
    assert abs(800 * step - (-72.01)) < 0.01
    log_det = solution.log_det[:, 0]
    assert np.isfinite(log_det).all()
    assert abs(z(log_det, 800 * step)) < 4.5
    # The covariance itself has lost it: eigenvalues 1e-31 apart.
    assert not np.allclose(np.linalg.slogdet(solution.cov[:, 0])[1], log_det, atol=1.0)


def test_absorption_follows_the_arcsine_law() -> None:
    method = StructurePreserving(paths=2000, max_step=0.05)
    rho = ends(LINEAR, [[1.0, 0.5], [0.5, 1.0]], 40.0, method).correlation[:, 0, 0, 1]
    assert (np.abs(rho) > 0.95).mean() > 0.98
    p = aligned_probability(0.5)
    assert p == pytest.approx(2 / 3)
    assert abs((rho > 0).mean() - p) < 4.5 * (p * (1 - p) / 2000) ** 0.5


def test_kappa_multiplies_the_covariance_at_every_time() -> None:
    # Without attention noise and with a normalised MLP the step is homogeneous of degree one, so
    # that kappa of both parts scales each path: V e^{(kappa + kappa') t}, on the same noise.
    method = StructurePreserving(paths=3, max_step=0.025)

    def run(kappa: float, other: float):
        mlp = ShapedMLP(gamma=0.5, c_plus=0.0, c_minus=-1.0, kappa=other)
        block = Block(gamma=0.6, tau0=np.inf, kappa=kappa, mlp=mlp)
        sde = CovarianceSDE(block=block, initial=THREE, t1=0.5)
        return solve(sde, method, key=jax.random.key(0), save=[0.2, 0.5])

    plain, grown = run(0.0, 0.0), run(0.7, -0.2)
    growth = 0.5 * np.array([0.2, 0.5])
    np.testing.assert_allclose(
        grown.cov, plain.cov * np.exp(growth)[:, None, None], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(grown.log_det - plain.log_det, [3 * growth] * 3, rtol=1e-9)


# --- one step against the coefficients --------------------------------------------------------


MANY = Block(gamma=0.6, tau0=0.7, heads=3, projection=True, kappa=0.5)
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


# --- two tokens: closed form, backward equation, paths -----------------------------------------


@pytest.mark.parametrize(
    ("square", "tau0", "heads", "projection", "expected"),
    [
        (0.125, 1.0, 1, False, 0.2274450889),
        (0.25, 1.0, 1, False, 0.1662579712),
        (0.25, 0.5, 1, False, 0.3125056189),
        (0.4, 0.5, 1, False, 0.1390592321),
        (0.5, 0.5, 1, False, 0.0),
        (0.25, 0.5, 2, False, 0.4405956558),
        (0.25, 0.5, 2, True, 0.4164171884),
    ],
)
def test_probability_of_explosion(square, tau0, heads, projection, expected) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads, projection=projection)
    assert explosion_probability(block, 2.0) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    # The backward equation at a late time comes near it, from below.
    late = explosion_probability(block, 2.0, 60.0)
    assert expected - 2e-3 < late <= expected + 1e-6


@pytest.mark.parametrize(
    ("square", "tau0", "heads", "expected"),
    [
        (0.125, 1.0, 1, 0.0012),
        (0.25, 1.0, 1, 0.0135),
        (0.25, 0.5, 1, 0.0855),
        (0.25, 0.25, 1, 0.291),
        (0.4, 0.5, 1, 0.0541),
        (0.25, 0.5, 2, 0.1343),
    ],
)
def test_probability_of_explosion_before_a_time(square, tau0, heads, expected) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads)
    assert abs(explosion_probability(block, 2.0, 1.0) - expected) < 0.0003


BOUNDED = [
    (lambda d: 1 / (1 + d), 0.0),
    (lambda d: np.tanh(np.log(np.maximum(d, 1e-300))), 1.0),
    (lambda d: (d > 3).astype(float), 1.0),
]


@pytest.mark.parametrize(
    ("tau0", "expected"), [(0.5, (0.4765, 0.0413, 0.1692)), (1.0, (0.4891, 0.0262, 0.1388))]
)
def test_bounded_functionals_of_two_tokens(tau0: float, expected: tuple[float, ...]) -> None:
    block = Block(gamma=0.5, tau0=tau0)
    for (functional, end), value, bound in zip(
        BOUNDED, expected, (0.0005, 0.0005, 0.001), strict=True
    ):
        got = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end)
        assert abs(got - value) < bound
        finer = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end, nodes=12_000)
        assert abs(got - finer) < bound / 4


def test_paths_follow_the_two_token_equation() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    paths = 30_000
    method = StructurePreserving(paths=paths, max_step=1 / 40, bounded=True)
    cov = ends(block, [[1.0, 0.2], [0.2, 1.0]], 1.0, method).cov[:, 0]
    distance = cov[:, 0, 0] + cov[:, 1, 1] - 2 * cov[:, 0, 1]
    distance = np.where(np.isnan(distance), np.inf, distance)
    for (functional, end), bound in zip(BOUNDED, (0.006, 0.012, 0.012), strict=True):
        sample = np.where(
            np.isinf(distance), end, functional(np.where(np.isinf(distance), 1, distance))
        )
        exact = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end)
        # The bounds hold for 1e5 paths; the sampling error of fewer is added.
        extra = 4.5 * sample.std() * (paths**-0.5 - 1e5**-0.5)
        assert abs(sample.mean() - exact) < bound + extra


def explosions(block: Block, paths: int, t1: float = 1.0, tolerance: float = 0.1):
    method = StructurePreserving(paths=paths, max_step=0.02, adaptive=tolerance)
    return ends(block, np.eye(2), t1, method).blow_up_probability()


def test_adaptive_paths_explode_as_often_as_they_must() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    estimate = explosions(block, 3000, tolerance=0.15)
    assert (
        abs(estimate.value - explosion_probability(block, 2.0, 1.0)) < 4.5 * estimate.stderr + 0.008
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("square", "tau0", "heads"), [(0.25, 0.5, 1), (0.4, 0.5, 1), (0.25, 0.5, 2)]
)
def test_explosion_before_time_one_at_full_size(square, tau0, heads) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads)
    estimate = explosions(block, 20_000)
    exact = explosion_probability(block, 2.0, 1.0)
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr + 0.004


@pytest.mark.slow
def test_long_time_explosion_follows_the_closed_form() -> None:
    # The diffusion of the distance itself, far beyond the time of most explosions.
    block = Block(gamma=0.5, tau0=0.5)
    estimate = explosions(block, 8000, t1=30.0, tolerance=0.05)
    exact = explosion_probability(block, 2.0)
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr


def test_blow_up_is_a_result_with_its_time() -> None:
    block = Block(gamma=0.5, tau0=0.25)
    sde = CovarianceSDE(block=block, initial=np.eye(2), t1=1.0)
    solution = solve(
        sde,
        StructurePreserving(paths=200, adaptive=0.2),
        key=jax.random.key(1),
        save=[0.0, 0.5, 1.0],
    )
    assert solution.outcome == Outcome.blow_up
    time = solution.blow_up_time
    assert 0 < np.isfinite(time).sum() < 200
    for index, t in enumerate([0.0, 0.5, 1.0]):
        np.testing.assert_array_equal(np.isnan(solution.cov[:, index, 0, 0]), time <= t)


# --- three tokens, full block -------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_block():
    return ends(FULL, THREE, 0.5, StructurePreserving(paths=20_000, max_step=0.01, bounded=True))


def test_means_of_the_full_block(full_block) -> None:
    rho = full_block.correlation[:, 0]
    log_norm = np.log(full_block.cov[:, 0, 0, 0])
    measured = [rho[:, 0, 1].mean(), rho[:, 1, 2].mean(), log_norm.mean()]
    np.testing.assert_allclose(measured, [0.446, -0.232, -0.461], atol=0.02)


def test_quantiles_of_the_full_block(full_block) -> None:
    rho = full_block.correlation[:, 0]
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    first = [-0.281, 0.167, 0.585, 0.823, 0.923]
    second = [-0.843, -0.678, -0.329, 0.159, 0.554]
    np.testing.assert_allclose(np.quantile(rho[:, 0, 1], levels), first, atol=0.03)
    np.testing.assert_allclose(np.quantile(rho[:, 1, 2], levels), second, atol=0.03)


def stopped_fraction(paths: int, tolerance: float):
    block = Block(gamma=0.5, tau0=1.0, mlp=FULL.mlp)
    method = StructurePreserving(paths=paths, max_step=0.02, adaptive=tolerance)
    return ends(block, THREE, 1.0, method, stop_trace=30.0)


def test_stopped_process() -> None:
    solution = stopped_fraction(4000, 0.2)
    estimate = solution.stopped_probability()
    assert abs(estimate.value - 0.061) < 0.008 + 4.5 * estimate.stderr
    trace = np.trace(solution.cov[:, 0], axis1=-2, axis2=-1)
    np.testing.assert_array_equal(trace > 30.0, np.isfinite(solution.stopping_time))
    assert solution.outcome == Outcome.successful


@pytest.mark.slow
def test_stopped_process_at_full_size() -> None:
    assert abs(stopped_fraction(20_000, 0.1).stopped_probability().value - 0.061) < 0.008


# --- how a step is computed ---------------------------------------------------------------------


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
    growth = np.exp(block.kappa * h)
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
    assert abs(log_det - exact - tokens * block.kappa * h) < 1e-4


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


# --- structure, reproducibility, refusals --------------------------------------------------------


def test_equal_tokens_stay_equal_and_singular_starts_are_ordinary() -> None:
    cov = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 1.0]])
    for block in (Block(gamma=0.5, tau0=1.0, heads=2), FULL):
        end = ends(block, cov, 0.5, StructurePreserving(paths=50)).cov[:, 0]
        assert np.isfinite(end).all()
        difference = end[:, 0, 0] + end[:, 1, 1] - 2 * end[:, 0, 1]
        assert np.abs(difference).max() < 1e-10 * end.max()
        assert np.linalg.eigvalsh(end).min() > -1e-12 * end.max()


@pytest.mark.parametrize("tokens", [1, 20])
def test_other_sizes(tokens: int) -> None:
    block = Block(gamma=0.5, tau0=4.0, mlp=ShapedMLP(gamma=0.3))
    end = ends(block, np.eye(tokens), 0.05, StructurePreserving(paths=4))
    assert end.cov.shape == (4, 1, tokens, tokens)
    assert np.isfinite(end.log_det).all()
    np.testing.assert_allclose(np.linalg.slogdet(end.cov[:, 0])[1], end.log_det[:, 0], atol=1e-8)


def test_a_path_does_not_depend_on_how_many_others_run() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    few = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5, max_step=0.02))
    many = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5000, max_step=0.02))
    np.testing.assert_allclose(few.cov, many.cov[:5], rtol=1e-12)
    again = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5, max_step=0.02))
    np.testing.assert_array_equal(few.cov, again.cov)


def test_precision_under_somebody_elses_jit() -> None:
    block, method = Block(gamma=0.5, tau0=1.0), StructurePreserving(paths=3)

    def end(initial):
        return ends(block, initial, 0.1, method).cov

    with pytest.raises(PrecisionError):
        jax.jit(end)(np.eye(2))
    with jax.enable_x64(True):
        traced = jax.jit(end)(np.eye(2))
        inside = jax.jit(lambda: end(np.eye(2)))()
    for cov in (traced, inside):
        np.testing.assert_allclose(cov, end(np.eye(2)), rtol=1e-12)


def test_refusals() -> None:
    sde = CovarianceSDE(block=Block(gamma=0.5, tau0=1.0), initial=np.eye(4), t1=1.0)
    bound = 1 / (4 * linear_variance(sde.block) * 4)
    with pytest.raises(ArgumentError, match=f"largest admissible step is {bound:.4g}"):
        solve(sde, StructurePreserving(max_step=0.5), key=jax.random.key(0))
    with pytest.raises(ArgumentError, match="adaptive: is given with bounded"):
        StructurePreserving(adaptive=0.1, bounded=True)
    with pytest.raises(ArgumentError, match="paths: got 0"):
        StructurePreserving(paths=0)
    with pytest.raises(ArgumentError, match="t1: got -1"):
        CovarianceSDE(block=sde.block, initial=np.eye(2), t1=-1.0)
    with pytest.raises(ArgumentError, match="stop_trace: got 1"):
        CovarianceSDE(block=sde.block, initial=np.eye(2), t1=1.0, stop_trace=1.0)
    with pytest.raises(NoSuchLimitError, match="a diffusion of its own"):
        explosion_probability(FULL, 1.0)
    with pytest.raises(ArgumentError, match="distance: got -1"):
        explosion_probability(sde.block, -1.0)
    with pytest.raises(NoSuchLimitError, match="tau0=inf"):
        linear_norm_law(sde.block, 1.0, 1.0)
    with pytest.raises(ArgumentError, match="correlation: got 2"):
        aligned_probability(2.0)


def test_labelled_arrays_and_figure(full_block) -> None:
    solution = solve(
        CovarianceSDE(block=FULL, initial=THREE, t1=0.2),
        StructurePreserving(paths=20),
        key=jax.random.key(0),
        save=[0.0, 0.1, 0.2],
    )
    data = solution.to_xarray()
    assert data["cov"].dims == ("sample", "time", "token", "token2")
    assert solution.plot().get_xlabel() == "depth over width $t$"


@pytest.mark.parametrize("heads", [1, 16, 1000])
@pytest.mark.parametrize("distance", [1e-300, 1e-9, 1e-3, 2.0, 1e9, 1e200])
def test_explosion_is_a_probability_or_a_refusal_by_name(heads, distance):
    """Between the ranges of the grid and of its scale function, and beyond them."""
    block = Block(gamma=0.5, tau0=0.5, heads=heads)
    assert 0.0 <= explosion_probability(block, distance) <= 1.0
    if heads < 1000 and 1e-6 < distance < 1e10:
        assert 0.0 <= explosion_probability(block, distance, 1.0) <= 1.0
        return
    with pytest.raises(ArgumentError) as caught:
        explosion_probability(block, distance, 1.0)
    assert caught.value.argument == ("distance" if heads < 1000 else caught.value.argument)
    assert caught.value.argument in ("distance", "block")
