"""Two tokens: closed forms, the backward equation, explosion."""

import jax
import numpy as np
import pytest
from tests.limits.shaped.cases import ends

from translimit import solve
from translimit.core import (
    ArgumentError,
    Outcome,
)
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    StructurePreserving,
    explosion_probability,
    two_token_expectation,
)


@pytest.mark.parametrize(
    ("square", "tau0", "heads", "projection", "expected"),
    [
        (0.125, 1.0, 1, False, 0.2274450889),
        (0.25, 1.0, 1, False, 0.1662579712),
        (0.25, 0.5, 1, False, 0.3125056189),
        (0.4, 0.5, 1, False, 0.1390592321),
        (0.5, 0.5, 1, False, 0.0),
        (0.25, 0.5, 2, False, 0.4405956558),
        (0.25, 0.5, 2, True, 0.4164171884),
    ],
)
def test_probability_of_explosion(square, tau0, heads, projection, expected) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads, projection=projection)
    assert explosion_probability(block, 2.0) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    # The backward equation at a late time comes near it, from below.
    late = explosion_probability(block, 2.0, 60.0)
    assert expected - 2e-3 < late <= expected + 1e-6


@pytest.mark.parametrize(
    ("square", "tau0", "heads", "expected"),
    [
        (0.125, 1.0, 1, 0.0012),
        (0.25, 1.0, 1, 0.0135),
        (0.25, 0.5, 1, 0.0855),
        (0.25, 0.25, 1, 0.291),
        (0.4, 0.5, 1, 0.0541),
        (0.25, 0.5, 2, 0.1343),
    ],
)
def test_probability_of_explosion_before_a_time(square, tau0, heads, expected) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads)
    assert abs(explosion_probability(block, 2.0, 1.0) - expected) < 0.0003


BOUNDED = [
    (lambda d: 1 / (1 + d), 0.0),
    (lambda d: np.tanh(np.log(np.maximum(d, 1e-300))), 1.0),
    (lambda d: (d > 3).astype(float), 1.0),
]


@pytest.mark.parametrize(
    ("tau0", "expected"), [(0.5, (0.4765, 0.0413, 0.1692)), (1.0, (0.4891, 0.0262, 0.1388))]
)
def test_bounded_functionals_of_two_tokens(tau0: float, expected: tuple[float, ...]) -> None:
    block = Block(gamma=0.5, tau0=tau0)
    for (functional, end), value, bound in zip(
        BOUNDED, expected, (0.0005, 0.0005, 0.001), strict=True
    ):
        got = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end)
        assert abs(got - value) < bound
        finer = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end, nodes=12_000)
        assert abs(got - finer) < bound / 4


def test_paths_follow_the_two_token_equation() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    paths = 30_000
    method = StructurePreserving(paths=paths, max_step=1 / 40, bounded=True)
    cov = ends(block, [[1.0, 0.2], [0.2, 1.0]], 1.0, method).cov[:, 0]
    distance = cov[:, 0, 0] + cov[:, 1, 1] - 2 * cov[:, 0, 1]
    distance = np.where(np.isnan(distance), np.inf, distance)
    for (functional, end), bound in zip(BOUNDED, (0.006, 0.012, 0.012), strict=True):
        sample = np.where(
            np.isinf(distance), end, functional(np.where(np.isinf(distance), 1, distance))
        )
        exact = two_token_expectation(block, 1.6, 1.0, functional, at_explosion=end)
        # The bounds hold for 1e5 paths; the sampling error of fewer is added.
        extra = 4.5 * sample.std() * (paths**-0.5 - 1e5**-0.5)
        assert abs(sample.mean() - exact) < bound + extra


def explosions(block: Block, paths: int, t1: float = 1.0, tolerance: float = 0.1):
    method = StructurePreserving(paths=paths, max_step=0.02, adaptive=tolerance)
    return ends(block, np.eye(2), t1, method).blow_up_probability()


def test_adaptive_paths_explode_as_often_as_they_must() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    estimate = explosions(block, 3000, tolerance=0.15)
    assert (
        abs(estimate.value - explosion_probability(block, 2.0, 1.0)) < 4.5 * estimate.stderr + 0.008
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("square", "tau0", "heads"), [(0.25, 0.5, 1), (0.4, 0.5, 1), (0.25, 0.5, 2)]
)
def test_explosion_before_time_one_at_full_size(square, tau0, heads) -> None:
    block = Block(gamma=square**0.5, tau0=tau0, heads=heads)
    estimate = explosions(block, 20_000)
    exact = explosion_probability(block, 2.0, 1.0)
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr + 0.004


@pytest.mark.slow
def test_long_time_explosion_follows_the_closed_form() -> None:
    # The diffusion of the distance itself, far beyond the time of most explosions.
    block = Block(gamma=0.5, tau0=0.5)
    estimate = explosions(block, 8000, t1=30.0, tolerance=0.05)
    exact = explosion_probability(block, 2.0)
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr


def test_blow_up_is_a_result_with_its_time() -> None:
    block = Block(gamma=0.5, tau0=0.25)
    sde = CovarianceSDE(block=block, initial=np.eye(2), t1=1.0)
    solution = solve(
        sde,
        StructurePreserving(paths=200, adaptive=0.2),
        key=jax.random.key(1),
        save=[0.0, 0.5, 1.0],
    )
    assert solution.outcome == Outcome.blow_up
    time = solution.blow_up_time
    assert 0 < np.isfinite(time).sum() < 200
    for index, t in enumerate([0.0, 0.5, 1.0]):
        np.testing.assert_array_equal(np.isnan(solution.cov[:, index, 0, 0]), time <= t)


@pytest.mark.parametrize("heads", [1, 16, 1000])
@pytest.mark.parametrize("distance", [1e-300, 1e-9, 1e-3, 2.0, 1e9, 1e200])
def test_explosion_is_a_probability_or_a_refusal_by_name(heads, distance):
    """Between the ranges of the grid and of its scale function, and beyond them."""
    block = Block(gamma=0.5, tau0=0.5, heads=heads)
    assert 0.0 <= explosion_probability(block, distance) <= 1.0
    if heads < 1000 and 1e-6 < distance < 1e10:
        assert 0.0 <= explosion_probability(block, distance, 1.0) <= 1.0
        return
    with pytest.raises(ArgumentError) as caught:
        explosion_probability(block, distance, 1.0)
    assert caught.value.argument == ("distance" if heads < 1000 else caught.value.argument)
    assert caught.value.argument in ("distance", "block")
