"""Failed jobs are started again in one place, within the stated bound, after all others."""

from dataclasses import dataclass

import pytest

from translimit.core import ArgumentError
from translimit.execute import AbstractExecutor, Job, JobResult, ProcessPool, run_jobs

JOBS = [Job(name) for name in "abc"]


@dataclass(frozen=True)
class Scripted(AbstractExecutor):
    """Fails each job as often as the script says, and writes down every start."""

    failures: dict
    started: list

    def run(self, function, jobs, *, threads=1, device="cpu"):
        for job in jobs:
            self.started.append(job.name)
            number = self.started.count(job.name)
            if number <= self.failures.get(job.name, 0):
                yield JobResult(job.name, error=f"failure {number}", exception="ValueError")
            else:
                yield JobResult(job.name, value=number)


def test_a_failed_job_is_tried_again_after_the_others():
    executor = Scripted({"a": 1}, [])
    seen = []
    found = list(run_jobs(executor, "f", JOBS, watch=seen.append))
    assert executor.started == ["a", "b", "c", "a"]
    assert [r.name for r in found] == ["b", "c", "a"]
    assert [(r.attempts, r.earlier) for r in found] == [(1, ()), (1, ()), (2, ("failure 1",))]
    assert (seen[0].name, seen[0].error) == ("a", "failure 1")
    assert len(seen) == 4


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_bound_holds(retries):
    executor = Scripted({"b": 99}, [])
    found = {r.name: r for r in run_jobs(executor, "f", JOBS, retries=retries)}
    assert executor.started.count("b") == retries + 1 == found["b"].attempts
    assert found["b"].error == f"failure {retries + 1}"
    assert found["b"].earlier == tuple(f"failure {i + 1}" for i in range(retries))
    assert executor.started.count("a") == executor.started.count("c") == 1


def test_what_watches_can_end_everything():
    executor = Scripted({"a": 9}, [])

    def watch(result):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        list(run_jobs(executor, "f", JOBS, watch=watch))
    assert executor.started == ["a"]


def test_refusals():
    with pytest.raises(ArgumentError, match="retries: got -1; pass at least 0"):
        list(run_jobs(Scripted({}, []), "f", JOBS, retries=-1))


def test_a_job_whose_worker_died_is_tried_again_on_another(tmp_path, fakes):
    job = Job("a", {"action": "die-once", "marker": str(tmp_path / "mark")})
    (found,) = run_jobs(ProcessPool(workers=1), "fake_experiments:obey", [job])
    assert (found.value, found.attempts) == ("die-once", 2)
    assert found.earlier == ("its worker process was killed by SIGKILL",)
