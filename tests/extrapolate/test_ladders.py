"""Ladders that people train, made up with public constants: how often the truth is in the range.

Losses 1.69 + 406.4 / N^0.34 + 410.7 / D^0.28 (Hoffmann et al., arXiv 2203.15556) of N parameters
and D tokens. Width 64 n for n = 4 to 16, three seeds with a deviation of 0.003 in log loss; the
depth dial has n layers as well, the other ladder twelve. The target is n = 64.
"""

from collections.abc import Callable

import numpy as np
import pytest

from translimit.core import DataError
from translimit.extrapolate import Curves, Series, fit, noise_of_means

SIZES = np.array([4.0, 6, 8, 12, 16])
TARGET, NOISE, SEEDS, DRAWS = 64.0, 0.003, 3, 300


def loss(parameters: float, tokens: float) -> float:
    return 1.69 + 406.4 / parameters**0.34 + 410.7 / tokens**0.28


def dial(n):
    """Parameters of n layers of width 64 n."""
    return 12 * n * (64 * n) ** 2


def width(n):
    """Parameters of 12 layers of width 64 n."""
    return 12 * 12 * (64 * n) ** 2


#: Loss by n, and whether two errors of 1/n alone cover it.
LADDERS: dict[str, tuple[Callable[[float], float], bool]] = {
    "1/n": (lambda n: 2 + 1.5 / n, True),
    "depth dial, fixed tokens": (lambda n: loss(dial(n), 2e10), True),
    "width, fixed tokens": (lambda n: loss(width(n), 2e10), False),
    "depth dial, 20 tokens a parameter": (lambda n: loss(dial(n), 20 * dial(n)), False),
    "width, 20 tokens a parameter": (lambda n: loss(width(n), 20 * width(n)), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LADDERS)
def test_the_printed_range_covers_the_truth(name):
    law, alone = LADDERS[name]
    rng = np.random.default_rng(0)
    covered, by_first, given = [], [], 0
    for _ in range(DRAWS):
        logs = np.log([law(n) for n in SIZES])[:, None, None]
        losses = np.exp(logs + NOISE * rng.normal(size=(len(SIZES), SEEDS, 1)))
        curves = Curves.from_arrays({"width": 64 * SIZES}, losses, [1000])
        fitted = fit(curves)
        if not fitted.backtest.passes:
            continue
        given += 1
        told, truth = fitted.predict(width=64 * TARGET), law(TARGET)
        covered.append(told.low[-1] < truth < told.high[-1])
        first = fit(curves, rate="1").series[0].at(np.array([64 * TARGET]))
        by_first.append(abs(first.value[-1] - np.log(truth)) < 2 * first.error[-1])
    assert given > 0.95 * DRAWS
    assert np.mean(covered) >= 0.95
    assert np.mean(by_first) > 0.92 if alone else np.mean(by_first) < 0.35


@pytest.mark.parametrize("name", ["depth dial, fixed tokens", "width, fixed tokens"])
def test_along_the_number_of_parameters_no_value_is_given(name):
    law, _ = LADDERS[name]
    losses = np.array([law(n) for n in SIZES])[:, None, None] * np.ones((1, 3, 1))
    with pytest.raises(DataError, match="no axis"):
        Curves.from_arrays({"params": dial(SIZES)}, losses, [1000])
    # What it would have said: the truth lies tens of errors away.
    parameters = width if name.startswith("width") else dial
    logs = np.log(losses) + NOISE * np.random.default_rng(0).normal(size=(len(SIZES), SEEDS, 1))
    one = Series(parameters(SIZES)[:, None], logs.mean(axis=1), noise_of_means(logs), 1.0)
    told = one.at(np.array([parameters(TARGET)]))
    assert abs(told.value[0] - np.log(law(TARGET))) > 15 * told.error[0]
