"""Experiments over sizes of trained networks: planted laws are found, and small runs hold up."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from tests.experiments.checks import draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.bordelon2024 import lm_sizes, spatial_kernels, vit_and_lm, vit_sizes
from translimit.experiments.noci2023 import training

SEEDS, PROBE, STEPS = 64, 6, 20
SIZES = vit_and_lm.Sizes(base=(4, 4, 2), head_dims=(4, 16), heads=(2, 4, 8, 64), layers=(1, 2))


def planted(size, alpha_A=1.0, power=0.5, salt=0):
    """A record whose kernels are off by (N H)^(-power) and whose scores vary as the law says.

    After training their variance falls like N^(0.7 (1 - 2 alpha_A)), and 1/2 gains on 1 with N.
    """
    N, H, L = size
    rng = np.random.default_rng([N, H, L, salt])
    noise = rng.normal(size=(2, SEEDS, L + 1, PROBE, PROBE))
    mean = np.eye(PROBE) + 0.5 * np.array([0, 1])[:, None, None, None, None]  # learned
    kernel = mean + 0.08 * (N * H / 8) ** -power * (noise + noise.swapaxes(-1, -2))
    kernel = kernel * (1.0 if alpha_A == 1 else 1.1)
    variance = N ** ((1 - 2 * alpha_A) * np.array([1, 0.7])[:, None, None])
    gained = 0.0 if alpha_A == 1 else 0.05 * np.log(N / 8)
    axes = ("observation", "seed")
    square = (*axes, "level", "sample", "sample_2")
    spatial = (*axes, "level", "token", "token_2")
    scores = rng.normal(0, 1.0, (2, SEEDS, L, H, 4))
    return xr.Dataset(
        {
            "loss": (("seed", "step"), 2 - rng.uniform(size=(SEEDS, STEPS)) / L),
            "probe_loss": (axes, 1 + 1 / H - gained + 0.01 * rng.normal(size=(2, SEEDS))),
            "accuracy": (axes, rng.uniform(size=(2, SEEDS))),
            "stream_kernel": (square, kernel),
            "gradient_kernel": (square, kernel),
            "spatial_kernel": (spatial, kernel),
            "spatial_gradient_kernel": (spatial, kernel),
            "score": ((*axes, "layer", "head", "place"), scores),
            "attention": ((*axes, "layer", "head", "place"), scores),
            "score_head_var": (
                (*axes, "layer"),
                variance * rng.chisquare(30, (2, SEEDS, L)) / 30,
            ),
            "score_change_common": ((*axes, "layer"), rng.normal(1, 0.1, (2, SEEDS, L))),
            "score_change_head_var": (
                (*axes, "layer"),
                variance * rng.chisquare(30, (2, SEEDS, L)) / 30,
            ),
            "attention_head_var": ((*axes, "layer"), rng.uniform(size=(2, SEEDS, L))),
            "diverged_at": ("seed", np.full(SEEDS, -1)),
            "updates": ("observation", [0, STEPS]),
        },
        coords={"seed": np.arange(SEEDS), "step": np.arange(STEPS)},
        attrs={"floor": 0.1, "unigram": 3.0, "bigram": 2.0, "parameters": 100, "tokens": 8},
    )


def plant(experiment, config, changes=lambda alpha_A: {"alpha_A": alpha_A}):
    """Records of every cell."""
    return {
        cell.name: planted(
            cell.parameters["size"], **changes(cell.parameters["alpha_A"]), salt=place
        )
        for place, cell in enumerate(experiment.cells(config))
    }


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (vit_sizes, {"patch": (8, 8)}),
        (vit_sizes, {"patch": (3, 2)}),
        (vit_sizes, {"probe": 3}),
        (lm_sizes, {"tokens": 5}),
        (lm_sizes, {"probe": 3}),
        (lm_sizes, {"vocabulary": 255}),
    ],
)
def test_what_has_no_place_for_the_scores_that_are_followed_is_refused(kind, change):
    (field,) = change
    with pytest.raises(ConfigError, match=f"^{field}: got .*; "):
        kind.Config(**change)


def test_planted_laws_of_the_vision_transformers_are_found():
    experiment = get_experiment("bordelon2024/vit-sizes")
    config = vit_sizes.Config(sizes=SIZES, probe=PROBE, steps=STEPS, seeds=SEEDS)
    results = plant(experiment, config)
    assert set(verdicts(experiment, config, results).values()) == {Verdict.supported}
    draw_all(experiment, config, results)
    wrong = plant(experiment, config, lambda alpha_A: {"alpha_A": 0.5, "power": 1.0})
    found = verdicts(experiment, config, wrong)
    assert found["stream-kernel-H-before"] is Verdict.refuted
    assert found["head-variance-N-1-before"] is Verdict.refuted
    assert found["head-variance-N-1-after"] is not Verdict.supported
    assert found["change-head-variance-N"] is Verdict.refuted


def test_planted_laws_of_the_language_models_are_found():
    experiment = get_experiment("bordelon2024/lm-sizes")
    sizes = replace(SIZES, head_dims=(4, 64))  # as wide along N as along H
    config = lm_sizes.Config(sizes=sizes, steps=STEPS, seeds=SEEDS)
    results = plant(experiment, config)
    found = verdicts(experiment, config, results)
    reported = [found.pop(f"one-better-along-{axis}-as-reported") for axis in ("N", "H")]
    assert reported == [Verdict.refuted, Verdict.supported]
    assert set(found.values()) == {Verdict.supported}
    draw_all(experiment, config, results)
    same = plant(experiment, config, lambda alpha_A: {})
    found = verdicts(experiment, config, same)
    assert found["head-variance-N-0.5-before"] is Verdict.refuted
    nothing = [name for name in found if name.startswith(("half-", "one-", "kernels-not-equal"))]
    assert len(nothing) == 6
    assert Verdict.supported not in {found[name] for name in nothing}


def test_planted_spatial_kernels():
    experiment = get_experiment("bordelon2024/spatial-kernels")
    sizes = replace(SIZES, head_dims=(4, 16, 64), layers=(2, 4, 8))
    config = spatial_kernels.Config(sizes=sizes, seeds=SEEDS)
    results = {}
    for size in sizes.all():
        record = planted(size)
        moved = 1 + 8 / size[2]  # the mean has a limit along L
        for name in ("spatial_kernel", "spatial_gradient_kernel"):
            record[name] = record[name] * moved
        results[vit_and_lm.label(size)] = record
    assert set(results) == {cell.name for cell in experiment.cells(config)}
    assert set(verdicts(experiment, config, results).values()) == {Verdict.supported}
    draw_all(experiment, config, results)
    for layers in sizes.layers:
        data = results[vit_and_lm.label(sizes.at("L", layers))]
        data["spatial_kernel"] = data["spatial_kernel"] * np.log2(layers) / (1 + 8 / layers)
    found = verdicts(experiment, config, results)
    assert found["stream-L-after"] is not Verdict.supported


def test_a_network_that_diverged_leaves_its_rates_open():
    experiment = get_experiment("bordelon2024/vit-sizes")
    config = vit_sizes.Config(sizes=SIZES, probe=PROBE, steps=STEPS, seeds=SEEDS)
    results = plant(experiment, config)
    for size in SIZES.along("H"):
        results[f"alpha=1/{vit_and_lm.label(size)}"]["stream_kernel"][1, 0] = np.nan
    found = verdicts(experiment, config, results)
    assert found["stream-kernel-H-after"] is Verdict.underpowered
    assert found["stream-kernel-H-before"] is Verdict.supported


def test_shaped_training_counts_a_diverged_member_as_the_worst():
    experiment = get_experiment("noci2023/training")
    config = training.Config(depths=(2, 4), steps=20, seeds=3, rates=(0.1, 0.2))
    end = {"shaped": 0.2, "pre-norm": 0.3, "unshaped": 2.0}
    results = {}
    for cell in experiment.cells(config):
        losses = np.linspace(2.3, end[cell.parameters["kind"]], 20) + 0.01 * np.arange(3)[:, None]
        losses = np.stack([losses, np.full((3, 20), np.nan)], axis=1)
        found = xr.Dataset(
            {"loss": (("seed", "rate", "step"), losses)},
            coords={"seed": np.arange(3), "rate": list(config.rates), "step": np.arange(20)},
        )
        results[cell.name] = found.assign(diverged_at=(("seed", "rate"), [[-1, 3]] * 3))
    assert set(verdicts(experiment, config, results).values()) == {Verdict.supported}
    draw_all(experiment, config, results)


def test_absent_files_are_named_with_their_form():
    vit, lm = (get_experiment(f"bordelon2024/{name}-sizes") for name in ("vit", "lm"))
    with pytest.raises(ConfigError, match=r"CIFAR-5M.*\.npz.*numpy\.savez"):
        vit.compute_cell(vit.presets["paper"], vit.cells(vit.presets["paper"])[0], 0)
    with pytest.raises(ConfigError, match=r"C4.*uint16"):
        lm.compute_cell(lm.presets["paper"], lm.cells(lm.presets["paper"])[0], 0)
    assert vit.presets["paper"].sizes.base == (16, 16, 4)
    assert lm.presets["paper"].sizes.base == (8, 8, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("bordelon2024/vit-sizes", {"sizes": SIZES, "steps": 20, "seeds": 4, "probe": 8}),
        ("bordelon2024/lm-sizes", {"sizes": SIZES, "steps": 20, "seeds": 4, "probe": 8}),
        ("bordelon2024/spatial-kernels", {"sizes": SIZES, "steps": 20, "seeds": 4}),
        ("noci2023/training", {"depths": (2, 4), "rates": (0.01,), "steps": 20, "seeds": 2}),
    ],
)
def test_small_runs(name, changes):
    experiment = get_experiment(name)
    config = replace(experiment.presets["demo"], **changes)
    results = {c.name: experiment.compute_cell(config, c, 0) for c in experiment.cells(config)}
    found = verdicts(experiment, config, results)
    variance = found.get("head-variance-N-1-before")
    assert variance is not Verdict.refuted
    draw_all(experiment, config, results)
