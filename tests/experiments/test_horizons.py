"""Horizons: closed forms of noisy quadratics, and ledgers on planted losses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit import train
from translimit.core import ConfigError, Verdict
from translimit.data import byte_text
from translimit.experiments import get_experiment
from translimit.experiments.horizons import batch, cells, cliff, ledger, ledger_text, modes, results


def test_the_recursion_is_a_loop_over_modes_and_steps():
    """Acceptance: K = 400, alpha 1.5, beta 0.6, noise 0.05 of the curvature, cosine, 60 updates."""
    told = modes.power_law(1.5, 0.6, 0.05, 400)
    cosine = modes.factors("cosine", 60)
    total = 0.0
    for k in range(1, 401):
        curvature = k**-1.5
        v = k ** -(1.5 * 0.6 + 1) / curvature
        for t in range(60):
            eta = 0.3 * 0.5 * (1 + math.cos(math.pi * t / 59))
            v = (1 - eta * curvature) ** 2 * v + eta**2 * 0.05 * curvature
        total += 0.5 * curvature * v
    assert float(told.losses(np.array([0.3]), cosine)[0]) == pytest.approx(total, rel=1e-12)
    assert total == pytest.approx(0.087319, abs=1e-6)
    rates = np.array([1e-3, 0.4, 1.9])
    stepped = told.losses(rates, np.full(50, 1 - 1e-13))  # step by step
    np.testing.assert_allclose(told.losses(rates, np.ones(50)), stepped, rtol=1e-9)


def test_best_rates_of_the_acceptance_figures():
    told = modes.power_law(1.5, 0.6, 0.05, 400)
    half = replace(told, noise=told.noise / 2)
    constant = [told.optimum(modes.factors("constant", T)) for T in (60, 240, 1000, 4000)]
    wsd = [told.optimum(modes.factors("wsd", T)) for T in (60, 240, 1000, 4000)]
    np.testing.assert_allclose(constant, [-0.251, -0.441, -0.655, -0.876], atol=5e-3)
    np.testing.assert_allclose(wsd, [0.161, 0.033, -0.115, -0.283], atol=5e-3)
    drift = [half.optimum(modes.factors("constant", T)) for T in (60, 240, 1000, 4000)]
    np.testing.assert_allclose(
        np.subtract(drift, constant), [0.133, 0.154, 0.167, 0.171], atol=5e-3
    )
    # Noise halved: in the end log10(2) / (1 + beta), whatever the horizon.
    assert math.log10(2) / 1.6 == pytest.approx(0.188, abs=5e-4)


@pytest.mark.parametrize(
    ("schedule", "steps", "optimum", "drifts", "regrets"),
    [
        ("constant", 60, -0.793, (0.201, 0.203, 0.204), (0.1010, 0.1045, 0.1055)),
        ("constant", 960, -1.329, (0.236, 0.240, 0.241), (0.1369, 0.1421, 0.1437)),
        ("cosine", 60, -0.293, (0.329, 0.333, 0.335), (0.1775, 0.1837, 0.1855)),
        ("cosine", 960, -0.680, (0.350, 0.357, 0.359), (0.2078, 0.2131, 0.2147)),
    ],
)
def test_fast_transfer(schedule, steps, optimum, drifts, regrets):
    limit, told = modes.power_law(1.5, 0.8, 0.3, 100), modes.factors(schedule, steps)
    predicted = modes.fast_transfer(limit, schedule, steps)
    assert predicted.optimum == pytest.approx(optimum, abs=1e-3)
    for n, drift, regret in zip((4, 16, 64), drifts, regrets, strict=True):
        network = limit.resized(1 / n)
        best = network.optimum(told)
        paid = network.log_loss(predicted.optimum, told) - network.log_loss(best, told)
        assert n * (best - predicted.optimum) == pytest.approx(drift, abs=4e-3)
        assert n**2 * paid == pytest.approx(regret, rel=0.03)
        assert n * (best - predicted.optimum) == pytest.approx(predicted.drift, rel=0.5 / n)


@pytest.mark.parametrize(
    ("exponents", "measured"),
    [
        ((1.5, 0.6, 2.0), (-0.391, -0.385)),
        ((2.0, 0.3, 0.5), (-0.220, -0.224)),
        ((3.0, 0.9, 0.5), (-0.472, -0.473)),
        ((1.5, 0.9, 0.5), (-0.484, -0.481)),
    ],
)
def test_slopes_at_a_constant_rate(exponents, measured):
    alpha, beta, noise = exponents
    told = modes.thinned_power_law(alpha, beta, noise, 160, 1e7)
    best = [told.optimum(modes.factors("constant", T)) for T in (1000, 8000, 64_000)]
    slopes = np.diff(best) / math.log10(8)
    np.testing.assert_allclose(slopes, measured, atol=2e-3)
    predicted = modes.slope(alpha, beta, "constant")
    assert slopes[-1] == pytest.approx(predicted, abs=0.03)
    assert abs(slopes[-1] - modes.slope(alpha, beta, "cosine")) > 0.03


@pytest.mark.parametrize(
    ("schedule", "exponents", "measured"),
    [
        pytest.param(*("linear", (1.5, 0.6, 2.0), (-0.251, -0.240)), marks=pytest.mark.slow),
        pytest.param(*("linear", (2.0, 0.3, 0.5), (0.0, 0.0)), marks=pytest.mark.slow),
        pytest.param(*("linear", (3.0, 0.9, 0.5), (-0.310, -0.305)), marks=pytest.mark.slow),
        pytest.param(*("linear", (1.5, 0.9, 0.5), (-0.389, -0.383)), marks=pytest.mark.slow),
        pytest.param(*("cosine", (3.0, 0.9, 0.5), (-0.258, -0.248)), marks=pytest.mark.slow),
        ("cosine", (1.5, 0.9, 0.5), (-0.375, -0.370)),
    ],
)
def test_slopes_under_a_decay(schedule, exponents, measured):
    alpha, beta, noise = exponents
    told = modes.thinned_power_law(alpha, beta, noise, 160, 1e7)
    best = [told.optimum(modes.factors(schedule, T)) for T in (1000, 8000, 64_000)]
    slopes = np.diff(best) / math.log10(8)
    np.testing.assert_allclose(slopes, measured, atol=2e-3)
    assert abs(slopes[-1] - modes.slope(alpha, beta, "constant")) > 0.07


def test_slopes_are_told_by_the_way_in_which_a_schedule_vanishes():
    assert modes.slope(1.5, 0.6, "constant") == pytest.approx(-0.375)
    assert modes.slope(1.5, 0.6, "linear") == pytest.approx(-0.211, abs=5e-4)
    assert modes.slope(2.0, 0.3, "linear") == 0
    assert modes.slope(3.0, 0.9, "linear") == pytest.approx(-0.286, abs=5e-4)
    assert modes.slope(3.0, 0.9, "cosine") == pytest.approx(-0.189, abs=5e-4)
    assert modes.slope(1.5, 0.9, "cosine") == pytest.approx(-0.362, abs=5e-4)


def test_noise_that_a_linear_decay_leaves_in_one_mode():
    """v = sqrt(pi) / 4 s eta^{1/2} T^{-1/2} lambda^{-3/2}: .012533 at T 2000, eta .2, lambda .5."""
    one = modes.Modes(np.array([0.5]), np.array([0.0]), np.array([1.0]), np.array([1.0]))
    left = 2 * float(one.losses(np.array([0.2]), modes.factors("linear", 2000))[0]) / 0.5
    form = math.sqrt(math.pi) / 4 * 0.2**0.5 * 2000**-0.5 * 0.5**-1.5
    assert form == pytest.approx(0.012533, abs=1e-6)
    assert left == pytest.approx(0.012567, abs=2e-6)


def test_on_the_cliff_transfer_is_not_fast():
    limit = cliff.optimum(None, 512)
    for layers, drift, regret in ((2, 0.793, 19.0), (8, 0.790, 17.6), (32, 0.785, 17.1)):
        best = cliff.optimum(layers, 512)
        both = cliff.losses(layers, 10 ** np.array([limit, best]), 512)
        assert layers * (best - limit) == pytest.approx(drift, abs=2e-3)
        assert layers * math.log(both[0] / both[1]) == pytest.approx(regret, abs=0.06)
    assert 2 * math.log10(1 + 1.5) == pytest.approx(0.796, abs=5e-4)  # by which the edge moves


def test_the_demo_of_the_quadratic():
    experiment = get_experiment("horizons/quadratic")
    config = replace(experiment.presets["demo"], drawn_modes=100)
    found = compute(experiment, config)
    told = verdicts(experiment, config, found)
    assert {name for name, one in told.items() if one is Verdict.refuted} == set()
    for name in ("recursion", "cliff", "constant-slope-a", "constant-60-drift", "cosine-60-regret"):
        assert told[name] is Verdict.supported, name
    draw_all(experiment, config, found)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch):
    """Valleys whose best rate falls like T^-power, and drifts and rises with the layers."""
    plan = {"constant": (-0.5, 0.0), "cosine": (-0.2, 0.0)}
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.03, (64, 1, 1))

    def losses(shapes, parameterize, source, training, observe_at, *, key, probe, progress=None):
        power, drift = plan[training.schedule.decay]
        told = []
        for shape in shapes:
            place = -1.9 + power * np.log10(np.array(observe_at) / 60)
            place = place + drift * math.log2(shape.layers / 2)
            own = rng.normal(0, 0.01, (training.seeds, 1, 1))
            away = np.log10(training.rates)[:, None] - place - shared[: training.seeds] - own
            told.append(np.exp(2 * away**2 - 1))
        return np.array(told)

    monkeypatch.setattr(train, "ladder_losses", losses)
    return plan


SMALL = ledger.Config(
    axes=("layers",), optimizers=("adamw",), multiples=(1, 4), horizons=(60, 240), seeds=12
)


def test_a_ledger_on_planted_valleys(planted):
    experiment = ledger.EXPERIMENT
    found = compute(experiment, SMALL)
    told = verdicts(experiment, SMALL, found)
    assert set(told.values()) == {Verdict.supported}
    assert told["adamw-falls-at-constant-rate"] is Verdict.supported
    assert told["adamw-cosine-flattens"] is Verdict.supported
    assert draw_all(experiment, SMALL, found) == ["best-rates", "regrets", "valleys"]
    planted["constant"] = (-0.5, -0.3)  # the best rate falls with the depth, by what 1/L would
    told = verdicts(experiment, SMALL, compute(experiment, SMALL))
    for steps in (60, 240):
        assert told[f"adamw-layers-constant-{steps}-drift"] is Verdict.refuted
        assert told[f"adamw-layers-constant-{steps}-regret"] is Verdict.refuted
        assert told[f"adamw-layers-cosine-{steps}-regret"] is Verdict.supported
    planted["constant"] = (0.0, 0.0)  # no horizon at all
    told = verdicts(experiment, SMALL, compute(experiment, SMALL))
    assert told["adamw-falls-at-constant-rate"] is Verdict.refuted


def test_cells_of_a_constant_rate_share_their_runs():
    points = cells.NETWORKS.points(replace(SMALL, axes=("layers", "head_dim")))
    constant = [one for one in points if one.schedule == "constant"]
    assert {one.horizons for one in constant} == {(60, 240)}
    assert len(constant) == 3  # the base once, and one for each axis
    assert len(points) == 9
    grids = SMALL.grids("adamw", "constant")
    assert grids[240] == tuple(rate / 2 for rate in grids[60])


def test_sweeps_of_the_ledger_have_the_rates_of_their_horizon(planted):
    found = compute(ledger.EXPERIMENT, SMALL)
    from translimit.experiments import Found

    told = results.sweeps(Found(SMALL, found))
    long = told[cells.Entry("adamw", "layers", "constant", 240)]
    assert (long.steps, long.sizes, long.seeds) == (240, (2, 8), 12)
    assert long.rates == SMALL.grids("adamw", "constant")[240]
    assert long.optimum(2).value == pytest.approx(-1.9 - 0.5 * math.log10(4), abs=0.05)
    assert told[cells.Entry("adamw", "layers", "cosine", 240)].seeds == 8


def test_the_ledger_of_text_sees_its_bytes_about_once():
    config = ledger_text.EXPERIMENT.presets["standard"]
    assert config.epochs(1000) == pytest.approx(1000 * 8 * 32 / len(byte_text(2).ids))
    assert 1 < config.epochs(1000) < 1.5
    assert ledger.EXPERIMENT.presets["standard"].epochs(960) == pytest.approx(8.5, abs=0.1)
    shape = config.shape((4, 4, 2))
    assert shape.causal
    assert config.ruled(shape, "adamw").role("readout").init == 0


def test_batches_on_planted_valleys(monkeypatch):
    exponent = [0.5]

    def losses(shapes, parameterize, source, training, observe_at, *, key, probe, progress=None):
        rng = np.random.default_rng(training.batch)
        place = -1.7 + exponent[0] * math.log10(training.batch / 32)
        away = np.log10(training.rates) - place - rng.normal(0, 0.03, (training.seeds, 1))
        return np.exp(2 * away**2 - 1)[None, :, :, None]

    monkeypatch.setattr(train, "ladder_losses", losses)
    config = batch.Config()
    told = verdicts(batch.EXPERIMENT, config, compute(batch.EXPERIMENT, config))
    assert told == {"exponent": Verdict.supported, "root-beats-linear": Verdict.supported}
    draw_all(batch.EXPERIMENT, config, compute(batch.EXPERIMENT, config))
    exponent[0] = 1.0
    told = verdicts(batch.EXPERIMENT, config, compute(batch.EXPERIMENT, config))
    assert told == {"exponent": Verdict.refuted, "root-beats-linear": Verdict.refuted}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SMALL, multiples=(2, 4)), "multiples"),
        (lambda: replace(SMALL, images="synthetic"), "images"),
        (lambda: replace(SMALL, start="paper"), "start"),
        (lambda: replace(SMALL, adamw_rates=(-4, -3)), "adamw_rates"),
        (lambda: batch.Config(batch=16), "batches"),
        (lambda: batch.Config(examples=100), "examples"),
        (lambda: batch.Config(log2_rates=(-4, -3)), "log2_rates"),
    ],
)
def test_configurations_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledger", "ledger-text", "batch"])
def test_demos_train(name):
    experiment = get_experiment(f"horizons/{name}")
    config = experiment.presets["demo"]
    found = compute(experiment, config)
    assert Verdict.refuted not in verdicts(experiment, config, found).values()
    draw_all(experiment, config, found)
