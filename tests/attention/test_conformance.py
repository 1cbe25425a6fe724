"""What every variant of attention promises, checked for all of them at the same sizes."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float
from tests.attention.variants import DIM, QKV, VARIANTS, dense_field

from translimit.attention import (
    L2,
    AbstractMomentField,
    AbstractOneHead,
    FixedSinkhorn,
    Sigmoid,
    Sinkhorn,
    Softmax,
    check_variant,
)
from translimit.attention import tiles as tiles_module
from translimit.core import AnyArray, ArgumentError, ArgumentTypeError, NoSuchLimitError

TOKENS = 37
WITH_FORMULA = {
    name: one for name, one in VARIANTS.items() if not isinstance(one, Sinkhorn | FixedSinkhorn)
}
every_variant = pytest.mark.parametrize("attention", VARIANTS.values(), ids=VARIANTS)


def draw(seed):
    """A cloud with positions that tie and weights of which some are zero."""
    rng = np.random.default_rng(seed)
    cloud, positions = rng.normal(size=(TOKENS, DIM)), np.sort(rng.integers(0, 6, TOKENS)) / 5
    weights = rng.random(TOKENS) * (rng.random(TOKENS) < 0.7)
    weights[positions == 0] += 0.1
    return cloud, positions, weights / weights.sum()


def at(attention, positions):
    return {"x_positions": positions, "positions": positions} if attention.causal else {}


@every_variant
def test_every_variant_keeps_the_promises(attention):
    dense = None
    if not isinstance(attention, Sinkhorn | FixedSinkhorn):
        dense = lambda *case: dense_field(attention, *case)  # noqa: E731
    report = check_variant(attention, dense=dense)
    assert not report.failed
    assert {"a field of a measure", "permutations", "mask", "gradient", "units"} <= {*report.passed}
    assert ("its definition" in report.passed) == (dense is not None)
    exact = not attention.causal and not isinstance(attention, AbstractMomentField)
    assert ("field of a Gaussian" in report.passed) == exact
    assert ("closure of moments" in report.passed) == (not exact and not attention.causal)


UNBOUNDED = {name: one for name, one in VARIANTS.items() if not one.bounded}


@pytest.mark.parametrize("attention", UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_does_not_say_that_it_is_bounded_is_not(attention):
    """Threefold tokens are more than fourfold as fast."""
    cloud, positions, weights = draw(0)
    sizes = [
        np.abs(attention(c * cloud, c * cloud, weights=weights, **at(attention, positions))).max()
        for c in (5.0, 15.0)
    ]
    assert sizes[1] > 4 * sizes[0]


@pytest.mark.parametrize("attention", WITH_FORMULA.values(), ids=WITH_FORMULA)
def test_identity_tiles_of_any_size_give_the_same_field(attention, monkeypatch):
    monkeypatch.setattr(tiles_module, "DENSE", 0)
    monkeypatch.setattr(tiles_module, "QUERY_TILE", 8)
    monkeypatch.setattr(tiles_module, "KEY_TILE", 16)
    cloud, positions, _ = draw(2)
    # A shape that no other test compiles: these tiles are seen when the field is traced.
    queries, causal = cloud[:-4], {}
    if attention.causal:
        causal = {"x_positions": 0.3 + positions[:-4], "positions": positions}
    field = attention(queries, cloud, **causal)
    expected = dense_field(attention, queries, cloud, None, *causal.values())
    np.testing.assert_allclose(field, expected, rtol=0, atol=1e-12)


@final
class Rational(AbstractOneHead):
    """A stranger's variant: Gamma(x) = V sum_j w_j y_j / (1 + s(x, y_j)^2), in one class."""

    power: Float[AnyArray, ""] = eqx.field(default=1.0, converter=np.asarray, kw_only=True)

    def velocity(self, x, cloud, log_weights, x_positions, positions):
        scores = self.queries(x) @ self.keys(cloud).T
        kernel = jnp.exp(log_weights) / (1 + scores**2) ** self.power
        if positions is not None:
            kernel = jnp.where(positions[None, :] <= x_positions[:, None], kernel, 0.0)
        return self.values(kernel @ cloud)

    @property
    def bounded(self):
        return True

    def gaussian_field(self, mean, cov):
        raise NoSuchLimitError("attention", "the field is not affine", "use ParticleFlow")


@final
class Forgetful(AbstractOneHead):
    """A variant that breaks promises: it forgets weights and mask, and a factor of the field."""

    def velocity(self, x, cloud, log_weights, x_positions, positions):
        scores = self.queries(x) @ self.keys(cloud).T
        return self.values(jax.nn.softmax(scores, axis=1) @ cloud)

    def gaussian_field(self, mean, cov):
        M = 2.0 * self.V @ cov @ self.A
        return self.V @ mean + M @ mean, M


@pytest.mark.parametrize("causal", [False, True])
def test_a_variant_of_a_stranger_keeps_the_promises(causal):
    report = check_variant(Rational(**QKV, power=np.float64(0.7), causal=causal))
    assert len(report.passed) == 10
    assert set(report.skipped) == {"field of a Gaussian", "field of a factor", "closure of moments"}


def test_broken_promises_are_named():
    report = check_variant(Forgetful(**QKV, causal=True), throw=False)
    assert {"a field of a measure", "mask"} <= set(report.failed)
    assert report.failed["mask"].startswith("of earlier tokens, with other later ones, differs by")
    report = check_variant(Forgetful(**QKV), throw=False, dense=lambda x, *_: 0 * x + 1)
    assert {"field of a Gaussian", "its definition"} <= set(report.failed)
    with pytest.raises(
        ArgumentError, match=r"Forgetful: \d+ passed, \d failed(\n.*)*failed   mask: "
    ):
        check_variant(Forgetful(**QKV, causal=True))


def test_only_variants_are_checked(as_user):
    with pytest.raises(ArgumentTypeError, match="attention: is int; pass an instance"):
        check_variant(3)  # pyright: ignore[reportArgumentType]


def test_identity_derivative_is_finite_where_a_masked_score_overflows():
    """A later token whose e^s is infinite must leave value and derivative of earlier ones alone."""
    attention = VARIANTS["unnormalized, causal"]
    cloud, positions = 0.1 * np.ones((2, DIM)), np.array([0.0, 1.0])

    def first(far):
        tokens = jnp.asarray(cloud).at[1].multiply(far)
        return attention(tokens[:1], tokens, x_positions=positions[:1], positions=positions).sum()

    value, slope = jax.value_and_grad(first)(1e8)
    assert np.isfinite(value)
    assert slope == 0


@every_variant
def test_refusals_of_a_call(attention, as_user):
    cloud, positions, _ = draw(6)
    if attention.causal:
        with pytest.raises(ArgumentTypeError, match="positions: is missing"):
            attention(cloud, cloud)
        with pytest.raises(ArgumentError, match=r"positions: has shape \(1,\)"):
            attention(cloud, cloud, x_positions=positions, positions=positions[:1])
        with pytest.raises(ArgumentError, match=r"positions: are not sorted: token \d+ at .*sort"):
            attention(cloud, cloud, x_positions=positions, positions=positions[::-1])
        with pytest.raises(ArgumentError, match="lies before every token"):
            attention(cloud, cloud, x_positions=positions - 1, positions=positions)
        with pytest.raises(NoSuchLimitError, match=r"causal|attention"):
            attention.gaussian_field(np.zeros(DIM), np.eye(DIM))
    else:
        with pytest.raises(ArgumentTypeError, match="positions: is given"):
            attention(cloud, cloud, x_positions=positions, positions=positions)
    with pytest.raises(ArgumentError, match="cloud: has shape"):
        attention(cloud, cloud[:, :1])


@pytest.mark.parametrize("variant", [Softmax, L2, Sigmoid])
def test_refusals_that_constructors_share(variant, as_user):
    for change, message in [
        ({"Q": QKV["Q"][0]}, "Q: has shape"),
        ({"K": QKV["K"][:1]}, r"K: has shape \(1, 3\); pass a matrix \[2, 3\]"),
        ({"V": QKV["V"][:2]}, r"V: has shape \(2, 3\)"),
        ({"V": QKV["V"] * np.nan}, "V: has NaN or infinity in 9 of 9 entries"),
        ({"score_scale": 0.0}, "score_scale: got 0"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            variant(**QKV | change)
    with pytest.raises(ArgumentTypeError, match="causal: got 1"):
        variant(**QKV, causal=1)
