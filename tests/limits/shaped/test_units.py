"""Initial covariances and rates of shaped blocks over the range of float64: right, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import Outcome, solve
from translimit.core import ArgumentError
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    EulerMaruyama,
    ShapedMLP,
    StructurePreserving,
    correlation_drift,
    covariance_drift,
    diffusion,
    log_det_drift,
)

COV = np.array([[1.0, 0.3, 0.1], [0.3, 0.8, 0.2], [0.1, 0.2, 0.6]])
MLP = ShapedMLP(gamma=0.5, c_plus=0.5, c_minus=-0.5)
METHODS = {
    "structure-preserving": StructurePreserving(paths=8, max_step=0.02),
    "bounded": StructurePreserving(paths=8, max_step=0.02, bounded=True),
    "adaptive": StructurePreserving(paths=8, max_step=0.02, adaptive=0.1),
    "Euler-Maruyama": EulerMaruyama(paths=8, max_step=0.02),
}
#: Sizes of covariances: their temperatures are measured in the same unit.
SIZES = (1e-280, 1e-150, 1e-30, 1e30, 1e150, 1e280)


def blocks(size):
    """Blocks for covariances of this size."""
    return {
        "attention": Block(gamma=0.5, tau0=0.8 * size, heads=2, projection=True),
        "causal": Block(gamma=0.5, tau0=0.8 * size, causal=True, growth_rate=0.3),
        "full": Block(gamma=0.5, tau0=0.8 * size, mlp=MLP),
        "mlp": MLP,
    }


def end(block, initial, method, t1=0.1):
    sde = CovarianceSDE(
        block=block, initial=initial, t1=t1, stop_trace=100.0 * float(np.trace(initial))
    )
    return solve(sde, method, key=jax.random.key(3), save=[t1 / 2, t1])


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("structure-preserving", "attention"),
        *(
            pytest.param(method, name, marks=pytest.mark.slow)
            for method in METHODS
            for name in ("attention", "causal", "full", "mlp")
            if (method, name) != ("structure-preserving", "attention")
        ),
    ],
)
def test_covariances_of_any_size_move_like_their_scaled_copies(method, name):
    """The equation of c V and c tau0 is c times that of V and tau0, and so is every path."""
    plain = end(blocks(1.0)[name], COV, METHODS[method])
    for size in SIZES:
        scaled = end(blocks(size)[name], size * COV, METHODS[method])
        assert scaled.outcome == plain.outcome
        # The noise of attention is float32: rounding of the unit moves it by 1e-7.
        np.testing.assert_allclose(scaled.cov / size, plain.cov, rtol=1e-5, atol=1e-6)
        shift = 3 * np.log(size)
        np.testing.assert_allclose(scaled.log_det - shift, plain.log_det, rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            scaled.discretisation, plain.discretisation, rtol=1e-3, atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-280, 1e-150, 1e-20])
def test_far_below_the_temperature_nothing_but_the_linear_part_is_left(size):
    linear = end(Block(gamma=0.5, tau0=np.inf), COV, METHODS["structure-preserving"])
    small = end(Block(gamma=0.5, tau0=1.0), size * COV, METHODS["structure-preserving"])
    np.testing.assert_allclose(small.cov / size, linear.cov, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e12, 1e150, 1e280])
def test_attention_that_no_step_resolves_is_refused_by_name(method, size):
    """An explosion in the first step would say nothing."""
    if (method, size) == ("adaptive", 1e12):
        return  # its steps follow the rate
    with pytest.raises(ArgumentError, match=r"^initial: .*tau0"):
        end(Block(gamma=0.5, tau0=1.0), size * COV, METHODS[method])


@pytest.mark.slow
def test_adaptive_steps_resolve_fast_attention():
    """A path of the size 1e12 has the times of 1e24 in the place of one."""
    adaptive = StructurePreserving(paths=8, max_step=0.02, adaptive=0.1)
    block = Block(gamma=0.9, tau0=1.0)
    fast = CovarianceSDE(block=block, initial=1e12 * COV, t1=1.0)
    solution = solve(fast, adaptive, key=jax.random.key(3), save=[1.0], throw=False)
    assert solution.outcome == Outcome.blow_up
    exploded = solution.blow_up_time[np.isfinite(solution.blow_up_time)]
    assert np.all((exploded > 1e-26) & (exploded < 1e-18))


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_covariances_at_the_ends_of_the_range_are_refused(size):
    with pytest.raises(ArgumentError, match="initial: has entries up to"):
        end(Block(gamma=0.5, tau0=size), size * COV, METHODS["structure-preserving"])
    with pytest.raises(ArgumentError, match="cov: has entries up to"):
        covariance_drift(Block(gamma=0.5, tau0=size), size * COV)


def test_rates_that_ask_for_more_steps_than_can_be_counted_are_refused():
    method = StructurePreserving(paths=8)
    steep = ShapedMLP(gamma=0.5, c_plus=1e100, c_minus=0.0)
    for block, t1 in ((steep, 1.0), (Block(gamma=0.5, tau0=1.0), 1e100)):
        sde = CovarianceSDE(block=block, initial=COV, t1=t1)
        with pytest.raises(ArgumentError, match=r"t1: is .* steps of"):
            solve(sde, method, key=jax.random.key(3), save=[t1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name",
    ["full", *(pytest.param(n, marks=pytest.mark.slow) for n in ("attention", "causal", "mlp"))],
)
def test_coefficients_of_covariances_of_any_size(name, size):
    plain, scaled, here = blocks(1.0)[name], blocks(size)[name], size * COV
    np.testing.assert_allclose(
        covariance_drift(scaled, here) / size, covariance_drift(plain, COV), rtol=1e-11
    )
    for rate in (log_det_drift, correlation_drift):
        np.testing.assert_allclose(rate(scaled, here), rate(plain, COV), rtol=1e-10)
    if 1e-151 < size < 1e151:
        found, expected = diffusion(scaled, here) / size / size, diffusion(plain, COV)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_coefficients_beyond_the_floats_are_refused():
    for rate in (covariance_drift, diffusion, log_det_drift, correlation_drift):
        with pytest.raises(ArgumentError, match=r"cov: .* float64"):
            rate(Block(gamma=0.5, tau0=1.0), 1e200 * COV)


@pytest.mark.slow
def test_traced_covariances_that_are_extreme_end_as_non_finite():
    @jax.jit
    def extreme(cov):
        sde = CovarianceSDE(block=Block(gamma=0.5, tau0=np.inf), initial=cov, t1=0.1)
        solution = solve(
            sde, METHODS["structure-preserving"], key=jax.random.key(0), save=[0.1], throw=False
        )
        return solution.outcome == Outcome.non_finite

    with jax.enable_x64(True):
        found = [bool(extreme(jnp.asarray(size * COV))) for size in (1e-150, 1.0, 1e150)]
    assert found == [True, False, True]
