"""Cells that travel through a URL: workers that never see the run folder serve the run."""

import json
import shutil

import pytest

from translimit.core import CellError, ConfigError, OvertakenError, StoreError
from translimit.execute import AbstractExecutor, ProcessPool, Serial
from translimit.store import CellAddress, RemoteCells, RunFolder
from translimit.study import forecast, plan_run, run_experiments

ONE = "fake_experiments:EXPERIMENT"
QUIET = {"progress": False, "retries": 0}


@pytest.fixture(autouse=True)
def environment(fakes):
    return fakes


class Elsewhere(Serial):
    """An executor on a machine that does not see the run folder."""

    def run(self, function, jobs, **options):
        for job in jobs:
            job.arguments["run"] = "/nowhere"
        return super().run(function, jobs, **options)


class Never(AbstractExecutor):
    """An executor that must not be asked."""

    def run(self, function, jobs, **options):
        raise AssertionError(f"{len(jobs)} jobs were started")


def arrays(path):
    """The content of every stored array of a run."""
    files = sorted(file for file in path.rglob("data.zarr/**/*") if file.is_file())
    return {file.relative_to(path): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The run as it is without a store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(__file__).replace("store/test_remote.py", "fakes"))
        return run_experiments(
            ONE, out=tmp_path_factory.mktemp("local") / "run", executor=Serial(), **QUIET
        )


@pytest.mark.parametrize("executor", [Elsewhere(), ProcessPool(workers=2)])
def test_the_bits_are_those_of_the_run_folder(tmp_path, local, executor):
    url = f"file://{tmp_path}/store"
    run = run_experiments(ONE, out=tmp_path / "run", executor=executor, store=url, **QUIET)
    assert arrays(run.path) == arrays(local.path)
    assert json.dumps(run.claims) == json.dumps(local.claims)
    assert run.folder.command.endswith(f" --store {url}")
    assert not list(tmp_path.rglob(".tmp-*"))


def test_what_is_whole_in_the_store_is_fetched_and_not_computed(tmp_path, local):
    url = "memory://fetched"
    first = run_experiments(ONE, out=tmp_path / "one", executor=Elsewhere(), store=url, **QUIET)
    plan = plan_run([ONE], preset="demo")
    planned = forecast(plan, Serial(), out=tmp_path / "two", store=url)
    assert ([cell.state for cell in planned.cells], planned.seconds) == (["stored"] * 3, 0.0)
    elsewhere = forecast(plan, Serial(), out=tmp_path / "two", store="memory://empty")
    assert [cell.state for cell in elsewhere.cells] == ["missing"] * 3
    again = run_experiments(ONE, out=tmp_path / "two", executor=Never(), store=url, **QUIET)
    assert (again.computed, len(again.kept)) == ((), 3)
    assert arrays(again.path) == arrays(local.path)
    # A cell without a manifest is none; a changed file is found, and the cell computed again.
    remote = RemoteCells(url)
    places = {a.cell: remote._place(a) for a in RunFolder.open(first.path).addresses()}
    remote.files.rm_file(f"{places['group-0']}/manifest.json")
    remote.files.pipe_file(f"{places['group-1']}/data.zarr/.zattrs", b"{}")
    third = run_experiments(ONE, out=tmp_path / "three", executor=Elsewhere(), store=url, **QUIET)
    assert third.computed == ("fake/means: group-0", "fake/means: group-1")
    assert arrays(third.path) == arrays(local.path)
    # Starting over means computing.
    fresh = run_experiments(
        ONE, out=tmp_path / "one", executor=Elsewhere(), store=url, fresh=True, **QUIET
    )
    assert len(fresh.computed) == 3


def test_a_store_that_vanishes_and_returns(tmp_path, local, monkeypatch):
    url = f"file://{tmp_path}/store"
    away = []
    real = RemoteCells._write

    def write(self, path, content):
        if path.endswith("manifest.json") and len(away) < 2:
            away.append(path)
            raise ConnectionResetError("the server is gone")
        return real(self, path, content)

    monkeypatch.setattr(RemoteCells, "_write", write)
    run = run_experiments(ONE, out=tmp_path / "run", executor=Elsewhere(), store=url, **QUIET)
    assert len(away) == 2
    assert arrays(run.path) == arrays(local.path)


def test_a_store_that_stays_away(tmp_path, monkeypatch):
    def refuse(self, path, content):
        raise TimeoutError("no answer")

    url = f"file://{tmp_path}/store"
    options = {"out": tmp_path / "run", "executor": Elsewhere(), "store": url, "patience": 0.3}
    with monkeypatch.context() as patch:
        patch.setattr(RemoteCells, "_write", refuse)
        reason = r"file://.*was out of reach for 0.3 seconds \(no answer\); start the same run"
        with pytest.raises(StoreError, match=reason):
            run_experiments(ONE, **options, **QUIET)
    # Gone while cells are computed: each is told, and the same command finishes the run.
    real = RemoteCells.upload

    def gone(self, address):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        self.require_start("any")

    monkeypatch.setattr(RemoteCells, "upload", gone)
    with pytest.raises(CellError, match=r"3 of 3 cells failed.*out of reach for 0.3 seconds"):
        run_experiments(ONE, **options, **QUIET)
    monkeypatch.setattr(RemoteCells, "upload", real)
    assert len(run_experiments(ONE, **options, **QUIET).computed) == 3


def test_a_late_job_uploads_nothing(tmp_path):
    remote = RemoteCells(f"file://{tmp_path}/store")
    remote.new_start("first")
    remote.require_start("first")
    remote.new_start("second")
    with pytest.raises(OvertakenError, match="the run was started again since this job began"):
        remote.require_start("first")


def test_a_name_that_leaves_the_folder_is_not_followed(tmp_path):
    remote = RemoteCells("memory://names")
    address = CellAddress(tmp_path / "run", "fake/means", "group-0", "0" * 64)
    place = remote._place(address)
    remote._write(f"{place}/manifest.json", b'{"files": {"../../../escaped": {}}}')
    assert not remote.fetch(address)
    assert not list(tmp_path.rglob("escaped"))
    assert not remote.present(address)


def test_what_is_no_store():
    with pytest.raises(ConfigError, match=r"store: '/shared/run' is no URL; write file:///shared"):
        RemoteCells("/shared/run")
    with pytest.raises(ConfigError, match=r"store: 'nothing://x' cannot be opened .*; install the"):
        RemoteCells("nothing://x")
