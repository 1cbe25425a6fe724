"""Estimates and fitted rates: their errors are the errors that they have."""

import math

import numpy as np
import pytest
from scipy.special import polygamma, stdtrit

from translimit.core import ArgumentError, Estimate, fit_rate, jackknife


def test_the_standard_error_covers() -> None:
    # value ± t_9(0.975) stderr covers the mean of Gaussian samples with probability 0.95 exactly.
    # Over 40,000 data sets the observed coverage has standard error 0.0011; a variance divided by
    # n instead of n - 1 covers 0.940, nine standard errors below.
    data_sets, size = 40_000, 10
    samples = np.random.default_rng(0).normal(0.3, 2.0, size=(data_sets, size))
    estimates = [Estimate.from_samples(row) for row in samples]
    quantile = stdtrit(size - 1, 0.975)
    covered = np.mean([abs(e.value - 0.3) <= quantile * e.stderr for e in estimates])
    assert abs(covered - 0.95) < 4.5 * math.sqrt(0.95 * 0.05 / data_sets)


def test_an_estimate_adds_its_errors_in_quadrature() -> None:
    estimate = Estimate.from_samples(np.array([1.0, 2.0, 3.0]), discretisation=0.25)
    assert estimate.value == 2.0
    assert estimate.count == 3
    np.testing.assert_allclose(estimate.stderr, 1 / math.sqrt(3))
    np.testing.assert_allclose(estimate.floor, math.sqrt(1 / 3 + 0.25**2))
    assert Estimate(1.0).floor == 0.0
    assert str(Estimate(0.5, 0.03, 8, 0.04)) == "0.5 ± 0.05 (8 samples)"


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("samples", [np.array([1.0]), np.array([]), np.ones((2, 2))])
def test_an_estimate_refuses_samples_without_a_standard_error(samples: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"samples: has shape .*; pass at least two samples"):
        Estimate.from_samples(samples)


SIZES = np.array([16.0, 32.0, 64.0, 128.0])


def power_law(replicates: int, seed: int, rate: float = -0.5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(SIZES.size, replicates))
    return 3.0 * SIZES[:, None] ** rate * noise


@pytest.mark.parametrize("scale", [1.0, 1e-220, 1e200])
def test_an_exact_power_law_is_recovered(scale: float) -> None:
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    fit = fit_rate(SIZES, scale * SIZES[:, None] ** -1.25 * signs)
    np.testing.assert_allclose(fit.rate, -1.25)
    np.testing.assert_allclose(fit.constant, scale, rtol=1e-9)
    assert fit.stderr < 1e-12
    assert fit.replicates == 4


def test_the_rate_and_its_standard_error_agree_with_the_law_of_log_chi_squared() -> None:
    # For Gaussian errors half the logarithm of a mean of r squares has variance
    # trigamma(r/2) / 4, so the variance of the fitted slope is known exactly.
    replicates, data_sets = 16, 600
    fits = [fit_rate(SIZES, power_law(replicates, i), resamples=200) for i in range(data_sets)]
    centred = np.log(SIZES) - np.log(SIZES).mean()
    variance = float(polygamma(1, replicates / 2)) / 4 / np.sum(centred**2)
    rates = np.array([fit.rate for fit in fits])
    assert abs(rates.mean() + 0.5) < 4.5 * math.sqrt(variance / data_sets)
    assert abs(rates.var() / variance - 1) < 4.5 * math.sqrt(2 / data_sets)
    # The bootstrap knows the variance up to terms of relative size 1/r; a wrong factor of 2 in
    # the standard error would show as 4.
    ratio = np.array([fit.stderr**2 for fit in fits]) / variance
    assert abs(ratio.mean() - 1) < 2 / replicates + 4.5 * ratio.std() / math.sqrt(data_sets)


@pytest.mark.parametrize(("replicates", "most"), [(4, 0.99), (16, 0.965)])
def test_the_interval_covers(replicates: int, most: float) -> None:
    # Documented: a nominal 95 % covers between 93 and 99 % for Gaussian errors, the more the fewer
    # replicates. 1500 data sets leave a standard error below 0.0066; the plain percentile interval
    # covers 0.85 at r = 4, one of twice the width 0.999 at r = 16.
    data_sets = 1500
    fits = [fit_rate(SIZES, power_law(replicates, i), resamples=200) for i in range(data_sets)]
    covered = np.mean([fit.interval[0] <= -0.5 <= fit.interval[1] for fit in fits])
    assert covered > 0.93 - 4.5 * math.sqrt(0.93 * 0.07 / data_sets)
    assert covered < most + 4.5 * math.sqrt(most * (1 - most) / data_sets)


def test_the_bootstrap_is_widened_by_the_bias_of_a_resampled_variance() -> None:
    # Four paired replicates have 256 resamples: their standard deviation is known exactly, and
    # the stated error is (4 / 3)^(1/2) of it, 15 %. 20,000 draws of it leave half a percent.
    errors = power_law(4, 3)
    picks = np.stack(np.meshgrid(*[np.arange(4)] * 4), axis=-1).reshape(-1, 4)
    rms = 0.5 * np.log((errors[:, picks] ** 2).mean(axis=-1))
    slopes = np.polyfit(np.log(SIZES), rms, 1)[0]
    fit = fit_rate(SIZES, errors, paired=True, resamples=20_000)
    np.testing.assert_allclose(fit.stderr, slopes.std() * math.sqrt(4 / 3), rtol=4.5 * 0.006)


def test_paired_replicates_share_their_noise() -> None:
    # The same clouds at every size: errors that are one cloud's number times a power law have a
    # rate without any uncertainty, which resampling the sizes independently cannot see.
    cloud = np.random.default_rng(0).normal(size=8)
    errors = SIZES[:, None] ** -1.0 * cloud
    paired, independent = (fit_rate(SIZES, errors, paired=p) for p in (True, False))
    np.testing.assert_allclose([paired.rate, independent.rate], -1.0)
    assert paired.stderr < 1e-12
    assert independent.stderr > 0.05


def test_rows_may_differ_in_length() -> None:
    rows = [row[: 4 + 2 * i] for i, row in enumerate(SIZES[:, None] ** -2.0 * np.ones((4, 12)))]
    fit = fit_rate(SIZES, rows)
    np.testing.assert_allclose(fit.rate, -2.0)
    assert fit.replicates == 4


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    samples = np.random.default_rng(1).normal(size=9)
    estimate = jackknife(lambda chosen: float(samples[chosen].mean()), 9)
    expected = Estimate.from_samples(samples)
    np.testing.assert_allclose(estimate.value, expected.value)
    np.testing.assert_allclose(estimate.stderr, expected.stderr)
    assert estimate.count == 9


def test_the_jackknife_removes_the_bias_of_a_square() -> None:
    # For the square of a mean it is the unbiased estimate mean^2 - variance / n, exactly.
    samples = np.random.default_rng(2).normal(size=7)
    estimate = jackknife(lambda chosen: float(samples[chosen].mean() ** 2), 7)
    unbiased = samples.mean() ** 2 - samples.var(ddof=1) / 7
    np.testing.assert_allclose(estimate.value, unbiased)


def test_the_jackknife_needs_three_groups() -> None:
    with pytest.raises(ArgumentError, match="count: got 2; pass at least 3 groups"):
        jackknife(lambda chosen: 0.0, 2)


def test_a_higher_confidence_is_a_wider_interval() -> None:
    errors = power_law(8, 0)
    fits = [fit_rate(SIZES, errors, confidence=c) for c in (0.5, 0.95, 0.999)]
    widths = [fit.interval[1] - fit.interval[0] for fit in fits]
    assert widths == sorted(widths)
    expected = 2 * stdtrit(7, np.array([0.75, 0.975, 0.9995])) * fits[0].stderr
    np.testing.assert_allclose(widths, expected)
    assert {fit.rate for fit in fits} == {fits[0].rate}


def test_the_same_seed_gives_the_same_fit() -> None:
    errors = power_law(8, 0)
    assert fit_rate(SIZES, errors, seed=3) == fit_rate(SIZES, errors, seed=3)
    assert fit_rate(SIZES, errors, seed=3).stderr != fit_rate(SIZES, errors, seed=4).stderr


def test_a_fit_is_an_estimate() -> None:
    fit = fit_rate(SIZES, power_law(8, 0))
    assert fit.estimate() == Estimate(fit.rate, fit.stderr, 8)


@pytest.mark.usefixtures("as_user")
def test_fits_that_mean_nothing_are_refused() -> None:
    errors = power_law(8, 0)
    with pytest.raises(ArgumentError, match=r"errors: has shapes .* for 4 sizes; pass one row"):
        fit_rate(SIZES, errors[:3])
    with pytest.raises(ArgumentError, match="errors: has shapes"):
        fit_rate(SIZES, errors[:, 0])
    with pytest.raises(ArgumentError, match="errors: paired rows differ in length"):
        fit_rate(SIZES, [*errors[:3], errors[3, :6]], paired=True)
    for sizes in (
        [16, 16, 32, 64],
        [0, 1, 2, 3],
        [-1, 1, 2, 3],
        [1, 2, 3, np.nan],
        [1, 2, 3, np.inf],
    ):
        with pytest.raises(ArgumentError, match=r"sizes: got .* distinct positive sizes"):
            fit_rate(np.array(sizes, dtype=float), errors)
    with pytest.raises(ArgumentError, match="sizes: got"):
        fit_rate([16.0], errors[:1])
    with pytest.raises(ArgumentError, match="errors: has a row of length 3; pass at least 4"):
        fit_rate(SIZES, errors[:, :3])
    for bad in (0.0, np.nan, np.inf):
        spoilt = errors.copy()
        spoilt[1, 2] = bad
        with pytest.raises(ArgumentError, match="errors: an error is zero or not finite"):
            fit_rate(SIZES, spoilt)
    with pytest.raises(ArgumentError, match="resamples: got 1"):
        fit_rate(SIZES, errors, resamples=1)
    for confidence in (0.0, 1.0, 95.0, np.nan):
        with pytest.raises(ArgumentError, match="confidence: got"):
            fit_rate(SIZES, errors, confidence=confidence)
