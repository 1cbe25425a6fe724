"""What every variant of attention promises, checked for all of them at the same sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attention.variants import DIM, QKV, VARIANTS, dense_field

from translimit.attention import L2, Sigmoid, Softmax
from translimit.attention import tiles as tiles_module
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError

TOKENS = 37
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
def test_identity_dense_formula_permutations_and_prefixes(attention):
    cloud, positions, weights = draw(0)
    causal = at(attention, positions)
    field = attention(cloud, cloud, weights=weights, **causal)
    expected = dense_field(attention, cloud, cloud, weights, *causal.values())
    assert isinstance(field, np.ndarray)
    np.testing.assert_allclose(field, expected, rtol=0, atol=1e-12)

    order = np.random.default_rng(1).permutation(TOKENS)
    if attention.causal:  # only among tokens of equal position
        order = order[np.argsort(positions[order], kind="stable")]
    moved = at(attention, positions[order])
    permuted = attention(cloud[order], cloud[order], weights=weights[order], **moved)
    np.testing.assert_allclose(permuted, field[order], rtol=0, atol=1e-13)

    if attention.causal:
        # Whatever the later tokens are, the earlier ones do not see them.
        later = positions > 0.4
        other = np.where(later[:, None], -3 * cloud[::-1], cloud)
        changed = attention(other, other, weights=weights, **causal)
        np.testing.assert_allclose(changed[~later], field[~later], rtol=0, atol=1e-14)
        assert np.abs(changed[later] - field[later]).max() > 1e-2


@every_variant
def test_identity_bounded_variants_are_of_the_order_of_the_tokens(attention):
    """Where no finite cloud is said to blow up, threefold tokens have a threefold velocity."""
    cloud, positions, weights = draw(0)
    sizes = [
        np.abs(attention(c * cloud, c * cloud, weights=weights, **at(attention, positions))).max()
        for c in (5.0, 15.0)
    ]
    assert attention.bounded == (sizes[1] < 4 * sizes[0])


@every_variant
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


@every_variant
def test_identity_jit_of_vmap_in_float32_equals_the_dense_formula(attention):
    cloud, positions, weights = draw(3)
    clouds = np.stack([cloud, 0.5 - cloud[::-1]]).astype(np.float32)

    @jax.jit
    def fields(attention, clouds):  # a variant is a pytree: plain jit takes it as an argument
        one = lambda c: attention(c, c, weights=weights, **at(attention, positions))  # noqa: E731
        return jax.vmap(one)(clouds)

    batch = fields(attention, jnp.asarray(clouds))
    assert isinstance(batch, jax.Array)
    assert batch.dtype == jnp.float32
    for row, tokens in zip(batch, clouds.astype(np.float64), strict=True):
        expected = dense_field(
            attention, tokens, tokens, weights, *at(attention, positions).values()
        )
        # Scores are below 10: a relative error of 10 eps, and as much again for the sums.
        np.testing.assert_allclose(row, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name",
    ["multi-head, causal", "l2", "sigmoid, prefix", "linear, prefix", "unnormalized, causal"],
)
def test_two_routes_gradient_equals_central_differences(name, monkeypatch):
    monkeypatch.setattr(tiles_module, "DENSE", 0)
    monkeypatch.setattr(tiles_module, "QUERY_TILE", 8)
    monkeypatch.setattr(tiles_module, "KEY_TILE", 16)
    attention = VARIANTS[name]
    cloud, positions, _ = draw(4)
    rng = np.random.default_rng(5)
    is_float = lambda leaf: isinstance(leaf, np.ndarray)  # noqa: E731
    along = jax.tree.map(lambda a: rng.normal(size=a.shape) if is_float(a) else a, attention)
    direction, probe = rng.normal(size=(2, TOKENS, DIM))

    def loss(step):
        moved = jax.tree.map(lambda a, b: a + step * b if is_float(a) else a, attention, along)
        tokens = jnp.asarray(cloud) + step * direction
        return jnp.sum(probe * moved(tokens, tokens, **at(attention, positions)))

    with jax.enable_x64(True):
        function, h = jax.jit(loss), 1e-5
        difference = (function(h) - function(-h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.0), difference, rtol=1e-6)


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
