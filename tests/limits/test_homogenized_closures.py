"""Closures: quadratures, simplex, collapse depth and its gradient (rows 3, 9, 9b, 15, 16)."""

import functools
import math

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    PrecisionError,
    in_float64,
)
from translimit.describe import GaussianHeads, ShiftedHeads, WideHeads
from translimit.limits.homogenized import Dimension, SimplexClosure, collapse_depth, concentration
from translimit.limits.homogenized.averages import averages, quadrature_error, sizes_of
from translimit.limits.homogenized.designs import postpone_collapse, token_update
from translimit.limits.homogenized.hardmax import HardAgreement
from translimit.limits.homogenized.high_temperature import (
    logistic_overlap_all,
    logistic_time,
    overlap_all_drift,
)
from translimit.limits.homogenized.one_key import agreement
from translimit.limits.homogenized.overlaps import (
    attention_overlap,
    one_hot_overlap,
    overlap_covariation,
    overlap_drift,
)
from translimit.limits.homogenized.simplex import (
    mean_overlap_variation,
    simplex_drift,
    simplex_overlaps,
)
from translimit.models import RandomHeadChain


def simplex(overlap: float, tokens: int) -> np.ndarray:
    return overlap + (1.0 - overlap) * np.eye(tokens)


def test_acceptance_9_and_9b_quadratures():
    singles = {(4, 1.5): 0.4922342, (2, 0.5): 0.5507533, (8, 1): 0.2323134, (32, 2): 0.2283744}
    for (tokens, std), value in singles.items():
        assert float(concentration(std, tokens)) == pytest.approx(value, abs=1e-5)
    doubles = {(4, 1.5, 0.6): 0.3807054, (8, 1, 0.5): 0.1724558, (2, 3, -0.8): 0.2611863}
    for (tokens, std, rho), value in doubles.items():
        assert float(agreement(std, rho, tokens)) == pytest.approx(value, abs=1e-5)


def test_limits_of_the_quadratures():
    assert float(concentration(0.0, 8)) == pytest.approx(1 / 8, abs=1e-9)
    assert float(agreement(0.0, 0.5, 8)) == pytest.approx(1 / 8, abs=1e-9)
    std = 0.02
    assert float(concentration(std, 8)) == pytest.approx(1 / 8 + 7 / 64 * std**2, abs=1e-6)
    assert float(agreement(std, 0.5, 8)) == pytest.approx(1 / 8 + 7 / 128 * std**2, abs=1e-6)
    # Two keys: E sum pi^2 = (1 + E tanh^2(std Z / 2^{1/2})) / 2 at any temperature.
    z = np.linspace(-10, 10, 40_001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for std in (0.7, 4.0, 15.0):
        exact = 0.5 + 0.5 * weights @ np.tanh(std * z / np.sqrt(2)) ** 2
        assert float(concentration(std, 2)) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    "law",
    [WideHeads(dim=24, score_std=5.0), GaussianHeads.of_score_std(1.5, dim=24, head_dim=4)],
    ids=["wide", "narrow"],
)
def test_the_simplex_drift_against_sampled_kernels(law):
    """60 000 heads: infinite and finite head dimension, 4.5 standard errors and 3e-4."""
    for overlap in (0.0, 0.6):
        R = simplex(overlap, 5)
        s = attention_overlap(law, R, samples=60_000, key=jax.random.key(5))
        sampled = overlap_drift(R, s.value, 24)[np.triu_indices(5, 1)]
        stderr = s.stderr[np.triu_indices(5, 1)].max() * (1 + overlap)
        # Ten entries of one overlap: their mean is known at least as well as one of them.
        assert abs(sampled.mean() - float(simplex_drift(law, overlap, 5))) < 4.5 * stderr / 3 + 3e-4


def test_printed_and_exact_drift():
    """d times the difference, n = 8, score_std 1: -.25, -.712, -.265 at 0, .5, .9."""
    law = WideHeads(dim=64, score_std=1.0)
    for overlap, expected in ((0.0, -0.25), (0.5, -0.712), (0.9, -0.265)):
        exact = float(simplex_drift(law, overlap, 8))
        printed = float(simplex_drift(law, overlap, 8, dimension=Dimension.LARGE))
        assert 64 * (exact - printed) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Dimension.EXACT, 0.248),
        pytest.param(Dimension.LARGE, 0.366, marks=pytest.mark.slow),
    ],
)
def test_acceptance_3_the_simplex_equation(dimension, value):
    law = GaussianHeads.of_score_std(1.5, dim=8)
    problem = SimplexClosure(law=law, tokens=6, t1=1.5, dimension=dimension)
    solution = solve(problem, save=[0.0, 1.5])
    assert float(solution.overlap[-1]) == pytest.approx(value, abs=2e-3)
    assert solution.overlap[0] == 0.0
    assert solution.to_xarray()["overlap"].dims == ("time",)
    assert solution.plot().lines


def test_the_closure_without_scores_is_logistic():
    """In m = gamma + (1 - gamma) / n, for large dimension: 1e-7 over the whole curve."""
    law = WideHeads(dim=8, score_std=0.0)
    problem = SimplexClosure(law=law, tokens=8, t1=6.0, dimension=Dimension.LARGE)
    solution = solve(problem)
    mean = solution.overlap + (1 - solution.overlap) / 8
    np.testing.assert_allclose(mean, logistic_overlap_all(solution.ts, 1 / 8), atol=1e-7)
    assert overlap_all_drift(0.3, 0.2, 10**9) == pytest.approx(0.3 * 0.7, rel=1e-8)


def test_acceptance_15_times_to_one_half():
    for tokens, time in ((8, 2.19722), (32, 3.49651), (128, 4.85981), (512, 6.24028)):
        assert logistic_time(0.5, tokens) == pytest.approx(time, abs=5e-6)
        law = WideHeads(dim=512, score_std=0.0)
        found = collapse_depth(law, tokens=tokens, step=1, heads=1, dimension=Dimension.LARGE)
        assert float(found.diffusive_time) == pytest.approx(time, abs=1e-5)


@pytest.mark.parametrize(
    ("tokens", "times", "hard"),
    [
        (8, (2.21, 2.29, 2.50, 2.77), 3.29),
        (32, (3.52, 3.71, 4.42, 5.61), 8.95),
        (128, (4.89, 5.09, 6.41, 9.18), 24.6),
    ],
)
def test_table_of_collapse_times(tokens, times, hard):
    """The note's table by Monte Carlo, accurate to about 1 % (infinite scores, 128 tokens: 3 %).

    There the integral is over 1 / g from g = 1 / 128, which sampling knows worst; ours is 25.28,
    its g held against samples below.
    """
    for std, time in zip((1.0, 2.0, 4.0, 8.0, math.inf), (*times, hard), strict=True):
        law = WideHeads(dim=512, score_std=std)
        found = collapse_depth(law, tokens=tokens, step=1, heads=1, dimension=Dimension.LARGE)
        tolerance = 0.03 if (tokens, std) == (128, math.inf) else 0.012
        assert float(found.diffusive_time) == pytest.approx(time, rel=tolerance)


def test_infinite_scores_agree_on_the_best_key():
    """Closed form for two keys and any head dimension, and 100 000 samples of 128 keys."""
    assert concentration(math.inf, 5) == 1.0
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


def test_infinite_scores_of_few_columns_against_sampled_kernels():
    """20 000 heads of 5 tokens, head dimension 2: 4.5 standard errors."""
    law = GaussianHeads.of_score_std(math.inf, dim=24, head_dim=2)
    R = simplex(0.6, 5)
    s = attention_overlap(law, R, samples=20_000, key=jax.random.key(5))
    sampled = overlap_drift(R, s.value, 24)[np.triu_indices(5, 1)]
    stderr = s.stderr[np.triu_indices(5, 1)].max() * 1.6
    assert abs(sampled.mean() - float(simplex_drift(law, 0.6, 5))) < 4.5 * stderr / 3
    # Far from the kernel of Gaussian scores, whose queries point every way.
    wide = float(simplex_drift(WideHeads(dim=24, score_std=math.inf), 0.6, 5))
    assert abs(sampled.mean() - wide) > 4.5 * stderr / 3


def test_large_head_dimensions_are_near_infinite_ones():
    drifts = [
        float(simplex_drift(law, 0.3, 8))
        for law in (GaussianHeads.of_score_std(1.5, dim=600), WideHeads(dim=600, score_std=1.5))
    ]
    assert drifts[0] == pytest.approx(drifts[1], rel=1 / 600)


def test_variation_of_the_mean_overlap_is_the_sum_over_pairs():
    n, overlap, f, g, dim = 5, 0.3, 0.4, 0.25, 12
    R, s = simplex(overlap, n), overlap + (1 - overlap) * (g + (f - g) * np.eye(n))
    pairs = [(i, j) for i in range(n) for j in range(i)]
    total = sum(overlap_covariation(R, s, dim, one, two) for one in pairs for two in pairs)
    found = mean_overlap_variation(overlap, f, g, n, dim)
    assert found == pytest.approx(total / len(pairs) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("std", "step", "heads", "noted", "noted_error"),
    [
        (2.0, 0.2, 1, 65.5, 3.5),
        pytest.param(0.0, 0.1, 1, 230, 16, marks=pytest.mark.slow),
        pytest.param(2.0, 0.1, 1, 248, 12, marks=pytest.mark.slow),
        pytest.param(6.0, 0.1, 1, 314, 28, marks=pytest.mark.slow),
        pytest.param(2.0, 0.2, 4, 247, 23, marks=pytest.mark.slow),
    ],
)
def test_acceptance_16_collapse_depths(std, step, heads, noted, noted_error):
    """100 replicas: 2 s.e. + 5 % for the mean, 40 % for the spread, 4.5 s.e. from the note."""
    law = WideHeads(dim=32, score_std=std)
    found = collapse_depth(law, tokens=8, step=step, heads=heads)
    layers = int(6 * float(found.layers))
    chain = RandomHeadChain(law=law, step=step, heads=heads, layers=layers)
    start = np.eye(8, dtype=np.float32)
    measured = chain.first_crossing(start, 0.5, replicas=100, key=jax.random.key(16))
    stderr = measured.std() / 10
    assert abs(measured.mean() - float(found.layers)) < 2 * stderr + 0.05 * measured.mean()
    assert abs(measured.mean() - noted) < 4.5 * np.hypot(stderr, noted_error)
    assert measured.std() == pytest.approx(float(found.spread), rel=0.4)
    assert not found.warnings


def test_the_depth_can_be_differentiated():
    """Against central differences, in the temperature, the step and the heads."""

    def layers(std, step, heads):
        return collapse_depth(
            WideHeads(dim=64, score_std=std), tokens=8, step=step, heads=heads
        ).layers

    with jax.enable_x64(True):
        slopes = jax.grad(layers, argnums=(0, 1, 2))(2.0, 0.1, 4.0)
    difference = (float(layers(2.01, 0.1, 4.0)) - float(layers(1.99, 0.1, 4.0))) / 0.02
    assert float(slopes[0]) == pytest.approx(difference, rel=1e-3)
    assert float(slopes[1]) == pytest.approx(-2 * float(layers(2.0, 0.1, 4.0)) / 0.1, rel=1e-6)
    assert float(slopes[2]) == pytest.approx(float(layers(2.0, 0.1, 4.0)) / 4, rel=1e-6)


@pytest.mark.usefixtures("as_user")
def test_traced_in_single_precision():
    with pytest.raises(PrecisionError):
        jax.grad(
            lambda std: (
                collapse_depth(WideHeads(dim=64, score_std=std), tokens=8, step=0.1, heads=4).layers
            )
        )(2.0)


def test_a_design_keeps_its_update_and_gains_depth():
    best = postpone_collapse(dim=64, tokens=8, update=0.01, score_stds=(0.0, 4.0))
    law = WideHeads(dim=64, score_std=best.score_std)
    assert float(token_update(law, tokens=8, step=best.step, heads=1)) == pytest.approx(0.01)
    hot = WideHeads(dim=64, score_std=0.0)
    step = (0.01 / float(token_update(hot, tokens=8, step=1.0, heads=1))) ** 0.5
    base = collapse_depth(hot, tokens=8, step=step, heads=1)
    assert float(best.depth.layers) > 2 * float(base.layers)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("options", "error", "argument"),
    [
        ({"threshold": 0.0}, ArgumentError, "threshold"),
        ({"threshold": 1.0}, ArgumentError, "threshold"),
        ({"threshold": [0.5]}, ArgumentError, "threshold"),
        ({"threshold": 0.2, "initial": 0.3}, ArgumentError, "threshold"),
        ({"initial": -0.2}, ArgumentError, "initial"),
        ({"initial": 1.0}, ArgumentError, "initial"),
        ({"tokens": 33}, ArgumentError, "tokens"),
        ({"tokens": 1}, ArgumentError, "tokens"),
        ({"step": 0.0}, ArgumentError, "step"),
        ({"heads": -1}, ArgumentError, "heads"),
        ({"causal": True}, NoSuchLimitError, "causal"),
        ({"causal": 1}, ArgumentTypeError, "causal"),
        ({"dimension": "exact"}, ArgumentTypeError, "dimension"),
        ({"law": WideHeads(dim=32, score_std=20.0)}, ArgumentError, "score_std"),
        (
            {"law": ShiftedHeads(mean_v=np.eye(32), mean_a=np.eye(32), beta=1.0)},
            ArgumentTypeError,
            "law",
        ),
        ({"law": WideHeads(dim=2, score_std=1.0), "tokens": 2}, ArgumentError, "threshold"),
    ],
)
def test_refusals(options, error, argument):
    law = WideHeads(dim=32, score_std=1.0)
    with pytest.raises(error) as caught:
        collapse_depth(**({"law": law, "tokens": 8, "step": 0.1, "heads": 1} | options))
    assert caught.value.argument == argument


@pytest.mark.usefixtures("as_user")
def test_refusals_of_the_simplex():
    law = WideHeads(dim=32, score_std=1.0)
    with pytest.raises(ArgumentError, match="overlap"):
        simplex_drift(law, -0.5, 8)
    with pytest.raises(NoSuchLimitError, match="mask"):
        SimplexClosure(law=law, tokens=8, t1=1.0, causal=True)
    with pytest.raises(ArgumentError, match="dim: got 1; pass at least 2"):
        overlap_all_drift(0.3, 0.2, 1)
    with pytest.raises(ArgumentError, match="correlation"):
        agreement(1.0, 1.5, 4)
    with pytest.raises(ArgumentError, match="update"):
        postpone_collapse(dim=8, tokens=4, update=2.0)
    for interval in ((2.0, 1.0), (0.0, math.inf)):
        with pytest.raises(ArgumentError, match="interval"):
            postpone_collapse(dim=8, tokens=4, update=0.1, score_stds=interval)
    for score_std in (math.nan, -math.inf, -1.0):
        with pytest.raises(ArgumentError, match="score_std"):
            WideHeads(dim=8, score_std=score_std)
    with pytest.raises(ArgumentError, match="sigma_a"):
        GaussianHeads(dim=8, beta=math.inf, sigma_a=0.0)
    with pytest.raises(ArgumentError, match="beta"):
        ShiftedHeads(mean_v=np.eye(2), mean_a=np.eye(2), beta=math.inf)


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
