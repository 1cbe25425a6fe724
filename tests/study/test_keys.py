"""Every cell draws numbers of its own; what cells share is asked for by name."""

import itertools
import json
import re
import sys
import types
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from translimit.cli import main
from translimit.core import ArgumentError, StoreError, config, named_key
from translimit.execute import Serial
from translimit.experiments import AbstractExperiment, Cell, Cost, all_experiments
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
class Recorder(AbstractExperiment[Sizes]):
    """Computes what it was given."""

    name: str = "fake/recorder"
    title: str = "Keys"
    summary: str = "Keys."
    citations: tuple[str, ...] = ()
    presets: dict[str, Sizes] = field(default_factory=lambda: {"demo": Sizes()})

    def cost(self, config):
        return Cost(1.0)

    def cells(self, config):
        return tuple(Cell(f"cell-{i}", {"i": i}) for i in range(config.count))

    def compute(self, config, cell, key):
        return {"own": key, "shared": cell.shared_key("data"), "third": cell.shared_key("data", 3)}

    def claims(self, config, results):
        return []

    def figures(self, config, results):
        return []

    def claim_names(self, config: Any = None):
        return ()


def test_keys_are_those_of_names():
    import jax

    experiment = Recorder()
    found = {}
    for seed, cell in itertools.product((0, 1), experiment.cells(Sizes())):
        keys = experiment.compute_cell(Sizes(), cell, seed)
        assert keys["own"] == named_key(seed, "fake/recorder", cell.name)
        assert keys["shared"] == named_key(seed, "fake/recorder", "data")
        assert keys["third"] == named_key(seed, "fake/recorder", "data", 3)
        found |= {(seed, cell.name): keys["own"], (seed, ""): keys["shared"]}
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in found.values()}
    assert len(data) == len(found) == 8


def test_a_cell_of_no_seed_shares_nothing():
    (cell, *_) = Recorder().cells(Sizes())
    with pytest.raises(ArgumentError, match="cell: 'cell-0' belongs to no seed; ask the cell that"):
        cell.shared_key("data")
    with pytest.raises(ArgumentError, match="path: is missing"):
        Cell("a", stream=(0, "b")).shared_key()


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
