"""Low temperature, two tokens, the circle: acceptance rows 11 to 14, 17, 18, 21, 22."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, hyp2f1

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Outcome
from translimit.describe import GaussianHeads, WideHeads
from translimit.limits.homogenized import ArtanhEuler, OverlapSDE, SlowOverlap, SphereEuler
from translimit.limits.homogenized.circle import density_flow
from translimit.limits.homogenized.low_temperature import (
    default_kappa,
    hitting_probability,
    marginal_square,
    mean_cosine,
    output_cosine,
    stationary_square,
)
from translimit.limits.homogenized.simplex import mean_overlap_variation
from translimit.limits.homogenized.two_tokens import (
    antipodal_exponent,
    antipodal_probability,
    collapse_exponent,
    critical_beta,
    fixed_scores,
    pair_expectation,
    random_antipodal_exponent,
)
from translimit.models import RandomHeadChain, SharpHeadChain

QUARTERS = [0.25, 0.5, 0.75, 1.0]


def test_acceptance_11_mean_cosines():
    assert mean_cosine(0.6, 16) == pytest.approx(0.5876205, abs=1e-6)
    assert output_cosine(0.6, 16) == pytest.approx(0.57669, abs=5e-4)
    # One layer of many rows is the identity, and both expansions have their coefficients.
    both = [2 / q * np.exp(2 * (gammaln((q + 1) / 2) - gammaln(q / 2))) * 0.6 for q in (18, 24)]
    for q, factor in zip((18, 24), both, strict=True):  # a series and scipy's function
        assert mean_cosine(0.6, q) == pytest.approx(factor * hyp2f1(0.5, 0.5, q / 2 + 1, 0.36))
    assert mean_cosine(0.6, 4000) == pytest.approx(0.6 - 0.6 * 0.64 / 8000, abs=1e-7)
    expansion = 0.6 - (1 / 800 + 1 / 400) * 0.6 * 0.64
    assert output_cosine(0.6, 400, 200) == pytest.approx(expansion, abs=2e-5)
    assert output_cosine(1.0, 4) == 1.0
    assert output_cosine(0.0, 4) == pytest.approx(0.0, abs=1e-12)


def test_the_kernel_against_sampled_heads():
    """100 000 heads, dim 5 and head_dim 3: 4.5 standard errors."""
    law = GaussianHeads(dim=5, beta=1.0, sigma_a=1.0, head_dim=3)
    x, y = np.eye(5)[0], 0.6 * np.eye(5)[0] + 0.8 * np.eye(5)[1]

    def cosine(key):
        _, A = law.sample(key)
        a, b = A @ x, A @ y
        return a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)

    values = np.asarray(jax.jit(jax.vmap(cosine))(jax.random.split(jax.random.key(0), 100_000)))
    exact = output_cosine(0.6, 5, 3)
    assert abs(values.mean() - exact) < 4.5 * values.std() / np.sqrt(100_000)


def test_acceptance_12_the_marginal_law():
    np.testing.assert_allclose(
        marginal_square(QUARTERS), (0.27368, 0.39429, 0.46829, 0.51998), atol=1e-5
    )


@pytest.mark.parametrize(
    ("kappa", "noted"), [(1.0, (0.309, 0.467, 0.573, 0.648)), (1.5, (None, None, None, 0.583))]
)
def test_acceptance_12b_other_coefficients(kappa, noted):
    """40 000 paths, standard error .002; the note's +-.004 and 4.5 of ours."""
    problem = SlowOverlap(initial=0.0, t1=1.0, kappa=kappa)
    solution = solve(problem, ArtanhEuler(paths=40_000), key=jax.random.key(0), save=QUARTERS)
    for index, value in enumerate(noted):
        if value is not None:
            found = solution.mean_square(index)
            assert abs(found.value - value) < 0.004 + 4.5 * found.stderr
    assert "infinitely many tokens" in solution.warnings[0]


def test_the_default_coefficient_follows_the_exact_law():
    law = GaussianHeads(dim=64, beta=1.0, sigma_a=1.0)
    problem = SlowOverlap(initial=0.3, t1=1.0, law=law)
    assert float(problem.kappa) == default_kappa(64) == 2.0
    solution = solve(problem, ArtanhEuler(paths=20_000), key=jax.random.key(1), save=[0.5, 1.0])
    for index, t in enumerate((0.5, 1.0)):
        found = solution.mean_square(index)
        assert abs(found.value - marginal_square(t, 0.3)) < 4.5 * found.stderr
    assert default_kappa(64, 64 * 32) == pytest.approx(1.5, abs=0.02)
    assert solution.plot().lines
    assert solution.to_xarray().attrs["kappa"] == 2.0


def low_temperature_chain(dim, head_dim, step, replicas, key):
    """The chain with m = A x / |A x|, H = 1, of two tokens from orthogonal: E u^2 at t = 1."""
    law = GaussianHeads(dim=dim, beta=1.0, sigma_a=1.0, head_dim=head_dim)

    def layer(pair, number_key):
        _, A = law.sample(jax.random.fold_in(number_key, 0), jnp.float32)
        m = pair @ A.T
        m = m / jnp.linalg.norm(m, axis=1, keepdims=True)
        # V m given m is Gaussian with covariance m m^T: no dim^2 normals for V.
        noise = jax.random.normal(jax.random.fold_in(number_key, 1), (2, dim))
        root = jnp.linalg.cholesky(m @ m.T + 1e-7 * jnp.eye(2))
        moved = pair + jnp.sqrt(step / dim) * root @ noise
        return moved / jnp.linalg.norm(moved, axis=1, keepdims=True), None

    def replica(one):
        keys = jax.vmap(lambda i: jax.random.fold_in(one, i))(jnp.arange(round(dim / step)))
        pair, _ = jax.lax.scan(layer, jnp.eye(2, dim), keys)
        return (pair[0] @ pair[1]) ** 2

    keys = jax.random.split(key, replicas)
    return np.asarray(jax.jit(lambda k: jax.lax.map(replica, k, batch_size=50))(keys))


@pytest.fixture(scope="module")
def explicit_squares() -> np.ndarray:
    """u^2 at t = 1 of 800 chains with their matrices, d = d_k = 16."""
    return low_temperature_chain(16, 16, 0.1, 800, jax.random.key(12))


def test_acceptance_12c_finite_dimension_twin(explicit_squares):
    """d = d_k = 16, 800 replicas (s.e. .013): far from kappa = 1 (.648), near kappa = 2 (.520)."""
    values = explicit_squares
    stderr = values.std() / np.sqrt(800)
    assert values.mean() < 0.648 - 4.5 * stderr
    assert abs(values.mean() - 0.520) < 4.5 * stderr + 0.03  # corrections of order 1 / d


@pytest.mark.parametrize(
    ("dim", "head_dim", "step", "noted", "replicas"),
    [
        pytest.param(64, 64, 0.1, 0.527, 8000, marks=pytest.mark.slow),
        pytest.param(48, 1536, 0.05, 0.581, 8000, marks=pytest.mark.slow),
        (48, 1536, 0.1, 0.581, 500),
    ],
)
def test_acceptance_12c_exact_overlaps(dim, head_dim, step, noted, replicas):
    """The note's +-.004 and ours (.0039 at 8000 replicas); the twin at twice the step."""
    chain = SharpHeadChain(dim=dim, head_dim=head_dim, diffusive_step=step)
    values = chain.simulate(0.0, [1.0], replicas=replicas, key=jax.random.key(12))[:, 0] ** 2
    stderr = np.hypot(values.std() / np.sqrt(replicas), 0.004)
    assert abs(values.mean() - noted) < 4.5 * stderr


def test_sharp_heads_have_the_law_of_explicit_weights(explicit_squares):
    """d = d_k = 16: overlaps alone against the chain with its matrices, 4.5 standard errors."""
    chain = SharpHeadChain(dim=16, diffusive_step=0.1)
    exact = chain.simulate(0.0, [1.0], replicas=800, key=jax.random.key(2))[:, 0] ** 2
    stderr = np.hypot(explicit_squares.std(), exact.std()) / np.sqrt(800)
    assert abs(explicit_squares.mean() - exact.mean()) < 4.5 * stderr
    assert explicit_squares.std() == pytest.approx(exact.std(), rel=0.15)


def test_acceptance_13_where_the_overlap_ends():
    assert hitting_probability(0.5, 1.0) == pytest.approx(2 / 3, abs=1e-6)
    assert hitting_probability(0.5, 1.5) == pytest.approx(0.6022432, abs=1e-6)
    assert hitting_probability(0.5, 0.0) == pytest.approx(0.75, abs=1e-12)
    assert hitting_probability(-1.0, 1.0) == 0.0
    assert stationary_square(3.0) == pytest.approx(0.5)


def test_a_stationary_law_above_two():
    """kappa = 3 at t = 8, 4000 paths: E u^2 = 1/2 within 4.5 standard errors and the step's."""
    problem = SlowOverlap(initial=0.0, t1=8.0, kappa=3.0)
    found = solve(
        problem, ArtanhEuler(max_step=0.02, paths=4000), key=jax.random.key(2), save=[8.0]
    ).mean_square()
    assert abs(found.value - stationary_square(3.0)) < 4.5 * found.floor


def slope(dim, tokens, std, runs, time, key):
    law = WideHeads(dim=dim, score_std=std)
    start = np.full((tokens, tokens), 0.9) + 0.1 * np.eye(tokens)
    if tokens > dim:
        basis = np.random.default_rng(0).standard_normal((tokens, dim)) * 0.2 + np.eye(dim)[0]
        basis /= np.linalg.norm(basis, axis=1, keepdims=True)
        start = basis @ basis.T
    problem = OverlapSDE(law=law, initial=start, t1=time)
    method = SphereEuler(max_step=0.02, paths=runs)
    solution = solve(problem, method, key=key, save=[5.0, time])
    logs = np.log(solution.separations[:, :, 0, 1])
    return (logs[:, 1] - logs[:, 0]) / (time - 5.0)


@pytest.mark.parametrize(
    ("dim", "tokens", "std"),
    [
        (4, 2, 0.0),
        pytest.param(4, 6, 2.0, marks=pytest.mark.slow),
        pytest.param(16, 6, 2.0, marks=pytest.mark.slow),
    ],
)
def test_acceptance_14_the_collapse_exponent(dim, tokens, std):
    """64 runs from tau = 5 to 30; separations fall to 1e-13 and do not cancel."""
    values = slope(dim, tokens, std, 64, 30.0, jax.random.key(14))
    assert abs(values.mean() - collapse_exponent(dim)) < 4.5 * values.std() / 8 + 0.01


def test_acceptance_17_two_layers_on_the_circle():
    angles = 2 * np.pi * np.arange(256) / 256
    heads = {
        "V": np.array([[[[1, 0.5], [-0.3, 0.8]]], [[[0, 1], [1, 0]]]]),
        "A": np.array([[[[1, 0], [0, -1]]], [[[0.5, 1], [-1, 0.5]]]]),
    }
    initial = 1 + 0.6 * np.cos(angles)
    flow = density_flow(**heads, beta=2.0, step=0.2, initial=initial)
    assert flow.outcome == Outcome.successful
    first, second = flow.moment(1), flow.moment(2)
    np.testing.assert_allclose(
        first[1:], [0.33221319 - 0.008846723j, 0.313906802 + 0.021690003j], atol=1e-8
    )
    np.testing.assert_allclose(
        second[1:], [0.126786033 - 0.05401103j, 0.00403759 + 0.024703504j], atol=1e-8
    )
    np.testing.assert_allclose(flow.density.mean(axis=1) * 2 * np.pi, 1.0, rtol=1e-12)


def test_a_concentrated_density_fails_loudly():
    angles = 2 * np.pi * np.arange(240) / 240
    heads = np.broadcast_to(np.eye(2), (200, 1, 2, 2))
    flow = density_flow(
        V=heads, A=heads, beta=4.0, step=0.3, initial=np.exp(3 * np.cos(angles)), modes=80
    )
    assert flow.outcome == Outcome.not_converged
    assert np.isnan(flow.density[-1]).all()
    assert np.isfinite(flow.density[0]).all()


def circle_heads(layers, key):
    law = GaussianHeads(dim=2, beta=2.0, sigma_a=2**-0.25)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(layers))
    with jax.enable_x64(True):
        V, A = jax.vmap(lambda one: law.sample(one, jnp.float64))(keys)
        return np.asarray(V)[:, None], np.asarray(A)[:, None]


def particles(angles, V, A, step):
    """E e^{i phi} of systems of tokens [replicas, tokens] under given heads."""
    x = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
    for value, score in zip(V[:, 0].astype(np.float32), A[:, 0].astype(np.float32), strict=True):
        weights = np.exp(np.float32(2.0) * (x @ score.T) @ x.swapaxes(-1, -2))
        x = x + np.float32(step) * (weights / weights.sum(-1, keepdims=True)) @ x @ value.T
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.mean(x[..., 0] + 1j * x[..., 1], axis=-1)


def test_acceptance_18_particles_against_the_density():
    """n MSE at 100 and 400 tokens: their ratio 1 +- .15 (300 and 60 replicas, 4.5 s.e. ~ .7).

    The start rho = (1 + .6 cos phi) / 2 pi by its inverse distribution.
    """
    V, A = circle_heads(30, jax.random.key(2))
    angles = 2 * np.pi * np.arange(768) / 768
    step = np.sqrt(0.02)
    initial = 1 + 0.6 * np.cos(angles)
    flow = density_flow(V=V, A=A, beta=2.0, step=step, initial=initial, modes=240)
    assert flow.outcome == Outcome.successful
    grid = np.linspace(0, 2 * np.pi, 20_001)
    cdf = (grid + 0.6 * np.sin(grid)) / (2 * np.pi)
    generator = np.random.default_rng(0)
    scaled = []
    for tokens, replicas in ((100, 300), (400, 150)):
        start = np.interp(generator.uniform(size=(replicas, tokens)), cdf, grid)
        errors = tokens * np.abs(particles(start, V, A, step) - flow.moment(1)[-1]) ** 2
        scaled.append((errors.mean(), errors.std() / np.sqrt(replicas)))
    ratio = scaled[1][0] / scaled[0][0]
    stderr = ratio * np.hypot(*(s / m for m, s in scaled))
    assert abs(ratio - 1) < 4.5 * stderr
    assert stderr < 0.12  # so that a wrong power of n (a ratio of 2 or 4) fails


def test_acceptance_21_antipodal_probabilities():
    expected = {
        (2, 0.6): 0.5,
        (3, 0.6): 0.13460,
        (3, 1.2): 0.25489,
        (4, 1.2): 0.12717,
        (4, 1.6): 0.19658,
        (6, 1.6): 0.08721,
    }
    for (dim, beta), value in expected.items():
        assert antipodal_probability(beta, dim) == pytest.approx(value, abs=1e-4)
    assert antipodal_probability(0.3, 4) == 0.0  # below the transition


def test_antipodal_probability_by_the_backward_equation():
    """At tau = 60 almost every pair is decided: P[R < 0] at d = 4, beta = 1.2."""
    found = pair_expectation(
        lambda r: 0.5 * (1 - np.sign(r)),
        fixed_scores(1.2),
        initial=0.0,
        t1=60.0,
        dim=4,
        nodes=1601,
        time_steps=2000,
    )
    assert found == pytest.approx(0.12717, abs=0.02)


def test_acceptance_22_the_transition():
    found = [critical_beta(dim) for dim in (4, 6, 10)]
    np.testing.assert_allclose(found, (0.658479, 1.031719, 1.384330), atol=1e-6)
    assert critical_beta(2) == critical_beta(3) == 0.0
    for dim in (4, 9):
        assert antipodal_exponent(critical_beta(dim), dim) == pytest.approx(0.0, abs=1e-12)


def test_random_scores_repel_antipodal_pairs_from_dimension_four():
    stds = np.linspace(0.05, 8, 100)
    assert max(random_antipodal_exponent(std, 3) for std in stds) < 0
    lowest = min(random_antipodal_exponent(std, 4) for std in stds)
    assert lowest == pytest.approx(0.027, abs=5e-4)


def test_common_noise_does_not_average_out():
    """The spread over replicas of the mean overlap of 16 tokens is that of the common noise.

    Noise that is independent from token to token would leave a quarter of it and less.
    """
    law, tokens = WideHeads(dim=64, score_std=0.0), 16
    chain = RandomHeadChain(law=law, step=0.1, heads=1, layers=10)
    R = 0.5 + 0.5 * np.eye(tokens)
    last = chain.simulate_overlaps(R, replicas=400, key=jax.random.key(tokens)).tokens[:, -1]
    means = ((last.sum(axis=1) ** 2).sum(axis=-1) - tokens) / (tokens * (tokens - 1))
    # Without scores f = g = 1 / n; the variation hardly moves within tau = 0.1.
    variance = 0.1 * mean_overlap_variation(0.5, 1 / tokens, 1 / tokens, tokens, 64)
    assert means.std() == pytest.approx(variance**0.5, rel=0.2)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentError, match="does not settle"):
        hitting_probability(0.5, 2.0)
    with pytest.raises(ArgumentError, match="initial"):
        hitting_probability(1.5, 1.0)
    with pytest.raises(ArgumentError, match="no stationary law"):
        stationary_square(2.0)
    with pytest.raises(ArgumentTypeError, match="exactly one"):
        SlowOverlap(initial=0.0, t1=1.0)
    with pytest.raises(ArgumentError, match="initial"):
        SlowOverlap(initial=1.0, t1=1.0, kappa=1.0)
    with pytest.raises(ArgumentTypeError, match="kappa: is given together with law; pass exactly"):
        SlowOverlap(initial=0.0, t1=1.0, kappa=1.0, law=GaussianHeads.of_score_std(1.0, dim=8))
    with pytest.raises(ArgumentError, match=r"step: got 0.0; pass a positive number"):
        ArtanhEuler(max_step=0.0)
    chain = SharpHeadChain(dim=8, diffusive_step=0.1)
    with pytest.raises(ArgumentError, match=r"slow_times: got \[1. 0.\]; pass increasing times"):
        chain.simulate(0.0, [1.0, 0.0], replicas=1, key=jax.random.key(0))
    with pytest.raises(ArgumentError, match="rows"):
        mean_cosine(0.5, 0)
    with pytest.raises(ArgumentError, match="overlap"):
        mean_cosine(1.5, 3)
    with pytest.raises(ArgumentError, match="dim"):
        critical_beta(1)
    with pytest.raises(ArgumentError, match=r"beta: got 0.88.*, too close to the transition"):
        antipodal_probability(np.arcsinh(1.0) * (1 + 1e-6), 5)  # at arcsinh 1 the exponent is 0
    heads = np.zeros((1, 1, 2, 2))
    good = {"V": heads, "A": heads, "beta": 1.0, "step": 0.1, "initial": np.ones(240)}
    for name, value in (
        ("V", np.zeros((2, 2))),
        ("A", np.zeros((2, 1, 2, 2))),
        ("initial", np.ones(10)),
        ("initial", -np.ones(240)),
        ("step", 0.0),
    ):
        with pytest.raises(ArgumentError) as caught:
            density_flow(**(good | {name: value}))
        assert caught.value.argument == name


@pytest.mark.parametrize("score_std", [0.1, 1.0, 30.0, 1e3, 1e6])
def test_averages_over_normals_hold_for_every_spread(score_std):
    """Against Gauss-Legendre on panels that are graded in b z."""
    edges = np.concatenate([[0.0], np.geomspace(1e-3, 40.0, 60)]) / max(1.0, score_std)
    edges = np.unique(np.concatenate([edges, np.linspace(0.0, 9.0, 40)]))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    z, dz = (edges[:-1, None] + half * (nodes + 1)).ravel(), (half * weights).ravel()
    density = 2.0 * dz * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    v = np.minimum(score_std * z, 300.0)
    a, k = density @ np.tanh(v) ** 2, score_std**2 * (density @ np.cosh(v) ** -4.0)
    expected = ((5 - 3) * (1 + k) - (5 - 1) * a) / 5
    assert random_antipodal_exponent(score_std, 5) == pytest.approx(expected, rel=1e-10)
    assert marginal_square(score_std**2 / 2.0) == pytest.approx(a, rel=1e-11)


def test_angles_that_the_quadrature_does_not_resolve_are_refused():
    """At 10^7 columns the law of the angle is narrower than the nodes are apart."""
    for overlap, columns in ((0.9, 10**7), (0.9999, 2)):
        with pytest.raises(ArgumentError, match=r"overlap: got .* does not resolve"):
            output_cosine(overlap, columns)
    for columns in (16, 200, 2000):
        expansion = 0.6 - 0.6 * (1 - 0.36) / columns
        assert output_cosine(0.6, columns) == pytest.approx(expansion, abs=0.3 / columns**2)
