"""Another batch and another number of steps: the printed rules, exact no-ops, and refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.core import ArgumentError, ArgumentTypeError, DataError
from translimit.scaling import batch_rule, critical_batch

pytestmark = pytest.mark.usefixtures("as_user")


def test_the_printed_rules_of_the_batch_axis():
    adam = batch_rule(batch=(8, 32), optimizer="adamw", betas=(0.9, 0.95))
    assert (adam.lr, adam.eps, adam.decay, adam.warmup) == (2, 0.5, 2, 0.25)
    assert adam.momentum is None
    plain = batch_rule(batch=(8, 32), optimizer="sgd")
    assert (plain.lr, plain.eps, plain.betas, plain.decay) == (4, None, None, 1)
    heavy = batch_rule(batch=(8, 32), optimizer="momentum", momentum=0.96)
    assert heavy.momentum == pytest.approx(0.84)
    assert heavy.lr == pytest.approx(16)  # kappa^2
    assert heavy.decay == pytest.approx(1)
    kept = batch_rule(batch=(8, 32), optimizer="momentum", momentum=0.96, memory="kept")
    assert (kept.lr, kept.momentum, kept.warmup) == (4, 0.96, 1)
    averaged = batch_rule(batch=(8, 32), optimizer="momentum", momentum=0.96, averaged=True)
    assert averaged.lr == 4
    for name in ("sign", "muon"):
        assert batch_rule(batch=(8, 32), optimizer=name).lr == 2
    assert batch_rule(batch=(8, 32), optimizer="muon").momentum == pytest.approx(0.95**4)


@pytest.mark.parametrize(
    ("kappa", "half_life"), [(2, 0.9025), (4, 0.8145), (8, 0.6634), (16, 0.4401)]
)
def test_betas_keep_their_half_life_in_examples(kappa, half_life):
    made = batch_rule(batch=(1, kappa), optimizer="adamw", betas=(0.5, 0.95), unsafe=True)
    assert abs(made.betas[1] - half_life) < 1e-4
    assert made.betas[0] == pytest.approx(0.5**kappa)


@given(st.floats(0.3, 3), st.floats(0.3, 3), st.sampled_from(["sgd", "momentum", "adamw", "muon"]))
@settings(max_examples=30)
def test_two_steps_in_a_row_are_one(first, second, optimizer):
    options = {"optimizer": optimizer, "unsafe": True, "betas": (0.97, 0.99), "duration": "sqrt"}
    once = batch_rule(batch=(1, first * second), steps=(1, 4), momentum=0.97, **options)
    one = batch_rule(batch=(1, first), steps=(1, 2), momentum=0.97, **options)
    two = batch_rule(
        batch=(1, second),
        steps=(1, 2),
        momentum=0.97 if one.momentum is None else one.momentum,
        **{**options, "betas": one.betas or (0.97, 0.99)},
    )
    assert once.lr == pytest.approx(one.lr * two.lr)
    assert once.decay == pytest.approx(one.decay * two.decay)
    if once.betas:
        assert once.betas == pytest.approx(two.betas)
    if once.momentum is not None:
        assert once.momentum == pytest.approx(two.momentum)


def test_duration_and_decay():
    """At twice the examples the root keeps the diffusion; nanochat has the decay `timescale`."""
    longer = {"batch": (8, 32), "steps": (100, 50), "optimizer": "adamw"}
    assert batch_rule(**longer).lr == 2
    assert batch_rule(**longer, duration="sqrt").lr == pytest.approx(2**0.5)  # (kappa / m_D)^1/2
    assert batch_rule(**longer, duration=-0.3).lr == pytest.approx(2 * 2**-0.3)
    assert batch_rule(**longer).decay == pytest.approx(2 / 2)  # kappa^1/2 / m_D
    assert batch_rule(**longer, decay="constant").decay == 0.5
    assert batch_rule(**longer, decay="independent").decay == 1
    assert "folklore" in " ".join(batch_rule(**longer).assumptions)
    assert "falls with the length" in " ".join(batch_rule(**longer).warnings)
    assert "more than one epoch" in batch_rule(**longer, dataset=100).warnings[-1]
    assert "buys nothing" in " ".join(batch_rule(**longer, critical=16).warnings)


def test_the_rate_saturates_at_the_critical_batch():
    """The best one-step rate of a noisy mode, from the mean and the variance of its gradient."""
    signal, noise = 1.0, 48.0  # B_crit = 48

    def best(batch):  # minimises E (w - eta g)^2 for g of mean w = 1: eta = 1 / (1 + noise / B)
        return signal / (signal + noise / batch)

    for batch in (3, 12, 48, 768):
        made = batch_rule(batch=(12, batch), optimizer="sgd", critical=48)
        assert made.lr == pytest.approx(best(batch) / best(12))
        adam = batch_rule(
            batch=(12, batch), optimizer="adam", critical=48, memory="kept", unsafe=True
        )
        assert adam.lr == pytest.approx((best(batch) / best(12)) ** 0.5)
        assert adam.eps == pytest.approx(1 / adam.lr)


def stationary_adam(kappa, lr, betas, epochs, draw):
    """Variance of noise-dominated weights under Adam at a batch kappa times as large."""
    curvature, w = 0.2, np.zeros(8000)
    m, v = np.zeros(8000), np.ones(8000) / kappa
    total, count = 0.0, 0
    steps = round(epochs / kappa)
    for step in range(steps):
        g = curvature * w + draw.normal(size=8000) * kappa**-0.5
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * m / np.sqrt(v)
        if step > steps // 2:
            total, count = total + w.var(), count + 1
    return total / count


def test_the_square_root_keeps_the_variance_and_linear_does_not():
    """Adam on noise-dominated coordinates: 1 for the root, 2 linear, 1/2 unscaled, within .05."""
    betas, lr = (0.9, 0.999), 0.01
    made = batch_rule(batch=(1, 4), optimizer="adam", betas=betas)
    base = stationary_adam(1, lr, betas, 5000, np.random.default_rng(0))
    for factor, expected in ((made.lr, 1.0), (4.0, 2.0), (1.0, 0.5)):
        found = stationary_adam(4, lr * factor, made.betas, 5000, np.random.default_rng(1))
        assert abs(found / base / expected - 1) < 0.05, factor


def heavy_ball(lr, mu, kappa, curvature=0.005):
    """Stationary variance, by the exact second moments of (w, velocity)."""
    step = np.array([[1 - lr * curvature, -lr * mu], [curvature, mu]])
    push = np.array([-lr, 1.0])
    noise = np.outer(push, push) / kappa
    flat = np.linalg.solve(np.eye(4) - np.kron(step, step), noise.reshape(-1))
    return flat[0]


def test_heavy_ball_with_rescaled_memory_needs_the_square_of_the_batch():
    base = heavy_ball(0.01, 0.96, 1)
    for kappa in (2, 4, 8):
        made = batch_rule(batch=(1, kappa), optimizer="momentum", momentum=0.96)
        ratio = heavy_ball(0.01 * made.lr, made.momentum, kappa) / base
        assert abs(ratio - 1) < 0.01
        linear = heavy_ball(0.01 * kappa, made.momentum, kappa) / base
        assert abs(linear - 1 / kappa) < 0.01  # a quarter of the variance at kappa = 4
        kept = batch_rule(batch=(1, kappa), optimizer="momentum", momentum=0.96, memory="kept")
        assert abs(heavy_ball(0.01 * kept.lr, 0.96, kappa) / base - 1) < 0.02


def test_the_critical_batch_is_unbiased_and_has_an_error():
    """Gradients of mean 1 in 50 entries and noise of variance 450 / 50 each: B_crit = 450 / 50."""
    draw = np.random.default_rng(0)
    mean, steps = np.ones(50), 4000
    squares = np.array(
        [
            ((mean + draw.normal(size=(steps, 50)) * (9 / batch) ** 0.5) ** 2).sum(axis=1)
            for batch in (4, 16)
        ]
    )
    found = critical_batch((4, 16), squares)
    assert found.count == steps
    assert abs(found.value - 9) < 4.5 * found.stderr < 1.0
    assert math.isnan(critical_batch((4, 16), squares.mean(axis=1)).stderr)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch": (0, 4)}, ArgumentError, "batch: got 0"),
        ({"batch": (4, -1)}, ArgumentError, "batch: got -1"),
        ({"steps": (10, 0)}, ArgumentError, "steps: got 0"),
        ({"batch": 4}, ArgumentTypeError, "pass a pair, base and target"),
        ({"batch": (1, 16)}, ArgumentError, "0.9 becomes 0.185 at a batch 16 times as large"),
        ({"batch": (1, 4), "optimizer": "momentum", "momentum": 0.5}, ArgumentError, "kept"),
        ({"batch": (1, 2), "clipping": True}, ArgumentError, "tune the clip again"),
        ({"optimizer": "adafactor"}, ArgumentError, "unknown optimizer 'adafactor'"),
        ({"optimizer": "lamb"}, ArgumentError, "unknown optimizer 'lamb'"),
        ({"duration": "root"}, ArgumentError, "duration: got 'root'"),
        ({"memory": "keep"}, ArgumentError, "did you mean 'kept'"),
        ({"decay": "width"}, ArgumentError, "decay: got 'width'"),
        ({"critical": 0.0}, ArgumentError, "critical: got 0.0"),
    ],
)
def test_what_is_refused(options, kind, message):
    with pytest.raises(kind) as refused:
        batch_rule(**{"batch": (8, 16), "optimizer": "adamw", **options})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (((4, 4), [1, 1]), ArgumentError, "pass B_1 < B_2"),
        (((4, 8), [[1, 2, 3]]), ArgumentError, "have shape (1, 3)"),
        (((4, 8), [1.0, 2.0]), DataError, "do not resolve signal and noise"),
        (((4, 8), [1.0, math.nan]), ArgumentError, "not all finite"),
    ],
)
def test_squares_that_tell_no_critical_batch(arguments, kind, message):
    with pytest.raises(kind) as refused:
        critical_batch(*arguments)
    assert message in str(refused.value)
