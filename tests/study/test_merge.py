"""Joined runs: the union of whole cells, the claims of one run, and no union of what differs."""

import json
import shutil

import pytest

from translimit.cli import main
from translimit.core import ArgumentError, ConfigError, StoreError
from translimit.execute import Serial
from translimit.store import RunFolder, cell_state, load_json, write_json
from translimit.study import merge_runs, run_experiments

ONE = "fake_experiments:EXPERIMENT"
TWO = "fake_experiments:OTHER"
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def environment(fakes):
    return fakes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A whole run, and two parts of it that share one cell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(__file__).replace("study/test_merge.py", "fakes"))
        folder = tmp_path_factory.mktemp("runs")
        run_experiments(ONE, out=folder / "whole", executor=Serial(), **QUIET)
    for name, absent in (("left", ["group-2"]), ("right", ["group-0"])):
        shutil.copytree(folder / "whole", folder / name)
        for cell in absent:
            shutil.rmtree(folder / name / "cells" / "fake-means" / cell)
        (folder / name / "claims.json").unlink()
    return folder


def files(path):
    """The content of every stored array."""
    stored = sorted(path.rglob("data.zarr/**/*"))
    return {file.relative_to(path): file.read_bytes() for file in stored if file.is_file()}


def test_two_halves_are_the_whole(runs, tmp_path, capsys):
    before = files(runs / "left")
    merged = merge_runs([runs / "left", runs / "right"], tmp_path / "joined", [ONE])
    assert (merged.cells, merged.whole, merged.notes) == (3, 3, ())
    assert files(tmp_path / "joined") == files(runs / "whole")
    joined, whole = RunFolder.open(tmp_path / "joined"), RunFolder.open(runs / "whole")
    assert json.dumps(joined.claims()) == json.dumps(whole.claims())
    assert joined.info["status"] == "complete"
    assert merged.verdicts() == {"supported": 1, "refuted": 1, "underpowered": 1}
    assert files(runs / "left") == before
    # The usual command finds nothing to do.
    again = run_experiments(ONE, out=tmp_path / "joined", executor=Serial(), **QUIET)
    assert again.computed == ()
    # Again, into what is there; and by the command line.
    words = [str(runs / name) for name in ("left", "right")]
    assert main(["merge", *words, "--out", str(tmp_path / "joined"), "--from", ONE]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"cells: 3 of 3 whole in {tmp_path / 'joined'}"
    assert said[1:] == [
        "claims: 1 supported, 1 refuted, 1 underpowered; printed forms corrected: 1",
        f"report: {tmp_path / 'joined' / 'report.html'}",
    ]


def test_what_is_missing_in_both_is_finished_by_the_command(runs, tmp_path, capsys):
    for name in ("left", "right"):
        shutil.copytree(runs / name, tmp_path / name)
        shutil.rmtree(tmp_path / name / "cells" / "fake-means" / "group-1")
    out = tmp_path / "joined"
    words = [str(tmp_path / name) for name in ("left", "right")]
    assert main(["merge", *words, "--out", str(out), "--from", ONE]) == 0
    command = f"translimit run {ONE} --preset demo --out {out}"
    assert capsys.readouterr().out.splitlines() == [
        f"cells: 2 of 3 whole in {out}",
        f"finish it with: {command}",
    ]
    assert RunFolder.open(out).info["status"] == "incomplete"
    assert main([*command.split()[1:], "--executor", "serial"]) == 0
    assert files(out) == files(runs / "whole")
    assert "cells: 1 computed, 2 kept" in capsys.readouterr().out


def test_different_experiments_are_joined_where_one_command_gives_both(runs, tmp_path):
    other = run_experiments(TWO, out=tmp_path / "other", executor=Serial(), **QUIET)
    with pytest.raises(ConfigError, match=r"--from: the code of fake/means .*module:OBJECT"):
        merge_runs([runs / "whole", other.path], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    merged = merge_runs([runs / "whole", other.path], tmp_path / "joined", [ONE, TWO])
    assert (merged.cells, merged.whole) == (5, 5)
    together = run_experiments([ONE, TWO], out=tmp_path / "joined", executor=Serial(), **QUIET)
    assert together.computed == ()
    assert json.dumps(together.claims["fake/other"]) == json.dumps(other.claims["fake/other"])

    # Set for one of them only: both have the key, so no command sets it for one alone.
    small = run_experiments(
        TWO, out=tmp_path / "small", executor=Serial(), overrides={"cells": "1"}, **QUIET
    )
    with pytest.raises(StoreError, match=r"fake/other: cells is 1 there and 2 here.*no command"):
        merge_runs([runs / "whole", small.path], tmp_path / "none", [ONE, TWO])
    assert not (tmp_path / "none").exists()


def changed(run, tmp_path, name, **changes):
    """A copy of a run that says something else of itself."""
    shutil.copytree(run, tmp_path / name)
    info = load_json(tmp_path / name / "run.json")
    write_json(tmp_path / name / "run.json", {**info, **changes})
    return tmp_path / name


def test_runs_that_do_not_belong_together(runs, tmp_path):
    left = runs / "left"
    for key, value in (("seed", 1), ("threads", 2), ("preset", "standard"), ("translimit", "9")):
        other = changed(runs / "right", tmp_path, key, **{key: value})
        with pytest.raises(StoreError, match=rf"does not belong to .*left \({key}: {value!r} and"):
            merge_runs([left, other], tmp_path / "out")
    info = load_json(left / "run.json")
    info["experiments"][0]["config"]["size"] = 32
    other = changed(left, tmp_path, "config", experiments=info["experiments"])
    with pytest.raises(StoreError, match="fake/means: size is 32 there and 64 here"):
        merge_runs([left, other], tmp_path / "out")
    with pytest.raises(ArgumentError, match="RUN: got 1; name at least two"):
        merge_runs([left], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_cell_with_two_contents(runs, tmp_path):
    """Whole in both, and not the same: neither is taken."""
    other = changed(runs / "right", tmp_path, "other")
    from translimit.study import plan_run

    entry = plan_run([ONE]).entries()[0]["cells"][1]
    (address,) = (a for a in RunFolder.open(other).addresses() if a.cell == entry["name"])
    attributes = address.folder / "data.zarr" / ".zattrs"
    attributes.write_text(attributes.read_text().replace("fake", "real"))
    manifest = load_json(address.folder / "manifest.json")
    import hashlib

    content = attributes.read_bytes()
    manifest["files"]["data.zarr/.zattrs"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    write_json(address.folder / "manifest.json", manifest)
    assert cell_state(address).whole
    with pytest.raises(StoreError, match=r"data.zarr/.zattrs differs from that of the same cell"):
        merge_runs([runs / "left", other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_versions_of_packages_are_noted(runs, tmp_path, capsys):
    packages = {**load_json(runs / "right" / "run.json")["packages"], "jax": "0.9"}
    other = changed(runs / "right", tmp_path, "other", packages=packages)
    words = [str(runs / "left"), str(other), "--out", str(tmp_path / "joined")]
    assert main(["merge", *words, "--from", ONE]) == 0
    assert f"and 0.9 in {other}" in capsys.readouterr().out.splitlines()[0]
