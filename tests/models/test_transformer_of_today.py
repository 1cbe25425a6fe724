"""Norms of keys and queries, gains, activations on the stream: against NumPy, and in limits."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.models.numpy_transformer import forward, image_trainer, language_trainer

from translimit.core import ArgumentError
from translimit.describe import Activation, Parameterization, Role, RoleRule, TransformerShape
from translimit.models import Transformer
from translimit.scaling import limit_parameterization

LANGUAGE = TransformerShape(
    head_dim=4,
    heads=4,
    layers=2,
    tokens=5,
    outputs=7,
    vocabulary=7,
    kv_heads=2,
    mlp_ratio=1.5,
    activation=Activation.TANH,
    norm="rms",
    gains=False,
    biases=False,
    positions="both",
    rotary_base=3.0,
    causal=True,
    pooled=False,
    tied=True,
    qk_norm="rms",
    score_gain=True,
    stream_activation=Activation.GELU,
)
IMAGES = replace(
    LANGUAGE,
    vocabulary=None,
    patch_dim=6,
    kv_heads=None,
    norm=None,
    final_norm="layer",
    positions="learned",
    causal=False,
    pooled=True,
    tied=False,
    qk_norm="layer",
    score_gain=False,
    stream_activation=Activation.TANH,
)


def drawn(shape: TransformerShape, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {spec.name: rng.normal(0.2, 0.8, spec.shape) for spec in shape.parameters}


def data_of(shape: TransformerShape) -> np.ndarray:
    rng = np.random.default_rng(2)
    if shape.vocabulary:
        return rng.integers(shape.vocabulary, size=shape.tokens)
    return rng.normal(size=(shape.tokens, shape.patch_dim or 1))


def of_ours(model: Transformer, weights: dict[str, np.ndarray], x: np.ndarray) -> Any:
    """Output of the call, and the fields."""
    with jax.enable_x64(True):
        both = eqx.filter_jit(lambda m, w, x: (m(w, x), m.fields(w, x)))
        f, fields = both(model, jax.tree.map(jnp.asarray, weights), jnp.asarray(x))
        return np.asarray(f), jax.tree.map(np.asarray, fields)


@pytest.mark.parametrize("shape", [LANGUAGE, IMAGES], ids=["language", "images"])
def test_forward_is_that_of_numpy(shape: TransformerShape) -> None:
    """Every role has numbers of its own, so that one left out is seen."""
    rng = np.random.default_rng(0)
    roles = {role: RoleRule(*rng.uniform(0.5, 1.5, 5)) for role in Role}
    numbers = Parameterization(shape.size, roles, score_scale=0.7, residual=0.6)
    mult = {spec.name: numbers.role(spec.role).mult for spec in shape.parameters}
    mult["readout"] = numbers.role(Role.READOUT).mult
    weights, x = drawn(shape), data_of(shape)
    f, fields = of_ours(Transformer(shape, numbers), weights, x)
    expected, scores = forward(shape, mult, 0.7, 0.6, weights, x)
    np.testing.assert_allclose(f, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fields.output, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fields.scores, scores, rtol=1e-10, atol=1e-12)
    # Another network is told from it: each ingredient matters.
    for change in ({"qk_norm": None}, {"stream_activation": None}, {"final_norm": False}):
        other, _ = forward(replace(shape, **change), mult, 0.7, 0.6, weights, x)
        assert np.abs(other - expected).max() > 1e-3, change


SIZES = (4, 3, 2, 1.0, 0.75, 4.0, 0.25)


def official(shape: TransformerShape, score_gain: float) -> Parameterization:
    """The numbers of the official trainers: depth relative to beta_0 outside of blocks."""
    N, H, L, alpha_A, alpha_L, beta0, gamma0 = SIZES
    assert (shape.head_dim, shape.heads, shape.layers) == (N, H, L)
    numbers = limit_parameterization(
        shape.size,
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        beta0=beta0,
        gamma0=gamma0,
        pixels=shape.patch_dim or 1,
        score_gain=score_gain,
    )
    outer = beta0 ** (alpha_L - 0.5)
    for role in (Role.TOKEN_EMBEDDING, Role.PATCH_EMBEDDING, Role.POSITION_EMBEDDING, Role.READOUT):
        numbers = numbers.times(role, mult=outer, init=1 / outer)
    return numbers.changed(Role.READOUT_BIAS, mult=numbers.readout)


def test_the_official_vision_transformer() -> None:
    shape = TransformerShape(
        4, 3, 2, tokens=4, outputs=10, patch_dim=6, mlp_ratio=1.0, gains=False, biases=False
    )
    weights, x = drawn(shape), data_of(shape)
    f, _ = of_ours(Transformer(shape, official(shape, 0.5)), weights, x)
    expected = image_trainer(weights, x, SIZES)
    np.testing.assert_allclose(f, expected, rtol=1e-9, atol=1e-12)
    wrong, _ = of_ours(Transformer(shape, official(shape, 1.0)), weights, x)
    assert np.abs(wrong - expected).max() > 1e-3 * np.abs(expected).max()


def test_the_official_language_model() -> None:
    shape = TransformerShape(
        4,
        3,
        2,
        tokens=5,
        outputs=8,
        vocabulary=8,
        mlp_ratio=1.0,
        gains=False,
        causal=True,
        pooled=False,
        qk_norm="layer",
        stream_activation=Activation.GELU,
    )
    weights, x = drawn(shape), data_of(shape)
    for name in weights:
        if name.endswith("_bias") and name != "readout_bias":
            weights[name] = 0 * weights[name]  # there is one bias alone
    f, _ = of_ours(Transformer(shape, official(shape, 1.0)), weights, x)
    expected = language_trainer(weights, x, SIZES)
    np.testing.assert_allclose(f, expected, rtol=1e-9, atol=1e-12)
    plain = replace(shape, stream_activation=None)
    wrong, _ = of_ours(Transformer(plain, official(shape, 1.0)), weights, x)
    assert np.abs(wrong - expected).max() > 1e-3 * np.abs(expected).max()


def test_the_law_of_normalised_scores_at_the_start() -> None:
    """Variance gain^2 N^(1 - 2 alpha_A) and excess kurtosis -6 / (N + 2); LayerNorm has N - 1."""
    for kind, variance, kurtosis in (("rms", 4 / 4, -6 / 6), ("layer", 4 / 3, -6 / 5)):
        shape = TransformerShape(
            head_dim=4,
            heads=512,
            layers=1,
            tokens=4,
            outputs=1,
            patch_dim=8,
            mlp_ratio=0.0,
            norm=None,
            gains=False,
            biases=False,
            positions=None,
            qk_norm=kind,
            norm_eps=1e-12,
        )
        model = Transformer(shape, limit_parameterization(shape.size, pixels=8, score_gain=2.0))
        weights = model.init(jax.random.key(3))
        # Orthogonal tokens of equal size have independent queries and keys.
        x = 8**0.5 * jnp.eye(8)[:4]
        A = np.asarray(model.fields(weights, x).scores[0], np.float64)
        off = A[:, ~np.eye(4, dtype=bool)]  # 512 heads of 12 entries, 4 of which are independent
        assert off.var() == pytest.approx(variance, rel=4.5 * (2 / 2000) ** 0.5)
        assert np.mean(off**4) / off.var() ** 2 - 3 == pytest.approx(kurtosis, abs=0.15)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"qk_norm": "batch"}, r"qk_norm: got 'batch'; pass \"layer\", \"rms\" or None"),
        ({"qk_norm": "rms", "head_dim": 1}, "qk_norm: with one coordinate a head"),
        ({"final_norm": "batch"}, r"final_norm: got 'batch'; pass .* or True or False"),
        ({"stream_activation": "gelu"}, "stream_activation: got 'gelu'; pass a member"),
        ({"score_gain": 2.0}, "score_gain: "),
        ({"positions": "two"}, "positions: got 'two'"),
        ({"positions": "both", "head_dim": 3}, "head_dim: got 3, which is odd"),
    ],
)
def test_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        replace(IMAGES, **change)
