"""One computation on two devices gives what it gives on one, within rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import translimit
from translimit.core import ArgumentError, device_count, over_devices, rounded_up

SCRIPT = Path(__file__).with_name("two_devices.py")
EXAMPLES = Path(translimit.__file__).parent / "examples"

#: What a vectorised loop that meets its numbers in another order may do to float64 and float32.
ROUNDING = {"float64": 1e-13, "float32": 5e-6}


def compare(*cases):
    """The largest relative difference of each case, where JAX sees two devices of the CPU."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *cases],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("devices") == 2
    return found


def check(found):
    for name, case in found.items():
        assert case["difference"] <= ROUNDING[case["dtype"]], (name, case)


def test_paths_and_attention():
    """Seven paths over two devices; causal attention of 1,100 tokens with its derivative."""
    found = compare("sphere_paths", "attention_gradient")
    assert set(found) == {"sphere_paths", "attention_gradient"}
    check(found)


@pytest.mark.slow
def test_covariances_training_and_particles():
    check(compare("covariance_paths", "training", "particles"))


@pytest.mark.slow
def test_two_processes_are_one_machine_with_two_devices():
    """The script that the page on devices names: two processes on this machine, gloo between."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "two_hosts.py")],
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said.count("2 devices of 2 processes") == 2
    assert said[-1] == "the same numbers as in one process"


def test_one_device_is_no_special_case():
    assert (device_count(), rounded_up(7)) == (1, 7)
    with over_devices() as count:
        assert count == jax.device_count()
        assert device_count() == count
    with pytest.raises(ArgumentError, match=f"devices: got 99; pass 1 to {jax.device_count()}"):
        over_devices(99).__enter__()
    assert device_count() == 1
