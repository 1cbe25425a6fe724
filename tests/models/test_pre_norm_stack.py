"""The stack of drawn weights against a loop in plain NumPy with the same weights."""

import math

import jax
import numpy as np
import pytest
from scipy.special import erf

from translimit.core import ArgumentError, ArgumentTypeError, named_key
from translimit.describe import read_architecture
from translimit.models import PreNormStack
from translimit.observe import overlap_all

BASE = {"kind": "pre-norm", "layers": 3, "dim": 24, "heads": 4, "init_std": 0.3, "token_std": 1.0}
CASES = {
    "attention": BASE,
    "plain": {**BASE, "causal": False, "norm_eps": 0.3, "mlp_dim": 40},
    "llama": {
        **BASE,
        "kv_heads": 2,
        "head_dim": 8,
        "norm": "rms",
        "mlp_dim": 32,
        "activation": "silu",
        "gated": True,
        "rotary_dims": 8,
        "rotary_base": 10.0,
    },
    "neox": {**BASE, "mlp_dim": 32, "activation": "relu", "parallel": True, "rotary_dims": 2},
}


def numpy_stack(a, x, key):
    """Token by token and head by head, rotary positions as complex phases of the difference."""

    def norm(x):
        x = x - x.mean(axis=1, keepdims=True) if a.norm.name == "LAYER" else x
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + a.norm_eps)

    def draw(key, name, shape):
        return np.asarray(jax.random.normal(named_key(key, name), shape), dtype=np.float64)

    def phi(x):
        name = a.feed_forward.activation.name
        if name == "GELU":
            return x * (1 + erf(x / math.sqrt(2))) / 2
        return np.maximum(x, 0) if name == "RELU" else x / (1 + np.exp(-x))

    def attention(y, key):
        n, d = y.shape
        h = a.head_dim
        wq = a.qk_std * draw(key, "W_Q", (d, a.heads * h))
        wk = a.qk_std * draw(key, "W_K", (d, a.kv_heads * h))
        wv = a.v_std * draw(key, "W_V", (d, a.kv_heads * h))
        wo = a.out_std * draw(key, "W_O", (a.heads * h, d))
        out = np.zeros((n, a.heads * h))
        for head in range(a.heads):
            pair = head // (a.heads // a.kv_heads)
            mine, theirs = slice(head * h, head * h + h), slice(pair * h, pair * h + h)
            q, k, v = y @ wq[:, mine], y @ wk[:, theirs], y @ wv[:, theirs]
            half = a.rotary.dims // 2 if a.rotary else 0
            for i in range(n):
                scores = np.full(n, -np.inf)
                for j in range(i + 1 if a.causal else n):
                    score = q[i, 2 * half :] @ k[j, 2 * half :]
                    for p in range(half):
                        angle = (i - j) * a.rotary.base ** (-p / half)
                        turned = complex(q[i, p], q[i, half + p]) * np.exp(1j * angle)
                        score += (turned * complex(k[j, p], -k[j, half + p])).real
                    scores[j] = score / math.sqrt(h)
                weights = np.exp(scores - scores.max())
                out[i, mine] = weights / weights.sum() @ v
        return out @ wo

    def feed_forward(y, key):
        block, d = a.feed_forward, y.shape[1]
        hidden = phi(y @ (block.in_std * draw(key, "W_1", (d, block.width))))
        if block.gated:
            hidden = hidden * (y @ (block.in_std * draw(key, "W_up", (d, block.width))))
        return hidden @ (block.out_std * draw(key, "W_2", (block.width, d)))

    seen = [x]
    for layer in range(a.layers):
        here = jax.random.fold_in(key, layer)
        before = x
        x = x + attention(norm(x), here)
        if a.feed_forward is not None:
            x = x + feed_forward(norm(before if a.parallel else x), here)
        seen.append(x)
    centred = [x - x.mean(axis=1, keepdims=True) if a.norm.name == "LAYER" else x for x in seen]
    return np.stack([x @ x.T for x in centred])


@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case):
    architecture = read_architecture(CASES[case])
    stack = PreNormStack(architecture)
    tokens = np.asarray(stack.draw_tokens(5, key=named_key(0, case)))
    paths = stack.simulate(tokens, replicas=2, key=named_key(1, case))
    for replica in range(2):
        key = jax.random.fold_in(named_key(1, case), replica)
        expected = numpy_stack(architecture, tokens.astype(float), key)
        np.testing.assert_allclose(paths.grams[replica], expected, rtol=2e-4, atol=2e-3)
    overlaps = paths.overlaps
    assert overlaps.shape == (2, 4, 5, 5)
    np.testing.assert_allclose(np.diagonal(overlaps, axis1=2, axis2=3), 1.0, rtol=1e-5)
    np.testing.assert_allclose(paths.overlap_all, overlaps.mean(axis=(2, 3)))
    n = overlaps.shape[-1]
    np.testing.assert_allclose(overlap_all(paths.mean_overlaps, n), paths.overlap_all, rtol=1e-5)
    assert paths.to_xarray()["mean_overlap"].dims == ("sample", "time")
    assert paths.plot().get_xlabel() == "layer"


def test_replicas_do_not_depend_on_their_number_and_tokens_have_their_norms():
    stack = PreNormStack(read_architecture(BASE))
    clouds = stack.draw_tokens(5, replicas=3, key=named_key(0, "clouds"))
    three = stack.simulate(clouds, replicas=3, key=named_key(0))
    two = stack.simulate(clouds[:2], replicas=2, key=named_key(0))
    np.testing.assert_array_equal(three.grams[:2], two.grams)
    image = {"model_type": "vit", "hidden_size": 64, "num_hidden_layers": 1}
    vit = read_architecture({**image, "num_attention_heads": 4, "intermediate_size": 8})
    drawn = PreNormStack(vit).draw_tokens(3, replicas=500, key=named_key(0, "vit"))
    squares = np.asarray(drawn**2).mean(axis=(0, 2))
    # 32 000 squares each: a relative standard error of 0.008.
    expected = [vit.first_token_std**2, vit.token_std**2, vit.token_std**2]
    np.testing.assert_allclose(squares, expected, rtol=0.036)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentTypeError, match="architecture"):
        PreNormStack(BASE)
    stack = PreNormStack(read_architecture(BASE))
    with pytest.raises(ArgumentError, match=r"pass \[tokens, 24\]"):
        stack.simulate(np.ones((3, 25)), key=named_key(0))
    with pytest.raises(ArgumentError, match="replicas"):
        stack.simulate(np.ones((3, 24)), replicas=0, key=named_key(0))
    with pytest.raises(ArgumentError, match="tokens"):
        stack.draw_tokens(0, key=named_key(0))
