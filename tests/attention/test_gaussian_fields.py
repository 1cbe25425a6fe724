"""Fields of Gaussian laws: acceptance figures, quadrature clouds, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attention.gaussian_laws import QKV, X, quadrature
from tests.limits.meanfield.canonical import COV, MEAN, K, Q, V

from translimit.attention import (
    L2,
    FeedForward,
    Linear,
    MultiHead,
    Normalisation,
    Sigmoid,
    Unnormalized,
)
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError

TWO_HEADS = MultiHead(
    Q=np.stack([Q, K[::-1]]),
    K=np.stack([K, -Q]),
    V=np.stack([V, Q]),
    W=np.stack([K, V]),
    score_scale=0.7,
)
ROWS = {
    "row 8, L2": (
        L2(**QKV),
        "0.3647793414 -0.4522359015 0.2821219476 0.1706258391 "
        "-0.0535435750 0.4747145771 0.0807083059 -0.5604949105",
        1e-9,
    ),
    "row 10, sigmoid": (
        Sigmoid(**QKV, bias=0.5),
        "0.0934464083 -0.1158878620 0.0854561421 0.0039174698 "
        "0.0547962381 0.0756478383 0.0571927723 -0.1177340469",
        1e-9,
    ),
    "row 11, linear": (
        Linear(**QKV),
        "0.0991875 -0.38325 0.067875 0.14675 -0.06525 0.456625 -0.05221875 -0.41175",
        1e-12,
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_acceptance_rows_8_10_11(row):
    attention, expected, tolerance = ROWS[row]
    printed = np.array(expected.split(), float)
    np.testing.assert_allclose(attention(X, X).ravel(), printed, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "attention",
    [
        TWO_HEADS,
        MultiHead.from_matrices(Q, K, V, heads=2),
        L2(**QKV),
        L2(**QKV, score_scale=0.6, key_scale=1.3),
        L2(Q=[[0.7, -0.4]], K=[[0.3, 1.0]], V=V),
        Linear(**QKV, score_scale=1.7),
        FeedForward(L2(**QKV), W=[[0.1, 0.5], [-0.2, 0.3]], b=[1.0, -2.0]),
    ],
    ids=["multi-head", "cut heads", "l2", "l2 key scale", "l2 one row", "linear", "feed-forward"],
)
def test_two_routes_gaussian_field_equals_the_field_of_a_quadrature_cloud(attention):
    cloud, masses = quadrature(MEAN, COV)
    x = np.concatenate([X, [MEAN]])
    field = attention(x, cloud, weights=masses)
    g, M = attention.gaussian_field(MEAN, COV)
    assert isinstance(M, np.ndarray)
    np.testing.assert_allclose(field, g + (x - MEAN) @ M.T, rtol=0, atol=1e-10)


def test_mutation_transposed_score_matrices_miss_the_quadrature():
    cloud, masses = quadrature(MEAN, COV)
    for right, wrong in [
        (L2(**QKV), L2(Q=K, K=Q, V=V)),
        (Linear(**QKV), Linear(Q=K, K=Q, V=V)),
        (L2(**QKV), L2(**QKV, key_scale=2.0)),
    ]:
        g, M = wrong.gaussian_field(MEAN, COV)
        gap = np.abs(right(X, cloud, weights=masses) - (g + (X - MEAN) @ M.T)).max()
        assert gap > 1e-2


def test_identity_fields_are_traceable_in_float32_and_differentiable():
    mean, cov = jnp.asarray(MEAN, jnp.float32), jnp.asarray(COV, jnp.float32)

    @eqx.filter_jit
    def fields(mean, cov):
        return (
            L2(**QKV).gaussian_field(mean, cov)[1],
            TWO_HEADS.gaussian_field(mean, cov)[1],
            Linear(**QKV).gaussian_field(mean, cov)[1],
            Sigmoid(**QKV).moment_field(mean, cov)[1],
            # At a degenerate covariance too: no derivative goes through eigenvectors.
            jax.grad(lambda c: Sigmoid(**QKV).moment_field(mean, c)[0].sum())(jnp.eye(2)),
        )

    found = fields(mean, cov)
    expected = (
        L2(**QKV).gaussian_field(MEAN, COV)[1],
        TWO_HEADS.gaussian_field(MEAN, COV)[1],
        Linear(**QKV).gaussian_field(MEAN, COV)[1],
        Sigmoid(**QKV).moment_field(MEAN, COV)[1],
    )
    for one, other in zip(found[:-1], expected, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    h = 1e-5
    step = h * np.array([[0.0, 0.0], [0.0, 1.0]])
    ends = [Sigmoid(**QKV).moment_field(MEAN, np.eye(2) + s * step)[0].sum() for s in (1, -1)]
    np.testing.assert_allclose(found[-1][1, 1], (ends[0] - ends[1]) / (2 * h), rtol=1e-4)


def test_refusals_of_closures(as_user):
    for attention in (Sigmoid(**QKV), Unnormalized(**QKV), FeedForward(Sigmoid(**QKV), W=V)):
        with pytest.raises(NoSuchLimitError, match="MomentClosure, which is approximate"):
            attention.gaussian_field(MEAN, COV)
    for attention in (
        L2(**QKV, causal=True),
        MultiHead.from_matrices(Q, K, V, heads=2, causal=True),
        Linear(**QKV, causal=True),
        FeedForward(L2(**QKV, causal=True), W=V),
    ):
        with pytest.raises(NoSuchLimitError, match=r"causal: .*not affine"):
            attention.gaussian_field(MEAN, COV)
    for variant in (Sigmoid, Unnormalized):
        with pytest.raises(NoSuchLimitError, match="causal"):
            variant(**QKV, causal=True).moment_field(MEAN, COV)
    with pytest.raises(NoSuchLimitError, match="causal"):
        Sigmoid(**QKV, causal=True).gaussian_velocity(X, MEAN, COV)
    with pytest.raises(NoSuchLimitError, match="L2 needs no moment closure; use GaussianFlow"):
        FeedForward(L2(**QKV), W=V).moment_field(MEAN, COV)
    with pytest.raises(ArgumentError, match=r"mean: has shape \(3,\)"):
        L2(**QKV).gaussian_field(np.zeros(3), COV)
    with pytest.raises(ArgumentError, match=r"cov: has shape \(2,\)"):
        Sigmoid(**QKV).moment_field(MEAN, MEAN)
    with pytest.raises(ArgumentError, match=r"x: has shape \(1,\)"):
        Sigmoid(**QKV).gaussian_velocity([1.0], MEAN, COV)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MultiHead.from_matrices(Q, K, V, heads=3), ArgumentError, "heads: 3 does not"),
        (
            lambda: MultiHead.from_matrices(Q, K, V, heads=0),
            ArgumentError,
            "heads: got 0; pass at least 1",
        ),
        (lambda: MultiHead.from_matrices(Q, K, V, 1.0), ArgumentTypeError, "heads: got 1.0"),
        # The second head of a one-row Q would be an empty slice.
        (
            lambda: MultiHead.from_matrices(Q[:1], K, V, 2),
            ArgumentError,
            r"Q: has shape \(1, 2\), and heads",
        ),
        (
            lambda: MultiHead.from_matrices(Q, K[:1], V, 2),
            ArgumentError,
            r"K: has shape \(1, 2\), and heads",
        ),
        (lambda: MultiHead.from_matrices(Q, K, V[:1], 2), ArgumentError, "V: has shape"),
        (lambda: MultiHead(Q=Q, K=[K], V=[V], W=[V]), ArgumentError, "Q: .*one map per head"),
        (lambda: MultiHead(Q=[Q, Q], K=[K], V=[V], W=[V]), ArgumentError, r"K: has shape \(1,"),
        (lambda: MultiHead(Q=[Q], K=[K], V=[V[:1]], W=[V]), ArgumentError, r"W: has .*\[1, 2, 1\]"),
        (lambda: L2(**QKV, key_scale=-1.0), ArgumentError, "key_scale: got -1"),
        (lambda: Sigmoid(**QKV, bias=[0.0]), ArgumentError, "bias: has shape"),
        (lambda: Sigmoid(**QKV, bias=np.nan), ArgumentError, "bias: got "),
        (lambda: Linear(**QKV, normalisation="prefix"), ArgumentTypeError, "Normalisation.PREFIX"),
        (
            lambda: Unnormalized(**QKV, normalisation=Normalisation.PREFIX),
            ArgumentError,
            "normalisation: is PREFIX, and the field is not causal",
        ),
        (lambda: FeedForward(Q, W=V), ArgumentTypeError, "attention: got ndarray"),
        (lambda: FeedForward(L2(**QKV), W=V[:1]), ArgumentError, "W: has shape"),
        (lambda: FeedForward(L2(**QKV), W=V, b=[1.0]), ArgumentError, "b: has shape"),
    ],
)
def test_refusals_of_constructors(make, error, message, as_user):
    with pytest.raises(error, match=message):
        make()
