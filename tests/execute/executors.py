"""The executors and their jobs."""

from translimit.execute import (
    Job,
    ProcessPool,
    Serial,
)

EXECUTORS = [Serial(), ProcessPool(workers=2)]


def results(executor, function, jobs, **options):
    found = list(executor.run(f"fake_experiments:{function}", jobs, **options))
    assert sorted(r.name for r in found) == sorted(job.name for job in jobs)
    return {r.name: r for r in found}


def actions(*names):
    return [Job(str(i), {"action": name}) for i, name in enumerate(names)]
