"""Every executor gives the same results, and survives what jobs do to it."""

import os

import pytest
from tests.execute.executors import EXECUTORS, actions, results

from translimit.core import ArgumentError
from translimit.execute import (
    Job,
    Serial,
    thread_limits,
)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_job_has_its_result(executor):
    jobs = [Job(f"job {i}", {"value": float(i)}) for i in range(5)]
    found = results(executor, "double", jobs)
    assert {name: r.value["twice"] for name, r in found.items()} == {
        f"job {i}": 2.0 * i for i in range(5)
    }
    assert not any(r.error for r in found.values())
    pids = {r.value["pid"] for r in found.values()}
    assert (pids == {os.getpid()}) == isinstance(executor, Serial)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_a_job_raises_is_a_result(executor):
    found = results(executor, "obey", actions("raise", "exit", "object", "fine"))
    assert found["0"].error == "ValueError: told to"
    assert "in obey" in found["0"].details
    assert found["1"].error == "SystemExit: 3"
    assert found["2"].error.startswith("TypeError: Object of type object is not JSON")
    assert found["3"].value == "fine"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_threads_are_limited_and_this_process_is_left_alone(executor, monkeypatch):
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    names = list(thread_limits(3))
    found = results(executor, "environment", [Job("a", {"names": names})], threads=3)
    assert found["a"].value == dict.fromkeys(names, "3")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "PJRT_NPROC" not in os.environ


@pytest.mark.parametrize("executor", EXECUTORS)
def test_refusals(executor):
    for function in ("fake_experiments:absent", "no_such_module:f", "nothing"):
        with pytest.raises(ArgumentError, match=r"function: cannot load"):
            list(executor.run(function, actions("fine")))
    with pytest.raises(ArgumentError, match="threads: got 0"):
        list(executor.run("fake_experiments:obey", actions("fine"), threads=0))
    assert list(executor.run("fake_experiments:obey", [])) == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_device_that_is_not_there_is_refused(executor, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ArgumentError, match="finds no NVIDIA device on this machine; use"):
        list(executor.run("fake_experiments:obey", actions("fine"), device="gpu"))
    with pytest.raises(ArgumentError, match=r'device: got .tpu.; pass "cpu" or "gpu"'):
        list(executor.run("fake_experiments:obey", actions("fine"), device="tpu"))
