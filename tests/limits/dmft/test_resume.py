"""Long solves: checkpoints end in the same bits, a full disk loses nothing, folders are told apart.

Also the tangent kernel of several outputs at the start, against a network's own Jacobian.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, RICH, X, Y, ring4
from tests.limits.dmft.network import Network

from translimit.core import DiskFullError, StoreError, calls_at_once, drop_programs, solve
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    LinearAlgebra,
    TrainingDynamics,
    lazy_predictions,
)
from translimit.limits.dmft.compressed import passes

KEY = jax.random.key(3)
PROBLEM = ring4(**{**BASE, "steps": 6}, head_dim=2)


class StopError(Exception):
    """Stands for a kill."""


def sampled(folder: Path | None, **options: Any) -> CausalSampling:
    options = {"at_once": 1, **options}
    given = {"heads": 400, "populations": 2, "check_tol": False, "every": 2}
    return CausalSampling(**given, folder=folder, **options)


def stop_after(fraction: float) -> Any:
    def stop(done: float) -> None:
        if done > fraction:
            raise StopError

    return stop


@pytest.fixture(scope="module")
def whole() -> Any:
    return solve(PROBLEM, sampled(None), key=KEY)


def test_programs_that_are_forgotten_on_the_way_are_compiled_again(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long search for the best rate would have too many of them for one process."""
    dropped: list[bool] = []

    def drop() -> bool:
        dropped.append(drop_programs(most=0))
        return dropped[-1]

    monkeypatch.setattr(passes, "drop_programs", drop)
    passes._COMPILED.clear()
    again = solve(PROBLEM, sampled(None, at_once=2), key=KEY)
    assert dropped
    assert np.array_equal(again.predictions, whole.predictions)


@pytest.mark.parametrize("fraction", [0.4, 0.8])  # in the first population, and in the second
def test_a_solve_that_was_stopped_ends_in_the_same_bits(
    whole: Any, tmp_path: Path, fraction: float
) -> None:
    with pytest.raises(StopError):
        solve(PROBLEM, sampled(tmp_path), key=KEY, progress=stop_after(fraction))
    reports: list[float] = []
    resumed = solve(PROBLEM, sampled(tmp_path), key=KEY, progress=reports.append)
    # Of twelve evaluations at most two were computed again; a finished pass reports once.
    assert len(reports) <= 12 * (1 - fraction) + 3
    assert reports[-1] == 1.0
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    np.testing.assert_array_equal(resumed.kernel(1), whole.kernel(1))
    np.testing.assert_array_equal(resumed.score_law(0).scores, whole.score_law(0).scores)
    for name, values in whole.responses(0).items():
        np.testing.assert_array_equal(resumed.responses(0)[name], values)
    # What is finished is not computed again, and its histories are gone from the disk.
    reports.clear()
    again = solve(PROBLEM, sampled(tmp_path), key=KEY, progress=reports.append)
    assert reports == [0.5, 1.0]
    np.testing.assert_array_equal(again.predictions, whole.predictions)
    assert not list(tmp_path.glob("pass-*/state/*"))


def test_passes_side_by_side_stop_together_and_end_in_the_same_bits(
    whole: Any, tmp_path: Path
) -> None:
    calls = []

    def stop(done: float) -> None:
        calls.append(done)
        if done > 0.5:
            raise StopError

    with pytest.raises(StopError):
        solve(PROBLEM, sampled(tmp_path, at_once=2), key=KEY, progress=stop)
    # Of twelve steps no more than the one that raised and one beside it were told after half.
    assert len([done for done in calls if done > 0.5]) <= 2
    resumed = solve(PROBLEM, sampled(tmp_path, at_once=2), key=KEY)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    np.testing.assert_array_equal(resumed.score_law(0).scores, whole.score_law(0).scores)


def test_memory_counts_passes_side_by_side() -> None:
    one, two, three = (PROBLEM.memory(sampled(None, at_once=n)) for n in (1, 2, 3))
    assert three - two == two - one > one / 2  # beside what is kept of all of them
    assert PROBLEM.memory(sampled(None, at_once=None)) == one


@pytest.mark.parametrize(("free", "at_once"), [(3.9, 1), (4.0, 2), (100.0, 3)])
def test_passes_side_by_side_take_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: float, at_once: int
) -> None:
    monkeypatch.setattr("translimit.core.parallel.available_threads", lambda: 3)
    assert calls_at_once(calls=4, need=1, free=free) == at_once


def test_another_problem_key_or_method_does_not_go_on_there(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        solve(PROBLEM, sampled(tmp_path), key=KEY, progress=stop_after(0.3))
    for problem, method, key in (
        (ring4(**{**BASE, "steps": 6, "eta0": 0.04}, head_dim=2), sampled(tmp_path), KEY),
        (PROBLEM, sampled(tmp_path, omit=("R_h",)), KEY),
        (PROBLEM, sampled(tmp_path), jax.random.key(4)),
    ):
        with pytest.raises(StoreError, match="belongs to another"):
            solve(problem, method, key=key)


def test_a_full_disk_is_told_and_loses_nothing(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = np.savez, []

    def full(file: Any, **arrays: Any) -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr("translimit.core.checkpoint.np.savez", full)
        with pytest.raises(DiskFullError, match="free space and run again"):
            solve(PROBLEM, sampled(tmp_path), key=KEY)
    assert [p.name for p in (tmp_path / "pass-0" / "state").iterdir()] == ["training.npz"]
    torn = tmp_path / "pass-0" / "state" / ".tmp-training.npz-1-abcd"
    torn.write_bytes(b"torn by a kill")
    resumed = solve(PROBLEM, sampled(tmp_path), key=KEY)
    assert not torn.exists()
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)


@pytest.mark.slow
def test_passes_without_sampling_are_resumed_too(tmp_path: Path) -> None:
    problem = ring4(**{**BASE, "steps": 6})
    method = LinearAlgebra(folder=str(tmp_path), every=1)
    with pytest.raises(StopError):
        solve(problem, method, progress=stop_after(0.5))
    resumed = solve(problem, method)
    np.testing.assert_array_equal(resumed.predictions, solve(problem).predictions)


def test_the_kernel_of_several_outputs_at_the_start() -> None:
    # K(0) = (2 + 4 beta0^2) times the kernel of pooled inputs for each output (uniform attention).
    targets = np.stack([Y, [0.5, 1.0]], axis=1)
    problem = TrainingDynamics(
        architecture=Architecture(head_dim=np.inf, beta0=1.5, gamma0=1e-3),
        inputs=X,
        targets=targets,
        readout="pooled",
        steps=6,
        eta0=0.05,
    )
    solution = solve(problem)
    pooled = X.mean(axis=1)
    kernel = (2 + 4 * 1.5**2) * pooled @ pooled.T / X.shape[-1]
    np.testing.assert_allclose(solution.ntk[0], kernel, rtol=1e-12)
    assert np.isnan(solution.ntk[1:]).all()
    assert solution.sharpness[0] == pytest.approx(np.linalg.eigvalsh(kernel)[-1] / 2)
    # The lazy closed form in both outputs.
    f = lazy_predictions(solution.ntk[0], targets, steps=6, eta0=0.05)
    np.testing.assert_allclose(solution.predictions, f, atol=1e-5)
    assert f.shape == (6, 2, 2)


@pytest.mark.slow
def test_the_kernel_of_several_outputs_is_that_of_networks() -> None:
    # First increments of finite networks under a single error Delta = (e_mu, o) span K_H.
    net = Network(N=2, H=200, mlp="tanh", **RICH, eta0=1e-6)
    generator = np.random.default_rng(5)
    inputs = generator.standard_normal((3, 2, 6))
    params = net.random(1, 12, 6, outputs=2)
    fields = net.forward(params, inputs)
    columns = np.zeros((12, 3, 2, 3, 2))
    for nu in range(3):
        for o in range(2):
            error = np.zeros((12, 3, 2))
            error[:, nu, o] = 1.0
            change = net.increments(params, fields, inputs, error)
            moved = {name: value + change[name] for name, value in params.items()}
            after = net.forward(moved, inputs)["f"]
            columns[:, :, :, nu, o] = (after - fields["f"]) / net.eta0
    mean, stderr = columns.mean(axis=0), columns.std(axis=0, ddof=1) / 12**0.5
    from translimit.describe import Activation

    problem = TrainingDynamics(
        architecture=Architecture(head_dim=2, mlp=Activation.TANH, **RICH),
        inputs=inputs,
        targets=np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]),
        readout="pooled",
        steps=2,
        eta0=0.01,
    )
    solution = solve(problem, CausalSampling(heads=20_000, neurons=40_000, populations=2), key=KEY)
    expected = solution.ntk[0][:, None, :, None] * np.eye(2)[None, :, None, :]
    # The bias of H = 200 heads is about 1 / 200 of the kernel.
    allowed = np.hypot(stderr, 0.01 * np.abs(expected).max())
    assert np.max(np.abs(mean - expected) / allowed) < 4.5
    assert np.min(np.diag(expected[:, 0, :, 0])) > 1


CHILD = """
import sys, jax
from tests.limits.dmft.test_resume import LONG, sampled
from translimit.core import solve
solve(LONG, sampled(sys.argv[1]), key=jax.random.key(3))
"""
LONG = ring4(**{**BASE, "steps": 40}, head_dim=2)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=checkout)
    try:
        while child.poll() is None and not list(tmp_path.glob("pass-*/state/training.npz")):
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    assert list(tmp_path.glob("pass-*"))
    resumed = solve(LONG, sampled(tmp_path), key=KEY)
    np.testing.assert_array_equal(
        resumed.predictions, solve(LONG, sampled(None), key=KEY).predictions
    )
