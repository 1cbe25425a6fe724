"""Schedules and horizons of sweeps: runs that share their beginning are the runs of their own."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from translimit.checks import (
    FactoryError,
    JaxModel,
    Trial,
    horizon_sweeps,
    schedule_factor,
    shifted_grids,
    sweep_plan,
    transfer_sweep,
)
from translimit.core import ArgumentError, Json
from translimit.describe import Size
from translimit.train import Schedule

BASE = Size(head_dim=8, heads=2, layers=2, mlp_ratio=2)
RATES = (0.01, 0.02, 0.04)


def written(schedule, t, T):
    """The forms as they are written in the documentation."""
    return {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * t / (T - 1))),
        "linear": 1 - t / (T - 1),
        "wsd": min(1.0, 4 * (1 - t / T)),
    }[schedule]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
def test_forms_of_schedules(schedule):
    for T in (2, 7, 60):
        for t in range(T):
            form = written(schedule, t, T)
            assert schedule_factor(schedule, t, T) == pytest.approx(form, abs=1e-12)
            assert Schedule(decay=schedule).factor(t, T) == pytest.approx(form, abs=1e-12)
    ending = Schedule(warmup=3, decay=schedule, final=0.1)
    assert [ending.factor(t, 12) for t in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])
    floor = 1.0 if schedule == "constant" else 0.1
    assert ending.factor(11, 12) == pytest.approx(floor, abs=0.45 if schedule == "wsd" else 1e-12)


def least_squares(trial, optimizer=None):
    """A linear model: every run can be repeated by hand."""
    rng = np.random.default_rng(trial.seed)
    start = rng.standard_normal(3) * (1 + trial.size.layers / 10)
    rates = optimizer or (lambda rate: optax.sgd(rate, momentum=0.5))

    def batch(step):
        draw = np.random.default_rng((step, trial.seed))
        x = draw.standard_normal((4, 3)).astype(np.float32)
        return x, x @ np.array([1.0, -2.0, 0.5], np.float32)

    def loss(w, data):
        return jnp.mean((data[0] @ w - data[1]) ** 2) + 1e-3

    return JaxModel(
        parameters=jnp.asarray(start, jnp.float32),
        optimizer=rates(trial.rate),
        loss=loss,
        fields=lambda w, data: {"output": data[0] @ w},
        batch=batch,
        probe=[batch(1000)],
    )


def by_hand(trial, schedule, T):
    """Heavy ball, v <- mu v + g, w <- w - eta f v, written out in NumPy."""
    made = least_squares(trial)
    w, v = np.asarray(made.parameters, np.float64), np.zeros(3)
    for t in range(T):
        x, y = (np.asarray(one, np.float64) for one in made.batch(t))
        v = 0.5 * v + 2 * x.T @ (x @ w - y) / 4
        w = w - trial.rate * written(schedule, t, T) * v
    x, y = made.batch(1000)
    return np.mean((x @ w - y) ** 2) + 1e-3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
def test_jax_runs_are_those_of_momentum_written_out(schedule):
    found = horizon_sweeps(
        least_squares,
        "layers",
        (2, 4),
        base=BASE,
        rates=RATES,
        horizons=(3, 8, 16),
        schedule=schedule,
        seeds=2,
        cap=1e6,
    )
    assert [one.steps for one in found] == [3, 8, 16]
    for one in found:
        assert one.schedule == schedule
        for place, layers in enumerate((2, 4)):
            for seed in range(2):
                for column, rate in enumerate(one.rates):
                    trial = Trial(
                        base=BASE, size=replace(BASE, layers=layers), seed=seed, rate=rate
                    )
                    told = by_hand(trial, schedule, one.steps)
                    assert one.losses[place, seed, column] == pytest.approx(told, rel=2e-4)


def test_an_optax_schedule_is_own():
    def cosine(trial):
        rates = optax.cosine_decay_schedule(trial.rate, trial.steps - 1)
        return least_squares(trial, lambda rate: optax.sgd(rates, momentum=0.5))

    options = {"base": BASE, "rates": RATES, "seeds": 1, "horizons": (4, 9)}
    own = horizon_sweeps(cosine, "layers", (2, 4), schedule="own", **options)
    ours = horizon_sweeps(least_squares, "layers", (2, 4), schedule="cosine", **options)
    for one, other in zip(own, ours, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)


def test_grids_follow_the_root_of_the_horizon_by_whole_points():
    rates = tuple(2.0**k for k in range(-4, 0))
    short, four, sixteen = shifted_grids(rates, (10, 40, 160))
    assert short == rates
    assert four == tuple(rate / 2 for rate in rates)
    assert sixteen == tuple(rate / 4 for rate in rates)
    fine = tuple(2.0 ** (k / 2) for k in range(-6, 0))
    assert shifted_grids(fine, (10, 40))[1][2:] == fine[:-2]  # the same floats: one run


def test_a_diverged_run_stays_at_the_cap_and_others_go_on():
    found = horizon_sweeps(
        least_squares, "layers", (2, 4), base=BASE, rates=(0.02, 0.04, 1e30), seeds=1,
        horizons=(2, 30), schedule="wsd",
    )  # fmt: skip
    assert np.all(found[1].losses[..., 2] == 10.0)
    assert np.all(found[1].losses[..., :2] < 10.0)


def test_what_sweeps_cost_is_counted():
    plan = sweep_plan(
        least_squares, "layers", (2, 4), base=BASE, rates=RATES, horizons=(4, 16), seeds=2
    )
    cells = list(plan.cells())
    assert len(cells) == 2 * 2
    assert [len(plan.runs(own)) for _, _, own in cells] == [4] * 4  # grids of 3, shifted by one
    assert plan.updates(cells[0][2]) == 4 + 3 * 16  # the highest rate is not needed after 4
    wsd = sweep_plan(
        least_squares, "layers", (2, 4), base=BASE, rates=RATES, horizons=(4, 16), seeds=2,
        schedule="wsd",
    )  # fmt: skip
    assert wsd.updates((4, 16)) == 3 * (13 + 0 + 3)  # 13 stable steps, and tails of 0 and 3
    assert wsd.seconds() > 0
    names: dict[str, Json] = {plan.name(*cell): [[1.0] * 3] * 2 for cell in cells}
    assert plan.seconds(names) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"horizons": (8, 4)}, "steps: got"),
        ({"horizons": ()}, "steps: got"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"seeds": 0}, "seeds: got 0"),
        ({"rates": (0.1, 0.1, 0.2)}, "rates: got"),
        ({"rates": (-0.1, 0.1, 0.2)}, "rates: got -0.1; pass a positive number"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_refusals(changed, message):
    options = {"base": BASE, "rates": RATES, "horizons": (4, 8), **changed}
    with pytest.raises(ArgumentError, match=message):
        horizon_sweeps(least_squares, "layers", (2, 4), **options)


class TestTorch:
    """The same for PyTorch, whose runs are returned to a state that was kept."""

    @pytest.fixture(autouse=True)
    def toy(self):
        self.torch = pytest.importorskip("torch", reason="torch is not installed")
        sys.path.insert(0, str(Path(__file__).parent))
        import toy

        def factory(trial, dropout=0.1, **changed):
            made = toy.toy(trial)
            for module in made.model.modules():
                if isinstance(module, self.torch.nn.Dropout):
                    module.p = dropout
            return replace(made, **changed)

        self.factory = factory

    def trial(self, rate=0.02, steps=0):
        return Trial(base=BASE, size=BASE, seed=1, rate=rate, steps=steps)

    @pytest.mark.parametrize("schedule", ["constant", "wsd"])
    def test_runs_that_share_a_beginning(self, schedule):
        """Also random numbers of dropout, moments of Adam and rates are come back to."""
        self.torch.manual_seed(5)
        together = self.factory(self.trial()).train_through((4, 8, 12), schedule)
        for place, steps in enumerate((4, 8, 12)):
            self.torch.manual_seed(5)
            alone = self.factory(self.trial()).train(steps, schedule)
            assert together[place] == pytest.approx(alone, rel=1e-6)
        assert len(set(together)) == 3

    def test_a_scheduler_of_the_factory_is_own(self):
        def scheduled(trial):
            made = self.factory(trial, dropout=0.0)
            last = max(1, trial.steps - 1)
            cosine = self.torch.optim.lr_scheduler.LambdaLR(
                made.optimizers[0], lambda t: 0.5 * (1 + math.cos(math.pi * t / last))
            )
            return replace(made, scheduler=cosine)

        own = scheduled(self.trial(steps=7)).train(7, "own")
        ours = self.factory(self.trial(), dropout=0.0).train(7, "cosine")
        assert own == pytest.approx(ours, rel=1e-6)
        with pytest.raises(FactoryError, match="sweep with schedule 'own'"):
            scheduled(self.trial(steps=7)).train(7, "cosine")

    def test_rates_of_groups_keep_their_ratios(self):
        made = self.factory(self.trial())
        groups = made.optimizers[0].param_groups
        before = np.array([group["lr"] for group in groups])
        seen = []
        right = type(made.optimizers[0]).step

        def watched(optimizer, *given, **more):
            seen.append([group["lr"] for group in optimizer.param_groups])
            return right(optimizer, *given, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(made.optimizers[0]), "step", watched)
            made.train(5, "linear")
        np.testing.assert_allclose(seen, np.outer([1, 0.75, 0.5, 0.25, 0], before), atol=1e-12)

    def test_a_sweep_of_one_horizon_is_one_of_several(self):
        options = {"base": BASE, "rates": (0.005, 0.02, 0.08), "seeds": 1}
        whole = horizon_sweeps(self.factory, "layers", (1, 2), horizons=(2, 8), **options)
        one = transfer_sweep(self.factory, "layers", (1, 2), steps=2, **options)
        np.testing.assert_allclose(whole[0].losses, one.losses, rtol=1e-6)


def test_moves_keep_the_precision_of_their_parameters():
    """A factor of the rate does not widen half precision, and is exact in double."""
    with jax.enable_x64(True):
        wide = least_squares(Trial(base=BASE, size=BASE, seed=0, rate=0.02))
        for dtype in (jnp.bfloat16, jnp.float64):
            made = replace(wide, parameters=wide.parameters.astype(dtype))
            moved, _, _ = made._scheduled(
                made.parameters, made._first_state(), np.float64(0.3), made.batch(0)
            )
            assert moved.dtype == dtype
