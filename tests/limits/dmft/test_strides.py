"""Longer steps, extrapolated to single updates, beside solves of every update."""

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RICH, Y, ring4
from tests.limits.dmft.language import lm12

from translimit.core import ArgumentError, ArgumentTypeError, solve
from translimit.limits.dmft import (
    CausalSampling,
    LinearAlgebra,
    TrainingDynamics,
    edge,
)
from translimit.limits.dmft.strides import coefficients

#: No blocks: the embedding and the readout alone, which compile in no time.
SHALLOW: dict[str, Any] = {"gamma0": 2.0, "attention": False}


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def compared(
    problem: TrainingDynamics, strides: tuple[int, ...], **options: Any
) -> tuple[Any, Any]:
    """The solve by strides and that of every update, at the times of the first."""
    found = solve(problem, LinearAlgebra(strides=strides, **options))
    whole = solve(problem, LinearAlgebra(**options))
    return found, whole.predictions[found.ts.astype(int)]


def test_the_coefficients_are_those_of_polynomials() -> None:
    for strides in ((2, 4), (1, 3), (2, 4, 8), (3, 5, 7, 9)):
        k = np.array(strides, float)
        for power in range(len(strides)):
            np.testing.assert_allclose(coefficients(strides) @ k**power, 1.0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_they_end_where_single_updates_end(momentum: float) -> None:
    eta0 = 0.003 if not momentum else 0.0006
    problem = ring4(**SHALLOW, steps=66, eta0=eta0, momentum=momentum)
    found, whole = compared(problem, (2, 4, 8))
    np.testing.assert_array_equal(found.ts, np.arange(0, 65, 8))
    error = np.abs(found.predictions - whole)
    assert rms(error) < 2e-5
    assert np.all(error <= found.stride_error + 1e-12)  # covered, time by time
    assert found.discretisation == found.stride_error.max()
    # Refuted: the shortest steps as they are, and a ball that keeps its momentum a step.
    alone = solve(ring4(**SHALLOW, steps=33, eta0=2 * eta0, momentum=momentum), LinearAlgebra())
    assert rms(alone.predictions[::4] - whole) > 20 * rms(error)
    if momentum:
        wrong = [
            solve(ring4(**SHALLOW, steps=64 // k + 1, eta0=k * eta0, momentum=momentum))
            for k in (2, 4, 8)
        ]
        kept = [one.predictions[:: 8 // k] for k, one in zip((2, 4, 8), wrong, strict=True)]
        wrongly = np.tensordot(coefficients((2, 4, 8)), np.stack(kept), axes=1)
        assert rms(wrongly - whole) > 20 * rms(error)


def test_a_schedule_enters_by_its_means_over_a_step() -> None:
    schedule = np.linspace(1.0, 0.0, 65)
    problem = ring4(**SHALLOW, steps=65, eta0=0.004, schedule=schedule)
    found, whole = compared(problem, (2, 4, 8))
    assert rms(found.predictions - whole) < 2e-5
    np.testing.assert_allclose(found.loss, 0.25 * np.sum((found.predictions - Y) ** 2, axis=1))


def test_what_makes_no_sense_is_refused() -> None:
    for strides in ((2,), (4, 2), (2, 2)):
        with pytest.raises(ArgumentError, match=r"^strides: got .*; pass at least two"):
            LinearAlgebra(strides=strides)
    problem = ring4(**SHALLOW, steps=8, eta0=0.01)
    with pytest.raises(ArgumentError, match=r"^strides: got .* first common time is update 8 of 7"):
        solve(problem, LinearAlgebra(strides=(2, 8)))
    batches = np.eye(2)[np.arange(8) % 2]
    batched = ring4(**SHALLOW, steps=8, eta0=0.01, weights=batches)
    with pytest.raises(ArgumentError, match=r"^strides: got .* weights of rows change"):
        solve(batched, LinearAlgebra(strides=(2, 4)))
    with pytest.raises(ArgumentTypeError, match=r"^method: has strides"):
        edge(problem, method=LinearAlgebra(strides=(2, 4)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("squared", {(2, 4): 5.5e-5, (2, 4, 8): 1.2e-5}),
        ("words", {(2, 4): 2.6e-5, (2, 4, 8): 6.6e-6}),
    ],
)
def test_heads_of_infinite_dimension(name: str, printed: dict[tuple[int, ...], float]) -> None:
    # Printed errors, within a factor 2: which times are averaged matters.
    problem = {
        "squared": ring4(beta0=2.0, gamma0=2.0, steps=65, eta0=0.003),
        "words": lm12(eta0=0.05, steps=49),
    }[name]
    whole = solve(problem)
    for strides, expected in printed.items():
        found = solve(problem, LinearAlgebra(strides=strides))
        times = found.ts.astype(int)
        error = rms(found.predictions - whole.predictions[times])
        assert expected / 3 < error < 2 * expected
        assert error < rms(found.stride_error)
        last = found.kernel(1)[-1, 0, 0, -1, 0, 0]
        np.testing.assert_allclose(
            last, whole.kernel(1)[times[-1], 0, 0, times[-1], 0, 0], rtol=1e-3
        )
        with pytest.raises(ArgumentError, match=r"^layer: .*longer steps"):
            found.responses(0)


@pytest.mark.slow
def test_sampled_heads_share_their_innovations() -> None:
    # Printed with common seeds: 7e-5 of (2, 4), 2e-5 of (2, 4, 8); a population scatters by 1e-3.
    problem = ring4(**RICH, head_dim=2, steps=49, eta0=0.006)
    options: dict[str, Any] = {"heads": 2000, "populations": 2, "tol": 1e-8}
    key = jax.random.key(0)
    whole = solve(problem, CausalSampling(**options, check_tol=False), key=key)
    found = solve(problem, CausalSampling(**options, strides=(2, 4, 8)), key=key)
    times = found.ts.astype(int)
    error = rms(found.predictions - whole.predictions[times])
    assert error < 1e-3
    assert error < rms(found.stride_error) + 2 * rms(found.stderr)
    np.testing.assert_array_equal(found.kernel_ts, found.ts)
    last = found.kernel(1)[-1, 0, 0, -1, 0, 0]
    np.testing.assert_allclose(last, whole.kernel(1)[-1, 0, 0, -1, 0, 0], rtol=3e-3)
    assert found.score_law(0).variance.shape[0] == len(times)
