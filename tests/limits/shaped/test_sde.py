"""The covariance SDE: three tokens, stopped paths, structure, precision, refusals."""

import jax
import numpy as np
import pytest
from tests.limits.shaped.cases import FULL, THREE, ends

from translimit import solve
from translimit.core import (
    ArgumentError,
    NoSuchLimitError,
    Outcome,
    PrecisionError,
)
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    ShapedMLP,
    StructurePreserving,
    aligned_probability,
    explosion_probability,
    linear_norm_law,
    linear_variance,
)


@pytest.fixture(scope="module")
def full_block():
    return ends(FULL, THREE, 0.5, StructurePreserving(paths=20_000, max_step=0.01, bounded=True))


def test_means_of_the_full_block(full_block) -> None:
    rho = full_block.correlation[:, 0]
    log_norm = np.log(full_block.cov[:, 0, 0, 0])
    measured = [rho[:, 0, 1].mean(), rho[:, 1, 2].mean(), log_norm.mean()]
    np.testing.assert_allclose(measured, [0.446, -0.232, -0.461], atol=0.02)


def test_quantiles_of_the_full_block(full_block) -> None:
    rho = full_block.correlation[:, 0]
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    first = [-0.281, 0.167, 0.585, 0.823, 0.923]
    second = [-0.843, -0.678, -0.329, 0.159, 0.554]
    np.testing.assert_allclose(np.quantile(rho[:, 0, 1], levels), first, atol=0.03)
    np.testing.assert_allclose(np.quantile(rho[:, 1, 2], levels), second, atol=0.03)


def stopped_fraction(paths: int, tolerance: float):
    block = Block(gamma=0.5, tau0=1.0, mlp=FULL.mlp)
    method = StructurePreserving(paths=paths, max_step=0.02, adaptive=tolerance)
    return ends(block, THREE, 1.0, method, stop_trace=30.0)


def test_stopped_process() -> None:
    solution = stopped_fraction(4000, 0.2)
    estimate = solution.stopped_probability()
    assert abs(estimate.value - 0.061) < 0.008 + 4.5 * estimate.stderr
    trace = np.trace(solution.cov[:, 0], axis1=-2, axis2=-1)
    np.testing.assert_array_equal(trace > 30.0, np.isfinite(solution.stopping_time))
    assert solution.outcome == Outcome.successful


@pytest.mark.slow
def test_stopped_process_at_full_size() -> None:
    assert abs(stopped_fraction(20_000, 0.1).stopped_probability().value - 0.061) < 0.008


def test_equal_tokens_stay_equal_and_singular_starts_are_ordinary() -> None:
    cov = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 1.0]])
    for block in (Block(gamma=0.5, tau0=1.0, heads=2), FULL):
        end = ends(block, cov, 0.5, StructurePreserving(paths=50)).cov[:, 0]
        assert np.isfinite(end).all()
        difference = end[:, 0, 0] + end[:, 1, 1] - 2 * end[:, 0, 1]
        assert np.abs(difference).max() < 1e-10 * end.max()
        assert np.linalg.eigvalsh(end).min() > -1e-12 * end.max()


@pytest.mark.parametrize("tokens", [1, 20])
def test_other_sizes(tokens: int) -> None:
    block = Block(gamma=0.5, tau0=4.0, mlp=ShapedMLP(gamma=0.3))
    end = ends(block, np.eye(tokens), 0.05, StructurePreserving(paths=4))
    assert end.cov.shape == (4, 1, tokens, tokens)
    assert np.isfinite(end.log_det).all()
    np.testing.assert_allclose(np.linalg.slogdet(end.cov[:, 0])[1], end.log_det[:, 0], atol=1e-8)


def test_a_path_does_not_depend_on_how_many_others_run() -> None:
    block = Block(gamma=0.5, tau0=0.5)
    few = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5, max_step=0.02))
    many = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5000, max_step=0.02))
    np.testing.assert_allclose(few.cov, many.cov[:5], rtol=1e-12)
    again = ends(block, np.eye(2), 0.3, StructurePreserving(paths=5, max_step=0.02))
    np.testing.assert_array_equal(few.cov, again.cov)


def test_precision_under_somebody_elses_jit() -> None:
    block, method = Block(gamma=0.5, tau0=1.0), StructurePreserving(paths=3)

    def end(initial):
        return ends(block, initial, 0.1, method).cov

    with pytest.raises(PrecisionError):
        jax.jit(end)(np.eye(2))
    with jax.enable_x64(True):
        traced = jax.jit(end)(np.eye(2))
        inside = jax.jit(lambda: end(np.eye(2)))()
    for cov in (traced, inside):
        np.testing.assert_allclose(cov, end(np.eye(2)), rtol=1e-12)


def test_refusals() -> None:
    sde = CovarianceSDE(block=Block(gamma=0.5, tau0=1.0), initial=np.eye(4), t1=1.0)
    bound = 1 / (4 * linear_variance(sde.block) * 4)
    with pytest.raises(ArgumentError, match=f"largest admissible step is {bound:.4g}"):
        solve(sde, StructurePreserving(max_step=0.5), key=jax.random.key(0))
    with pytest.raises(ArgumentError, match="adaptive: is given with bounded"):
        StructurePreserving(adaptive=0.1, bounded=True)
    with pytest.raises(ArgumentError, match="paths: got 0"):
        StructurePreserving(paths=0)
    with pytest.raises(ArgumentError, match="t1: got -1"):
        CovarianceSDE(block=sde.block, initial=np.eye(2), t1=-1.0)
    with pytest.raises(ArgumentError, match="stop_trace: got 1"):
        CovarianceSDE(block=sde.block, initial=np.eye(2), t1=1.0, stop_trace=1.0)
    with pytest.raises(NoSuchLimitError, match="a diffusion of its own"):
        explosion_probability(FULL, 1.0)
    with pytest.raises(ArgumentError, match="distance: got -1"):
        explosion_probability(sde.block, -1.0)
    with pytest.raises(NoSuchLimitError, match="tau0=inf"):
        linear_norm_law(sde.block, 1.0, 1.0)
    with pytest.raises(ArgumentError, match="correlation: got 2"):
        aligned_probability(2.0)


def test_labelled_arrays_and_figure(full_block) -> None:
    solution = solve(
        CovarianceSDE(block=FULL, initial=THREE, t1=0.2),
        StructurePreserving(paths=20),
        key=jax.random.key(0),
        save=[0.0, 0.1, 0.2],
    )
    data = solution.to_xarray()
    assert data["cov"].dims == ("sample", "time", "token", "token2")
    assert solution.plot().get_xlabel() == "depth over width $t$"
