"""Solutions: labels, figures, what they do not have, memory told before."""

import copy
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, Y, ring4

from translimit.core import (
    ArgumentError,
    MemoryLimitError,
    solve,
)
from translimit.limits import dmft
from translimit.limits.dmft import (
    CausalSampling,
)


def test_the_solution_is_consistent_labelled_and_drawn(base: Any) -> None:
    np.testing.assert_allclose(base.loss, np.sum((Y - base.predictions) ** 2, axis=1) / 4)
    data = base.to_xarray()
    assert data["kernel"].shape == (2, 12, 2, 2, 12, 2, 2)
    kernel = base.kernel(1).reshape(48, 48)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-12, atol=1e-12)
    assert np.linalg.eigvalsh(kernel).min() > -1e-10
    # <g g> of the last state is <w w> / S^2, the same for all tokens.
    gradient = base.gradient_kernel(1)
    assert gradient[0, 0, 0, 0, 1, 1] == pytest.approx(0.25)
    np.testing.assert_allclose(gradient, gradient[:, :1, :1, :, :1, :1] * np.ones_like(gradient))
    assert base.movement(1)[0] == pytest.approx(0.0, abs=1e-12)
    assert np.all(base.movement(1)[-1] > 0.5)
    assert set(base.responses(0)) == {"R_h", "R_g", "S_x", "S_p"}
    assert data["movement"].dims == ("state", "time", "input", "token")
    assert data.attrs["outcome"] == "successful"
    assert data.attrs["samples"] == base.samples == 1
    assert data.attrs["discretisation"] == base.discretisation == 0.0
    assert data.attrs["reference"].endswith("arXiv 2405.15712")
    assert base.plot().get_xlabel() == "updates"
    assert base.plot_kernel(1, (1, 0)).images[0].get_array().shape == (12, 12)
    assert len(base.plot_scores(0, (0, 0, 1)).lines) == 1


def bare(solution: Any, **changes: Any) -> Any:
    other = copy.copy(solution)
    for name, value in changes.items():
        object.__setattr__(other, name, value)
    return other


@pytest.mark.usefixtures("as_user")
def test_what_a_solution_does_not_have_is_told(base: Any) -> None:
    stream = {"residual": np.stack([base.kernel(0)] * 2)}
    for call, message in (
        (lambda: base.kernel(9), "layer: got 9; pass an integer from 0 to 1"),
        (lambda: bare(base, _attention=False).score_law(0), "layer: the architecture has no att"),
        (lambda: bare(base, _kernels=stream).responses(0, 0), "layer: there are no blocks; look"),
        (lambda: base.responses(0, 5), "block: got 5; pass an integer from 0 to 0"),
        (
            lambda: dmft.lazy_predictions(np.eye(2), np.ones(3), steps=1, eta0=1.0),
            r"targets: has shape \(3,\)",
        ),
        (
            lambda: dmft.lazy_predictions(
                np.eye(2), np.ones((2, 3)), steps=1, eta0=1.0, weights=np.ones(3)
            ),
            r"weights: has shape \(3,\); pass \[2\] or \[1, 2\]",
        ),
        (
            lambda: dmft.lazy_predictions(
                np.eye(2), np.ones((2, 3)), steps=2, eta0=1.0, schedule=[1.0, -0.5]
            ),
            r"schedule: has least entry -0.5; pass factors of at least 0",
        ),
        (lambda: dmft.initial_score_cov(np.eye(4), 3), "inputs: got 3 for 4 fields; pass a divis"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_memory_is_told_before_the_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ring4(**BASE, head_dim=2)
    small, large = (problem.memory(CausalSampling(heads=n)) for n in (2000, 200_000))
    assert 2e6 < small < 1e8 < large
    monkeypatch.setattr("translimit.limits.dmft.solver.available_memory", lambda: small // 2)
    with pytest.raises(MemoryLimitError, match=r"^heads: histories need .* GiB are free; take few"):
        solve(problem, CausalSampling(heads=2000), key=jax.random.key(0))
