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
    dmft_early,
    dmft_few_heads,
    dmft_head_dimension,
    dmft_learned,
    dmft_networks,
    dmft_responses,
    dmft_rich_and_lazy,
    dmft_stream,
    initial_depth,
    networks,
    tasks,
)
from translimit.experiments.bordelon2024.extrapolation import extrapolated, last_exponent
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    coordinate,
    train_networks,
)


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
        ({"without": ("R_x",)}, "without: got .*; did you mean"),
        ({"task": "ring"}, "inputs: got 4; ring has two inputs: pass 2"),
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


def test_three_sizes_leave_no_bias_of_second_order() -> None:
    rng = np.random.default_rng(0)
    sizes = (16, 32, 64)
    exact = [np.full((4, 1), 2 + 3 / n - 5 / n**2) for n in sizes]
    assert extrapolated(exact).mean == pytest.approx([2.0])
    assert extrapolated(exact[1:]).mean == pytest.approx([2 + 5 / (32 * 64)])
    # The error is the scatter of the extrapolated mean over repetitions.
    repeated = [
        extrapolated([rng.standard_normal(50) * n**-0.5 for n in sizes]) for _ in range(300)
    ]
    means, ends = [float(one.mean) for one in repeated], repeated[-1]
    assert ends.estimate().stderr == pytest.approx(np.std(means), rel=0.25)
    assert ends.estimate(1.0, 3.0).stderr > 3
    assert ends.estimate(1.0).value == pytest.approx(means[-1] - 1)


def test_exponents_are_free_of_the_next_order() -> None:
    sizes = np.array([8.0, 16.0, 32.0, 64.0])
    found = last_exponent(3 * sizes**-0.5 * (1 + 2 / sizes))
    assert abs(found.value + 0.5) < 0.01
    assert abs(found.value + 0.5) < 3 * found.discretisation
    assert np.polyfit(np.log(sizes), np.log(3 * sizes**-0.5 * (1 + 2 / sizes)), 1)[0] < -0.55


def test_the_coordinate_lies_between_two_theories() -> None:
    """0 on the limit, 1 on the other, whatever the scatter; its error is that of repetitions."""
    rng = np.random.default_rng(0)
    right, wrong = np.array([0.0, 0.3, 0.8, 1.0]), np.array([0.0, 0.4, 0.85, 1.0])

    def theory(f: np.ndarray, kind: type[Any] = Limit) -> Any:
        record = object.__new__(kind)
        predictions = np.stack([f, -f], axis=-1)[..., None]
        for name, value in (("predictions", predictions), ("predictions_stderr", 0 * predictions)):
            object.__setattr__(record, name, value)
        return record

    found: dict[float, list[Any]] = {0.0: [], 1.0: []}
    for place, rows in found.items():
        truth = right + place * (wrong - right)
        for _ in range(100):
            noise = rng.standard_normal((2, 60, 1)) * np.array([0, 0.2, 0.3, 0.02])
            noise += 0.02 * rng.standard_normal((2, 60, 4))
            networks = [theory(truth + one, Networks) for one in noise]
            rows.append(coordinate(networks, theory(right), theory(wrong)))
        values = np.array([one.value for one in rows])
        assert values.mean() == pytest.approx(place, abs=0.1)
        assert values.std() == pytest.approx(np.mean([one.stderr for one in rows]), rel=0.3)


@pytest.mark.slow
def test_networks_in_heads_approach_the_limit() -> None:
    experiment = get_experiment("bordelon2024/dmft-heads")
    config = dmft_networks.Config(
        sizes=(8, 16), seeds=800, steps=8, samples=1000, populations=4, without=("R_h",)
    )
    results: dict[str, Any] = compute(experiment, config)
    assert set(verdicts(experiment, config, results)) == set(experiment.claim_names(config))
    claims = {claim.name: claim for claim in experiment.check(config, results)}
    assert Verdict.refuted not in {claim.verdict for claim in claims.values()}
    rivals = {rival.name: rival for rival in claims["predictions"].rivals}
    assert set(rivals) == {"features that do not move", "without the response $R^h$"}
    assert all(abs(rival.estimate.value) > 0.04 for rival in rivals.values())
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
    "dmft-depth": dmft_depth.Config(layers=(8, 16, 32, 64), cells=32),
    "dmft-rich-and-lazy": dmft_rich_and_lazy.Config(per_class=2, steps=8),
    "dmft-head-dimension": dmft_head_dimension.Config(
        **SMALL, head_dims=(4, 8, 16), coordinates=6000, repeats=4
    ),
    "dmft-responses": dmft_responses.Config(
        depths=(2,), samples=500, populations=4, heads=(8, 16, 32), seeds=(200, 400, 400)
    ),
    "dmft-few-heads": dmft_few_heads.Config(few=(1, 4), widths=(16, 32, 64), seeds=(200, 200, 100)),
    "dmft-early": dmft_early.Config(
        exponents=(1.0,), depths=(2, 4), normed=(2,), head_dims=(4, 8, 16), seeds=(300, 300, 300)
    ),
    "dmft-stream": dmft_stream.Config(
        depths=(4, 8, 16, 32), trained=(4,), head_dim=8, heads=8, seeds=40
    ),
    "initial-depth": initial_depth.Config(
        depths=(4,),
        followed=4,
        chart=(4, 8, 16, 32),
        heads=(2, 4, 8),
        seeds=100,
        at_once=60,
        sampled=800,
    ),
    "dmft-learned": dmft_learned.Config(
        heads=(8, 16), steps=6, samples=1000, populations=4, unseen=4, seeds=800
    ),
    "dmft-cost": dmft_cost.Config(
        steps=4,
        factors=(1, 2),
        samples=300,
        heads=(100, 200, 400),
        scattered=4,
        replicates=12,
        repeats=1,
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
