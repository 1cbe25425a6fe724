"""Extrapolations: values with two errors, the backtest, the hull of both rates, refusals."""

import math

import numpy as np
import pytest
from tests.extrapolate.runs import falling

from translimit.core import ArgumentError, DataError
from translimit.extrapolate import Curves, fit


def test_the_truth_lies_in_the_range_and_errors_add_up():
    fitted = fit(falling())
    told = fitted.predict(layers=24)
    truth = np.exp(-fitted.steps / 100 * (1 - 0.3 / 24))
    assert np.all((told.low < truth) & (truth < told.high))
    assert told.powers == (1.0, 0.5)
    assert np.hypot(told.seed_error, told.misspecification) == pytest.approx(told.error)
    estimate = told.estimate()
    assert estimate.floor == pytest.approx(told.error[0, -1])
    assert (estimate.count, estimate.value) == (6, told.log_loss[0, -1])
    limit = fitted.infinite
    assert limit.sizes == {"layers": math.inf}
    assert limit.error[0, -1] > told.error[0, -1]
    alone = fit(falling(), rate="1").predict(layers=24)
    assert alone.powers == (1.0,)
    assert told.high[-1] - told.low[-1] > 1.5 * (alone.high[-1] - alone.low[-1])


def test_the_range_is_the_hull_of_both_rates():
    told = fit(falling(sizes=(4, 6, 8, 12, 16), slope=2.0, noise=0.001)).predict(layers=64)
    ends = told.log_loss[:, -1] + np.array([[-2], [2]]) * told.error[:, -1]
    assert told.low[-1] == pytest.approx(np.exp(ends[0].min()))
    assert told.high[-1] == pytest.approx(np.exp(ends[1].max()))
    assert told.loss[-1] == pytest.approx(np.exp(told.log_loss[0, -1]))


def test_runs_may_tell_the_rates_apart():
    slow = fit(falling(sizes=(2, 4, 8, 16, 32, 64), slope=3.0, power=0.5, noise=1e-3))
    assert abs(slow.backtest.z[:, -1]).argmin() == 1
    assert slow.predict(layers=64).powers == (0.5,)
    assert "the backtest excludes 1/n" in str(slow)


def test_beyond_three_errors_no_value_is_given():
    curves = falling()
    losses = curves.losses[:, :, 0].copy()
    losses[-1] *= 1.5
    broken = fit(Curves.from_arrays({"layers": [2, 3, 4, 6]}, losses, curves.steps))
    assert not broken.backtest.passes
    with pytest.raises(DataError, match="no value: the others miss the largest size by"):
        broken.predict(layers=24)
    with pytest.raises(DataError, match="no value"):
        _ = broken.infinite
    assert "no value" in str(broken)
    assert "no value" in broken._repr_html_()
    assert broken.to_json([])["predictions"] == []


def test_what_is_not_resolved_is_said():
    flat = fit(falling(slope=0.0))
    assert not flat.infinite.resolved
    assert "not resolved: the largest size" in str(flat)
    steep = fit(falling(slope=3.0, noise=1e-3), rate="1")
    assert steep.infinite.resolved
    assert "not resolved" not in str(steep)


def test_a_constant_factor_of_the_loss_and_the_order_of_sizes_do_not_matter():
    curves = falling()
    told = fit(curves).predict(layers=24)
    order = [3, 1, 0, 2]
    other = Curves.from_arrays(
        {"layers": curves.sizes[order, 0]}, 2 * curves.losses[order, :, 0], curves.steps
    )
    again = fit(other).predict(layers=24)
    assert again.log_loss == pytest.approx(told.log_loss + np.log(2))
    assert again.error == pytest.approx(told.error)


def test_one_learning_rate_for_all_sizes():
    curves = falling()
    rates = (0.01, 0.02, 0.04)
    losses = np.stack([curves.losses[:, :, 0] * f for f in (1.3, 1.0, 1.2)], axis=2)
    several = Curves.from_arrays({"layers": [2, 3, 4, 6]}, losses, curves.steps, rates=rates)
    best = fit(several)
    assert best.lr == 0.02
    assert best.predict(layers=24).log_loss == pytest.approx(
        fit(curves).predict(layers=24).log_loss
    )
    assert "lr 0.02 has the lowest mean log loss at layers=6" in str(best)
    assert fit(several, lr=0.04).lr == 0.04
    with pytest.raises(DataError, match=r"lr: no run has 0\.03; pass one of 0\.01, 0\.02, 0\.04"):
        fit(several, lr=0.03)
    losses = losses.copy()
    losses[1, 2, 1, 4:] = np.nan
    diverged = Curves.from_arrays({"layers": [2, 3, 4, 6]}, losses, curves.steps, rates=rates)
    assert fit(diverged).lr == 0.04  # the best of those at which nothing diverged
    with pytest.raises(DataError, match=r"not finite at layers=3, seed 2, lr 0\.02, step 71\.4"):
        fit(diverged, lr=0.02)


def test_a_step_on_the_way():
    curves = falling()
    early = fit(curves, at_step=43)
    assert early.steps[-1] == pytest.approx(300 / 7)
    with pytest.raises(DataError, match="at_step: no curve has step 50; the nearest are"):
        fit(curves, at_step=50)


def two_sizes(layers, heads) -> Curves:
    rng = np.random.default_rng(0)
    size = np.array(layers, float)
    losses = np.exp(1 / size[:, None, None] + 0.01 * rng.normal(size=(len(size), 3, 1)))
    return Curves.from_arrays({"layers": layers, "heads": heads}, losses, [10])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(falling(), "params"), "the number of parameters is no axis"),
        (lambda: fit(falling(), "depth"), "axis: got 'depth'; pass one of head_dim, heads"),
        (lambda: fit(falling(), "heads"), "heads is no column, or does not vary"),
        (lambda: fit(falling(sizes=(2, 4))), "layers: 2 distinct sizes of layers; give runs of 3"),
        (lambda: fit(falling(seeds=2)), "seed: 2 at layers=2; give 3 seeds or more"),
        (
            lambda: fit(two_sizes([1, 2, 3, 4], [2, 4, 6, 8]), "layers"),
            "heads: varies with layers; sizes that move together are one axis: --axis layers "
            "--with heads",
        ),
        (
            lambda: fit(two_sizes([1, 2, 3, 4], [2, 4, 6, 8])),
            "layers: layers and heads move together; they are one axis",
        ),
        (
            lambda: fit(two_sizes([1, 2, 3, 3], [2, 4, 6, 8]), "layers", together=["heads"]),
            "heads: varies at layers=3: 6 and 8",
        ),
        (
            lambda: fit(two_sizes([1, 2, 1], [2, 2, 4])),
            "layers: 3 distinct sizes of layers and heads; give runs of 4 or more",
        ),
        (
            lambda: fit(falling()).predict(layers=200, strict=True),
            "layers: 200 is more than 16 times the largest size",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(DataError) as caught:
        call()
    assert message in str(caught.value)


def test_arguments_are_checked():
    for sizes in ({"heads": 3}, {}, {"layers": -1}):
        with pytest.raises(ArgumentError, match="sizes"):
            fit(falling()).predict(**sizes)
    with pytest.raises(ArgumentError, match=r"losses: has shape \(4, 3\)"):
        Curves.from_arrays({"layers": [1, 2, 3, 4]}, np.ones((4, 3)), [1])
    with pytest.raises(ArgumentError, match="pass distinct positive sizes"):
        Curves.from_arrays({"layers": [1, 1]}, np.ones((2, 3, 1)), [1])
    with pytest.raises(ArgumentError, match="pass increasing numbers of updates"):
        Curves.from_arrays({"layers": [1, 2]}, np.ones((2, 3, 2)), [2, 1])
    with pytest.raises(DataError, match="loss: is -1 at layers=1, seed 0, step 1; pass a positive"):
        Curves.from_arrays({"layers": [1, 2]}, -np.ones((2, 3, 1)), [1])


def test_sizes_that_move_together_are_one_axis():
    told = fit(two_sizes([1, 2, 3, 4], [2, 4, 6, 8]), "layers", together=["heads"])
    assert told.axes == ("layers",)
    assert "(with heads)" in str(told)
    assert told.predict(layers=16).loss[-1] == pytest.approx(np.exp(1 / 16), rel=0.1)


def test_three_sizes_are_underpowered_and_far_targets_are_told():
    few = fit(falling(sizes=(2, 3, 4)))
    assert few.underpowered
    assert "three sizes: underpowered" in str(few)
    far = fit(falling())
    assert "layers = 200 is 33 times the largest size" in far.text([far.predict(layers=200)])


def test_labelled_arrays_and_pictures():
    fitted = fit(falling())
    data = fitted.to_xarray()
    assert data["loss"].dims == ("point", "seed", "rate", "step")
    assert data["log_loss"].dims == ("power", "step")
    assert list(data["layers"].values) == [2, 3, 4, 6]
    axes = fitted.plot(layers=24)
    assert "layers = 24" in axes.get_legend_handles_labels()[1]
    single = fitted.curves.losses[:, :, 0, -1:]
    last = fit(Curves.from_arrays({"layers": [2, 3, 4, 6]}, single, [100]))
    assert last.plot().get_xlabel() == "1 / layers"
    assert "<table>" in fitted._repr_html_()
    assert "data:image/png" in fitted._repr_html_()


def test_paired_seeds_give_smaller_errors_than_unpaired_ones():
    curves = falling(noise=0.02)
    losses = curves.losses[:, :, 0]
    loose = Curves.from_arrays({"layers": [2, 3, 4, 6]}, losses, curves.steps, paired=False)
    difference = fit(loose).coefficients.values["layers"].stderr
    assert fit(curves).coefficients.values["layers"].stderr < difference
