"""Cores and memory of this process, against psutil."""

import os

import psutil
import pytest

from translimit.core import available_cores, available_memory, available_threads, resources


def test_cores_are_those_of_the_affinity():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_memory_is_what_psutil_calls_available(monkeypatch):
    monkeypatch.setattr(resources, "_GROUPS", ())
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_control_group_bounds_it(monkeypatch, tmp_path):
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "none").write_text("max\n")
    groups = tuple(str(tmp_path / name) for name in ("absent", "none", "limit"))
    monkeypatch.setattr(resources, "_GROUPS", groups)
    assert available_memory() == 1e6


def test_threads_are_what_the_cpu_client_was_given(monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "3")
    assert available_threads() == 3
    monkeypatch.delenv("PJRT_NPROC")
    assert available_threads() == available_cores()
