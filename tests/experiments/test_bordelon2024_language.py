"""Configurations of one's own: losses, sentences, heads of today; what networks do not have."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import translimit
from translimit import core, data
from translimit.cli import main
from translimit.core import ConfigError, config
from translimit.experiments.bordelon2024 import tasks
from translimit.experiments.bordelon2024.language_figures import accuracies, losses
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
    with pytest.raises(ConfigError, match=r"^task: .*tokens without a target.*axis = \"none\""):
        own.source()
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
    assert own.network_loss == "cross_entropy"
    y = own.data()[1]
    f = np.random.default_rng(0).standard_normal((2, 3, *y.shape, shape.outputs))
    expected = f - np.log(np.exp(f).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(expected, y[None, None, ..., None], axis=-1).mean((2, 3, 4))
    np.testing.assert_allclose(own.mean_loss(f, y), expected)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_norm": "rms"}, r"qk_norm: is 'rms', which networks .*axis = \"none\""),
        ({"tied": True}, "tied: is True, which networks"),
        ({"smoothing": 0.1}, "smoothing: is 0.1, which networks"),
        ({"smoothing": 1.0}, "smoothing: got 1"),
        ({"loss": "huber"}, "loss: got 'huber' of words"),
        ({"loss": "hinge"}, "loss: "),
        ({"norm": "none"}, "final_norm: is true where norm is none"),
        ({"task": "novel"}, "task: got 'novel'"),
        ({"task": "novel", "vocabulary": 4}, "task: got 'novel' with a vocabulary"),
        ({"task": "copy", "tokens": 5, "vocabulary": 4}, "task: got copy with 5 tokens"),
    ],
)
def test_what_networks_do_not_have_is_refused(change: dict[str, Any], message: str) -> None:
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
    # The limit alone, with what networks do not have.
    alone = own | {"axis": "none", "qk_norm": "rms", "head_dim": 4, "populations": 2}
    path.write_text(json.dumps(alone))
    assert main(["dmft", str(path), "--out", str(tmp_path / "alone"), "--executor", "serial"]) == 0
    assert (tmp_path / "alone" / "report.html").exists()
