"""Gaussian closure of softmax: acceptance figures, closed forms, blow-up, precision, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.limits.meanfield.canonical import COV, MEAN, T1, K, Q, V

from translimit import Outcome, solve
from translimit.attention import Softmax
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    PrecisionError,
    SolveError,
)
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.meanfield import GaussianFlow, gaussian_vector_field, largest_score_variance


def softmax() -> Softmax:
    return Softmax(Q=Q, K=K, V=V, score_scale=1.0)


def five(mean, cov) -> np.ndarray:
    return np.array([*mean, cov[0, 0], cov[0, 1], cov[1, 1]])


def solve_to(attention, mean, cov, t1, **options):
    options.setdefault("save", [t1])  # one shape of save times, one compilation
    return solve(GaussianFlow(attention=attention, mean=mean, cov=cov, t1=t1), **options)


def test_acceptance_1_canonical_closure():
    solution = solve_to(softmax(), MEAN, COV, T1)
    expected = [0.7141618352, -0.8388689021, 0.9359658497, 0.2159850743, 0.4773052755]
    np.testing.assert_allclose(five(solution.mean[-1], solution.cov[-1]), expected, rtol=1e-7)
    assert solution.outcome == Outcome.successful
    assert np.isinf(solution.blow_up_time)


def test_acceptance_6_layers_that_change():
    first = solve_to(softmax(), MEAN, COV, 0.4)
    second = solve_to(Softmax(Q=K, K=Q, V=-V), first.mean[-1], first.cov[-1], 0.4)
    expected = [0.3995576313, -0.3186515984, 0.7523433158, 0.2229306642, 0.4362187296]
    np.testing.assert_allclose(five(second.mean[-1], second.cov[-1]), expected, rtol=1e-6)


def test_acceptance_15_canonical_blow_up_time():
    solution = solve_to(softmax(), MEAN, COV, 8.0, save=np.linspace(0.0, 8.0, 11))
    assert solution.outcome == Outcome.blow_up
    np.testing.assert_allclose(solution.blow_up_time, 3.925672353, rtol=1e-6)
    after = solution.ts > solution.blow_up_time
    assert np.all(np.isnan(solution.mean[after]))
    assert np.all(np.isfinite(solution.cov[~after]))


def test_acceptance_16_scalar_blow_up_time():
    solution = solve_to(Softmax(Q=[[1.3]], K=[[1.0]], V=[[0.7]]), [0.0], [[0.9]], 2.0)
    np.testing.assert_allclose(solution.blow_up_time, 1 / 1.638, rtol=1e-8)


def test_acceptance_24_rank_of_the_limit():
    """V = I, K = -Q: the limit has rank (d + 1) // 2, eigenvalues algebraic in t on the way.

    The limit is F (I - P) F with F = Sigma_0^(1/2) and P the projector on the row space of Q F.
    """
    for dim in (5,):  # test_gaussian_limit.py has them all, of one shape
        generator = np.random.default_rng(dim)
        query = generator.standard_normal((dim // 2, dim))
        root = generator.standard_normal((dim, dim))
        cov = root @ root.T
        attention = Softmax(Q=query, K=-query, V=np.eye(dim), score_scale=dim**-0.5)
        # Later than 1e6 the rounding of M F, times t, would show.
        save = np.geomspace(1e4, 1e6, 3)
        solution = solve_to(attention, np.zeros(dim), cov, save[-1], save=save)
        # Squared singular values of the factor keep the relative accuracy of small eigenvalues.
        eigenvalues = np.linalg.svd(solution.factor, compute_uv=False) ** 2
        slopes = np.diff(np.log(eigenvalues), axis=0) / np.diff(np.log(save))[:, None]
        persistent = np.abs(slopes[-1]) < 0.05
        assert np.all(persistent | (slopes[-1] < -0.5)), slopes[-1]
        assert persistent.sum() == (dim + 1) // 2
        values, basis = np.linalg.eigh(cov)
        half = (basis * np.sqrt(values)) @ basis.T
        rows = np.linalg.qr((query @ half).T)[0]
        limit = half @ (np.eye(dim) - rows @ rows.T) @ half
        np.testing.assert_allclose(solution.cov[-1], limit, atol=1e-6 * np.trace(cov))


def test_acceptance_26_two_lines():
    """The two limiting directions of the two-lines experiment are 121.86 and 172.40 degrees."""
    legacy = np.random.RandomState(36)
    while True:
        query, key = legacy.randn(2, 2), legacy.randn(2, 2)
        values = np.linalg.eigvalsh(key.T @ query + query.T @ key)
        if values[0] * values[1] < 0:
            break
    value = np.random.RandomState(32).randn(2, 2)
    attention = Softmax(Q=query, K=key, V=value, score_scale=2**-0.5)
    directions = []
    for u, w in [(0.5, 0.3), (-0.6, 0.2), (0.1, -0.8), (-0.2, 0.7), (0.7, -0.4), (0.0, 0.0)]:
        cov = np.array([[(u + 1) / 2, w / 2], [w / 2, (1 - u) / 2]])
        solution = solve_to(attention, [0.0, 0.0], cov, 1000.0, save=[1000.0])
        _, basis = np.linalg.eigh(solution.cov[-1])
        directions.append(np.degrees(np.arctan2(basis[1, -1], basis[0, -1])) % 180)
    nearest = np.abs(np.subtract.outer(directions, [121.86, 172.40])).min(axis=1)
    assert np.all(nearest < 0.1), directions


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_value_identity_closed_form(seed):
    """V = I: Sigma(t)^-1 = Sigma_0^-1 - t (A + A^T), for any A; t* from its largest eigenvalue."""
    generator = np.random.default_rng(seed)
    A = generator.standard_normal((3, 3))
    root = generator.standard_normal((3, 3)) + np.eye(3)
    cov = root @ root.T / 3 + 0.1 * np.eye(3)
    rate = np.linalg.eigvals(cov @ (A + A.T)).real.max()
    end = 0.5 / rate if rate > 0 else 1.0
    solution = solve_to(Softmax(Q=A, K=np.eye(3), V=np.eye(3)), np.zeros(3), cov, end)
    expected = np.linalg.inv(np.linalg.inv(cov) - end * (A + A.T))
    np.testing.assert_allclose(solution.cov[-1], expected, rtol=1e-7, atol=1e-8)
    wrong = np.linalg.inv(np.linalg.inv(cov) - end * A)  # a dropped transpose
    assert np.abs(wrong - expected).max() > 1e-4 * np.abs(expected).max()


def test_mean_of_symmetric_flow():
    """V = I, A symmetric: alpha(t) = e^t Phi(t) alpha_0 with Phi from the covariance."""
    A = np.array([[0.3, 0.1], [0.1, -0.4]])
    values, basis = np.linalg.eigh(COV)
    half = (basis * np.sqrt(values)) @ basis.T
    inner_values, inner_basis = np.linalg.eigh(np.eye(2) - 2 * 0.5 * half @ A @ half)
    inverse_root = (inner_basis * inner_values**-0.5) @ inner_basis.T
    transport = half @ inverse_root @ np.linalg.inv(half)
    solution = solve_to(Softmax(Q=A, K=np.eye(2), V=np.eye(2)), MEAN, COV, 0.5)
    np.testing.assert_allclose(solution.mean[-1], np.exp(0.5) * transport @ MEAN, rtol=1e-8)


def test_singular_covariance_keeps_its_rank():
    direction = np.array([1.0, 2.0])
    solution = solve_to(softmax(), MEAN, np.outer(direction, direction), 0.3)
    singular = np.linalg.svd(solution.factor, compute_uv=False)
    # 3e-8 is the root of the rounding error of a zero eigenvalue.
    assert np.all(singular[:, 1] < 1e-7 * singular[:, 0])
    assert np.all(np.linalg.eigvalsh(solution.cov) >= -1e-15)


def test_zero_covariance_is_a_point():
    """A point mass moves by V alone: alpha' = V alpha."""
    solution = solve_to(softmax(), MEAN, np.zeros((2, 2)), 1.0)
    values, basis = np.linalg.eig(V)
    expected = (basis * np.exp(values)) @ np.linalg.inv(basis) @ MEAN
    np.testing.assert_allclose(solution.mean[-1], expected.real, rtol=1e-8)
    assert np.all(solution.cov == 0)


def test_against_scipy_in_covariance_form():
    """Another solver (LSODA) on another form of the equations (Sigma instead of its factor)."""
    from scipy.integrate import solve_ivp

    A = K.T @ Q

    def rhs(t, y):
        mean, cov = y[:2], y[2:].reshape(2, 2)
        M = V @ cov @ A
        return np.concatenate([V @ mean + M @ mean, (M @ cov + cov @ M.T).ravel()])

    reference = solve_ivp(
        rhs, (0, 2), np.concatenate([MEAN, COV.ravel()]), "LSODA", rtol=1e-11, atol=1e-12
    ).y[:, -1]
    solution = solve_to(softmax(), MEAN, COV, 2.0)
    got = np.concatenate([solution.mean[-1], solution.cov[-1].ravel()])
    np.testing.assert_allclose(got, reference, rtol=1e-7)


def test_blow_up_time_hardly_depends_on_where_the_solve_stops():
    """Stopped at a growth of 1e4 already, the local exponent gives the time to 1e-4."""
    early = solve_to(softmax(), MEAN, COV, 8.0, method=AdaptiveODE(growth_limit=1e4))
    assert early.outcome == Outcome.blow_up
    np.testing.assert_allclose(early.blow_up_time, 3.925672353, rtol=1e-4)


def test_order_of_fixed_steps():
    """Tsit5 with equal steps converges with order five: the slope excludes four and six."""
    # At rtol 1e-8 the exact one is off by less than a hundredth of the error of four steps.
    exact = solve_to(softmax(), MEAN, COV, T1).cov[-1]
    errors = [
        np.abs(
            solve_to(softmax(), MEAN, COV, T1, method=FixedODE(steps=n), save=[T1]).cov[-1] - exact
        ).max()
        for n in (2, 4)
    ]
    slope = np.diff(np.log(errors)) / np.log(2.0)
    assert -5.8 < slope < -4.5, slope


def test_field_is_the_formula():
    factor = np.linalg.cholesky(COV)
    with jax.enable_x64(True):
        drift, change = gaussian_vector_field(softmax(), jnp.asarray(MEAN), jnp.asarray(factor))
    M = V @ COV @ K.T @ Q
    np.testing.assert_allclose(drift, V @ MEAN + M @ MEAN, rtol=1e-13)
    np.testing.assert_allclose(change, M @ factor, rtol=1e-13)


def test_score_variance_of_canonical_set():
    """The largest eigenvalue of Sigma A^T Sigma A is 0.073 for the canonical set."""
    A = K.T @ Q
    largest = largest_score_variance(A, COV)
    assert largest == pytest.approx(np.linalg.eigvals(COV @ A.T @ COV @ A).real.max())
    assert largest == pytest.approx(0.073, abs=5e-4)


class TestPrecision:
    """One closure under x64 off and on, vmap, grad and an outer jit."""

    @staticmethod
    def final(cov):
        return solve_to(softmax(), MEAN, cov, T1, save=[T1]).cov[-1]

    def test_concrete_values_with_x64_off(self):
        assert not jax.config.jax_enable_x64
        final = self.final(COV)
        assert isinstance(final, np.ndarray)
        assert final.dtype == np.float64
        assert not jax.config.jax_enable_x64

    def test_same_bits_twice(self):
        np.testing.assert_array_equal(self.final(COV), self.final(COV))

    @pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
    def test_traced_with_x64_off_is_refused(self, transform):
        function = {
            "jit": jax.jit(self.final),
            "vmap": lambda cov: jax.vmap(self.final)(jnp.stack([cov, cov])),
            "grad": jax.grad(lambda cov: self.final(cov)[0, 0]),
        }[transform]
        with pytest.raises(PrecisionError, match="enable_x64"):
            function(jnp.asarray(COV))

    def test_constants_inside_somebodys_jit_with_x64_off(self):
        with pytest.raises(PrecisionError, match="enable_x64"):
            jax.jit(lambda x: x * self.final(COV)[0, 0])(1.0)

    def test_jit_vmap_grad_with_x64_on(self):
        expected = self.final(COV)
        with jax.enable_x64(True):
            both = jax.jit(jax.vmap(self.final))(jnp.stack([COV, 0.5 * COV]))
            np.testing.assert_allclose(both[0], expected, rtol=1e-7)
            gradient = jax.grad(lambda cov: self.final(cov)[0, 0])(jnp.asarray(COV))
        step = 1e-5
        for i, j in ((0, 0), (0, 1), (1, 1)):
            bump = np.zeros((2, 2))
            bump[i, j] = bump[j, i] = step
            difference = self.final(COV + bump)[0, 0] - self.final(COV - bump)[0, 0]
            directional = float(np.sum(np.asarray(gradient) * bump)) / step
            np.testing.assert_allclose(directional, difference / (2 * step), rtol=1e-5)

    def test_gradient_at_repeated_eigenvalues(self):
        with jax.enable_x64(True):
            gradient = jax.grad(lambda cov: self.final(cov)[0, 0])(jnp.eye(2))
        assert np.all(np.isfinite(gradient))

    @pytest.mark.slow
    def test_gradient_of_the_blow_up_time(self):
        """t* = 1 / (2 V A Sigma_0), so d t* / d Sigma_0 = -t* / Sigma_0."""
        attention = Softmax(Q=[[1.3]], K=[[1.0]], V=[[0.7]])
        with jax.enable_x64(True):
            gradient = jax.grad(
                lambda s: solve_to(attention, [0.0], s * jnp.ones((1, 1)), 2.0).blow_up_time
            )(0.9)
        np.testing.assert_allclose(gradient, -1 / 1.638 / 0.9, rtol=1e-5)

    def test_traced_covariance_is_still_checked(self):
        with jax.enable_x64(True), pytest.raises(Exception, match="negative eigenvalue"):
            jax.block_until_ready(eqx.filter_jit(self.final)(jnp.asarray(-COV)))

    def test_outcomes_per_batch_element(self):
        with jax.enable_x64(True):
            times = jax.vmap(lambda c: solve_to(softmax(), MEAN, c, 3.0, save=[3.0]).blow_up_time)(
                jnp.stack([COV, 8 * COV])
            )
        assert np.isinf(times[0])
        np.testing.assert_allclose(times[1], 3.925672353 / 8, rtol=1e-6)


def test_progress_is_reported():
    seen: list[float] = []
    solve_to(softmax(), MEAN, COV, T1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_step_limit_is_an_error_that_keeps_the_solution():
    with pytest.raises(SolveError, match="max_steps") as caught:
        solve_to(softmax(), MEAN, COV, T1, method=AdaptiveODE(max_steps=1))
    assert caught.value.solution.outcome == Outcome.max_steps_reached
    quiet = solve_to(softmax(), MEAN, COV, T1, method=AdaptiveODE(max_steps=1), throw=False)
    assert quiet.outcome == Outcome.max_steps_reached


def test_labelled_and_drawn():
    solution = solve_to(softmax(), MEAN, COV, T1, save=np.linspace(0, T1, 11))
    data = solution.to_xarray()
    assert data["cov"].dims == ("time", "component", "component2")
    assert data["time"].attrs["long_name"] == "depth"
    assert len(solution.plot().patches) == 6  # at most so many ellipses


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mean": [0.0, 0.0, 0.0]}, ArgumentError, "mean: has shape"),
        ({"mean": [np.nan, 0.0]}, ArgumentError, "mean: has NaN or infinity in 1 of 2 entries"),
        ({"cov": [[1.0]]}, ArgumentError, "cov: has shape"),
        ({"cov": [[1.0, 0.5], [0.4, 1.0]]}, ArgumentError, "cov: is not symmetric"),
        ({"cov": [[1.0, 0.0], [0.0, -0.1]]}, ArgumentError, "cov: has the negative eigenvalue"),
        (
            {"cov": [[np.inf, 0.0], [0.0, 1.0]]},
            ArgumentError,
            "cov: has NaN or infinity in 1 of 4 entries",
        ),
        ({"t1": -1.0}, ArgumentError, "t1: got -1"),
        ({"t1": 0.0}, ArgumentError, "t1: got 0"),
        ({"t1": [1.0, 2.0]}, ArgumentError, "t1: has shape"),
        ({"t1": "far"}, ArgumentTypeError, "t1: got 'far'; pass real numbers"),
    ],
)
def test_refusals(change, error, message):
    arguments = {"attention": softmax(), "mean": MEAN, "cov": COV, "t1": 1.0} | change
    with pytest.raises(error, match=message):
        GaussianFlow(**arguments)


def test_causal_attention_has_no_closure():
    with pytest.raises(NoSuchLimitError, match="causal"):
        GaussianFlow(attention=Softmax(Q=Q, K=K, V=V, causal=True), mean=MEAN, cov=COV, t1=1.0)


def test_save_times_are_checked():
    problem = GaussianFlow(attention=softmax(), mean=MEAN, cov=COV, t1=1.0)
    for save in ([0.5, 0.2], [0.0, 1.5], [-0.1, 0.5], []):
        with pytest.raises(ArgumentError, match="save"):
            solve(problem, save=save)
    with pytest.raises(ArgumentTypeError, match="key"):
        solve(problem, key=jax.random.key(0))
