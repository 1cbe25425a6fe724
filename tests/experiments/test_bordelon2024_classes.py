"""Cross-entropy and language models: what is measured of outputs, and small experiments."""

from dataclasses import replace

import numpy as np
import pytest

from translimit.core import ConfigError
from translimit.experiments import check_experiment, get_experiment
from translimit.experiments.bordelon2024 import class_losses
from translimit.experiments.bordelon2024.class_problem import Config
from translimit.experiments.bordelon2024.language_models import Config as Models
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
    assert own.limit().classes is None
    assert own.limit().equations.targets.shape == (6, 3)
    squared = replace(own, loss="squared").limit()
    np.testing.assert_array_equal(squared.targets, np.eye(3)[labels])
    for change, message in (
        ({"task": "ring"}, "task: got 'ring'"),
        ({"inputs": 7}, "inputs: got 7 of 3 classes; pass a multiple of 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            Config(**change)
    models = Models()
    recall = models.problem("recall")
    assert (recall.fields(), recall.limit().vocabulary) == (64, 8)
    assert models.problem("markov-qk").qk_norm == "rms"


SMALL = {
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
        "gammas": (0.1, 0.2),
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
