"""The averages f and g of softmax weights against adaptive quadrature, over their whole range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from translimit.limits.homogenized import concentration, one_key
from translimit.limits.homogenized.one_key import agreement

STDS = (0.1, 0.4, 1.0, 4.0, 6.0, 16.0)
CORRELATIONS = (-1.0, -0.97, -0.4, -1e-3, 0.0, 0.1, 0.97, 0.9999, 1.0)


def normal(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def of_two_tokens(score_std, rho):
    """E[p p' + (1 - p)(1 - p')], p and p' logistic functions of Gaussians of correlation rho."""
    s, across = 2**0.5 * score_std, np.sqrt(1 - rho**2)

    def expected(z):
        """E[p' | z]."""
        if across == 0.0:
            return special.expit(rho * s * z)
        return integrate.quad(
            lambda w: normal(w) * special.expit(s * (rho * z + across * w)),
            -10.0,
            10.0,
            points=[float(np.clip(-rho * z / across, -9.9, 9.9))],
            limit=200,
            epsabs=1e-12,
        )[0]

    def integrand(z):
        p, other = special.expit(s * z), expected(z)
        return normal(z) * (p * other + (1 - p) * (1 - other))

    return 2 * integrate.quad(integrand, 0.0, 10.0, points=[1 / s], limit=200, epsabs=1e-11)[0]


@pytest.mark.parametrize(
    "score_std", [s if s == 16.0 else pytest.param(s, marks=pytest.mark.slow) for s in STDS]
)
def test_agreement_of_two_tokens_at_every_correlation(score_std):
    for rho in CORRELATIONS:
        assert abs(float(agreement(score_std, rho, 2)) - of_two_tokens(score_std, rho)) < 1e-9


@pytest.mark.parametrize(
    "tokens", [1000, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))]
)
def test_agreement_with_oneself_is_concentration(tokens):
    for score_std in STDS:
        itself = float(agreement(score_std, 1.0, tokens))
        assert abs(itself - float(concentration(tokens, score_std))) < 1e-9


@pytest.mark.slow
def test_agreement_of_independent_queries_and_of_one_token():
    for score_std in STDS:
        assert abs(float(agreement(score_std, 0.0, 7)) - 1 / 7) < 1e-9
        assert abs(float(agreement(score_std, -1.0, 1)) - 1.0) < 1e-9


@pytest.mark.slow
def test_agreement_does_not_jump_where_the_sums_change():
    """From the series to the shared part; the value itself moves by less than 2e-11 here."""
    for score_std, tokens in ((0.3, 5), (4.0, 5), (4.1, 5), (15.0, 40), (16.0, 1)):
        with jax.enable_x64(True):
            resolution = one_key.resolution_of(score_std)
            y = np.asarray(one_key.log_times(jnp.asarray(score_std), tokens, resolution))
        rho = (one_key.LEAST_SHARED * float(y[1] - y[0]) / score_std) ** 2
        for sign in (-1.0, 1.0):
            sides = [agreement(score_std, sign * rho * (1 + e), tokens) for e in (-1e-9, 1e-9)]
            assert abs(float(sides[1] - sides[0])) < 5e-11


@pytest.mark.parametrize(
    "rho", [1.0, *(pytest.param(r, marks=pytest.mark.slow) for r in (-1.0, -0.5, 1e-4, 0.5))]
)
def test_agreement_is_differentiable_at_every_correlation(rho):
    """Against second-order differences, one-sided at the ends; they err by 1e-6 at most here."""

    def values(points):
        return [float(agreement(3.0, point, 4)) for point in points]

    with jax.enable_x64(True):
        found = float(jax.jit(jax.grad(lambda r: agreement(3.0, r, 4)))(jnp.asarray(rho)))
    h = 1e-4
    if abs(rho) == 1.0:
        inwards = -np.sign(rho)
        at, one, two = values([rho, rho + inwards * h, rho + 2 * inwards * h])
        expected = inwards * (4 * one - 3 * at - two) / (2 * h)
    else:
        ahead, behind = values([rho + h, rho - h])
        expected = (ahead - behind) / (2 * h)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_traced_scores_beyond_the_quadrature_are_nan():
    """Concrete ones are refused."""
    with jax.enable_x64(True):
        stds = jnp.asarray([0.0, 1.0, 16.0, 16.1, 1e3, jnp.inf])
        for values in (
            jax.vmap(lambda s: concentration(4, s))(stds),
            jax.vmap(lambda s: agreement(s, 0.9, 4))(stds),
        ):
            assert np.isfinite(np.asarray(values)).tolist() == [True] * 3 + [False] * 3
