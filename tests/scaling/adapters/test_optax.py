"""The rules in optax: trees of flax and equinox, each update against the formulas by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.scaling import (
    DegenerateInitError,
    Role,
    Size,
    UnmatchedParameterError,
    UnsupportedModuleError,
    rules,
)
from translimit.scaling.adapters import optax as adapter

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=4, heads=2, layers=1, mlp_ratio=2)
TARGET = Size(head_dim=8, heads=4, layers=2, mlp_ratio=2)
M_D, M_L = 4, 2

NAMES = {
    "embed.*": "token_embedding",
    "blocks.*.norm.{scale,weight}": "block_norm_gain",
    "blocks.*.norm.bias": "block_norm_bias",
    "q.{kernel,weight}": "query",
    "k.{kernel,weight}": "key",
    "v.{kernel,weight}": "value",
    "o.{kernel,weight}": "attention_out",
    "readout.{kernel,weight}": "readout",
}


def asked(**options):
    return rules(BASE, TARGET, **{"optimizer": "adamw", "style": "folded", **options})


def tree(size):
    """Parameters as of flax.linen: nested dictionaries."""
    noise = np.random.default_rng(0)
    d = size.width

    def drawn(*shape):
        return noise.standard_normal(shape, dtype=np.float32) * np.float32(shape[0] ** -0.5)

    blocks = {
        str(layer): {
            "norm": {"scale": np.ones(d, np.float32), "bias": np.zeros(d, np.float32)},
            "attn": {name: {"kernel": drawn(d, d)} for name in "qkvo"},
        }
        for layer in range(size.layers)
    }
    return {
        "embed": {"embedding": noise.standard_normal((7, d), dtype=np.float32)},
        "blocks": blocks,
        "readout": {"kernel": drawn(d, 7)},
    }


def waves(params):
    """Gradients that are no sample of anything."""
    return jax.tree.map(
        lambda w: (0.01 * np.cos(np.arange(w.size))).reshape(w.shape).astype(np.float32), params
    )


def test_labels_of_dictionaries():
    found = adapter.labels(tree(TARGET), NAMES)
    assert found["blocks"]["1"]["attn"]["q"]["kernel"] == "query"
    assert found["embed"]["embedding"] == "token_embedding"
    with pytest.raises(UnmatchedParameterError, match=r"readout\.kernel"):
        adapter.labels(tree(TARGET), {k: v for k, v in NAMES.items() if "readout" not in k})


def test_starts():
    base, target = tree(BASE), tree(TARGET)
    names = adapter.labels(target, NAMES)
    told = adapter.stds(base, adapter.labels(base, NAMES))
    made = adapter.start(target, names, asked(), told)
    found = adapter.stds(made, names)
    wanted = {"query": M_D**-0.5, "attention_out": M_D**-0.5 / M_L, "readout": 1 / M_D}
    for role, ratio in {**wanted, "token_embedding": 1, "block_norm_gain": 1}.items():
        assert found[Role(role)] == pytest.approx(ratio * told[Role(role)], rel=1e-5)
    with pytest.raises(ArgumentError, match="has no attention_out"):
        adapter.start(
            target, names, asked(), {k: v for k, v in told.items() if k != "attention_out"}
        )
    dead = jax.tree.map(lambda w, n: w * (n not in ("value", "attention_out")), target, names)
    with pytest.raises(DegenerateInitError):
        adapter.start(dead, names, asked(), told)


def by_hand_adamw(w, g, lr, eps, decay):
    """The first step of AdamW: both moments are those of one gradient."""
    return w - lr * (g / (np.sqrt(g**2) + eps) + decay * w)


@pytest.mark.parametrize("scheduled", [False, True])
def test_one_step_of_adamw_is_that_of_the_formulas(scheduled):
    params = tree(TARGET)
    names = adapter.labels(params, NAMES)
    lr = (lambda count: 0.01 / (1 + count)) if scheduled else 0.01
    transform = adapter.transform(asked(), names, lr=lr, eps=1e-3, weight_decay=0.1)
    gradients = waves(params)
    updates, _ = jax.jit(transform.update)(gradients, transform.init(params), params)
    made = optax.apply_updates(params, updates)
    wanted = {  # lr, eps, decay
        "token_embedding": (1, 1 / M_D, 1),
        "query": (1 / M_D, 1 / (M_D * M_L), M_D),
        "key": (1 / M_D, 1 / (M_D * M_L), M_D),
        "value": (1 / M_D, 1 / (M_D * M_L), M_D),
        "attention_out": (1 / (M_D * M_L), 1 / M_D, M_D * M_L),
        "block_norm_gain": (1, 1 / (M_D * M_L), 0),
        "block_norm_bias": (1, 1 / (M_D * M_L), 0),
        "readout": (1 / M_D, 1, M_D),
    }
    leaves = zip(*(jax.tree.leaves(one) for one in (params, gradients, made, names)), strict=True)
    for w, g, after, role in leaves:
        ratio, eps, decay = wanted[role]
        right = by_hand_adamw(np.asarray(w), np.asarray(g), 0.01 * ratio, 1e-3 * eps, 0.1 * decay)
        np.testing.assert_allclose(after, right, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("sgd", {}), ("momentum", {}), ("sign", {}), ("muon", {"adam_lr": 0.001})],
)
def test_other_optimisers_step_with_the_rates_of_the_rules(optimizer, options):
    params = tree(TARGET)
    names = adapter.labels(params, NAMES)
    more = {"muon_adjust": "none"} if optimizer == "muon" else {}
    made = asked(optimizer=optimizer, **more)
    gradients = waves(params)

    def steps(of):
        transform = adapter.transform(of, names, lr=0.1, **options)
        return jax.jit(transform.update)(gradients, transform.init(params), params)[0]

    same = rules(TARGET, TARGET, optimizer=optimizer, style="folded", **more)  # all ratios 1
    for role, there, base in zip(
        *(jax.tree.leaves(one) for one in (names, steps(made), steps(same))), strict=True
    ):
        ratio = made.role(role).lr
        if optimizer == "muon" and not Role(role).is_hidden_matrix:
            continue  # Adam's step knows epsilon
        np.testing.assert_allclose(there, ratio * base, rtol=1e-4, atol=1e-9)


def test_another_optimiser_takes_the_numbers():
    seen = {}

    def make(lr, eps, decay):
        seen[lr, eps, decay] = None
        return optax.sgd(lr)

    params = tree(TARGET)
    adapter.transform(asked(), adapter.labels(params, NAMES), lr=1.0, eps=1.0, make=make)
    assert (1 / M_D, 1 / (M_D * M_L), 0.0) in seen


@pytest.mark.parametrize(
    ("asking", "options", "kind", "message"),
    [
        ({"style": "canonical"}, {}, UnsupportedModuleError, 'use style="folded"'),
        ({"optimizer": "muon"}, {}, ArgumentTypeError, "adam_lr: is missing"),
        ({"optimizer": "muon"}, {"adam_lr": 1e-3}, ArgumentError, "muon_adjust='none'"),
    ],
)
def test_refusals(asking, options, kind, message):
    with pytest.raises(kind) as refused:
        adapter.transform(asked(**asking), {"a": "query"}, lr=0.1, **options)
    assert message in str(refused.value)


def test_labels_must_be_roles():
    with pytest.raises(ArgumentError, match="unknown role 'hidden"):
        adapter.transform(asked(), {"a": "hidden"}, lr=0.1)
    with pytest.raises(ArgumentError, match="labels: has 1 leaves for 2 parameters; label every"):
        adapter.stds({"a": np.ones(2), "b": np.ones(2)}, {"a": "query"})


class Attention(eqx.Module):
    q: eqx.nn.Linear
    k: eqx.nn.Linear
    v: eqx.nn.Linear
    o: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    heads: int
    scale: float

    def __init__(self, size, scale, key):
        keys = jax.random.split(key, 4)
        self.q, self.k, self.v, self.o = (
            eqx.nn.Linear(size.width, size.width, use_bias=False, key=k) for k in keys
        )
        self.norm = eqx.nn.LayerNorm(size.width)
        self.heads, self.scale = size.heads, scale

    def __call__(self, h):
        x = jax.vmap(self.norm)(h)
        q, k, v = (
            jax.vmap(one)(x).reshape(len(h), self.heads, -1) for one in (self.q, self.k, self.v)
        )
        mixed = jax.nn.dot_product_attention(q, k, v, scale=self.scale, is_causal=True)
        return h + jax.vmap(self.o)(mixed.reshape(len(h), -1))


class Equinox(eqx.Module):
    embed: eqx.nn.Embedding
    blocks: list
    readout: eqx.nn.Linear

    def __init__(self, size, scale):
        keys = jax.random.split(jax.random.key(1), size.layers + 2)
        self.embed = eqx.nn.Embedding(7, size.width, key=keys[0])
        self.blocks = [Attention(size, scale, key) for key in keys[2:]]
        self.readout = eqx.nn.Linear(size.width, 7, use_bias=False, key=keys[1])

    def __call__(self, tokens):
        h = jax.vmap(self.embed)(tokens)
        for block in self.blocks:
            h = block(h)
        return jax.vmap(self.readout)(h)


def trained(loss_of, params, transform, steps=4):
    """Losses of some steps on one sequence."""
    state = transform.init(params)

    @jax.jit
    def step(params, state):
        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = transform.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    found = []
    for _ in range(steps):
        params, state, loss = step(params, state)
        found.append(float(loss))
    return found


TOKENS = jnp.array([1, 5, 2, 6, 3, 0, 4, 1])


def test_equinox_trains():
    made = asked()
    small, large = (
        Equinox(size, scale)
        for size, scale in ((BASE, BASE.head_dim**-0.5), (TARGET, made.score_scale))
    )
    arrays, static = eqx.partition(large, eqx.is_inexact_array)
    names = adapter.labels(arrays, NAMES)
    base = eqx.filter(small, eqx.is_inexact_array)
    arrays = adapter.start(arrays, names, made, adapter.stds(base, adapter.labels(base, NAMES)))

    def loss_of(arrays):
        f = eqx.combine(arrays, static)(TOKENS[:-1])
        return optax.softmax_cross_entropy_with_integer_labels(f, TOKENS[1:]).mean()

    found = trained(loss_of, arrays, adapter.transform(made, names, lr=0.02))
    assert found[-1] < found[0] - 0.1


def test_flax_trains():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
    made = asked()

    class Block(nnx.Module):
        def __init__(self, size, scale, rngs):
            d = size.width
            self.q, self.k, self.v, self.o = (
                nnx.Linear(d, d, use_bias=False, rngs=rngs) for _ in range(4)
            )
            self.norm = nnx.LayerNorm(d, rngs=rngs)
            self.heads, self.scale = size.heads, scale

        def __call__(self, h):
            x = self.norm(h)
            q, k, v = (one(x).reshape(len(h), self.heads, -1) for one in (self.q, self.k, self.v))
            mixed = jax.nn.dot_product_attention(q, k, v, scale=self.scale, is_causal=True)
            return h + self.o(mixed.reshape(len(h), -1))

    class Flax(nnx.Module):
        def __init__(self, size, scale, rngs):
            self.embed = nnx.Embed(7, size.width, rngs=rngs)
            self.blocks = nnx.List([Block(size, scale, rngs) for _ in range(size.layers)])
            self.readout = nnx.Linear(size.width, 7, use_bias=False, rngs=rngs)

        def __call__(self, tokens):
            h = self.embed(tokens)
            for block in self.blocks:
                h = block(h)
            return self.readout(h)

    small = nnx.state(Flax(BASE, BASE.head_dim**-0.5, nnx.Rngs(0)), nnx.Param)
    graph, params = nnx.split(Flax(TARGET, made.score_scale, nnx.Rngs(1)))
    names = adapter.labels(params, NAMES)
    told = adapter.stds(small, adapter.labels(small, NAMES))
    params = adapter.start(params, names, made, told)
    # flax draws embeddings with d^{-1/2}: the target's keep the spread of the base.
    assert adapter.stds(params, names)[Role.TOKEN_EMBEDDING] == pytest.approx(
        told[Role.TOKEN_EMBEDDING], rel=1e-5
    )

    def loss_of(params):
        f = nnx.merge(graph, params)(TOKENS[:-1])
        return optax.softmax_cross_entropy_with_integer_labels(f, TOKENS[1:]).mean()

    found = trained(loss_of, params, adapter.transform(made, names, lr=0.02))
    assert found[-1] < found[0] - 0.1
