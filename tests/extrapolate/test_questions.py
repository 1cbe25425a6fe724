"""Best shapes, best rates, collapse, and two recipes against each other."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.extrapolate.runs import falling

from translimit.core import ArgumentError, DataError
from translimit.extrapolate import Comparison, Curves, Decision, compare, fit, optimal_shape


def test_the_closed_form_of_the_best_shape():
    best = optimal_shape((3, 1, 5), parameters=1e6)
    found = (best.head_dim, best.heads, best.layers)
    assert found == pytest.approx((11.760790, 3.920263, 39.202634), abs=1e-6)
    assert best.excess == pytest.approx(0.637712, abs=1e-6)
    parts = np.array([3, 1, 5]) / found
    assert parts / parts[2] == pytest.approx([2, 2, 1])

    def excess(logs: np.ndarray) -> float:
        N, H = np.exp(logs)
        return 3 / N + 1 / H + 5 * 12 * (N * H) ** 2 / 1e6

    least = minimize(excess, [2.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9})
    assert best.excess == pytest.approx(least.fun, rel=1e-6)
    for wrong in ((3, 1), (3, -1, 5)):
        with pytest.raises(ArgumentError, match="coefficients"):
            optimal_shape(wrong, parameters=1e6)
    with pytest.raises(ArgumentError, match="parameters: got 0"):
        optimal_shape((3, 1, 5), parameters=0)


def corners(a=0.6, b=0.5, c=0.4, noise=3e-4) -> Curves:
    """Runs over all three sizes, with a loss that is a sum over them."""
    rng = np.random.default_rng(0)
    grid = [(N, H, L) for N in (2, 4, 8) for H in (2, 4, 8) for L in (1, 2, 4)]
    sizes = np.array(grid, float)
    logs = 0.3 + a / sizes[:, 0] + b / sizes[:, 1] + c / sizes[:, 2]
    losses = np.exp(logs[:, None, None] + noise * rng.normal(size=(27, 4, 1)))
    names = ("head_dim", "heads", "layers")
    return Curves.from_arrays(dict(zip(names, sizes.T, strict=True)), losses, [100])


def test_the_best_shapes_of_a_budget():
    fitted = fit(corners())
    values = fitted.coefficients.values
    for axis, truth in (("head_dim", 0.6), ("heads", 0.5), ("layers", 0.4)):
        assert values[axis].value == pytest.approx(truth, abs=4.5 * values[axis].floor)
    found = fitted.shape(parameters=2e4, mlp_ratio=2.0)
    assert len(found.best) == 3
    kappa, best = 8.0, found.best[0]
    for one in found.best:
        assert one.parameters == kappa * one.head_dim**2 * one.heads**2 * one.layers <= 2e4
    real = optimal_shape([v.value for v in values.values()], parameters=2e4, mlp_ratio=2)
    gated = optimal_shape((3, 1, 5), parameters=1e6, mlp_ratio=2, gated=True)
    assert gated == optimal_shape((3, 1, 5), parameters=1e6, mlp_ratio=3)
    assert found.optimum == real
    assert best.sizes == pytest.approx((real.head_dim, real.heads, real.layers), rel=0.5)
    assert best.log_loss.floor > 0
    by_flops = fitted.shape(flops=6 * 2e4 * 1e5, tokens=1e5, mlp_ratio=2.0)
    assert by_flops.parameters == pytest.approx(2e4)
    assert fitted.shape(parameters=2e4, mlp_ratio=4 / 3, gated=True).best == found.best
    assert "best shape of 2e+04 parameters" in str(found)


def test_a_shape_needs_axes_that_limit_and_one_budget():
    with pytest.raises(DataError, match=r"heads: its coefficient is .* does not limit"):
        fit(corners(b=0.0)).shape(parameters=2e4)
    with pytest.raises(DataError, match="axis: got layers; a shape needs head_dim, heads, layers"):
        fit(falling()).shape(parameters=2e4)
    with pytest.raises(ArgumentError, match="not exactly one budget"):
        fit(corners()).shape(flops=1e9)
    with pytest.raises(DataError, match=r"follow n\^-0\.5; the best shape is known"):
        fit(corners(), rate="0.5").shape(parameters=2e4)
    with pytest.raises(DataError, match="less than one block"):
        fit(corners()).shape(parameters=2)


def valleys(shift=0.3, sizes=(1, 2, 4, 8), at=-2.0, seeds=8, noise=0.003) -> Curves:
    """Runs at seven rates whose best moves by shift / n decades."""
    rng = np.random.default_rng(0)
    x = np.linspace(-3.2, -0.8, 9)
    logs = np.empty((len(sizes), seeds, 9, 1))
    for place, n in enumerate(sizes):
        own = 0.02 * rng.normal(size=(seeds, 1))
        valley = 1.5 * (x - at - shift / n - own) ** 2
        logs[place, ..., 0] = 0.1 + 0.4 / n + valley + noise * rng.normal(size=(seeds, 9))
    return Curves.from_arrays({"layers": sizes}, np.exp(logs), [100], rates=10**x)


def test_the_best_rate_at_infinite_size_and_what_it_saves():
    found = fit(valleys()).optimum(layers=64)
    assert found.infinite.value == pytest.approx(-2.0, abs=4.5 * found.infinite.stderr)
    assert found.infinite.stderr < 0.03
    assert found.curvature == pytest.approx(3.0, rel=0.1)
    truth = 1.5 * (0.3 * (1 - 1 / 64)) ** 2
    assert found.regret_of_base == pytest.approx(truth, rel=0.2)
    assert found.regret_of_extrapolated < found.regret_of_base
    assert found.use_extrapolated
    assert found.lr == pytest.approx(10 ** (-2 + 0.3 / 64), rel=0.1)
    assert found.fast
    assert found.regret_power is not None
    assert found.regret_power.value == pytest.approx(2, abs=0.6)
    assert "use the extrapolated rate" in str(found)
    still = fit(valleys(shift=0.0)).optimum()
    assert not still.use_extrapolated or still.regret_of_base < 1e-3


def test_an_optimum_at_an_edge_names_the_next_rates():
    with pytest.raises(DataError, match=r"highest rate, 0\.158; add runs at 0\.316 and 0\.631"):
        fit(valleys(at=-0.8)).optimum()
    with pytest.raises(DataError, match=r"lowest rate, 0\.000631; add runs at 0\.000316 and 0"):
        fit(valleys(at=-3.5)).optimum()
    with pytest.raises(DataError, match="lr: 1 rates have runs"):
        fit(falling()).optimum()
    few = fit(valleys(seeds=4)).optimum()
    assert few.notes == ("underpowered: 4 seeds, 0% of resamples at an edge",)


def test_curves_that_collapse_and_curves_that_do_not():
    """log R_n = log R_inf + (a(uT) - a(T)) / n: a constant a collapses, a growing one does not."""
    rng = np.random.default_rng(0)
    t, sizes = np.arange(1, 9) / 8, np.array([2.0, 3, 4, 6])
    seeds = 0.01 * rng.normal(size=(4, 40, 8))

    def collapse(a):
        logs = -t + a / sizes[:, None, None] + seeds
        return fit(Curves.from_arrays({"layers": sizes}, np.exp(logs), 80 * t)).collapse()

    flat, steep = collapse(np.full(8, 0.3)), collapse(0.3 * t)
    assert flat.ratio.mean() < 1
    assert steep.ratio[:4].min() > 1.3
    assert abs(flat.trend / flat.trend_error).max() < 4.5
    # The trend is that of (a(uT) - a(T)) x / n_1.
    away = (steep.trend - (0.3 * t - 0.3)[:-1] / 2) / steep.trend_error
    assert abs(away).max() < 4.5
    assert "collapse: sizes differ" in str(steep)
    assert steep.to_xarray()["ratio"].dims == ("part",)


def test_a_floor_is_subtracted_before_curves_are_compared():
    t, sizes = np.arange(1, 9) / 8, np.array([2.0, 3, 4, 6])
    rng = np.random.default_rng(0)
    reduced = np.exp(-t + 0.5 / sizes[:, None, None] + 0.01 * rng.normal(size=(4, 6, 8)))
    fitted = fit(Curves.from_arrays({"layers": sizes}, 0.7 + reduced, 80 * t))
    assert fitted.collapse(0.7).ratio.mean() < 1 < fitted.collapse().ratio.mean()
    with pytest.raises(DataError, match="floor: a loss is 1"):
        fitted.collapse(2.0)


def test_two_recipes():
    one = falling()
    losses = one.losses[:, :, 0]

    def other(factor, noise=0.002, **more):
        drawn = noise * np.random.default_rng(5).normal(size=losses.shape)
        made = Curves.from_arrays(
            {"layers": [2, 3, 4, 6]}, losses * factor * np.exp(drawn), one.steps, **more
        )
        return fit(made)

    fitted = fit(one)
    better = compare(fitted, other(1.05), layers=24)
    assert (better.decision, better.paired) == (Decision.better, True)
    assert better.difference[0] == pytest.approx(-np.log(1.05), abs=4.5 * better.error[0])
    assert compare(fitted, other(0.95), layers=24).decision == Decision.worse
    alike = compare(fitted, other(1.001), layers=24)
    assert alike.decision == Decision.undecided
    loose = compare(fitted, other(1.05), paired=False, layers=24)
    assert loose.decision == Decision.undecided  # unpaired errors are larger
    assert loose.error[0] > 3 * better.error[0]
    assert "the first is better" in str(better)
    assert "undecided" in str(loose)
    with pytest.raises(DataError, match="seed: the two recipes have different ones"):
        compare(fitted, other(1.0, paired=False), layers=24)
    with pytest.raises(ArgumentError, match="sizes: got \\['heads'\\]"):
        compare(fitted, other(1.0), heads=24)


def test_how_many_seeds_would_decide():
    """The seed part falls with the root of their number, the rest stays."""

    def found(difference, rest):
        seeds = np.array([0.02])
        return Comparison(
            {"layers": 8.0}, 100.0, True, (1.0,), np.array([difference]),
            np.hypot(seeds, rest), seeds, 6, None, 0.0,
        )  # fmt: skip

    assert found(0.03, 0.01).decision == Decision.undecided
    assert found(0.03, 0.01).seeds_to_decide == math.ceil(6 * 0.02**2 / (0.015**2 - 0.01**2))
    assert found(0.03, 0.016).seeds_to_decide is None
    assert "no number of seeds decides it" in str(found(0.03, 0.016))
    assert "20 seeds of each would decide" in str(found(0.03, 0.01))
    assert found(0.05, 0.01).decision == Decision.worse
