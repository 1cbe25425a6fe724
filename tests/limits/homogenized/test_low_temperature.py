"""Low temperature: the kernel, the marginal law, where the overlap ends (rows 11 to 13)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, hyp2f1
from tests.limits.homogenized.slow_times import QUARTERS

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import GaussianHeads
from translimit.limits.homogenized import ArtanhEuler, SlowOverlap
from translimit.limits.homogenized.circle import density_flow
from translimit.limits.homogenized.low_temperature import (
    hitting_probability,
    marginal_square,
    mean_cosine,
    output_cosine,
    stationary_square,
)
from translimit.limits.homogenized.two_tokens import (
    antipodal_probability,
    critical_beta,
    random_antipodal_exponent,
)
from translimit.models import SharpHeadChain


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


def test_acceptance_13_where_the_overlap_ends():
    assert hitting_probability(0.5, 1.0) == pytest.approx(2 / 3, abs=1e-6)
    assert hitting_probability(0.5, 1.5) == pytest.approx(0.6022432, abs=1e-6)
    assert hitting_probability(0.5, 0.0) == pytest.approx(0.75, abs=1e-12)
    assert hitting_probability(-1.0, 1.0) == 0.0
    assert stationary_square(3.0) == pytest.approx(0.5)


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
        SlowOverlap(initial=1.0, t1=1.0, drift_coefficient=1.0)
    with pytest.raises(
        ArgumentTypeError, match="drift_coefficient: is given together with law; pass exactly"
    ):
        SlowOverlap(
            initial=0.0, t1=1.0, drift_coefficient=1.0, law=GaussianHeads.of_score_std(1.0, dim=8)
        )
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
