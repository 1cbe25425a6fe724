"""The loss and the gradient of a readout against drawn weights, and wrong theories refuted."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from tests.limits.signal.networks import layer

from translimit.core import ArgumentError, solve
from translimit.describe import (
    Activation,
    Attention,
    Embedding,
    FeedForward,
    Norm,
    Normalisation,
    Stack,
    SubBlock,
)
from translimit.limits.signal import (
    Readout,
    Recursion,
    SignalPropagation,
    initial_loss,
    own_token_logit,
    readout_gradient,
    stream_kept,
    top_gradient,
)

FINAL = Normalisation()


def drawn(
    readout: Readout, embedded: float, ids: np.ndarray, targets: np.ndarray, networks: int
) -> np.ndarray:
    """Figures of readouts of drawn tokens: their row times `embedded`, a common and an own part.

    Loss, and trace and sum of the gradient's Gram matrix at y and, times q, below the norm.
    """
    rng = np.random.default_rng(0)
    n, dim, found = len(ids), readout.dim, []
    for _ in range(networks):
        table = rng.standard_normal((readout.words, dim))
        x = embedded * table[ids] + rng.standard_normal((n, dim)) + 0.7 * rng.standard_normal(dim)
        square = (x**2).mean(axis=1, keepdims=True)
        y = x / square**0.5
        w = readout.logit_std / dim**0.5 * table
        p = np.asarray(special.softmax(y @ w.T, axis=1))
        loss = -np.log(p[np.arange(n), targets]).mean()
        p[np.arange(n), targets] -= 1.0
        g = p @ w / n
        below = (g - y * (g * y).mean(axis=1, keepdims=True)) / (square / square.mean()) ** 0.5
        found.append([loss, *((g**2).sum(), (g.sum(0) ** 2).sum())])
        found[-1] += [(below**2).sum(), (below.sum(0) ** 2).sum()]
    return np.array(found)


def predicted(
    readout: Readout, embedded: float, ids: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, float]:
    """The same figures by theory, and the spread of the loss."""
    stream = embedded**2 * (ids[:, None] == ids[None, :]) + np.eye(len(ids)) + 0.7**2
    square = stream[0, 0]
    loss = initial_loss(stream / square, targets, readout, ids)
    at_y = readout_gradient(stream / square, targets, readout, ids)
    below = square * top_gradient(stream, FINAL, targets, readout, ids)
    told = [loss.value, np.trace(at_y), at_y.sum(), np.trace(below), below.sum()]
    return np.array(told), loss.stderr


def of(words: int, dim: int, std: float, embedded: float = 0.0) -> Readout:
    """The readout whose tokens `drawn` draws."""
    square = embedded**2 + 1 + 0.7**2
    return Readout(words, dim, std, std * embedded * (dim / square) ** 0.5)


def mean_and_error(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5


@pytest.mark.parametrize(
    ("words", "dim", "std"), [(1000, 128, 1.6**0.5), (2000, 256, 12**0.5), (2000, 256, 20.0)]
)
def test_loss_and_gradient_at_any_variance_are_those_of_drawn_readouts(
    words: int, dim: int, std: float
) -> None:
    n = 48
    targets = np.random.default_rng(1).integers(0, 40, n)
    readout = of(words, dim, std)
    found = drawn(readout, 0.0, np.arange(n), targets, 48)
    mean, error = mean_and_error(found)
    theory, spread = predicted(readout, 0.0, np.arange(n), targets)
    # What is left is of order 1 / D; the error itself is known to a tenth.
    assert np.all(np.abs(mean - theory) < 4.5 * error + 2 / dim * theory), (mean, theory, error)
    assert np.all(error[1:] < 0.03 * theory[1:])
    assert abs(found[:, 0].std(ddof=1) / spread - 1) < 4.5 / (2 * len(found)) ** 0.5
    # Wrong: a pull that passes the norm. It is told apart where words are many and dim is small.
    if dim == 128:
        assert abs(mean[4] - theory[2]) > 3 * error[4] + 2 / dim * theory[4]
        # Wrong: no pull.
        assert abs(mean[2] - theory[4]) > 3 * error[2] + 2 / dim * theory[2]
    else:  # wrong: the expansions for narrow logits
        narrow = np.log(words) + std**2 / 2 - np.expm1(min(std**2, 300)) / (2 * words)
        assert abs(narrow - mean[0]) > 4.5 * error[0]
        assert abs(std**2 / n * (1 + (np.exp(std**2) - 2) / words) - mean[1]) > 4.5 * error[1]


@pytest.mark.parametrize("embedded", [0.1, 0.5, 0.8, 1.2])
@pytest.mark.parametrize("repeated", [False, True])
def test_the_own_word_of_a_tied_readout_is_that_of_drawn_tables(
    embedded: float, repeated: bool
) -> None:
    n, words, dim = 32, 1000, 256
    row = np.random.default_rng(2).integers(0, 12, n + 1) if repeated else np.arange(n + 1)
    ids, targets = row[:-1], row[1:]
    readout = of(words, dim, 1.28, embedded)
    mean, error = mean_and_error(drawn(readout, embedded, ids, targets, 40))
    theory, _ = predicted(readout, embedded, ids, targets)
    # Mean squares of drawn tokens differ by a tenth, which the theory leaves out: 1 % of the loss
    # and 3 % of gradients; sums cancel to a share of the trace.
    scale = np.array([theory[0], theory[1], theory[1], theory[3], theory[3]])
    allowed = np.array([0.012, 0.02, 0.05, 0.02, 0.05]) * scale
    assert np.all(np.abs(mean - theory) < 4.5 * error + allowed), (mean, theory, error)
    if embedded > 0.3:  # wrong: no own word
        bare, _ = predicted(dataclasses.replace(readout, own_token_logit=0.0), 0.0, ids, targets)
        assert np.any(np.abs(mean - bare) > 4.5 * error + allowed)
        assert abs(mean[1] - bare[1]) > 4.5 * error[1] + allowed[1]


def gemma(layers: int) -> Stack:
    """Gemma 2's block: norms before and after, a large multiplier, all weights of 0.08."""
    s, norm = 0.08, Normalisation(Norm.RMS, 1e-6)
    attention = Attention(4, 64, s, s, s, s)
    units = FeedForward(640, Activation.GELU_TANH, s, s, gated=True)
    block = tuple(SubBlock((one,), norm, norm) for one in (attention, units))
    return Stack(256, (block,) * layers, Embedding(s, multiplier=16.0), norm_final=norm)


def one_network(
    stack: Stack, ids: np.ndarray, targets: np.ndarray, words: int, key: jax.Array
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Loss under the tied table, gradient at y, and gradients of the tokens of all levels."""
    of = stack.embedding
    assert isinstance(of, Embedding)
    keys = jax.random.split(key, len(stack.layers) + 1)
    table = of.std * jax.random.normal(keys[0], (words, stack.dim))

    def loss(y: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(y @ table.T, axis=1)
        return -jnp.mean(logs[np.arange(len(ids)), targets])

    def final(x: jax.Array) -> jax.Array:
        return x / jnp.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6)

    x, backs = of.multiplier * table[ids], []
    for index in range(len(stack.layers)):
        x, back = jax.vjp(functools.partial(layer, stack, index, key=keys[index + 1]), x)
        backs.append(back)
    y, back = jax.vjp(final, x)
    value, at_y = jax.value_and_grad(loss)(y)
    grads = [back(at_y)[0]]
    for back in reversed(backs):
        grads.insert(0, back(grads[0])[0])
    return value, at_y, grads


def told(gram: np.ndarray) -> tuple[float, float]:
    return float(np.trace(gram)), float(gram.sum())


@functools.cache
def of_gemma(layers: int, n: int, networks: int = 12) -> np.ndarray:
    """Loss, trace and sum at y, and of every level from the top down, of networks."""
    stack = gemma(layers)
    one = jax.jit(functools.partial(one_network, stack, np.arange(n), np.arange(1, n + 1), 1000))
    found = []
    for key in jax.random.split(jax.random.key(5), networks):
        value, at_y, grads = one(key)
        grams = [np.asarray(g @ g.T) for g in (at_y, *grads[::-1])]
        found.append([float(value), *(number for gram in grams for number in told(gram))])
    return np.array(found)


def theory_of_gemma(layers: int, n: int, tied: bool = True) -> np.ndarray:
    stack, ids, targets = gemma(layers), np.arange(n), np.arange(1, n + 1)
    method = Recursion(pairs=24, copies=4)
    initial = stack.initial_cov(ids)
    forward = solve(SignalPropagation(stack=stack, initial=initial), method, key=jax.random.key(0))
    stream = forward.cov[-1]
    c = own_token_logit(stack, np.diagonal(stream).mean())
    readout = Readout(1000, 256, 0.08 * 16.0, float(c) if tied else 0.0)
    read = stream / np.sqrt(np.outer(np.diagonal(stream), np.diagonal(stream)))
    top = top_gradient(stream, stack.norm_final, targets, readout, ids)
    problem = SignalPropagation(stack=stack, initial=initial, top_gradient=top)
    back = solve(problem, method, key=jax.random.key(1))
    grams = (readout_gradient(read, targets, readout, ids), *back.grad_gram[::-1])
    loss = initial_loss(read, targets, readout, ids).value
    return np.array([loss, *(number for gram in grams for number in told(gram))])


def test_gemma_2_with_a_large_own_token_logit_has_its_reference_figures() -> None:
    """The documentation's c, loss, trace and sum at y, and trace below the norm."""
    stack, n = gemma(1), 32
    square = (16 * 0.08) ** 2 + 2.0
    assert own_token_logit(stack, square) == pytest.approx(13.74, abs=0.01)
    theory = theory_of_gemma(1, n)
    # The sum below the norm depends on the block's sizes, which are not told there.
    told = np.array([*theory[:3], square * theory[3]])
    # The reference leaves out the fluctuation of the own word's logit: a few per cent.
    assert np.allclose(told, [13.71, 0.1012, 0.0033, 0.0786], rtol=0.01, atol=2e-4), told
    # Drawn there with six networks.
    assert np.allclose(told, [13.75, 0.1022, 0.0032, 0.0792], rtol=0.01, atol=2e-4), told


@pytest.mark.parametrize(("layers", "n"), [(1, 24), (3, 24)])
def test_the_gradient_of_a_tied_stack_is_carried_down_as_in_drawn_networks(
    layers: int, n: int
) -> None:
    mean, error = mean_and_error(of_gemma(layers, n))
    theory, bare = theory_of_gemma(layers, n), theory_of_gemma(layers, n, tied=False)
    share = n * (1 / 256 + 1 / 256 + 1 / 640)  # n / D_eff
    assert abs(mean[0] - theory[0]) < 4.5 * error[0] + 0.01 * theory[0]
    traces, sums = slice(1, None, 2), slice(2, None, 2)
    assert np.all(np.abs(mean - theory)[traces] < (4.5 * error + share * theory)[traces])
    # Sums cancel: their scale is that of the trace.
    assert np.all(np.abs(mean - theory)[sums] < 4.5 * error[sums] + share * theory[traces])
    assert abs(mean[0] - bare[0]) > 4.5 * error[0] + 0.01 * theory[0]
    # Told apart most where no layer adds its own error: at y, and at the top of the last layer.
    assert np.all(np.abs(mean - bare)[[1, 3]] > (4.5 * error + 0.02 * theory)[[1, 3]])


def test_the_own_token_logit_follows_multipliers_and_norms() -> None:
    stack = gemma(2)
    c = own_token_logit(stack, 4.0)
    assert own_token_logit(stack, 4.0, logit_scale=0.0625) == pytest.approx(c / 16)
    assert own_token_logit(stack, np.array([1.0, 4.0]))[1] == pytest.approx(c)
    halved = tuple(tuple(dataclasses.replace(b, residual=0.5) for b in one) for one in stack.layers)
    changed = dataclasses.replace(stack, layers=halved)
    assert own_token_logit(changed, 4.0) == pytest.approx(c / 16)
    normed = Embedding(0.08, norm=Normalisation(gain=2.0))
    scaled = own_token_logit(dataclasses.replace(stack, embedding=normed), 4.0)
    assert scaled == pytest.approx(c / 16 * 2 / 0.08)
    bare = own_token_logit(dataclasses.replace(stack, norm_final=None), 4.0)
    assert bare == pytest.approx(2 * c, rel=1e-5)
    post = tuple(
        tuple(dataclasses.replace(b, norm_post=FINAL) for b in one) for one in stack.layers
    )
    with pytest.raises(ArgumentError, match="kept"):
        own_token_logit(dataclasses.replace(stack, layers=post), 1.0)
    with pytest.raises(ArgumentError, match="embedding"):
        own_token_logit(dataclasses.replace(stack, embedding=None), 1.0)


def test_zero_tokens_have_equal_logits() -> None:
    readout = Readout(100, 64, 1.0, 3.0)
    cov = np.diag([1.0, 0.0, 1.0])
    alone = initial_loss(np.zeros((1, 1)), [3], Readout(100, 64, 1.0), [1])
    assert alone.value == pytest.approx(np.log(100))
    gram = readout_gradient(cov, [1, 2, 3], readout, [0, 1, 2])
    # Its own gradient is that of equal weights on all words: W_t - mean of W.
    assert gram[1, 1] == pytest.approx((1 - 1 / 100) / 9, rel=1e-6)


def test_bad_input_is_named() -> None:
    readout = Readout(1000, 64, 1.0)
    with pytest.raises(ArgumentError, match="targets"):
        readout_gradient(np.eye(3), [1, 2], readout)
    with pytest.raises(ArgumentError, match="mean squares"):
        readout_gradient(np.diag([1.0, 2.0]), [1, 2], readout)
    with pytest.raises(ArgumentError, match="ids"):
        initial_loss(np.eye(2), [1, 2], dataclasses.replace(readout, own_token_logit=3.0))
    with pytest.raises(ArgumentError, match="logit_std"):
        Readout(1000, 64, 50.0)
    with pytest.raises(ArgumentError, match="own_token_logit"):
        Readout(1000, 64, 1.0, np.ones((2, 2)))


def test_the_own_token_logit_of_a_post_ln_stack_is_that_of_drawn_networks() -> None:
    norm = Normalisation(Norm.LAYER, 1e-6)
    blocks = (
        SubBlock((Attention(4, 32, 0.1, 0.1, 0.1, 0.08),), norm_post=norm, residual=1.2),
        SubBlock((FeedForward(256, Activation.GELU, 0.1, 0.08),), norm_post=norm),
    )
    stack, ids = Stack(128, (blocks,) * 3, Embedding(0.3)), np.arange(6)
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(ids), top_gradient=None)
    kept = stream_kept(problem, key=jax.random.key(0), pairs=24)
    told = own_token_logit(stack, np.ones(6), kept=kept)

    def one(key: jax.Array) -> jax.Array:
        first, *rest = jax.random.split(key, 1 + len(stack.layers))
        x = table = 0.3 * jax.random.normal(first, (6, 128))
        for index, own in enumerate(rest):
            x = layer(stack, index, x, own)
        return jnp.sum(x * table, axis=1)

    count = 200
    own = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(1), count)))
    error = own.std(axis=0, ddof=1) / count**0.5
    assert np.all(np.abs(own.mean(axis=0) - told) < 4.5 * error + 6 / 128 * told)
    # The multipliers alone, without the shares that the norms take, are another number.
    alone = own_token_logit(stack, np.ones(6), kept=1.2**3)
    assert np.all(np.abs(own.mean(axis=0) - alone) > 9 * error + 12 / 128 * told)
