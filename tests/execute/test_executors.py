"""Every executor gives the same results, and survives what jobs do to it."""

import os
import time

import psutil
import pytest

from translimit.core import ArgumentError
from translimit.execute import (
    Job,
    ProcessPool,
    Serial,
    job_environment,
    lightly_optimised,
    limit_threads,
    thread_limits,
)
from translimit.execute.pool import _Waiting

EXECUTORS = [Serial(), ProcessPool(workers=2)]


@pytest.fixture(autouse=True)
def _importable(fakes):
    pass


def results(executor, function, jobs, **options):
    found = list(executor.run(f"fake_experiments:{function}", jobs, **options))
    assert sorted(r.name for r in found) == sorted(job.name for job in jobs)
    return {r.name: r for r in found}


def actions(*names):
    return [Job(str(i), {"action": name}) for i, name in enumerate(names)]


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


def test_refusals_of_the_pool():
    with pytest.raises(ArgumentError, match="workers: got 0; pass at least 1"):
        ProcessPool(workers=0)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_device_that_is_not_there_is_refused(executor, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ArgumentError, match="finds no NVIDIA device on this machine; use"):
        list(executor.run("fake_experiments:obey", actions("fine"), device="gpu"))
    with pytest.raises(ArgumentError, match=r'device: got .tpu.; pass "cpu" or "gpu"'):
        list(executor.run("fake_experiments:obey", actions("fine"), device="tpu"))


def test_every_worker_of_the_pool_sees_one_gpu_in_turn(monkeypatch):
    monkeypatch.setattr("translimit.execute.environment.visible_gpus", lambda: ("3", "5"))
    names = ["CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"]
    jobs = [Job(str(i), {"names": names, "seconds": 0.3}) for i in range(6)]
    found = results(ProcessPool(workers=3), "environment", jobs, device="gpu")
    assert {r.value["CUDA_VISIBLE_DEVICES"] for r in found.values()} == {"3", "5"}
    assert {r.value["JAX_PLATFORMS"] for r in found.values()} == {"cuda,cpu"}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_changes_numbers_is_the_same_everywhere(executor, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    found = results(executor, "environment", [Job("a", {"names": ["XLA_FLAGS", "JAX_PLATFORMS"]})])
    assert found["a"].value == {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=false",
        "JAX_PLATFORMS": "cpu",
    }
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


def test_a_dead_worker_takes_only_its_own_job(capfd):
    found = results(ProcessPool(workers=2), "obey", actions("die", "a", "die", "b", "print", "c"))
    assert found["0"].error == found["2"].error == "its worker process was killed by SIGKILL"
    assert [found[i].value for i in ("1", "3", "4", "5")] == ["a", "b", "print", "c"]
    assert "this is not the protocol" in capfd.readouterr().err


def test_a_lane_stays_with_a_family_then_takes_a_new_one_then_helps():
    names = ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "d0"]
    waiting = _Waiting([Job(name, family=name[0]) for name in names])
    lanes = [1, 2, 1, 1, 1, 1, 1, 2, 1]
    taken = [waiting.take(lane) for lane in lanes]
    found = [None if job is None else job.name for job in taken]
    assert found == ["a0", "b0", "a1", "a2", "c0", "d0", "b1", "b2", None]


def test_a_lane_that_has_left_holds_no_family():
    waiting = _Waiting([Job(name, family=name[0]) for name in ("a0", "b0", "a1")])
    assert [waiting.take(lane).name for lane in (1, 2)] == ["a0", "b0"]
    waiting.leave(1)
    assert waiting.take(2).name == "a1"


@pytest.mark.parametrize("action", ["memory", "exhausted"])
def test_a_worker_that_ran_out_of_memory_is_replaced(action):
    found = results(ProcessPool(workers=1), "obey", actions("pid", action, "pid"))
    assert found["1"].out_of_memory
    assert found["0"].value != found["2"].value


def test_closing_the_iterator_stops_the_workers():
    jobs = [Job("quick", {"action": "a"})]
    jobs += [Job(f"slow {i}", {"action": "b", "seconds": 60.0}) for i in range(3)]
    running = ProcessPool(workers=2).run("fake_experiments:obey", jobs)
    assert next(running).name == "quick"
    workers = psutil.Process().children()
    assert len(workers) == 2
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 30
    assert not any(worker.is_running() for worker in workers)


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
