"""The process pool: lanes, workers that die, GPUs one by one."""

import time

import psutil
import pytest
from tests.execute.executors import actions, results

from translimit.core import ArgumentError
from translimit.execute import (
    Job,
    ProcessPool,
)
from translimit.execute.pool import _Waiting


def test_refusals_of_the_pool():
    with pytest.raises(ArgumentError, match="workers: got 0; pass at least 1"):
        ProcessPool(workers=0)


def test_every_worker_of_the_pool_sees_one_gpu_in_turn(monkeypatch):
    monkeypatch.setattr("translimit.execute.environment.visible_gpus", lambda: ("3", "5"))
    names = ["CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"]
    jobs = [Job(str(i), {"names": names, "seconds": 0.3}) for i in range(6)]
    found = results(ProcessPool(workers=3), "environment", jobs, device="gpu")
    assert {r.value["CUDA_VISIBLE_DEVICES"] for r in found.values()} == {"3", "5"}
    assert {r.value["JAX_PLATFORMS"] for r in found.values()} == {"cuda,cpu"}


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
