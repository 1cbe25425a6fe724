"""Cross-entropy and language models: what is measured of outputs, and small experiments."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from translimit.core import ConfigError
from translimit.experiments import check_experiment, get_experiment
from translimit.experiments.bordelon2024 import class_losses, class_problem, language_models
from translimit.experiments.bordelon2024.class_problem import Config
from translimit.experiments.bordelon2024.language_models import Config as Models
from translimit.experiments.bordelon2024.limit_and_networks import Limit, Networks
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.bordelon2024.tasks import digit_classes

F = np.random.default_rng(0).normal(size=(5, 2, 3, 4, 6))
LABELS = np.where(np.random.default_rng(1).uniform(size=(3, 4)) < 0.3, -1, 2)


def test_row_losses_and_accuracies() -> None:
    p = np.exp(F) / np.exp(F).sum(axis=-1, keepdims=True)
    losses = class_losses.row_losses(F, LABELS)
    counted = LABELS >= 0
    np.testing.assert_allclose(losses[..., counted], -np.log(p[..., 2])[..., counted])
    assert np.isnan(losses[..., ~counted]).all()
    # Stored outputs have the outputs of all tokens of an input in one axis.
    flat = F.reshape(5, 2, 3, 24)
    np.testing.assert_array_equal(class_losses.row_losses(flat, LABELS), losses)
    np.testing.assert_allclose(
        class_losses.losses(flat, LABELS), losses[..., counted].mean(axis=-1), rtol=1e-12
    )
    right = (F.argmax(axis=-1) == 2)[..., counted].mean(axis=-1)
    np.testing.assert_allclose(class_losses.accuracies(flat, LABELS), right)
    tied = class_losses.accuracies(0 * flat, LABELS)
    np.testing.assert_allclose(tied, 1 / 6)
    places = class_losses.by_position(losses)
    shown = counted.any(axis=0)
    assert places.shape == (5, 2, shown.sum())
    np.testing.assert_allclose(places[..., 0], np.nanmean(losses[..., np.argmax(shown)], axis=-1))
    pooled = class_losses.losses(F[:, 0, :, 0], LABELS.max(axis=1))
    np.testing.assert_allclose(pooled, -np.log(p[:, 0, :, 0, 2]).mean(axis=-1), rtol=1e-12)


def test_the_ratio_of_distances_has_its_error() -> None:
    """Against the spread of the ratio over many repeats."""
    rng = np.random.default_rng(2)
    a, b = 4 + rng.normal(size=(2000, 50)), 1 + 0.5 * rng.normal(size=(2000, 50))
    ratios = [class_losses.distance_ratio(*pair) for pair in zip(a, b, strict=True)]
    values = np.array([one.value for one in ratios])
    assert values.mean() == pytest.approx(4, rel=0.02)
    assert np.mean([one.stderr for one in ratios]) == pytest.approx(values.std(), rel=0.1)


def test_problems() -> None:
    x, labels = digit_classes(2, 3)
    assert x.shape == (6, 4, 16)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    own = Config()
    assert own.limit().classes == own.classes == 3
    assert own.limit().equations.targets.shape == (6, 3)
    squared = replace(own, loss="squared").limit()
    np.testing.assert_array_equal(squared.targets, np.eye(3)[labels])
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"task": "ring"}, "task: got 'ring'"),
        ({"inputs": 7}, "inputs: got 7 of 3 classes; pass a multiple of 3"),
    )
    for change, message in changes:
        with pytest.raises(ConfigError, match=message):
            Config(**change)
    models = Models()
    recall = models.problem("recall")
    assert (recall.fields(), recall.limit().vocabulary) == (64, 8)
    assert models.problem("markov-qk").qk_norm == "rms"


def planted(problem: OwnProblem) -> np.ndarray:
    """Outputs that grow towards the labels [steps, inputs, tokens * outputs], by loss and rate."""
    y = problem.data()[1]
    labels = y if y.dtype.kind in "iu" else y.argmax(axis=-1)
    classes = problem.vocabulary or int(labels.max()) + 1
    wave = 0.3 * np.sin(np.arange(labels.size * classes)).reshape(*labels.shape, classes)
    towards = (labels >= 0)[..., None] * (np.eye(classes)[labels] - 1 / classes) + wave
    size = problem.eta0 * (0.7 if problem.loss == "squared" else 1.0) * problem.gamma0**0.2
    f = 3 * size * np.arange(problem.steps).reshape(-1, *[1] * towards.ndim) / problem.steps
    return (f * towards).reshape(problem.steps, len(labels), -1)


def planted_limit(problem: OwnProblem, key: Any, **more: Any) -> Limit:
    f = planted(problem)
    kernel = np.ones((problem.steps, problem.inputs, problem.inputs))
    course = np.linspace(2, 1, problem.steps)
    return Limit(
        predictions=f,
        predictions_stderr=np.full_like(f, 1e-4),
        kernel=kernel,
        kernel_stderr=1e-3 * kernel,
        loss=course,
        sharpness=course,
        score=np.ones((problem.steps, 7)),
        lazy=0.7 * f,
    )


def planted_networks(
    problem: OwnProblem, key: Any, *, heads: int, seeds: int, **more: Any
) -> Networks:
    """The limit, a bias of order 1 / H, and a start of each network of order H^(-1/2)."""
    f, rng = planted(problem), np.random.default_rng(heads)
    shape = (seeds, *f.shape)
    start = rng.standard_normal((seeds, 1, *f.shape[1:])) * (0.1 if problem.centred else 0.5)
    noise = start + 0.1 * rng.standard_normal(shape)
    out = f - 0.6 * f / heads + noise / heads**0.5
    y = problem.data()[1]
    flat = np.zeros((seeds, problem.steps))
    return Networks(
        predictions=out,
        kernel=np.ones((seeds, problem.steps, problem.inputs, problem.inputs)),
        loss=class_losses.losses(out, y) if y.dtype.kind in "iu" else flat,
        accuracy=class_losses.accuracies(out, y) if y.dtype.kind in "iu" else flat,
        score=np.ones((*flat.shape, heads)),
        motion=flat,
        variation=flat,
        heads=heads,
        head_dim=2,
        layers=1,
    )


@pytest.mark.parametrize(
    "name", ["dmft-cross-entropy", pytest.param("dmft-tokens", marks=pytest.mark.slow)]
)
def test_claims_find_what_is_planted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, limits, losses and positions of outputs that are drawn; nothing is solved."""
    for module in (class_problem, language_models):
        monkeypatch.setattr(module, "solve_limit", planted_limit)
        monkeypatch.setattr(module, "train_networks", planted_networks)
    experiment = get_experiment(f"bordelon2024/{name}")
    own = {"seeds": 4000}
    own |= {"pair_seeds": 2000} if name == "dmft-cross-entropy" else {"recall_seeds": 2000}
    config = replace(experiment.presets["demo"], **own)
    cells = experiment.cells(config)
    results = {one.name: experiment.compute_cell(config, one, 0) for one in cells}
    claims = experiment.check(config, results)
    assert [one.name for one in claims] == list(experiment.claim_names(config))
    verdicts = {one.name: one.verdict.value for one in claims if one.name != "accuracy"}
    assert set(verdicts.values()) == {"supported"}, verdicts
    for drawing in experiment.drawings(config, results):
        drawing.draw(Canvas())
        assert drawing.table.rows


SMALL: dict[str, dict[str, Any]] = {
    "dmft-cross-entropy": {
        "inputs": 3,
        "steps": 3,
        "samples": 100,
        "neurons": 100,
        "populations": 2,
        "sizes": (2, 4, 8),
        "seeds": 8,
        "pair": (2, 4),
        "pair_seeds": 8,
    },
    "dmft-tokens": {
        "models": ("markov-qk", "recall"),
        "sentences": 2,
        "tokens": 3,
        "blocks": 2,
        "block": 2,
        "words": 3,
        "bytes": 3,
        "steps": 3,
        "samples": 100,
        "neurons": 100,
        "populations": 2,
        "sizes": (2, 4),
        "seeds": 8,
        "recall_seeds": 8,
    },
    "dmft-rich-classes": {
        "gammas": (0.1, 0.2, 0.4),
        "layers": 1,
        "per_class": 1,
        "steps": 3,
        "long": 4,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_experiments_at_small_sizes(name: str) -> None:
    experiment = get_experiment(f"bordelon2024/{name}")
    config = replace(experiment.presets["demo"], **SMALL[name])
    assert check_experiment(experiment, config).failed == {}
