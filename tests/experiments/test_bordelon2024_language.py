"""Configurations of one's own: losses, sentences, heads of today, in the limit and in networks."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import translimit
from translimit import core, data, train
from translimit.cli import main
from translimit.core import ConfigError, config
from translimit.experiments.bordelon2024 import tasks
from translimit.experiments.bordelon2024.language_figures import accuracies, losses
from translimit.experiments.bordelon2024.limit_and_networks import network_numbers
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.limits import dmft
from translimit.store import RunFolder

EXAMPLE = Path(translimit.__file__).parent / "examples" / "language.toml"
NAME = "bordelon2024/dmft-networks"


def example(**changes: Any) -> OwnProblem:
    return OwnProblem(**config.read_file(EXAMPLE) | changes)


def test_sentences_and_what_follows(tmp_path: Path) -> None:
    ids, follow, size = tasks.load_sentences("bytes", 3, 5, 0)
    assert ids.shape == follow.shape == (3, 5)
    np.testing.assert_array_equal(ids[:, 1:], follow[:, :-1])
    assert set(np.unique(np.concatenate([ids, follow]))) == set(range(size))
    text = bytes(np.asarray(data.byte_text(5).ids))
    letters = sorted({*text})
    assert size <= len(letters)
    ids, follow, size = tasks.load_sentences("copy", 3, 6, 4)
    np.testing.assert_array_equal(ids[:, :3], ids[:, 3:])
    np.testing.assert_array_equal(follow[:, 3:], np.roll(ids[:, :3], -1, axis=1))
    path = tmp_path / "own.npz"
    np.savez(path, token_ids=ids, targets=follow)
    own = OwnProblem(task=str(path), inputs=3, vocabulary=4, axis="none")
    assert own.limit().vocabulary == 4
    first = own.file_digest()
    np.savez(path, token_ids=ids, targets=follow * 0 - 1)
    assert own.file_digest() != first
    inputs, targets = own.source().batch(0, 0, 3)
    np.testing.assert_array_equal(inputs, ids)
    assert (targets == -1).all()
    np.savez(path, token_ids=ids * 1.0, targets=follow)
    with pytest.raises(ConfigError, match=r"^task: .* save integers \[P, tokens\]"):
        own.limit()


def test_the_limit_of_a_configuration_is_the_problem_of_the_library() -> None:
    problem = example(
        axis="none",
        qk_norm="rms",
        score_gain=2.0,
        score_gain_rate=1.0,
        smoothing=0.1,
        temperature=0.5,
        tied=True,
        centred=True,
        position_std=0.5,
        position_rate=0.0,
        mlp_ratio=2.0,
        rotary=100.0,
    ).limit()
    a = problem.architecture
    assert (a.qk_norm, a.score_gain, a.score_gain_rate, a.rotary) == ("rms", 2.0, 1.0, 100.0)
    assert (a.final_norm, a.mlp_ratio) == (True, 2.0)
    assert problem.loss == dmft.CrossEntropy(smoothing=0.1, temperature=0.5)
    assert (problem.tied, problem.centred, problem.readout) == (True, True, "token")
    assert (problem.position_std, problem.position_rate) == (0.5, 0.0)
    classes = OwnProblem(task="synthetic", loss="cross_entropy", axis="none").limit()
    assert classes.targets.tolist() == [0, 1, 0, 1]
    signs = OwnProblem(task="synthetic", loss="logistic", temperature=2.0, axis="none").limit()
    assert signs.loss == dmft.Logistic(2.0)
    assert OwnProblem(task="synthetic").limit().loss == dmft.SquaredError()


def test_networks_of_a_language_model_are_decoders() -> None:
    own = example()
    shape = own.shape(8)
    assert (shape.pooled, shape.positions) == (False, "learned")
    assert shape.vocabulary == shape.outputs == own.limit().vocabulary
    assert (shape.final_norm, shape.causal, shape.mlp_ratio) == (True, True, 1.0)
    assert own.network_loss == train.CrossEntropy()
    today = example(
        qk_norm="layer",
        head_dim=4,
        rotary=100.0,
        score_gain=2.0,
        score_gain_rate=1.0,
        tied=True,
        centred=True,
        smoothing=0.1,
        temperature=0.5,
        mlp_ratio=2.0,
        norm="none",
        position_std=0.5,
        position_rate=0.0,
    )
    shape = today.shape(8)
    assert (shape.qk_norm, shape.positions, shape.rotary_base) == ("layer", "both", 100.0)
    assert (shape.tied, shape.score_gain, shape.mlp_ratio) == (True, True, 2.0)
    assert (shape.norm, shape.readout_norm) == (None, "rms")
    assert (today.network_loss, today.network_centred) == (train.CrossEntropy(0.1, 0.5), True)
    numbers = network_numbers(today, shape)
    assert (numbers.role("score_gain").init, numbers.score_scale) == (2.0, 1 / 4)
    assert numbers.role("position_embedding").lr == 0.0


def test_networks_of_other_losses_and_readouts(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    x, y = np.random.default_rng(0).standard_normal((2, 3, 2, 4))
    np.savez(path, inputs=x, targets=y[..., 0])
    pooled = OwnProblem(task=str(path), inputs=3, readout="pooled", loss="huber", delta=0.5)
    token = dataclasses.replace(pooled, readout="token", loss="squared")
    assert (pooled.shape(4).outputs, pooled.shape(4).pooled) == (2, True)
    assert (token.shape(4).outputs, token.shape(4).pooled) == (1, False)
    assert token.source().batch(0, 0, 3)[1].shape == (3, 2, 1)
    assert (pooled.network_loss, token.network_loss) == (train.Huber(0.5), train.SquaredError())
    signs = OwnProblem(task="synthetic", loss="logistic", temperature=2.0, rotary=10.0)
    assert signs.network_loss == train.Logistic(2.0)
    assert (signs.shape(4).positions, signs.shape(4).rotary_base) == ("rotary", 10.0)
    classes = OwnProblem(task="synthetic", loss="cross_entropy", readout_std=0.0)
    assert classes.shape(4).outputs == 2
    assert network_numbers(classes, classes.shape(4)).role("readout").init == 0.0


def test_tasks_of_language(tmp_path: Path) -> None:
    ids, follow, size = tasks.load_sentences("recall", 3, 6, 4)
    assert size == 4
    np.testing.assert_array_equal(follow[:, :2], -1)
    np.testing.assert_array_equal(follow[:, 2:], np.roll(ids, -1, axis=1)[:, 2:])
    ids, follow, _ = tasks.load_sentences("markov", 400, 20, 4)
    np.testing.assert_array_equal(ids[:, 1:], follow[:, :-1])
    # Conditional frequencies are those of one matrix: the same in both halves of the data.
    halves = [np.zeros((4, 4)), np.zeros((4, 4))]
    for half, table in enumerate(halves):
        np.add.at(table, (ids[half::2].ravel(), follow[half::2].ravel()), 1)
    first, second = (table / table.sum(axis=1, keepdims=True) for table in halves)
    count = min(table.sum(axis=1).min() for table in halves)
    assert np.abs(first - second).max() < 4.5 * (2 * 0.25 / count) ** 0.5
    assert np.abs(first - first.mean(axis=0)).max() > 0.2


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smoothing": 1.0}, "smoothing: got 1"),
        ({"loss": "huber"}, "loss: got 'huber' of words"),
        ({"loss": "hinge"}, "loss: "),
        ({"attention": False}, "attention: is false"),
        ({"task": "markov"}, "vocabulary: got 0; pass at least 2 for markov"),
        ({"task": "novel"}, "task: got 'novel'"),
        ({"task": "novel", "vocabulary": 4}, "task: got 'novel' with a vocabulary"),
        ({"task": "copy", "tokens": 5, "vocabulary": 4}, "task: got copy with 5 tokens"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        example(**change)


def test_figures_of_positions_are_those_of_the_solution() -> None:
    own = example(axis="none", mlp="none", steps=3)
    wide = dataclasses.replace(own, head_dim=2).limit(head_dim=math.inf)
    solution = core.solve(wide)
    assert isinstance(solution, dmft.TrainingSolution)

    f = solution.predictions.reshape(3, own.inputs, -1)
    np.testing.assert_allclose(losses(own, f), solution.loss_by_position)
    np.testing.assert_allclose(accuracies(own, f), solution.accuracy_by_position)
    # The lazy theory is that of the kernel of the start; both begin at the same first update.
    lazy = own.lazy(wide, solution.ntk[0]).reshape(solution.predictions.shape)
    assert np.abs(lazy[1] - solution.predictions[1]).max() < 0.2 * np.abs(lazy[1]).max()


@pytest.mark.slow
def test_a_language_model_and_its_networks(tmp_path: Path) -> None:
    own = config.read_file(EXAMPLE) | {"sizes": [8, 16], "seeds": 400, "without": []}
    path, out = tmp_path / "own.json", tmp_path / "run"
    path.write_text(json.dumps(own))
    assert main(["dmft", str(path), "--out", str(out), "--executor", "serial"]) == 0
    claims = {claim["name"]: claim for claim in RunFolder.open(out).claims()[NAME]}
    assert set(claims) == {"rate", "predictions", "kernel", "attention"}
    assert claims["predictions"]["verdict"] != "refuted"
    # Heads of today, in networks too; without a lazy limit, of which nothing is asked.
    today = own | {"qk_norm": "rms", "head_dim": 4, "tied": True, "centred": True, "smoothing": 0.1}
    today |= {"task": "recall", "vocabulary": 4, "score_gain_rate": 1.0, "rotary": 100.0}
    path.write_text(json.dumps(today | {"sizes": [4, 8], "seeds": 40, "populations": 2}))
    assert main(["dmft", str(path), "--out", str(tmp_path / "today"), "--executor", "serial"]) == 0
    today_claims: list[Any] = list(RunFolder.open(tmp_path / "today").claims()[NAME])
    rivals = next(one["rivals"] for one in today_claims if one["name"] == "predictions")
    assert [one["name"] for one in rivals] == ["networks that do not learn"]
    assert np.isfinite(rivals[0]["gap"])
    # The limit alone.
    alone = own | {"axis": "none", "qk_norm": "rms", "head_dim": 4, "populations": 2}
    path.write_text(json.dumps(alone))
    assert main(["dmft", str(path), "--out", str(tmp_path / "alone"), "--executor", "serial"]) == 0
    assert (tmp_path / "alone" / "report.html").exists()
