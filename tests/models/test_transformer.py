"""The transformer against an independent one in torch, and its parts against their definitions."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import (
    Activation,
    Parameterization,
    Role,
    RoleRule,
    TransformerShape,
    standard_parameterization,
)
from translimit.models import Transformer

ENCODER = TransformerShape(
    head_dim=4, heads=2, layers=2, tokens=5, outputs=3, patch_dim=6, mlp_ratio=2.0
)
DECODER = TransformerShape(
    head_dim=4,
    heads=4,
    layers=2,
    tokens=5,
    outputs=7,
    vocabulary=7,
    kv_heads=2,
    mlp_ratio=1.5,
    gated=True,
    activation=Activation.SILU,
    norm="rms",
    biases=False,
    positions="rotary",
    causal=True,
    pooled=False,
    tied=True,
)
SHAPED = replace(
    ENCODER,
    shaped=True,
    norm=None,
    causal=True,
    slopes=(0.5, -1.0),
    kv_heads=1,
)
BARE = replace(ENCODER, norm=None, biases=False, positions=None, activation=Activation.TANH)
UNTRAINED_GAINS = replace(DECODER, gains=False, tied=False, kv_heads=None, positions="learned")


def test_a_norm_before_the_readout_can_be_left_out():
    shape = replace(ENCODER, final_norm=False)
    assert not any(spec.name.startswith("final_norm") for spec in shape.parameters)
    model = Transformer(shape)
    weights = model.init(jax.random.key(0))
    fields = model.fields(weights, jnp.ones((5, 6)))
    pooled = fields.stream[-1].mean(axis=0)
    readout = weights["readout"] * model.multipliers["readout"]
    np.testing.assert_allclose(fields.output, readout @ pooled, rtol=1e-5, atol=1e-6)


def uneven(shape: TransformerShape, seed: int = 0) -> Parameterization:
    """Every role with numbers of its own, so that one left out is seen."""
    rng = np.random.default_rng(seed)
    roles = {role: RoleRule(*rng.uniform(0.5, 1.5, 5)) for role in Role}
    return Parameterization(shape.size, roles, score_scale=0.7, residual=0.6, skip=0.9)


def weights_of(shape: TransformerShape, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights none of which is at its start: gains and biases too are random."""
    rng = np.random.default_rng(seed)
    return {spec.name: rng.normal(0.3, 0.8, spec.shape) for spec in shape.parameters}


def inputs_of(shape: TransformerShape, batch: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    if shape.patch_dim is not None:
        return rng.normal(size=(batch, shape.tokens, shape.patch_dim))
    return rng.integers(0, shape.vocabulary, (batch, shape.tokens))


def both(model, weights, inputs):
    return jax.vmap(model, (None, 0))(weights, inputs), model.fields(weights, inputs[0])


@pytest.mark.parametrize(
    "shape",
    [ENCODER, DECODER, SHAPED, BARE, UNTRAINED_GAINS],
    ids=["encoder", "decoder", "shaped", "bare", "untrained-gains"],
)
def test_forward_is_that_of_torch(shape):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from tests.models.torch_transformer import forward

    numbers, weights, inputs = uneven(shape), weights_of(shape), inputs_of(shape, 3)
    mult = {spec.name: numbers.role(spec.role).mult for spec in shape.parameters}
    mult["readout"] = numbers.role(Role.READOUT).mult
    expected = forward(
        shape,
        mult,
        numbers.score_scale,
        numbers.residual,
        numbers.skip,
        {name: torch.tensor(value) for name, value in weights.items()},
        torch.tensor(inputs),
    ).numpy()
    with jax.enable_x64(True):
        model = Transformer(shape, numbers)
        weights, inputs = jax.tree.map(jnp.asarray, weights), jnp.asarray(inputs)
        ours, recorded = eqx.filter_jit(both)(model, weights, inputs)
    np.testing.assert_allclose(np.asarray(ours), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.asarray(recorded.output), expected[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [ENCODER, DECODER, SHAPED], ids=["encoder", "decoder", "shaped"])
def test_a_batch_is_its_sequences(shape):
    """Leading axes, blocks of queries and what gradients keep change nothing but rounding."""
    shape = replace(shape, tokens=150)  # three blocks of queries, the last one shorter
    model = Transformer(shape)
    with jax.enable_x64(True):
        weights = model.init(jax.random.key(0), jnp.float64)
        if shape.patch_dim is None:
            inputs = jax.random.randint(jax.random.key(1), (2, 3, 150), 0, 7)
        else:
            inputs = jax.random.normal(jax.random.key(1), (2, 3, 150, 6))

        def together(weights):
            return model(weights, inputs)

        def apart(weights):
            flat = inputs.reshape(-1, *inputs.shape[2:])
            outputs = [model.fields(weights, one).output for one in flat]
            return jnp.stack(outputs).reshape(2, 3, *outputs[0].shape)

        np.testing.assert_allclose(together(weights), apart(weights), rtol=1e-12, atol=1e-13)
        ours, theirs = (
            jax.grad(lambda weights, run=run: jnp.sum(jnp.sin(run(weights))))(weights)
            for run in (together, apart)
        )
    for name, slope in theirs.items():
        np.testing.assert_allclose(ours[name], slope, rtol=1e-9, atol=1e-11, err_msg=name)


def test_perturbation_is_the_derivative_by_the_stream():
    """Central differences of the part of the network behind a block, by moving that stream."""
    weights, inputs = weights_of(BARE), inputs_of(BARE, 1)[0]
    with jax.enable_x64(True):
        model = Transformer(BARE, uneven(BARE))
        weights = jax.tree.map(jnp.asarray, weights)
        kick = jnp.zeros((BARE.layers + 1, BARE.tokens, BARE.dim))
        value = eqx.filter_jit(lambda p: model(weights, jnp.asarray(inputs), p)[0])
        slope = jax.jit(jax.grad(value))(kick)
        # The last level feeds the readout alone, which is linear here.
        number = float(model.multipliers["readout"])
        readout = np.asarray(weights["readout"][0]) * number / BARE.tokens
        np.testing.assert_allclose(np.asarray(slope[-1]), np.tile(readout, (5, 1)), rtol=1e-12)
        step = 1e-5
        for place in ((0, 1, 2), (1, 4, 7)):
            moved = [float(value(kick.at[place].set(s))) for s in (step, -step)]
            assert slope[place] == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-6)


def test_start_has_the_standard_deviations_of_the_parameterization():
    shape = TransformerShape(
        head_dim=16, heads=8, layers=4, tokens=16, outputs=40, patch_dim=24, mlp_ratio=2.0
    )
    numbers = standard_parameterization(shape.size, pixels=24).changed(Role.VALUE, init=0.25)
    model = Transformer(shape, numbers)
    weights = jax.jit(lambda key: model.init(key))(jax.random.key(0))
    for spec in shape.parameters:
        found = np.asarray(weights[spec.name], dtype=np.float64)
        if spec.starts_at_zero:
            assert not found.any()
        elif spec.starts_constant:
            assert (found == 1).all()
        else:
            expected = {
                Role.VALUE: 0.25,
                Role.POSITION_EMBEDDING: 0.5,
                Role.PATCH_EMBEDDING: 24**-0.5,
                Role.MLP_OUT: 256**-0.5,
            }.get(spec.role, 128**-0.5)
            # The standard error of a standard deviation of n Gaussians is sigma / (2 n)^(1/2).
            z = (found.std() / expected - 1) * (2 * found.size) ** 0.5
            assert abs(z) < 4.5, spec.name


def test_causal_decoder_takes_shorter_sequences():
    """The outputs of a prefix do not depend on what follows it."""
    model = Transformer(DECODER)
    weights = jax.tree.map(jnp.float32, weights_of(DECODER))
    run = eqx.filter_jit(lambda ids: model(weights, ids))
    ids = jnp.array([1, 5, 2, 6, 0])
    np.testing.assert_allclose(run(ids)[:3], run(ids[:3]), rtol=2e-5)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"heads": 0}, "heads"),
        ({"layers": 1.5}, "layers"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"vocabulary": 5}, "patch_dim"),
        ({"norm": "batch"}, "norm"),
        ({"positions": "sine"}, "positions"),
        ({"positions": "rotary", "head_dim": 3}, "head_dim"),
        ({"activation": "gelu"}, "activation"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio"),
        ({"mlp_ratio": 0.01}, "mlp_ratio: got 0.01, which leaves no hidden unit; pass a larger"),
        ({"tied": True}, "tied"),
    ],
)
def test_refused_shapes(changes, named):
    with pytest.raises(ArgumentError, match=named):
        replace(ENCODER, **changes)


@pytest.mark.usefixtures("as_user")
def test_refused_parameterizations():
    start = standard_parameterization(ENCODER.size)
    with pytest.raises(ArgumentError, match=r"query\.lr"):
        start.changed(Role.QUERY, lr=float("nan"))
    with pytest.raises(ArgumentError, match="rate"):
        start.changed(Role.QUERY, rate=1.0)
    with pytest.raises(ArgumentError, match="score_scale"):
        start.changed(score_scale=-1.0)
    with pytest.raises(ArgumentError, match="did you mean"):
        start.role("qurey")
    with pytest.raises(ArgumentTypeError, match="parameterization"):
        Transformer(ENCODER, {"score": 1.0})
    with pytest.raises(ArgumentTypeError, match=r"shape: got 'gpt2'; pass a describe.Transformer"):
        Transformer("gpt2")  # pyright: ignore
    with pytest.raises(ArgumentError, match="pixels: got 0; pass a positive number"):
        standard_parameterization(ENCODER.size, pixels=0)
    assert start.times(Role.QUERY, lr=0.5).role("query").lr == 0.5
