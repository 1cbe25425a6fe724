"""A run in one netCDF file, read by xarray alone."""

import errno
import json
import shutil

import pytest
import xarray

from translimit.cli import main
from translimit.core import ArgumentError, DiskFullError, StoreError
from translimit.execute import Serial
from translimit.store import RunFolder, export_run
from translimit.study import run_experiments

ONE = "fake_experiments:EXPERIMENT"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(__file__).replace("store/test_export.py", "fakes"))
        path = tmp_path_factory.mktemp("runs") / "run"
        run_experiments(ONE, out=path, executor=Serial(), progress=False)
    return RunFolder.open(path)


def test_every_cell_is_a_group(run, tmp_path):
    told = []
    path = export_run(run, tmp_path / "new" / "run.nc", progress=told.append)
    assert told == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree["fake-means"].children) == {"group-0", "group-1", "group-2"}
        assert json.loads(tree.attrs["run"])["seed"] == 0
        claims = json.loads(tree.attrs["claims"])["fake/means"]
        assert [claim["verdict"] for claim in claims] == ["supported", "refuted", "underpowered"]
        assert json.loads(tree["fake-means"].attrs["claims"]) == claims
        assert json.loads(tree["fake-means"].attrs["configuration"])["size"] == 64
        for cell in ("group-0", "group-1", "group-2"):
            stored = tree[f"fake-means/{cell}"].to_dataset().load()
            xarray.testing.assert_equal(stored, run.read_cell("fake/means", cell))
            assert stored.attrs["cell"] == cell
            assert stored.attrs["device"] == "cpu (cpu)"
    assert [entry.name for entry in path.parent.iterdir()] == ["run.nc"]


def test_an_unfinished_run_is_refused_unless_a_part_is_wanted(run, tmp_path, capsys):
    shutil.copytree(run.path, tmp_path / "run")
    part = RunFolder.open(tmp_path / "run")
    (part.path / "cells" / "fake-means" / "group-1" / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"2 of 3 cells are whole; finish the run: .*--partial"):
        export_run(part, tmp_path / "part.nc")
    assert not (tmp_path / "part.nc").exists()
    out = tmp_path / "part.nc"
    assert main(["export", str(part.path), "--out", str(out), "--partial"]) == 0
    assert capsys.readouterr().out == f"exported: {out}\n"
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        assert set(tree["fake-means"].children) == {"group-0", "group-2"}
        assert json.loads(tree.attrs["claims"]) == {}
    shutil.rmtree(part.path / "cells")
    with pytest.raises(StoreError, match="0 of 3 cells are whole; finish the run: translimit"):
        export_run(part, out, partial=True)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_files_that_cannot_be(run, tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match=r"--out: got .*run.h5'; name a file ending in .nc"):
        export_run(run, tmp_path / "run.h5")
    with pytest.raises(StoreError, match=r"run.nc: cannot be written .*; name another file"):
        export_run(run, "/proc/translimit/run.nc")
    with monkeypatch.context() as patched:
        patched.setattr("translimit.store.export._write", full)
        with pytest.raises(DiskFullError, match=r"run.nc: the disk is full; free space and export"):
            export_run(run, tmp_path / "run.nc")
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        export_run(run, tmp_path / "folder.nc")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.nc"]
