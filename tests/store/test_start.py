"""Starts of a run: only jobs of the last one may write."""

import threading

import pytest
import xarray as xr
from tests.store.jobs import data

from translimit.core import OvertakenError, StoreError
from translimit.store import (
    CellAddress,
    cell_state,
    new_start,
    require_start,
    write_cell,
    writing,
)

INFO = {
    "digest": "d",
    "command": "translimit run x",
    "experiments": [
        {"name": "a/b", "config": {}, "cells": [{"name": "c", "parameters": {}, "digest": "0"}]}
    ],
}


def test_a_job_of_an_earlier_start_writes_nothing(tmp_path):
    with writing(tmp_path, INFO) as first:
        (address,) = first.addresses()
    with writing(tmp_path, INFO) as second:
        assert second.token != first.token
        with pytest.raises(OvertakenError, match=r"was started again.*nothing is lost"):
            write_cell(address, data(), token=first.token)
        assert cell_state(address).state == "missing"
        assert not list(tmp_path.rglob(".tmp-*"))
        write_cell(address, data(), token=second.token)
        assert cell_state(address).whole
    with pytest.raises(OvertakenError):  # nor when the run has ended
        write_cell(address, data(), token=second.token)


def test_a_start_between_writing_and_renaming_is_noticed(tmp_path, monkeypatch):
    """The cell is written in full, then another start passes: it must not be put in place."""
    token = new_start(tmp_path)
    address = CellAddress(tmp_path, "a/b", "c", "0")
    real = xr.Dataset.to_zarr

    def slow(self, *arguments, **options):
        answer = real(self, *arguments, **options)
        new_start(tmp_path)
        return answer

    monkeypatch.setattr(xr.Dataset, "to_zarr", slow)
    with pytest.raises(OvertakenError):
        write_cell(address, data(), token=token)
    assert cell_state(address).state == "missing"
    assert not list(tmp_path.rglob(".tmp-*"))


def test_of_two_jobs_for_one_cell_the_first_wins(tmp_path):
    token = new_start(tmp_path)
    address = CellAddress(tmp_path, "a/b", "c", "0")
    manifest = write_cell(address, data(), {"who": "first"}, token=token) / "manifest.json"
    before = manifest.read_bytes()
    write_cell(address, data(), {"who": "second"}, token=token)
    assert manifest.read_bytes() == before
    assert [path.name for path in address.folder.parent.iterdir()] == ["c"]
    manifest.unlink()  # damaged: replaced
    write_cell(address, data(), {"who": "third"}, token=token)
    assert cell_state(address).manifest["who"] == "third"


def test_many_jobs_for_one_cell_leave_one_whole_cell(tmp_path):
    token = new_start(tmp_path)
    address = CellAddress(tmp_path, "a/b", "c", "0")
    for _ in range(5):
        together, failures = threading.Barrier(4), []

        def write(together=together, failures=failures):
            together.wait()
            try:
                write_cell(address, data(), token=token)
            except OSError as error:
                failures.append(error)

        (address.folder / "manifest.json").unlink(missing_ok=True)
        jobs = [threading.Thread(target=write) for _ in range(4)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert not failures
        assert cell_state(address).whole
        assert [path.name for path in address.folder.parent.iterdir()] == ["c"]


def test_the_lock_and_the_token_alone_are_no_foreign_folder(tmp_path):
    new_start(tmp_path)  # killed before run.json was written
    with writing(tmp_path, INFO) as run:
        require_start(tmp_path, run.token)
        assert (tmp_path / "run.json").exists()


def test_a_refused_folder_keeps_its_token(tmp_path):
    with writing(tmp_path, INFO):
        pass
    token = (tmp_path / ".start").read_text()
    with (
        pytest.raises(StoreError, match="another configuration"),
        writing(tmp_path, {**INFO, "digest": "e", "seed": 1}),
    ):
        pass
    assert (tmp_path / ".start").read_text() == token
