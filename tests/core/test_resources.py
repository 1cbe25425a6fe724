"""Cores and memory of this process, against psutil."""

import os

import psutil
import pytest

from translimit.core import (
    ConfigError,
    available_cores,
    available_memory,
    available_threads,
    resolve_device,
    resources,
    visible_gpus,
)


def test_cores_are_those_of_the_affinity():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_memory_is_what_psutil_calls_available(monkeypatch):
    monkeypatch.setattr(resources, "free_in_group", lambda: float("inf"))
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_control_group_bounds_it(monkeypatch):
    monkeypatch.setattr(resources, "free_in_group", lambda: 1e6)
    assert available_memory() == 1e6


def test_threads_are_what_the_cpu_client_was_given(monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "3")
    assert available_threads() == 3
    monkeypatch.delenv("PJRT_NPROC")
    assert available_threads() == available_cores()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ("0", "1")), ("1", ("1",)), ("GPU-a, 0", ("GPU-a", "0")), ("", ()), ("1,-1,0", ("1",))],
)
def test_gpus_are_those_that_cuda_shows(monkeypatch, visible, expected):
    found = [resources.Path("/dev/nvidia0"), resources.Path("/dev/nvidia1")]
    monkeypatch.setattr(resources.Path, "glob", lambda self, pattern: iter(found))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected


@pytest.mark.parametrize(
    ("gpus", "plugin", "platforms", "expected"),
    [
        (("0",), True, "", "gpu"),
        (("0",), True, "cuda,cpu", "gpu"),
        (("0",), True, "cpu", "cpu"),
        (("0",), False, "", "cpu"),
        ((), True, "", "cpu"),
    ],
)
def test_auto_is_gpu_where_jax_can_use_one(monkeypatch, gpus, plugin, platforms, expected):
    monkeypatch.setattr(resources, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda name: plugin or None)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert resolve_device("auto") == expected
    assert [resolve_device(device) for device in ("cpu", "gpu")] == ["cpu", "gpu"]


def test_another_device_is_refused():
    with pytest.raises(ConfigError, match="device: got 'gpus'; did you mean 'gpu'"):
        resolve_device("gpus")
