"""Exact no-ops on which rules of batches and recipes rest, each beside a change that is none.

Everything is written out in float64 with NumPy and automatic differentiation, without the package,
except for what a test is about.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.scaling import batch_rule

Numbers = float | dict[str, float]
STEPS = 30
EXACT = 1e-11


@pytest.fixture(autouse=True, scope="module")
def doubles():
    with jax.enable_x64(True):
        yield


def drawn(seed=0, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


X, Y = drawn(1, 32, 5), drawn(2, 32, 3)
WEIGHTS = {"a": drawn(3, 5, 7) / 2, "b": drawn(4, 7, 3) / 2}


def loss(w, x, y):
    return jnp.mean(jnp.sum((jnp.tanh(x @ w["a"]) @ w["b"] - y) ** 2, axis=1))


GRADIENT = jax.jit(jax.grad(loss))


def each(function, *trees):
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def adam(w, gradient, *, lr: Numbers, eps: Numbers, decay: Numbers = 0.0):
    """AdamW; rates, epsilons and decays by name; returns the weights of all steps."""
    betas = (0.9, 0.95)
    m, v, told = each(np.zeros_like, w), each(np.zeros_like, w), []
    of = lambda number, name: number[name] if isinstance(number, dict) else number  # noqa: E731
    for t in range(1, STEPS + 1):
        g = {name: np.asarray(one) for name, one in gradient(w, t).items()}
        for name in w:
            m[name] = betas[0] * m[name] + (1 - betas[0]) * g[name]
            v[name] = betas[1] * v[name] + (1 - betas[1]) * g[name] ** 2
            root = np.sqrt(v[name] / (1 - betas[1] ** t)) + of(eps, name)
            move = m[name] / (1 - betas[0] ** t) / root + of(decay, name) * w[name]
            w = {**w, name: w[name] - of(lr, name) * move}
        told.append(w)
    return told


def apart(one, other):
    """The largest difference relative to the size of what differs."""
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / np.max(np.abs(np.asarray(a))))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_accumulation_is_the_batch_where_parts_are_equal():
    whole = GRADIENT(WEIGHTS, X, Y)

    def mean(*cuts):
        cut = zip(np.split(X, cuts), np.split(Y, cuts), strict=True)
        parts = [GRADIENT(WEIGHTS, x, y) for x, y in cut]
        return jax.tree.map(lambda *g: sum(g) / len(g), *parts)

    assert apart(whole, mean(8, 16, 24)) < EXACT
    assert apart(whole, mean(8)) > 1e-2  # parts of 8 and 24


def test_heavy_ball_is_an_averaged_velocity_at_a_larger_rate():
    def run(eta, mu, averaged):
        w, v = WEIGHTS, each(np.zeros_like, WEIGHTS)
        for _ in range(STEPS):
            g = GRADIENT(w, X, Y)
            v = each(lambda v, g: mu * v + (1 - mu if averaged else 1) * np.asarray(g), v, g)
            w = each(lambda w, v: w - eta * v, w, v)
        return w

    assert apart(run(0.01, 0.9, False), run(0.01 / (1 - 0.9), 0.9, True)) < EXACT
    assert apart(run(0.01, 0.9, False), run(0.01, 0.9, True)) > 1e-2


def test_a_scale_of_the_loss_scales_adams_epsilon_alone():
    scaled = lambda w, t: each(lambda g: 64.0 * np.asarray(g), GRADIENT(w, X, Y))  # noqa: E731
    plain = lambda w, t: GRADIENT(w, X, Y)  # noqa: E731
    one = adam(WEIGHTS, plain, lr=0.02, eps=0.1)[-1]
    assert apart(one, adam(WEIGHTS, scaled, lr=0.02, eps=6.4)[-1]) < EXACT
    assert apart(one, adam(WEIGHTS, scaled, lr=0.02, eps=0.1)[-1]) > 1e-2


def test_adamw_is_an_average_of_its_directions():
    """w_T = w_0 prod_t (1 - eta_t lambda) - sum_t c_t u_t.

    c_t = eta_t prod_{r > t} (1 - eta_r lambda).
    """
    decay = 0.5
    rates = 0.05 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))
    w, m, v, directions = WEIGHTS["a"], 0.0, 0.0, []
    for t, eta in enumerate(rates, start=1):
        g = np.asarray(GRADIENT({**WEIGHTS, "a": w}, X, Y)["a"])
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        directions.append(m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8))
        w = w - eta * (directions[-1] + decay * w)
    kept = np.append(np.cumprod((1 - rates * decay)[::-1])[::-1][1:], 1.0)
    average = WEIGHTS["a"] * np.prod(1 - rates * decay)
    average = average - sum(e * k * u for e, k, u in zip(rates, kept, directions, strict=True))
    assert apart(w, average) < EXACT


def normed(h):
    return h / jnp.sqrt(jnp.mean(h**2, axis=-1, keepdims=True))


@jax.jit
def before_a_norm(w, t):
    del t
    value = lambda w: jnp.mean((normed(X @ w["a"]) @ w["b"] - Y) ** 2)  # noqa: E731
    return jax.grad(value)(w)


def test_a_weight_before_a_norm_has_a_move_without_a_multiplier():
    """(s, eta, epsilon, lambda) -> (s / theta, eta / theta, epsilon theta, lambda theta)."""
    theta, fixed = 4.0, {"b": 0.02}
    plain = adam(WEIGHTS, before_a_norm, lr={"a": 0.02, **fixed}, eps=1e-3, decay=0.1)[-1]
    start = {**WEIGHTS, "a": WEIGHTS["a"] / theta}
    lr, decay = {"a": 0.02 / theta, **fixed}, {"a": 0.1 * theta, "b": 0.1}
    eps = {"a": 1e-3 * theta, "b": 1e-3}
    told = adam(start, before_a_norm, lr=lr, eps=eps, decay=decay)[-1]
    assert apart(plain["b"], told["b"]) < EXACT
    assert apart(plain["a"], theta * told["a"]) < EXACT
    other = adam(start, before_a_norm, lr=lr, eps=1e-3, decay=decay)[-1]
    assert apart(plain["b"], other["b"]) > 1e-4  # the epsilon stays


def test_decay_before_a_norm_is_a_growing_rate():
    """Under SGD decay lambda at rate eta is no decay at eta (1 - eta lambda)^{-2t - 1}."""
    eta, decay = 0.3, 0.2

    def run(rates, decay):
        w = WEIGHTS
        for rate in rates:
            g = before_a_norm(w, 0)
            w = {
                "a": (1 - rate * decay) * w["a"] - rate * np.asarray(g["a"]),
                "b": w["b"] - eta * np.asarray(g["b"]),
            }
        return w

    decayed = run([eta] * STEPS, decay)
    grown = run([eta * (1 - eta * decay) ** (-2 * t - 1) for t in range(STEPS)], 0.0)
    assert apart(decayed["b"], grown["b"]) < EXACT
    assert apart(decayed["b"], run([eta] * STEPS, 0.0)["b"]) > 1e-3


def test_a_branch_factor_in_front_of_its_norm_does_nothing():
    h, u, weight, gain = drawn(5, 8, 16), drawn(6, 8, 16), drawn(7, 16, 16), np.ones(16)
    branch = lambda w, g: h + normed(u @ w) * g  # noqa: E731
    assert apart(branch(weight / 8, gain), branch(weight, gain)) < EXACT  # folded into the map
    wanted = h + normed(u @ weight) / 8
    assert apart(branch(weight, gain / 8), wanted) < EXACT  # folded into the gain
    assert np.max(np.abs(branch(weight / 8, gain) - wanted)) > 1


@pytest.mark.parametrize("kappa", [2, 4, 8])
def test_half_lives_keep_the_memory_in_examples(kappa):
    """An average over kappa steps of a small batch is one of a step of the large one."""
    made = batch_rule(batch=(64, 64 * kappa), optimizer="adamw", betas=(0.97, 0.99))
    assert made.betas is not None
    for beta, new in zip((0.97, 0.99), made.betas, strict=True):
        left = 1.0
        for _ in range(kappa):
            left *= beta
        assert new == pytest.approx(left, rel=1e-12)
        assert abs(new - (1 - kappa * (1 - beta))) > 1e-5  # the first order


def test_stationary_weights_are_set_by_rate_and_decay():
    """|W| rms = (eta / (lambda (2 - eta lambda)))^{1/2} for uncorrelated unit updates."""
    eta, decay = 0.05, 0.4
    rng, w = np.random.default_rng(0), np.zeros(4000)
    squares = []
    for step in range(1200):
        w = w - eta * (rng.standard_normal(4000) + decay * w)
        if step >= 400:
            squares.append(np.mean(w**2))
    assert np.mean(squares) == pytest.approx(eta / (decay * (2 - eta * decay)), rel=0.02)


# Pairs of one network exchange a scale without effect.

TOKENS, D, HIDDEN = 6, 8, 12
NAMES = {
    "embed": (5, D),
    "positions": (TOKENS, D),
    **dict.fromkeys(("gain1", "gain2", "last"), (D,)),
    **dict.fromkeys(("q", "k", "v", "o"), (D, D)),
    **dict.fromkeys(("up", "gate"), (D, HIDDEN)),
    "down": (HIDDEN, D),
    "readout": (D, 3),
}
PATCHES, TARGETS = drawn(8, 4, TOKENS, 5), drawn(9, 4, 3)
START = {
    name: np.ones(shape) if len(shape) == 1 else drawn(10 + place, *shape) / shape[0] ** 0.5
    for place, (name, shape) in enumerate(NAMES.items())
}


def block(w, c=1.0):
    h = PATCHES @ w["embed"] + w["positions"]
    u = normed(h) * w["gain1"]
    scores = c * (u @ w["q"]) @ jnp.swapaxes(u @ w["k"], 1, 2)
    h = h + jax.nn.softmax(scores, axis=-1) @ (u @ w["v"]) @ w["o"]
    u = normed(h) * w["gain2"]
    h = h + (jax.nn.silu(u @ w["gate"]) * (u @ w["up"])) @ w["down"]
    outputs = (normed(h) * w["last"]).mean(axis=1) @ w["readout"]
    return jnp.mean((outputs - TARGETS) ** 2)


SLOPE = jax.jit(jax.grad(block), static_argnums=1)
VALUE = jax.jit(block, static_argnums=1)
#: Who takes theta, who one over it, and what the score scale takes.
EXCHANGES = {
    "query and key": (("q",), ("k",), 1.0),
    "value and output": (("v",), ("o",), 1.0),
    "up and down": (("up",), ("down",), 1.0),
    "gain and its readers": (("gain1",), ("q", "k", "v"), 1.0),
    "query and score scale": (("q",), (), 0.5),
    "the unit of the stream": (("embed", "positions", "o", "down"), (), 1.0),
}


def trained(scales, c, decay=0.1):
    """Log losses of AdamW whose start, rate, epsilon and decay follow scales of tensors."""
    start = {name: scales.get(name, 1.0) * one for name, one in START.items()}
    rate = {name: 0.02 * scales.get(name, 1.0) for name in START}
    eps = {name: 1e-3 / scales.get(name, 1.0) for name in START}
    decays = {name: decay / scales.get(name, 1.0) for name in START}
    told = adam(start, lambda w, t: SLOPE(w, c), lr=rate, eps=eps, decay=decays)
    return np.array([float(VALUE(w, c)) for w in told])


@pytest.mark.parametrize("exchange", list(EXCHANGES))
def test_pairs_exchange_a_scale_without_effect(exchange):
    plain = trained({}, 1.0)
    theta = 2.0
    up, down, c = EXCHANGES[exchange]
    scales = {name: theta for name in up} | {name: 1 / theta for name in down}
    assert apart(plain, trained(scales, c)) < EXACT
    half = trained({name: theta for name in up[:1]}, 1.0)  # one member alone
    assert apart(plain, half) > 1e-5
