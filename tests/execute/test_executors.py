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
    limit_threads,
    thread_limits,
)

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
    with pytest.raises(ArgumentError, match="workers: got 0; pass 1 or more"):
        ProcessPool(workers=0)
    with pytest.raises(ArgumentError, match="retries: got -1"):
        ProcessPool(retries=-1)


def test_limits_are_set_for_this_process(monkeypatch):
    for name in thread_limits(1):
        monkeypatch.setenv(name, "9")
    limit_threads(2)
    assert {os.environ[name] for name in thread_limits(1)} == {"2"}


def test_a_dead_worker_takes_only_its_own_job(capfd):
    found = results(ProcessPool(workers=2), "obey", actions("die", "a", "die", "b", "print", "c"))
    again = "its worker process was killed by SIGKILL and then was killed by SIGKILL"
    assert found["0"].error == found["2"].error == again
    assert [found[i].value for i in ("1", "3", "4", "5")] == ["a", "b", "print", "c"]
    assert "this is not the protocol" in capfd.readouterr().err


def test_a_job_whose_worker_died_once_is_tried_again(tmp_path):
    job = Job("a", {"action": "die-once", "marker": str(tmp_path / "mark")})
    assert results(ProcessPool(workers=1), "obey", [job])["a"].value == "die-once"


def test_a_job_is_not_retried_for_ever():
    started = results(ProcessPool(workers=1, retries=0), "obey", actions("die", "fine"))
    assert started["0"].error == "its worker process was killed by SIGKILL"
    assert started["1"].value == "fine"


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
