"""The experiments on training dynamics at toy sizes: claims bind, and figures draw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, StoreError, Verdict
from translimit.experiments import get_experiment
from translimit.experiments.bordelon2024 import (
    dmft_cost,
    dmft_depth,
    dmft_head_dimension,
    dmft_learned,
    dmft_networks,
    dmft_responses,
    dmft_rich_and_lazy,
    networks,
    tasks,
)
from translimit.experiments.bordelon2024.limit_and_networks import train_networks


def test_tasks_have_balanced_classes_and_files_their_digest(tmp_path: Path) -> None:
    for name, tokens in (("digits", 4), ("text", 6), ("synthetic", 6)):
        x, y = tasks.load_task(name, 4, 6, 16)
        assert x.shape == (4, tokens, 16)
        assert sorted(y) == [-1, -1, 1, 1]
        shipped = {"task": name, "inputs": 4, "tokens": 6, "dim": 16}
        assert dmft_networks.Config(**shipped).file_digest() is None
    # Windows end where the text says: equal bytes are equal tokens.
    x, y = tasks.ends_of_words(3, 5, 8)
    stream = tasks.data.byte_text(5)
    text = bytes(np.asarray(stream.ids))
    table = np.random.default_rng(0).standard_normal((256, 8))
    known = {row.tobytes(): byte for byte, row in enumerate(table)}
    for window, sign in zip(x, y, strict=True):
        word = bytes(known[row.tobytes()] for row in window)
        assert (word + b" " in text) if sign > 0 else (word in text)
    path = tmp_path / "own.npz"
    np.savez(path, inputs=np.ones((3, 2, 5)), targets=np.zeros((3, 2)))
    x, y = tasks.load_task(str(path), 2, 0, 0)
    assert (x.shape, y.shape) == ((2, 2, 5), (2, 2))
    own = dmft_networks.Config(task=str(path), inputs=3, readout="pooled")
    first = own.file_digest()
    np.savez(path, inputs=np.ones((3, 2, 5)), targets=np.ones((3, 2)))
    assert own.file_digest() != first
    with pytest.raises(ConfigError, match=r"readout: is missing, and .* as many outputs as tokens"):
        dmft_networks.Config(task=str(path), inputs=3).file_digest()


@pytest.mark.usefixtures("as_user")
def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"sizes": (8, 12)}, "sizes: got .*each twice the one before"),
        ({"seeds": 3}, "seeds: got 3"),
        ({"populations": 1}, "populations: got 1"),
        ({"attention": False}, "attention: is false"),
        ({"tokens": 1}, "tokens: got 1; pass at least 2"),
        ({"samples": 10}, r"samples: got 10; pass at least 385 for these inputs, tokens, steps"),
        ({"mlp": "relu", "neurons": 10}, "neurons: got 10; pass at least 385 for these inputs"),
        ({"axis": "head_dim", "alpha_A": 0.5}, "axis: head_dim has no limit at alpha_A = 0.5"),
        ({"axis": "layers", "alpha_L": 0.5}, "axis: layers has no depth ODE"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}"):
            dmft_networks.Config(**change)
    for change, message in (
        ({"head_dims": (4, 8)}, r"head_dims: got \(4, 8\); pass at least 3, each twice"),
        ({"repeats": 3}, "repeats: got 3; pass at least 4"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}"):
            dmft_head_dimension.Config(**change)
    with pytest.raises(ConfigError, match=r"^attention: is false; leave it true"):
        train_networks(dmft_cost.Config(attention=False, mlp="tanh"), None, heads=4, seeds=1)
    muon = networks.Networks(start="paper")
    with pytest.raises(ConfigError, match=r"^start: the paper has no Muon; pass start="):
        networks.ruled(muon, networks.base_shape(muon), "muon")
    with pytest.raises(ConfigError, match=r"^mlp: got 'tanhh'; did you mean 'tanh'\? known: gelu"):
        dmft_networks.Config(mlp="tanhh")
    with pytest.raises(ConfigError, match=r"^inputs: got 3; digits has two classes"):
        tasks.load_task("digits", 3, 4, 4)
    with pytest.raises(ConfigError, match=r"^task: got 'letters'; pass digits, text, synthetic"):
        tasks.load_task("letters", 2, 4, 4)
    with pytest.raises(StoreError, match="cannot be read"):
        tasks.load_task(str(tmp_path / "absent.npz"), 2, 4, 4)
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ConfigError, match=r"holds \['x'\]; save arrays named inputs and targets"):
        tasks.load_task(str(tmp_path / "other.npz"), 2, 4, 4)
    np.savez(tmp_path / "flat.npz", inputs=np.ones((3, 2)), targets=np.ones(3))
    with pytest.raises(ConfigError, match=r"inputs of shape \(2, 2\)"):
        tasks.load_task(str(tmp_path / "flat.npz"), 2, 4, 4)
    np.savez(tmp_path / "few.npz", inputs=np.ones((3, 2, 2)), targets=np.ones(3))
    with pytest.raises(ConfigError, match=r"^inputs: got 4, and .* has 3"):
        tasks.load_task(str(tmp_path / "few.npz"), 4, 4, 4)


@pytest.mark.slow
def test_networks_in_heads_approach_the_limit() -> None:
    experiment = get_experiment("bordelon2024/dmft-heads")
    config = dmft_networks.Config(
        sizes=(8, 16), seeds=800, steps=8, samples=1000, populations=4, without="R_h"
    )
    results: dict[str, Any] = compute(experiment, config)
    assert set(verdicts(experiment, config, results)) == set(experiment.claim_names(config))
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    assert Verdict.refuted not in {claim.verdict for claim in claims.values()}
    assert claims["response"].estimate.value > 0.04
    # A limit that trains half as fast is seen.
    spoiled = results["limit"].copy(deep=True)
    spoiled["predictions"].values[:] *= 0.5
    wrong = experiment.check(config, {**results, "limit": spoiled})
    assert {c.name: c.verdict for c in wrong}["predictions"] is Verdict.refuted
    assert draw_all(experiment, config, results) == ["loss", "rate", "attention"]


SMALL: dict[str, Any] = {"task": "synthetic", "inputs": 2, "tokens": 2, "dim": 8, "steps": 6}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"axis": "head_dim", "sizes": (4, 8), "heads": 8, "seeds": 3000},
        {"axis": "layers", "sizes": (4, 8), "heads": 8, "seeds": 600, "beta0": 1.0},
        {"mlp": "tanh", "norm": "rms", "momentum": 0.5, "causal": True, "eta0": 0.05},
        {"norm": "layer", "layers": 2, "alpha_A": 0.75, "alpha_L": 0.5},
    ],
    ids=["head-dim", "layers", "full", "depth"],
)
def test_every_axis_and_ingredient_meets_its_limit(change: dict[str, Any]) -> None:
    experiment = get_experiment("bordelon2024/dmft-networks")
    base: dict[str, Any] = {"sizes": (16, 32), "seeds": 2000, "samples": 800, "neurons": 1600}
    config = dmft_networks.Config(**{**SMALL, **base, "populations": 4, "tol": 0.03, **change})
    results = compute(experiment, config)
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    f = claims["predictions"]
    assert f.verdict is not Verdict.refuted
    assert f.floor < 0.03
    assert claims["rate"].verdict is not Verdict.refuted
    draw_all(experiment, config, results)


CASES: dict[str, Any] = {
    "dmft-depth": dmft_depth.Config(layers=(16, 32, 64), cells=32),
    "dmft-rich-and-lazy": dmft_rich_and_lazy.Config(per_class=2, steps=8),
    "dmft-head-dimension": dmft_head_dimension.Config(
        **SMALL, head_dims=(4, 8, 16), coordinates=6000, repeats=4
    ),
    "dmft-responses": dmft_responses.Config(
        heads=16, steps=8, samples=1000, populations=4, seeds=500
    ),
    "dmft-learned": dmft_learned.Config(
        heads=(8, 16), steps=6, samples=1000, populations=4, unseen=4, seeds=800
    ),
    "dmft-cost": dmft_cost.Config(
        steps=4, factors=(1, 2), samples=300, heads=(100, 200, 400), replicates=12, repeats=1
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_small_studies_are_not_refuted_and_draw(name: str) -> None:
    experiment, config = get_experiment(f"bordelon2024/{name}"), CASES[name]
    results = compute(experiment, config)
    found = verdicts(experiment, config, results)
    assert set(found) == set(experiment.claim_names(config))
    assert Verdict.refuted not in found.values()
    draw_all(experiment, config, results)
