"""Tokens, covariances and rates over the whole range of float64: right, or refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from translimit import Outcome, solve
from translimit.attention import (
    L2,
    FeedForward,
    Layered,
    Linear,
    Sigmoid,
    Sinkhorn,
    Softmax,
    Unnormalized,
    in_units,
)
from translimit.core import ArgumentError, Estimate, SolveError, canonical_correlations
from translimit.integrate import AdaptiveODE, FixedODE
from translimit.limits.meanfield import (
    GaussianFlow,
    GaussianLimit,
    MomentClosure,
    ParticleFlow,
    PreNormFlow,
    SphereFlow,
)
from translimit.models import ResidualAttention
from translimit.observe import (
    anisotropy,
    cluster_labels,
    effective_rank,
    excess_kurtosis,
    interaction_energy,
    moments,
)

EYE = np.eye(2)
CLOUD = np.random.default_rng(0).normal(size=(5, 2))
exponents = st.floats(-290.0, 290.0)


def scalar(cov, value, score=1.0, t1=None, kind=Softmax):
    time = 1.0 / (2.0 * value * score * cov)
    attention = kind(Q=[[score]], K=[[1.0]], V=[[value]])
    flow = GaussianFlow(attention=attention, mean=[0.0], cov=[[cov]], t1=t1 or 3.0 * time)
    return solve(flow, save=[0.5 * time, t1 or 3.0 * time]), time


@settings(max_examples=8, deadline=None)
@given(exponents, exponents)
@example(-150.0, 0.0)
@example(150.0, 0.0)
@example(0.0, -300.0)
@example(290.0, -290.0)
@example(-290.0, 0.0)
def test_scalar_blow_up_times_at_every_scale(cov_exponent, value_exponent):
    """t* = 1 / (2 V A cov), and half-way the covariance has doubled, wherever t* is a float."""
    rate_exponent = cov_exponent + value_exponent
    if abs(rate_exponent) > 295.0:
        return
    solution, time = scalar(10.0**cov_exponent, 10.0**value_exponent)
    assert solution.outcome == Outcome.blow_up
    np.testing.assert_allclose(solution.blow_up_time, time, rtol=1e-8)
    np.testing.assert_allclose(solution.cov[0, 0, 0], 2.0 * 10.0**cov_exponent, rtol=1e-7)


def test_a_blow_up_far_before_the_end_is_found():
    solution, time = scalar(1e150, 1.0, t1=1.0)
    np.testing.assert_allclose(solution.blow_up_time, time, rtol=1e-8)


@pytest.mark.parametrize(("cov", "score"), [(1e308, 1.0), (1e-307, 1.0), (1.0, 1e300)])
def test_rates_at_the_ends_of_the_range_are_refused(cov, score):
    value = 1e10 if score > 1.0 else 1.0
    attention = Softmax(Q=[[score]], K=[[1.0]], V=[[value]])
    flow = GaussianFlow(attention=attention, mean=[0.0], cov=[[cov]], t1=1.0)
    with pytest.raises(ArgumentError, match="cov: makes the law change at a rate of"):
        solve(flow)


VARIANTS = {
    "softmax": Softmax(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4),
    "l2": L2(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4),
    "linear": Linear(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4),
    "sinkhorn": Sinkhorn(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4),
    "sigmoid": Sigmoid(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4, bias=0.3),
    "unnormalised": Unnormalized(Q=EYE, K=[[0.3, 1.0], [0.2, 0.5]], V=EYE, score_scale=0.4),
    "feed-forward": FeedForward(
        Softmax(Q=EYE, K=EYE, V=EYE), W=[[0.1, 0.2], [0.0, -0.3]], b=[1, 2]
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_fields_in_other_units_are_the_same_fields(name):
    """(T / l) Gamma(l y) of tokens y = x / l."""
    length, time = 2.0**7, 2.0**-3
    here = VARIANTS[name](CLOUD, CLOUD)
    there = in_units(VARIANTS[name], length, time)(CLOUD / length, CLOUD / length)
    np.testing.assert_allclose(there * length / time, here, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_a_law_of_any_size_moves_like_its_scaled_copy():
    """Layers with a drift, tokens and biases by c, queries and keys by 1 / c."""

    def layers(c):
        first = FeedForward(Softmax(Q=EYE / c, K=EYE / c, V=EYE / 2), W=-EYE, b=[c, 0.0])
        second = FeedForward(Softmax(Q=-EYE / c, K=EYE / c, V=EYE), W=EYE / 3, b=[0.0, c])
        return Layered([first, second], [0.0, 0.4])

    def end(c):
        flow = GaussianFlow(attention=layers(c), mean=[c, -c], cov=c * c * EYE, t1=1.0)
        solution = solve(flow, save=[1.0])
        return solution.mean[-1] / c, solution.factor[-1] / c

    for c in (2.0**-480, 2.0**480):
        for one, other in zip(end(c), end(1.0), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("c", [1e-200, 1e-100, 1e100, 1e200])
def test_clouds_of_any_size_move_like_their_scaled_copies(c):
    def end(c):
        attention = Softmax(Q=EYE / c, K=EYE / c, V=EYE)
        flow = ParticleFlow(attention=attention, initial=c * CLOUD, t1=1.0)
        return solve(flow, save=[1.0]).tokens[-1] / c

    np.testing.assert_allclose(end(c), end(1.0), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("c", [1e-200, 1e-100, 1e100, 1e200])
def test_directions_of_tokens_of_any_size(c):
    assert np.array_equal(cluster_labels(c * CLOUD, 0.5), cluster_labels(CLOUD, 0.5))
    np.testing.assert_allclose(effective_rank(c * CLOUD), effective_rank(CLOUD), rtol=1e-12)
    sphere, other = (SphereFlow(initial=x, t1=1.0, beta=1.0).initial for x in (c * CLOUD, CLOUD))
    np.testing.assert_allclose(sphere, other, rtol=1e-14)


@pytest.mark.slow
def test_pre_norm_tokens_of_any_size():
    """A token alone moves outwards at unit speed."""
    for c in (1e-200, 1e200):
        flow = PreNormFlow(initial=[[3.0 * c, 4.0 * c]], t1=5.0 * c, beta=1.0)
        tokens = solve(flow, save=[5.0 * c]).tokens[-1]
        np.testing.assert_allclose(tokens / c, [[6.0, 8.0]], rtol=1e-6)


def test_refusals_of_fields_beyond_the_floats(as_user):
    attention = Softmax(Q=EYE, K=EYE, V=EYE)
    with pytest.raises(ArgumentError, match=r"initial: has entries up to .* beyond float64"):
        ParticleFlow(attention=attention, initial=1e200 * CLOUD, t1=1.0)
    with pytest.raises(ArgumentError, match=r"initial: has entries up to .* beyond float32"):
        ParticleFlow(attention=attention, initial=np.float32(1e25) * CLOUD.astype("f4"), t1=1.0)
    for variant in (attention, Unnormalized(Q=EYE, K=EYE, V=EYE), Sinkhorn(Q=EYE, K=EYE, V=EYE)):
        with pytest.raises(ArgumentError, match="cloud: gives scores, or sums of their exponent"):
            variant(1e200 * CLOUD, 1e200 * CLOUD)
    with pytest.raises(ArgumentError, match="cloud: gives scores that are beyond float64"):
        Sinkhorn(Q=EYE, K=EYE, V=EYE).potentials(1e200 * CLOUD)
    with pytest.raises(ArgumentError, match=r"initial: has entries up to .* beyond float64"):
        ResidualAttention(attention, 2).simulate(1e200 * CLOUD)
    with pytest.raises(ArgumentError, match="cov: makes the law change at a rate of"):
        GaussianLimit(attention=attention, cov=1e100 * EYE)
    with pytest.raises(ArgumentError, match="cov: the expectations of Unnormalized"):
        MomentClosure(
            attention=Unnormalized(Q=EYE, K=EYE, V=EYE), mean=[0, 0], cov=1e100 * EYE, t1=1.0
        )


def test_a_flow_whose_field_is_not_finite_says_so():
    """Exponentials of scores of 10^4 are infinite: no number of steps would help."""
    flow = ParticleFlow(attention=Unnormalized(Q=EYE, K=EYE, V=EYE), initial=1e2 * CLOUD, t1=1.0)
    with pytest.raises(SolveError, match="a state became infinite or NaN: check the inputs"):
        solve(flow)


def test_traced_extremes_end_as_non_finite():
    """Inside jit nothing can be measured on the host: the outcome tells."""

    @jax.jit
    def outcome_and_time(cov):
        flow = GaussianFlow(
            attention=Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]]), mean=[0.0], cov=cov, t1=3.0
        )
        solution = solve(flow, save=[3.0], throw=False)
        return solution.outcome == Outcome.non_finite, solution.blow_up_time

    with jax.enable_x64(True):
        for cov, expected in ((0.5, False), (1e-150, True), (1e150, True)):
            extreme, time = outcome_and_time(jnp.asarray([[cov]]))
            assert bool(extreme) is expected
            assert expected or abs(float(time) - 1.0) < 1e-8


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("sigmoid", FixedODE(steps=4)),
        *(
            pytest.param(name, FixedODE(steps=4), marks=pytest.mark.slow)
            for name in (*VARIANTS, "layers")
            if name != "sigmoid"
        ),
        *(
            pytest.param(name, AdaptiveODE(max_steps=2000), marks=pytest.mark.slow)
            for name in (*VARIANTS, "layers")
        ),
    ],
)
def test_traced_clouds_whose_scores_or_squares_are_no_floats_end_as_non_finite(name, method):
    """Never as numbers, which sigmoids of infinite scores and steps without a tolerance give."""
    attention = VARIANTS.get(name) or Layered([VARIANTS["softmax"], VARIANTS["softmax"]], [0, 0.1])

    @jax.jit
    def solved(c, cloud):
        flow = ParticleFlow(attention=attention, initial=c * cloud, t1=0.2)
        solution = solve(flow, method, save=[0.2], throw=False)
        return solution.outcome == Outcome.non_finite, solution.tokens[-1]

    with jax.enable_x64(True):
        for dtype, sizes in (("f8", (1e-200, 0.1, 1e160, 1e300)), ("f4", (1e-30, 0.1, 1e20))):
            cloud = jnp.asarray(CLOUD, dtype)
            for size in sizes:
                lost, tokens = solved(jnp.asarray(size, dtype), cloud)
                assert bool(lost) is (size != 0.1)
                assert np.isfinite(np.asarray(tokens)).all() == (size == 0.1)


@pytest.mark.slow
def test_traced_pre_norm_tokens_whose_squares_are_no_floats_end_as_non_finite():
    """Their steps would have no tolerance: they would stay where they are."""

    @jax.jit
    def lost(c):
        flow = PreNormFlow(initial=c * jnp.asarray(CLOUD), t1=0.2 * c, beta=1.0)
        solution = solve(flow, save=jnp.stack([0.2 * c]), throw=False)
        return solution.outcome == Outcome.non_finite

    with jax.enable_x64(True):
        found = [bool(lost(jnp.asarray(c))) for c in (1e-200, 1e-100, 1.0, 1e100, 1e200)]
    assert found == [True, False, False, False, True]


def test_a_flow_whose_scores_overflow_on_the_way_says_so():
    """Sigmoid attention would go on with the limits of infinite scores, or with NaN for them."""
    attention = Sigmoid(Q=EYE, K=EYE, V=5.0 * EYE)
    for size, outcome in ((1.0, Outcome.successful), (1e152, Outcome.non_finite)):
        flow = ParticleFlow(attention=attention, initial=size * np.abs(CLOUD), t1=2.0)
        assert solve(flow, FixedODE(steps=20), save=[2.0], throw=False).outcome == outcome


@pytest.mark.parametrize("c", [1e-200, 1e-90, 1.0, 1e90, 1e150])
def test_observables_without_a_unit_do_not_depend_on_the_scale(c):
    np.testing.assert_allclose(excess_kurtosis(c * CLOUD), excess_kurtosis(CLOUD), rtol=1e-9)
    cov = moments(CLOUD)[1]
    np.testing.assert_allclose(anisotropy(c * cov), anisotropy(cov), rtol=1e-12)
    correlations = canonical_correlations(c * EYE, cov)
    b = c * np.linalg.eigvalsh(cov)[::-1]
    np.testing.assert_allclose(correlations, b / (0.5 + np.hypot(0.5, b)), rtol=1e-12)
    found = Estimate.from_samples(c * CLOUD[:, 0])
    np.testing.assert_allclose(found.stderr, c * CLOUD[:, 0].std(ddof=1) / 5**0.5, rtol=1e-12)


def test_observables_beyond_the_floats_are_refused():
    with pytest.raises(ArgumentError, match="tokens: have entries of about"):
        moments(1e160 * CLOUD)
    unit = CLOUD / np.linalg.norm(CLOUD, axis=1, keepdims=True)
    with pytest.raises(ArgumentError, match=r"beta: got 1000: .* beyond float64; pass rescaled"):
        interaction_energy(unit, 1e3)
    assert interaction_energy(unit, 1e3, rescaled=True) <= 1 / 2e3
