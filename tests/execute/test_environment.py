"""What is set before a numerical library loads: threads, devices, flags."""

import os

import pytest
from tests.execute.executors import EXECUTORS, results

from translimit import _xla
from translimit.execute import (
    Job,
    job_environment,
    lightly_optimised,
    limit_threads,
    thread_limits,
)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_changes_numbers_is_the_same_everywhere(executor, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    found = results(executor, "environment", [Job("a", {"names": ["XLA_FLAGS", "JAX_PLATFORMS"]})])
    own, added = "--xla_cpu_enable_fast_math=false", f"{_xla.NAME}={_xla.VALUE}"
    # A worker that is a process of its own imports translimit, which adds its flag.
    assert found["a"].value["XLA_FLAGS"] in (own, f"{own} {added}")
    assert found["a"].value["JAX_PLATFORMS"] == "cpu"
    assert os.environ["JAX_PLATFORMS"] == "tpu"


def test_checks_of_a_job_give_nan_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("EQX_ON_ERROR", raising=False)
    assert job_environment(1)["EQX_ON_ERROR"] == "nan"
    monkeypatch.setenv("EQX_ON_ERROR", "raise")
    assert job_environment(1)["EQX_ON_ERROR"] == "raise"


def test_a_gpu_is_told_to_give_the_same_bits_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    both = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
    assert "XLA_FLAGS" not in job_environment(1, "cpu")
    assert job_environment(1, "gpu")["XLA_FLAGS"] == both
    monkeypatch.setenv("XLA_FLAGS", both)  # as a worker of a worker has them
    assert job_environment(1, "gpu")["XLA_FLAGS"] == both
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4 --xla_x=1")
    expected = "--xla_gpu_autotune_level=4 --xla_x=1 --xla_gpu_deterministic_ops=true"
    assert job_environment(1, "gpu")["XLA_FLAGS"] == expected


def test_limits_are_set_for_this_process(monkeypatch):
    for name in thread_limits(1):
        monkeypatch.setenv(name, "9")
    limit_threads(2)
    assert {os.environ[name] for name in thread_limits(1)} == {"2"}


@pytest.mark.parametrize("own", [None, "", "--xla_x=1", "--xla_backend_optimization_level=2"])
def test_light_optimisation_is_set_for_a_while_and_a_level_of_the_user_is_kept(own, monkeypatch):
    if own is None:
        monkeypatch.delenv("XLA_FLAGS", raising=False)
    else:
        monkeypatch.setenv("XLA_FLAGS", own)
    light = "--xla_backend_optimization_level=1"
    expected = own if own and "level" in own else f"{own or ''} {light}".strip()
    with lightly_optimised():
        assert os.environ["XLA_FLAGS"] == expected
    assert os.environ.get("XLA_FLAGS") == own
    with pytest.raises(KeyError), lightly_optimised():
        raise KeyError
    assert os.environ.get("XLA_FLAGS") == own
