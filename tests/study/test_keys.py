"""Every cell draws numbers of its own; what cells share is asked for by name."""

import itertools
import json
import re
import sys
import types
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import UInt

import translimit.experiments as ex
from translimit.cli import main
from translimit.core import StoreError, config, named_key
from translimit.execute import Serial
from translimit.experiments import all_experiments
from translimit.store import RunFolder, load_json, write_json
from translimit.study import merge_runs, run_experiments

ONE = "fake_experiments:EXPERIMENT"
PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
QUIET = {"progress": False, "executor": Serial()}


@pytest.fixture
def page(monkeypatch):
    """The experiment that the page about extending shows, as a module."""
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    module = types.ModuleType("page_about_extending")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block[1], str(PAGE), "exec"), module.__dict__)
    return f"{module.__name__}:EXPERIMENT"


@pytest.mark.usefixtures("fakes", "as_user")
def test_cells_of_an_experiment_that_folds_nothing_in_are_independent(page, tmp_path):
    """Neither the page's experiment nor the fake one looks at the name of its cell."""
    for source, variable in ((page, "heads"), (ONE, "draws")):
        run = run_experiments([source], out=tmp_path / variable, **QUIET)
        name = run.folder.experiments[0]
        cells = {c: data[variable].values for c, data in run.folder.read_cells(name).items()}
        assert len(cells) > 2
        for (_, one), (_, other) in itertools.combinations(cells.items(), 2):
            # Fair coins agree in half of 400 throws, give or take 10; normal samples in none.
            assert np.mean(one == other) < 0.65
        if source == page:
            (claim,) = run.claims[name]
            assert claim["estimate"]["count"] == sum(map(len, cells.values())) == 1600
            assert claim["verdict"] == "supported"


@dataclass(frozen=True)
class Sizes:
    """A configuration."""

    count: int = 3


@dataclass(frozen=True)
class Recorded(ex.Arrays):
    own: UInt[np.ndarray, " word"]
    shared: UInt[np.ndarray, " word"]
    third: UInt[np.ndarray, " word"]


def record(config: Sizes, index: int, keys: ex.Keys) -> Recorded:
    """The keys that a cell was given."""
    import jax

    found = (keys.own, keys.shared("data"), keys.shared("data", 3))
    return Recorded(*(np.asarray(jax.random.key_data(key)) for key in found))


RECORDER = ex.Experiment(
    name="fake/recorder",
    title="Keys",
    summary="Keys.",
    citations=(),
    presets={"demo": Sizes()},
    parts=(
        ex.Part(
            "cell-{index}",
            Recorded,
            record,
            grid=lambda c: range(c.count),
            cost=lambda c, index: ex.Cost(1.0),
        ),
    ),
    claims=(),
    figures=(),
)


def test_keys_are_those_of_names():
    import jax

    def data(*path):
        return np.asarray(jax.random.key_data(named_key(*path)))

    found = {}
    for seed, cell in itertools.product((0, 1), RECORDER.cells(Sizes())):
        keys = RECORDER.compute_cell(Sizes(), cell, seed)
        np.testing.assert_array_equal(keys["own"], data(seed, "fake/recorder", cell.name))
        np.testing.assert_array_equal(keys["shared"], data(seed, "fake/recorder", "data"))
        np.testing.assert_array_equal(keys["third"], data(seed, "fake/recorder", "data", 3))
        found |= {(seed, cell.name): keys["own"], (seed, ""): keys["shared"]}
    assert len({tuple(key.values.tolist()) for key in found.values()}) == len(found) == 8


@pytest.mark.parametrize("name", sorted(all_experiments()))
def test_the_names_of_cells_give_different_keys(name):
    """A name is folded in by its digest of 32 bits: two of an experiment could be equal."""
    experiment = all_experiments()[name]
    for settings in experiment.presets.values():
        names = [cell.name for cell in experiment.cells(settings)]
        assert len({zlib.crc32(one.encode()) for one in names}) == len(names)


@pytest.mark.usefixtures("fakes")
def test_a_run_with_keys_of_other_names_is_shown_and_not_continued(tmp_path, capsys):
    out = tmp_path / "old"
    run_experiments([ONE], out=out, **QUIET)
    info = load_json(out / "run.json")
    assert info.pop("keys") == "cell"
    configurations = {entry["name"]: entry["config"] for entry in info["experiments"]}
    old = {"configurations": configurations, "seed": 0, "threads": 1}
    write_json(out / "run.json", {**info, "digest": config.digest(old)})
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    assert main(["status", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"] == 3
    assert main(["claims", str(out)]) == 0
    assert "The mean is ten." in capsys.readouterr().out
    told = r"the random streams of its cells are named otherwise.*--fresh"
    with pytest.raises(StoreError, match=told):
        run_experiments([ONE], out=out, **QUIET)
    with pytest.raises(StoreError, match="named otherwise; look at it as it is"):
        merge_runs([out, out], tmp_path / "joined", [ONE])
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {p: c for p, c in after.items() if p.name not in (".lock", ".start")} == {
        p: c for p, c in before.items() if p.name not in (".lock", ".start")
    }
    fresh = run_experiments([ONE], out=out, fresh=True, **QUIET)
    assert len(fresh.computed) == 3
    assert RunFolder.open(out).info["keys"] == "cell"
