"""Cells on a GPU: they compute there, with the same bits whatever the executor and the order."""

import json

import pytest

from translimit.core import visible_gpus
from translimit.execute import Job, ProcessPool, RayCluster
from translimit.study import run_experiments

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not visible_gpus(), reason="no NVIDIA device here"),
]

#: A training with Adam, embeddings and half a dozen kinds of products; and chains on the sphere.
EXPERIMENTS = ("bordelon2024/lm-sizes", "koubbi2026/collapse")
SMALL = {"steps": "20", "seeds": "4", "replicas": "8"}


def run(folder, executor, device="gpu"):
    return run_experiments(
        EXPERIMENTS, out=folder, executor=executor, device=device, overrides=SMALL, progress=False
    )


def bits(one):
    """Digests of every array of every cell."""
    return {state.cell: state.manifest["files"] for state in one.folder.states()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("gpu") / "alone", ProcessPool(workers=1))


@pytest.mark.parametrize(("device", "platform"), [("gpu", "gpu"), ("cpu", "cpu")])
def test_a_job_computes_where_its_device_says(fakes, device, platform):
    (found,) = ProcessPool(workers=1).run("fake_experiments:platform", [Job("a")], device=device)
    assert found.value == platform


def test_four_workers_that_share_one_card_give_the_same_bits(alone, tmp_path):
    shared = run(tmp_path / "shared", ProcessPool(workers=4))
    assert bits(shared) == bits(alone)
    assert json.dumps(shared.claims) == json.dumps(alone.claims)


def test_quarters_of_a_card_reserved_at_ray_give_the_same_bits(alone, tmp_path):
    pytest.importorskip("ray")
    shares = run(tmp_path / "ray", RayCluster(workers=4, gpus_per_cell=0.25))
    assert bits(shares) == bits(alone)


def test_more_of_a_card_than_there_is_is_not_started(fakes):
    pytest.importorskip("ray")
    count = len(visible_gpus())
    with pytest.raises(ValueError, match=f"gpus_per_cell: a cell asks for 1 CPU and {count + 1}"):
        list(
            RayCluster(workers=1, gpus_per_cell=count + 1.0).run(
                "fake_experiments:platform", [Job("a")], device="gpu"
            )
        )
