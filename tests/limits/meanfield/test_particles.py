"""Particles: acceptance figures, agreement with the closure and with finite depth, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.meanfield.canonical import COV, MEAN, T1, K, Q, V

from translimit import Outcome, solve
from translimit.attention import Linear, Softmax
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.meanfield import GaussianFlow, ParticleFlow
from translimit.models import ResidualAttention


def softmax(**options) -> Softmax:
    return Softmax(Q=Q, K=K, V=V, score_scale=1.0, **options)


def uniform_cloud(seed: int, tokens: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (tokens, 2))


def exponential(matrix: np.ndarray) -> np.ndarray:
    values, basis = np.linalg.eig(matrix)
    return ((basis * np.exp(values)) @ np.linalg.inv(basis)).real


def test_acceptance_25_first_token_of_causal_attention():
    cloud = uniform_cloud(0, 12)
    flow = ParticleFlow(
        attention=softmax(causal=True), initial=cloud, t1=1.0, positions=np.linspace(0, 1, 12)
    )
    final = solve(flow, AdaptiveODE(rtol=1e-10, atol=1e-12)).tokens[-1]
    np.testing.assert_allclose(final[0], exponential(V) @ cloud[0], rtol=1e-8)


def test_prefix_autonomy():
    """Tokens up to a position evolve as if the later ones did not exist."""
    cloud, positions = uniform_cloud(1, 20), np.linspace(0, 1, 20)
    attention = softmax(causal=True)
    method = FixedODE(steps=10)
    whole = solve(
        ParticleFlow(attention=attention, initial=cloud, t1=1.0, positions=positions), method
    )
    prefix = solve(
        ParticleFlow(attention=attention, initial=cloud[:7], t1=1.0, positions=positions[:7]),
        method,
    )
    np.testing.assert_allclose(whole.tokens[:, :7], prefix.tokens, atol=1e-14)


def test_acceptance_23_euler_is_first_order():
    """error(L) / error(2 L) = 2.0 +- 0.1 at L = 64, for the mean square over clouds."""
    squares = np.zeros(2)
    for seed in range(4):
        cloud = uniform_cloud(seed)
        exact = solve(
            ParticleFlow(attention=softmax(), initial=cloud, t1=1.0),
            AdaptiveODE(rtol=1e-11, atol=1e-13),
            save=[1.0],
        ).tokens[-1]
        for index, layers in enumerate((64, 128)):
            network = ResidualAttention(softmax(), layers).simulate(cloud).tokens[-1]
            squares[index] += np.sum((network - exact) ** 2)
    assert np.sqrt(squares[0] / squares[1]) == pytest.approx(2.0, abs=0.1)


def test_finite_cloud_is_bounded_past_the_blow_up():
    """max |x_i(t)| <= e^{||V|| t} max |x_i(0)|, where the closure has long ceased to exist."""
    attention = Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]])
    cloud = np.random.default_rng(2).normal(0, np.sqrt(0.5), (60, 1))
    solution = solve(ParticleFlow(attention=attention, initial=cloud, t1=1.5))
    largest = np.abs(solution.tokens).max(axis=(1, 2))
    assert np.all(largest <= largest[0] * np.exp(solution.ts) * (1 + 1e-7))
    closure = solve(GaussianFlow(attention=attention, mean=[0.0], cov=[[0.5]], t1=1.5))
    assert closure.blow_up_time == pytest.approx(1.0, rel=1e-8)


def test_a_finite_cloud_under_linear_attention_blows_up_on_time():
    """In one dimension x_i' = A V m x_i with m the mean square: m' = 2 A V m^2, t* = 1 / (2 A V m).

    Softmax attention, which is bounded, is not asked, and Linear is.
    """
    cloud = np.random.default_rng(2).normal(0, np.sqrt(0.5), (60, 1))
    attention = Linear(Q=[[1.3]], K=[[1.0]], V=[[0.7]])
    exact = 1 / (2 * 1.3 * 0.7 * np.mean(cloud**2))
    assert not attention.bounded
    assert softmax().bounded
    solution = solve(ParticleFlow(attention=attention, initial=cloud, t1=2 * exact))
    assert solution.outcome == Outcome.blow_up
    assert solution.blow_up_time == pytest.approx(exact, rel=1e-4)  # steps of rtol 1e-7


def _matched_differences(clouds: int, tokens: int, attention_of_closure: Softmax) -> np.ndarray:
    """Final moments of clouds less the closure's from matched initial moments [clouds, 5]."""
    rows, columns = np.triu_indices(2)
    noise = np.random.default_rng(5).standard_normal((clouds, tokens, 2))
    initial = MEAN + noise @ np.linalg.cholesky(COV).T
    with jax.enable_x64(True):

        def flow(cloud):
            problem = ParticleFlow(attention=softmax(), initial=cloud, t1=T1)
            return solve(problem, FixedODE(steps=8), save=[T1]).tokens[-1]

        def closure(mean, cov):
            problem = GaussianFlow(attention=attention_of_closure, mean=mean, cov=cov, t1=T1)
            solution = solve(problem, FixedODE(steps=32), save=[T1])
            return jnp.concatenate([solution.mean[-1], solution.cov[-1][rows, columns]])

        mean = initial.mean(axis=1)
        centred = initial - mean[:, None]
        cov = np.einsum("cni,cnj->cij", centred, centred) / tokens
        final = np.asarray(jax.jit(lambda c: jax.lax.map(flow, c, batch_size=8))(initial))
        predicted = np.asarray(jax.jit(jax.vmap(closure))(mean, cov))
    means = final.mean(axis=1)
    centred = final - means[:, None]
    covs = np.einsum("cni,cnj->cij", centred, centred) / tokens
    return np.concatenate([means, covs[:, rows, columns]], axis=1) - predicted


def test_clouds_follow_the_closure():
    """Matched differences of 32 clouds of 400 tokens vanish within 4.5 standard errors.

    The O(1 / n) bias of the covariance, 0.45 / n at most for these parameters, is 0.001: half a
    standard error. With A transposed in the closure the means are off by many standard errors.
    """
    right = _matched_differences(32, 400, softmax())
    z = right.mean(axis=0) / (right.std(axis=0, ddof=1) / np.sqrt(32))
    assert np.all(np.abs(z) < 4.5), z
    wrong = _matched_differences(32, 400, Softmax(Q=K, K=Q, V=V))
    z = wrong.mean(axis=0) / (wrong.std(axis=0, ddof=1) / np.sqrt(32))
    assert np.abs(z).max() > 9, z


def test_weights_replace_repeated_tokens():
    cloud = uniform_cloud(3, 10)
    repeated = np.concatenate([cloud, cloud[:3]])
    weights = np.full(10, 1 / 13)
    weights[:3] *= 2
    method = FixedODE(steps=6)
    light = solve(ParticleFlow(attention=softmax(), initial=cloud, t1=1.0, weights=weights), method)
    heavy = solve(ParticleFlow(attention=softmax(), initial=repeated, t1=1.0), method)
    np.testing.assert_allclose(light.tokens, heavy.tokens[:, :10], rtol=1e-12)
    np.testing.assert_allclose(light.mean, heavy.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(light.cov, heavy.cov, rtol=1e-12, atol=1e-14)


def test_interpolated_save_times_are_as_accurate_as_the_steps():
    """The default interpolates between its steps: within 1e-6 of a solve that steps to them."""
    flow = ParticleFlow(attention=softmax(), initial=uniform_cloud(8, 16), t1=1.0)
    default = solve(flow)
    exact = solve(flow, AdaptiveODE(rtol=1e-11, atol=1e-13))
    assert default.steps_taken < 40 < exact.steps_taken
    np.testing.assert_allclose(default.tokens, exact.tokens, atol=1e-6)


def test_precision_follows_the_tokens():
    cloud = uniform_cloud(4, 8)
    problem = lambda initial: ParticleFlow(attention=softmax(), initial=initial, t1=0.5)  # noqa: E731
    double = solve(problem(cloud)).tokens
    single = solve(problem(cloud.astype(np.float32))).tokens
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    assert isinstance(double, np.ndarray)
    np.testing.assert_allclose(single, double, atol=2e-5)
    traced = jax.jit(lambda c: solve(problem(c)).tokens)(jnp.asarray(cloud, dtype=jnp.float32))
    assert isinstance(traced, jax.Array)
    np.testing.assert_allclose(traced, double, atol=2e-5)


def test_gradient_through_the_flow():
    cloud = uniform_cloud(6, 5)

    def loss(value):
        attention = Softmax(Q=Q, K=K, V=value * V)
        flow = ParticleFlow(attention=attention, initial=cloud, t1=0.5)
        return jnp.sum(solve(flow, FixedODE(steps=10), save=[0.5]).tokens ** 2)

    with jax.enable_x64(True):
        gradient = jax.grad(loss)(1.0)
        difference = (loss(1.0 + 1e-5) - loss(1.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(gradient, difference, rtol=1e-7)


def test_labelled_and_drawn():
    solution = solve(
        ParticleFlow(attention=softmax(), initial=uniform_cloud(7, 6), t1=0.5), save=[0.0, 0.5]
    )
    assert solution.to_xarray()["tokens"].dims == ("time", "token", "component")
    paths, *ends = solution.plot().collections
    assert len(paths.get_segments()) == 6
    assert len(ends) == 2


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"initial": np.zeros((3, 3))}, ArgumentError, "initial: has shape"),
        ({"initial": np.zeros((0, 2))}, ArgumentError, "at least one token"),
        (
            {"initial": [[np.nan, 0.0]]},
            ArgumentError,
            "initial: has NaN or infinity in 1 of 2 entries",
        ),
        ({"initial": [["a", "b"]]}, ArgumentTypeError, r"initial: got .*; pass real numbers"),
        ({"t1": -2.0}, ArgumentError, "t1: got -2"),
        ({"weights": [0.5, 0.4]}, ArgumentError, "sum to one"),
        ({"weights": [1.5, -0.5]}, ArgumentError, "non-negative"),
        ({"weights": [1.0]}, ArgumentError, "weights: has shape"),
        ({"positions": [0.0, 1.0]}, ArgumentTypeError, "positions: is given"),
        ({"attention": "causal"}, ArgumentTypeError, "positions: is missing"),
        ({"attention": "causal", "positions": [1.0, 0.0]}, ArgumentError, "positions: are not so"),
    ],
)
def test_refusals(change, error, message):
    arguments = {"attention": softmax(), "initial": np.zeros((2, 2)), "t1": 1.0} | change
    if arguments["attention"] == "causal":
        arguments["attention"] = softmax(causal=True)
    with pytest.raises(error, match=message):
        ParticleFlow(**arguments)
