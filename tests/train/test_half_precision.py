"""bfloat16: what stays wide, and how far the network moves from its float32 self."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import data, train
from translimit.core import ArgumentError
from translimit.describe import TransformerShape
from translimit.models import Transformer
from translimit.train import Optimizer, Training, memory_need

#: Unit of rounding of bfloat16: 8 bits.
UNIT = 2.0**-8


def test_rotary_positions_beyond_256_keep_their_angles():
    """Outputs of 600 tokens are the float32 ones to some units; rounded angles would miss by 1."""
    shape = TransformerShape(
        head_dim=8, heads=2, layers=1, tokens=600, outputs=7, vocabulary=7, causal=True,
        pooled=False, mlp_ratio=0.0, positions="rotary",
    )  # fmt: skip
    model = Transformer(shape)
    weights = model.init(jax.random.key(0), jnp.float32)
    tokens = jax.random.randint(jax.random.key(1), (600,), 0, 7)
    wide = model(weights, tokens)
    narrow = model({n: w.astype(jnp.bfloat16) for n, w in weights.items()}, tokens)
    assert narrow.dtype == jnp.bfloat16
    error = np.abs(np.asarray(narrow, np.float32) - wide) / np.std(wide)
    assert np.mean(error**2) ** 0.5 < 8 * UNIT
    turned = model._rotate(jnp.ones((1, 600, 8), jnp.bfloat16))
    exact = np.cos(599.0) - np.sin(599.0)
    assert abs(float(turned[0, 599, 0]) - exact) < 2 * UNIT


@pytest.mark.slow
def test_weights_and_moments_stay_wide_and_losses_are_close():
    """An update smaller than a unit of bfloat16 still moves the weights."""
    shape = TransformerShape(
        head_dim=4, heads=2, layers=1, tokens=8, outputs=10, patch_dim=8, mlp_ratio=1.0
    )
    training = Training(steps=4, rates=(0.01, 1e-4), batch=16, optimizer=Optimizer("adamw"))
    histories = [
        train.train(shape, None, data.digit_patches(), chosen, key=jax.random.key(0))
        for chosen in (training, replace(training, precision="bfloat16"))
    ]
    wide, narrow = histories
    assert narrow.losses.dtype == np.float32
    assert narrow.parameters["query"].dtype == np.float32
    np.testing.assert_allclose(narrow.losses, wide.losses, rtol=8 * UNIT)
    assert not np.array_equal(narrow.losses, wide.losses)
    moved = [h.parameters["query"][0, 1] - h.parameters["query"][0, 0] for h in histories]
    assert np.corrcoef(moved[0].ravel(), moved[1].ravel())[0, 1] > 0.95


def test_memory_of_activations_is_half_and_of_weights_the_same():
    """Only what the network holds on its way is narrow."""
    shape = TransformerShape(4, 2, layers=2, tokens=8, outputs=10, patch_dim=8)
    training = Training(steps=1, rates=(0.1,))
    wide = memory_need(shape, training)
    narrow = memory_need(shape, replace(training, precision="bfloat16"))
    assert narrow.activations == wide.activations / 2
    assert narrow.weights == wide.weights


@pytest.mark.usefixtures("as_user")
def test_other_types_are_refused_by_name():
    """float16 would need a scale of the loss."""
    with pytest.raises(ArgumentError, match="precision: got 'float16'"):
        Training(steps=1, rates=(0.1,), precision="float16")  # pyright: ignore


def test_only_half_precision_on_a_gpu_takes_the_kernel_of_cudnn(monkeypatch):
    """In sizes that it has."""

    def has_kernel(head_dim, dtype, *axes):
        shape = TransformerShape(head_dim, 2, layers=1, tokens=8, outputs=10, patch_dim=8)
        return Transformer(shape)._has_kernel(jnp.zeros((*axes, 2, 8, head_dim), dtype))

    assert not has_kernel(64, jnp.bfloat16)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert has_kernel(64, jnp.bfloat16)
    assert has_kernel(64, jnp.bfloat16, 3)
    assert not has_kernel(64, jnp.bfloat16, 3, 3)
    assert not has_kernel(64, jnp.float32)
    assert not has_kernel(12, jnp.bfloat16)
    assert not has_kernel(256, jnp.bfloat16)
