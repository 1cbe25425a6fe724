"""The shaped Transformer against NumPy and the equation, layer by layer."""

import jax
import numpy as np
import pytest
from tests.models.shaped_cases import FULL, THREE, correlations, run

from translimit.core import ArgumentError, ArgumentTypeError, named_key
from translimit.describe import ABLATIONS, Block, ShapedGains, ShapedMLP
from translimit.models import CompressedShapedTransformer, ShapedTransformer
from translimit.models.shaped_layer import (
    apply_block,
    draw_weights,
    skip_weights,
    tokens_of,
)

HALF = 0.5**0.5


def numpy_layer(block: Block, dim: int, tau: float, w, x: np.ndarray) -> np.ndarray:
    """The block of docs/theory/shaped.md, head by head."""
    m, branch = len(x), []
    for h in range(block.heads):
        scores = (x @ w.query[h] / dim**0.5) @ (x @ w.key[h] / dim**0.5).T / tau
        a = np.zeros((m, m))
        for i in range(m):
            seen = i + 1 if block.causal else m
            p = np.exp(scores[i, :seen] - scores[i, :seen].max())
            a[i, :seen] = (
                block.shaped_gains.attention * p / p.sum() - block.shaped_gains.centring / seen
            )
            a[i, i] += block.shaped_gains.identity
        branch.append(a @ x @ w.value[h] / dim**0.5)
    out = np.concatenate(branch, axis=1)
    if block.projection:
        out = out @ w.output / out.shape[1] ** 0.5
    x = block.lam_at(dim) * x + block.gamma * out
    if block.mlp is not None:
        mlp = block.mlp
        plus, minus = 1 + mlp.c_plus / dim**0.5, 1 + mlp.c_minus / dim**0.5
        c = 2 / (plus**2 + minus**2) if mlp.normalised else 1.0
        z = x @ w.hidden / dim**0.5
        z = np.where(z > 0, plus * z, minus * z)
        x = mlp.lam_at(dim) * x + mlp.gamma * (c / w.hidden.shape[1]) ** 0.5 * z @ w.readout
    return x


@pytest.mark.parametrize(
    ("block", "standard"),
    [
        (Block(gamma=0.6, tau0=0.3, growth_rate=1.0), False),
        (Block(gamma=0.6, tau0=0.3, heads=2, shaped_gains=ShapedGains(0.8, 1.7, 0.4)), True),
        (
            Block(
                gamma=0.6,
                tau0=0.3,
                heads=4,
                projection=True,
                value_ratio=2.0,
                causal=True,
                mlp=ShapedMLP(gamma=0.4, c_plus=0.5, hidden_ratio=3.0),
            ),
            False,
        ),
    ],
)
def test_one_layer_is_the_formula(block: Block, standard: bool) -> None:
    dim = 8
    network = ShapedTransformer(
        block=block, dim=dim, layers=1, head_dim=5, standard_temperature=standard
    )
    with jax.enable_x64(True):
        weights = draw_weights(jax.random.key(0), block, network.sizes, float)
        x = np.random.default_rng(0).normal(size=(3, dim))
        got = apply_block(
            block, network.sizes, skip_weights(block, dim), weights, jax.numpy.asarray(x)
        )
    tau = block.tau0 * (5 if standard else 5 * dim) ** 0.5
    weights = jax.tree.map(np.asarray, weights)
    np.testing.assert_allclose(got, numpy_layer(block, dim, tau, weights, x), rtol=1e-12)


@pytest.mark.parametrize("heads", [1, 4])
def test_a_simulation_starts_from_its_covariance(heads: int) -> None:
    block = Block(gamma=0.5, tau0=1.0, heads=heads)
    network = ShapedTransformer(block=block, dim=16, layers=4)
    tokens = np.asarray(tokens_of(jax.numpy.asarray(THREE), block, network.sizes))
    np.testing.assert_allclose(tokens @ tokens.T / 16, THREE, atol=1e-6)
    cov = run(network, THREE, 3, save_every=2)
    assert cov.shape == (3, 3, 3, 3)
    assert cov.dtype == np.float64
    np.testing.assert_allclose(cov[:, 0], np.broadcast_to(THREE, (3, 3, 3)), atol=1e-12)


@pytest.mark.parametrize(
    "model",
    [pytest.param(ShapedTransformer, marks=pytest.mark.slow), CompressedShapedTransformer],
)
def test_one_layer_has_the_covariance_of_the_generator(model) -> None:
    # The diffusion of docs/theory/shaped.md in NumPy: sigma^2 (V V + V V) + gamma^4 / (H tau0^2) A.
    gamma, tau0, heads, dim, seeds = 0.9, 0.4, 2, 64, 20_000
    block = Block(gamma=gamma, tau0=tau0, heads=heads, projection=True)
    cov = run(model(block=block, dim=dim, layers=1, head_dim=4), THREE, seeds)[:, 1]
    change = dim**0.5 * (cov - THREE)
    centre = np.eye(3) - 1 / 3
    w = centre @ THREE @ centre
    q = THREE @ w @ THREE / 9
    sigma2 = 2 * (1 - gamma**2) * gamma**2 + 2 * gamma**4

    def exact(a: int, b: int, c: int, d: int) -> float:
        v = THREE
        linear = sigma2 * (v[a, c] * v[b, d] + v[a, d] * v[b, c])
        attention = v[a, c] * q[b, d] + v[a, d] * q[b, c] + v[b, c] * q[a, d] + v[b, d] * q[a, c]
        return linear + gamma**4 / (heads * tau0**2) * attention

    for pair, other in [((0, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 2), (1, 2)), ((0, 1), (1, 2))]:
        product = change[:, *pair] * change[:, *other]
        error = product.std() / seeds**0.5
        # Width 64 leaves a bias of relative order 1 / 64 (times a few, the scores being large).
        bias = 0.06 * abs(exact(*pair, *pair) * exact(*other, *other)) ** 0.5
        assert abs(product.mean() - exact(*pair, *other)) < 4.5 * error + bias
        # A wrong factor of two in either part would be seen.
        linear = sigma2 * (THREE[pair[0], pair[0]] * THREE[pair[1], pair[1]])
        assert 4.5 * error + bias < 0.5 * min(linear, exact(*pair, *pair))


def test_one_layer_has_the_drift_of_the_generator() -> None:
    # Linear noise has no mean: n (E V' - V) is the drift of attention, E over many chains.
    gamma, tau0, dim, seeds = 0.9, 0.02, 6400, 200_000
    cov = 0.25 * THREE
    chain = CompressedShapedTransformer(block=Block(gamma=gamma, tau0=tau0), dim=dim, layers=1)
    change = dim * (run(chain, cov, seeds)[:, 1] - cov)
    centre = np.eye(3) - 1 / 3
    w = centre @ cov @ centre
    turned = np.outer(np.diag(cov), cov @ centre @ np.diag(w))
    norm = (gamma / tau0) ** 2 * np.sum(w**2) / 9 * cov
    lean = (gamma / tau0) ** 2 * (turned + turned.T) / 6

    def agrees(drift: np.ndarray) -> bool:
        # Logits of order 0.15 leave a bias of a few per cent.
        errors = change.std(axis=0) / seeds**0.5
        gap = np.abs(change.mean(axis=0) - drift)
        return bool(np.all(gap < 4.5 * errors + 0.1 * (norm + lean)[0, 0]))

    assert agrees(norm + lean)
    for wrong in (2 * norm + lean, norm / 2 + lean, norm + 2 * lean, norm + lean / 2):
        assert not agrees(wrong)


def test_one_layer_of_the_mlp_has_the_mean_of_its_kernel() -> None:
    # The exact kernel of the shaped ReLU at width 25, slopes far from one; hardly any attention.
    dim, gamma, seeds = 25, 0.7, 100_000
    mlp = ShapedMLP(gamma=gamma, c_plus=2.0, c_minus=-2.5)
    block = Block(gamma=1e-6, tau0=np.inf, mlp=mlp)
    chain = CompressedShapedTransformer(block=block, dim=dim, layers=1)
    change = run(chain, THREE, seeds)[:, 1] - THREE
    plus, minus = 1 + 2.0 / 5, 1 - 2.5 / 5
    bend = np.sqrt(1 - THREE**2) - THREE * np.arccos(THREE)
    exact = gamma**2 * (plus - minus) ** 2 / (plus**2 + minus**2) * bend / np.pi
    errors = change.std(axis=0) / seeds**0.5
    assert np.all(np.abs(change.mean(axis=0) - exact) < 4.5 * errors)
    off = np.triu_indices(3, 1)
    assert np.all(9 * errors[off] < 0.5 * exact[off])  # a factor of two would be seen


def test_uniform_attention_shrinks_differences_exactly() -> None:
    # Infinite temperature and softmax alone: every token receives the same branch.
    block = Block(gamma=HALF, tau0=np.inf, lam=HALF, shaped_gains=ABLATIONS["softmax"])
    cov = run(ShapedTransformer(block=block, dim=32, layers=10), THREE, 4)
    distance = cov[:, :, 0, 0] + cov[:, :, 1, 1] - 2 * cov[:, :, 0, 1]
    np.testing.assert_allclose((distance[:, 1] / distance[:, 0]) ** 0.5, 2.0**-5, rtol=1e-7)


ROWS = [
    # ablation, standard temperature, lam, gamma, mean correlation at depths 5 and 20, bound
    ("shaped", False, HALF, HALF, (0.203, 0.202), 0.03),
    ("softmax", True, HALF, HALF, (0.9345, 1.000), 0.015),
    ("softmax", True, 0.0, 1.0, (1.000, 1.000), 0.015),
    ("no_centring", False, HALF, HALF, (0.979, 1.000), 0.015),
    ("no_identity", False, HALF, HALF, (0.200, 0.200), 0.015),
    ("shaped", True, HALF, HALF, (0.216, 0.358), 0.03),
]


@pytest.mark.parametrize(("name", "standard", "lam", "gamma", "expected", "bound"), ROWS)
def test_ablations(name, standard, lam, gamma, expected, bound) -> None:
    block = Block(gamma=gamma, tau0=1.0, lam=lam, shaped_gains=ABLATIONS[name])
    chain = CompressedShapedTransformer(
        block=block, dim=200, layers=20, standard_temperature=standard
    )
    # The standard error is 0.006 where correlations spread most.
    rho = correlations(run(chain, 0.8 * np.eye(4) + 0.2, 2000, save_every=5))
    off = rho[..., *np.triu_indices(4, 1)].mean(axis=(0, 2))
    np.testing.assert_allclose(off[[1, 4]], expected, atol=bound)


def test_gradients_keep_their_size_where_tokens_do() -> None:
    network = ShapedTransformer(block=Block(gamma=0.5, tau0=4.0), dim=32, layers=6)
    norms = np.asarray(network.gradient_norms(np.eye(2), key=jax.random.key(0), seeds=200))
    assert norms.shape == (200, 7)
    # At the output the norm is that of G; E |.|^2 is conserved by lam^2 + gamma^2 = 1, up to the
    # attention's own derivative, of order 1 / (tau0^2 dim).
    squares = norms**2 / 64
    error = squares.std(axis=0) / 200**0.5
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 4.5 * error + 0.02)


def test_gradient_is_the_derivative() -> None:
    network = ShapedTransformer(block=FULL, dim=4, layers=1)
    key = jax.random.key(3)
    with jax.enable_x64(True):
        own = jax.random.fold_in(key, 0)
        direction = np.asarray(jax.random.normal(named_key(own, "direction"), (3, 4), float))
        weights = jax.tree.map(
            np.asarray, draw_weights(jax.random.fold_in(own, 0), FULL, network.sizes, float)
        )
        x = np.asarray(tokens_of(jax.numpy.asarray(THREE), FULL, network.sizes))
    norms = np.asarray(network.gradient_norms(THREE, key=key, seeds=1))[0]
    tau, h = FULL.tau0 * (4 * 4) ** 0.5, 1e-6
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        up = numpy_layer(FULL, 4, tau, weights, x + step)
        down = numpy_layer(FULL, 4, tau, weights, x - step)
        gradient[index] = np.sum(direction * (up - down)) / (2 * h)
    np.testing.assert_allclose(
        norms, [np.linalg.norm(gradient), np.linalg.norm(direction)], rtol=1e-6
    )


@pytest.mark.parametrize("model", [ShapedTransformer, CompressedShapedTransformer])
def test_a_seed_does_not_depend_on_the_others_and_equal_tokens_stay_equal(model) -> None:
    cov = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 1.0]])
    network = model(block=Block(gamma=0.5, tau0=0.5, heads=2), dim=8, layers=6)
    few, many = run(network, cov, 2), run(network, cov, 40)
    np.testing.assert_allclose(few, many[:2], rtol=1e-9)
    end = many[:, -1]
    assert np.abs(end[:, 0, 0] + end[:, 1, 1] - 2 * end[:, 0, 1]).max() < 1e-9
    stopped = run(network, cov, 40, stop_trace=3.1, save_every=1)
    trace = np.trace(stopped, axis1=-2, axis2=-1)
    over = trace > 3.1
    assert over.any()
    np.testing.assert_array_equal(over, np.maximum.accumulate(over, axis=1))


def test_single_precision_follows_the_input() -> None:
    network = ShapedTransformer(block=Block(gamma=0.5, tau0=1.0), dim=8, layers=2)
    assert run(network, np.eye(2, dtype=np.float32), 1).dtype == np.float32


def test_refusals(as_user: None) -> None:
    block = Block(gamma=0.5, tau0=1.0)
    key = jax.random.key(0)
    for model in (ShapedTransformer, CompressedShapedTransformer):
        with pytest.raises(ArgumentError, match="3 heads do not divide 8 value dimensions"):
            model(block=Block(gamma=0.5, tau0=1.0, heads=3), dim=8, layers=2)
        with pytest.raises(ArgumentError, match="layers: got 0"):
            model(block=block, dim=8, layers=0)
        with pytest.raises(ArgumentTypeError, match=r"dim: got 8\.5"):
            model(block=block, dim=8.5, layers=1)
        small = model(block=block, dim=2, layers=2)
        with pytest.raises(ArgumentError, match="dim: got 2 for 3 tokens; pass at least 3"):
            small.simulate(THREE, key=key)
        with pytest.raises(ArgumentError, match="seeds: got 0"):
            small.simulate(np.eye(2), key=key, seeds=0)
        with pytest.raises(ArgumentError, match="3 does not divide 2 layers"):
            small.simulate(np.eye(2), key=key, save_every=3)
        with pytest.raises(ArgumentError, match="negative eigenvalue"):
            small.simulate([[1.0, 2.0], [2.0, 1.0]], key=key)
    with pytest.raises(ArgumentTypeError, match="block: got ShapedMLP; pass a Block"):
        ShapedTransformer(block=ShapedMLP(gamma=0.5), dim=8, layers=1)  # pyright: ignore
    odd = Block(gamma=0.5, tau0=1.0, mlp=ShapedMLP(gamma=0.5, hidden_ratio=0.5))
    with pytest.raises(ArgumentError, match=r"hidden_ratio: gives 2.5 hidden units at dim = 5"):
        ShapedTransformer(block=odd, dim=5, layers=1)
    narrow = CompressedShapedTransformer(block=Block(gamma=0.5, tau0=1.0, heads=4), dim=8, layers=2)
    with pytest.raises(ArgumentError, match="each has value dimension 2 for 3 tokens"):
        narrow.simulate(THREE, key=key)
