"""Refusals: never somebody else's folder, never another run."""

import errno
import os

import pytest
from tests.store.making import INFO, store

from translimit.core import ConfigError, DiskFullError, StoreError
from translimit.store import (
    RunFolder,
    run_name,
    writing,
)


def with_config(**changes):
    return {**INFO, "digest": "e" * 64, **changes}


def tree(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_new_run_can_be_read_back(tmp_path):
    path = tmp_path / "deep" / "run"
    with writing(path, INFO) as run:
        assert run.previous is None
        store(path, "one", "two")
        run.write_claims({"a/b": [{"name": "c", "gap": float("inf")}]})
        run.update(status="complete")
    read = RunFolder.open(path)
    assert read.info["status"] == "complete"
    assert read.info["format"] == 1
    assert read.experiments == ("a/b",)
    assert {k: float(v["x"]) for k, v in read.read_cells("a/b").items()} == {"one": 3, "two": 3}
    assert read.claims() == {"a/b": [{"name": "c", "gap": float("inf")}]}
    assert [state.state for state in read.states()] == ["whole", "whole"]


def test_fresh_starts_over(tmp_path):
    with writing(tmp_path, INFO):
        store(tmp_path, "one")
    with writing(tmp_path, with_config(), fresh=True) as run:
        assert run.previous is None
        assert [state.state for state in run.states()] == ["missing", "missing"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("entry", ["thesis.tex", ".git", "cells"])
def test_foreign_folders_are_never_touched(tmp_path, entry, fresh):
    (tmp_path / entry).mkdir()
    (tmp_path / entry / "precious").write_text("x")
    before = tree(tmp_path)
    with (
        pytest.raises(StoreError, match="choose a new"),
        writing(tmp_path, INFO, fresh=fresh),
    ):
        pass
    assert tree(tmp_path) == before


def test_a_run_with_foreign_files_is_not_emptied(tmp_path):
    with writing(tmp_path, INFO):
        pass
    (tmp_path / "notes.txt").write_text("x")
    with (
        pytest.raises(StoreError, match=r"holds 'notes.txt', which is no part of a run"),
        writing(tmp_path, INFO, fresh=True),
    ):
        pass
    assert (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"translimit": "0.0.9"}, r"of translimit 0.0.9 \(this is .*--fresh, or .*--out"),
        ({"format": 99}, r"format 99 \(this version reads 1\).*--fresh, or .*--out"),
    ],
)
def test_other_versions_are_refused_and_can_be_replaced(tmp_path, changes, message):
    with writing(tmp_path, INFO) as run:
        run.update(**changes)
    with pytest.raises(StoreError, match=message), writing(tmp_path, INFO):
        pass
    with writing(tmp_path, INFO, fresh=True):
        pass
    with writing(tmp_path, INFO):
        pass


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"experiments": [{**INFO["experiments"][0], "config": {"n": 4}}]}, "n is 3 there and 4 h"),
        ({"seed": 5}, "seed is 0 there and 5 here"),
        ({"threads": 2}, "threads is 1 there and 2 here"),
        ({"experiments": [{**INFO["experiments"][0], "name": "c/d"}]}, "its experiments are a/b"),
    ],
)
def test_another_configuration_is_refused_and_told(tmp_path, changes, difference):
    with writing(tmp_path, INFO):
        pass
    with (
        pytest.raises(StoreError, match=rf"another configuration \(.*{difference}.*--fresh"),
        writing(tmp_path, with_config(**changes)),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00"])
def test_an_unreadable_run_file_is_refused_and_can_be_replaced(tmp_path, text):
    with writing(tmp_path, INFO):
        pass
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json.*--fresh"), writing(tmp_path, INFO):
        pass
    with pytest.raises(StoreError, match=r"run\.json.*--fresh"):
        RunFolder.open(tmp_path)
    with writing(tmp_path, INFO, fresh=True):
        pass
    assert RunFolder.open(tmp_path).info["status"] == "running"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(StoreError, match="--out"),
            writing(path, INFO, fresh=True),
        ):
            pass
    assert (tmp_path / "file").read_text() == "x"


def test_an_unwritable_folder(tmp_path, monkeypatch):
    # Permissions do not stop a superuser, so the system's refusal is given by hand.
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    with (
        pytest.raises(StoreError, match=r"cannot be written \(Permission denied\).*--out"),
        writing(tmp_path / "run", INFO),
    ):
        pass


def test_a_full_disk_in_the_run_file(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with writing(tmp_path, INFO) as run, monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DiskFullError, match="the disk is full; free space"):
            run.update(status="complete")
    assert RunFolder.open(tmp_path).info["status"] == "running"


def test_a_run_without_its_file_is_no_run(tmp_path):
    (tmp_path / "cells").mkdir()
    message = r"has no run\.json, so it is not a run; choose a new folder"
    with pytest.raises(StoreError, match=message), writing(tmp_path, INFO):
        pass


def test_cells_that_would_share_a_folder(tmp_path):
    cells = [{"name": name, "parameters": {}, "digest": "0"} for name in ("a/b", "a-b")]
    info = {**INFO, "experiments": [{"name": "x", "config": {}, "cells": cells}]}
    with pytest.raises(StoreError, match="share a folder"), writing(tmp_path, info):
        pass


def test_reading_refuses_what_is_no_run(tmp_path):
    with pytest.raises(StoreError, match="does not exist; pass the folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="is not a run folder"):
        RunFolder.open(tmp_path)
    with writing(tmp_path, INFO):
        pass
    run = RunFolder.open(tmp_path)
    with pytest.raises(StoreError, match="finish the run: translimit run a/b"):
        run.claims()
    with pytest.raises(ConfigError, match="did you mean 'a/b'"):
        run.read_cells("a/c")
    with pytest.raises(ConfigError, match="did you mean 'one'"):
        run.read_cell("a/b", "onee")


def test_names_of_default_folders():
    digest = "0123456789abcdef"
    assert run_name(["p/e"], "demo", digest) == "p-e-demo-01234567"
    assert run_name(["p/f", "p/e"], "demo", digest) == "p-e+p-f-demo-01234567"
    many = run_name([f"paper/experiment-{i}" for i in range(20)], "demo", digest)
    assert many == "paper-experiment-0+19-more-demo-01234567"
