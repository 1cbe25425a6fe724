"""The averages f and g over heads of finite and infinite dimension (rows 9, 9b)."""

import functools
import math

import jax
import numpy as np
import pytest

from translimit.core import (
    ArgumentError,
    in_float64,
)
from translimit.describe import GaussianHeads
from translimit.limits.homogenized import collapse_depth, concentration
from translimit.limits.homogenized.averages import averages, quadrature_error, sizes_of
from translimit.limits.homogenized.hardmax import HardAgreement
from translimit.limits.homogenized.one_key import agreement
from translimit.limits.homogenized.overlaps import (
    one_hot_overlap,
)
from translimit.limits.homogenized.simplex import (
    simplex_drift,
    simplex_overlaps,
)


def test_acceptance_9_and_9b_quadratures():
    singles = {(4, 1.5): 0.4922342, (2, 0.5): 0.5507533, (8, 1): 0.2323134, (32, 2): 0.2283744}
    for (tokens, std), value in singles.items():
        assert float(concentration(tokens, std)) == pytest.approx(value, abs=1e-5)
    doubles = {(4, 1.5, 0.6): 0.3807054, (8, 1, 0.5): 0.1724558, (2, 3, -0.8): 0.2611863}
    for (tokens, std, rho), value in doubles.items():
        assert float(agreement(std, rho, tokens)) == pytest.approx(value, abs=1e-5)


def test_limits_of_the_quadratures():
    assert float(concentration(8, 0.0)) == pytest.approx(1 / 8, abs=1e-9)
    assert float(agreement(0.0, 0.5, 8)) == pytest.approx(1 / 8, abs=1e-9)
    std = 0.02
    assert float(concentration(8, std)) == pytest.approx(1 / 8 + 7 / 64 * std**2, abs=1e-6)
    assert float(agreement(std, 0.5, 8)) == pytest.approx(1 / 8 + 7 / 128 * std**2, abs=1e-6)
    # Two keys: E sum pi^2 = (1 + E tanh^2(std Z / 2^{1/2})) / 2 at any temperature.
    z = np.linspace(-10, 10, 40_001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for std in (0.7, 4.0, 15.0):
        exact = 0.5 + 0.5 * weights @ np.tanh(std * z / np.sqrt(2)) ** 2
        assert float(concentration(2, std)) == pytest.approx(exact, abs=1e-9)


def test_infinite_scores_agree_on_the_best_key():
    """Closed form for two keys and any head dimension, and 100 000 samples of 128 keys."""
    assert concentration(5, math.inf) == 1.0
    rhos = np.array([-0.95, -0.3, 0.0, 0.5, 0.999])
    two = 0.5 + np.arcsin(rhos) / np.pi
    for head_dim in (1, 2, 3, 15, 16, 700, math.inf):
        found = in_float64(jax.jit(jax.vmap(HardAgreement(2, head_dim))), rhos)
        np.testing.assert_allclose(found, two, atol=1e-12 if math.isinf(head_dim) else 2e-7)
    # Together with f = 1 it is the kernel of one-hot attention.
    np.testing.assert_allclose(simplex_overlaps(rhos, 1.0, two)[1], one_hot_overlap(rhos))
    assert float(agreement(math.inf, 0.0, 128)) == pytest.approx(1 / 128, abs=1e-12)
    assert float(agreement(math.inf, 1.0, 128)) == pytest.approx(1.0, abs=1e-12)
    generator, samples = np.random.default_rng(0), 100_000
    u = generator.standard_normal((samples, 128), dtype=np.float32)
    v = generator.standard_normal((samples, 128), dtype=np.float32)
    for rho in (0.1, 0.5):
        same = u.argmax(axis=1) == (rho * u + np.float32(1 - rho**2) ** 0.5 * v).argmax(axis=1)
        stderr = same.std() / samples**0.5
        assert abs(same.mean() - float(agreement(math.inf, rho, 128))) < 4.5 * stderr


def scalar_agreement(score_std, overlap):
    """g of two tokens for head_dim = 1 by a dense sum over the two queries and one logit.

    With two keys pi = (1 +- tanh(v / 2)) / 2 for the difference v of two logits of deviation
    2^{1/2} times that of a logit, so that g = 1/2 + E tanh(r v / 2) tanh(r' v / 2) / 2.
    """
    z = np.linspace(-7.0, 7.0, 141)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    spread = score_std * np.sqrt(1.0 - overlap) / np.sqrt(2.0)
    second = overlap * z[:, None] + np.sqrt(1.0 - overlap**2) * z[None, :]
    total = 0.0
    for logit, weight in zip(z, density, strict=True):
        inner = np.tanh(spread * logit * second) @ density
        total += weight * (density * np.tanh(spread * logit * z)) @ inner
    return 0.5 + 0.5 * total


def test_the_error_of_the_averages_is_known_where_columns_are_few():
    """At head_dim = 1 the estimate bounds the error, and what is beyond it is refused."""
    for score_std, refused in ((0.2, False), (0.5, False), (2.0, True)):
        law = GaussianHeads.of_score_std(score_std, dim=24, head_dim=1)
        sizes = sizes_of(law, 2)
        estimate = float(quadrature_error(np.float64(-0.6), law.score_std, sizes))
        g = float(in_float64(averages, np.float64(-0.6), law.score_std, sizes)[1])
        assert abs(g / scalar_agreement(score_std, -0.6) - 1.0) <= estimate + 1e-9
        if refused:
            with pytest.raises(ArgumentError, match="score_std: f and g are known to"):
                simplex_drift(law, -0.6, 2)
            with jax.enable_x64(True):
                assert np.isnan(jax.jit(functools.partial(simplex_drift, law, tokens=2))(-0.6))
            with pytest.raises(ArgumentError, match="score_std"):
                collapse_depth(law, tokens=2, step=0.1, heads=1, initial=-0.6, threshold=0.9)
        else:
            assert np.isfinite(simplex_drift(law, -0.6, 2))
