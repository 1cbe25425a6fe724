"""Networks beside the limit of training: exact updates, printed limits, and the solver's."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft.cases import X, Y
from tests.limits.dmft.language import LM12, LM12_NEXT, lm12, sin6
from tests.limits.dmft.network import extrapolated
from tests.limits.dmft.network_with_autodiff import Net

from translimit import data, limits, train
from translimit.core import ArgumentError, named_key, solve
from translimit.describe import Activation, Parameterization, Role, Size, TransformerShape
from translimit.limits.dmft import CausalSampling
from translimit.models import Transformer
from translimit.scaling import limit_parameterization

KEY = jax.random.key(5)
NAMES = {"query": "K", "key": "Q", "value": "V", "attention_out": "O"}
NAMES |= {"mlp_in": "1", "mlp_out": "2"}
#: Weights of rows.
ROWS = np.random.default_rng(0).uniform(0.5, 1.5, LM12.shape) / 12
STEPS = 4
LANGUAGE = TransformerShape(
    head_dim=4,
    heads=2,
    layers=2,
    tokens=4,
    outputs=4,
    vocabulary=4,
    mlp_ratio=1.0,
    activation=Activation.TANH,
    norm="rms",
    norm_eps=1e-5,
    gains=False,
    biases=False,
    causal=True,
    pooled=False,
)


def as_hats(
    shape: TransformerShape, weights: dict[str, Any], starts: dict[str, float]
) -> dict[str, Any]:
    """The weights of one network in units of their starts, by the names of the autodiff network."""
    hats: dict[str, Any] = {}
    for name, value in weights.items():
        unit = np.asarray(value, np.float64) / starts[name]
        if name in ("token_embedding", "position_embedding", "readout"):
            hats[{"t": "E", "p": "P", "r": "w"}[name[0]]] = unit.T
        elif name == "score_gain":
            hats |= {f"t{layer}": np.asarray(value, np.float64)[layer] for layer in (0, 1)}
        else:
            hats |= {f"{NAMES[name]}{layer}": unit[layer] for layer in range(shape.layers)}
    return jax.tree.map(jnp.asarray, hats)


def numbers_of(
    shape: TransformerShape, net: Net, eta0: float, optimizer: train.Optimizer
) -> Parameterization:
    shared = ("alpha_A", "alpha_L", "beta0", "gamma0", "score_gain", "score_gain_rate")
    more: dict[str, Any] = {
        name: getattr(net, name) for name in (*shared, "position_std", "position_rate")
    }
    return limit_parameterization(shape.size, optimizer=optimizer.name, eta0=eta0, **more)


def by_library(
    shape: TransformerShape, net: Net, eta0: float, optimizer: train.Optimizer
) -> np.ndarray:
    """Predictions of a network of the library."""
    training = train.Training(
        steps=STEPS - 1,
        rates=(1.0,),
        batch=3,
        optimizer=optimizer,
        precision="float64",
        centred=net.centred,
        loss=train.CrossEntropy(0.1, 0.7),
    )
    history = train.train(
        shape,
        numbers_of(shape, net, eta0, optimizer),
        data.FullBatch(LM12, LM12_NEXT, ROWS),
        training,
        key=KEY,
        observe=(train.Predictions(per_token=True),),
        observe_at=range(STEPS),
        probe=3,
    )
    return np.asarray(history["predictions"])[:, 0, 0]


def by_oracle(
    shape: TransformerShape, net: Net, eta0: float, optimizer: train.Optimizer
) -> np.ndarray:
    """Predictions of the same network, by automatic differentiation and rates of the limit."""
    numbers = numbers_of(shape, net, eta0, optimizer)
    with jax.enable_x64(True):
        starts = {spec.name: numbers.role(spec.role).init for spec in shape.parameters}
        first = named_key(named_key(KEY, "seed", 0), "start")
        params = as_hats(shape, Transformer(shape, numbers).init(first, jnp.float64), starts)
        if not shape.score_gain:
            params |= {f"t{layer}": jnp.asarray(net.score_gain) for layer in range(net.L)}
        f0 = net.outputs(params, LM12) if net.centred else 0.0

        @jax.jit
        def slopes(params: Any) -> Any:
            def loss(params: Any) -> Any:
                f = net.outputs(params, LM12) - f0
                p = jax.nn.log_softmax(f / 0.7, axis=-1)
                wanted = 0.9 * np.eye(4)[LM12_NEXT] + 0.1 / 4
                return -(ROWS[..., None] * wanted * p).sum(), f

            return jax.grad(loss, has_aux=True)(params)

        found, state = [], {name: (0.0, 0.0) for name in params}
        for t in range(STEPS):
            slope, f = slopes(params)
            found.append(np.asarray(f))
            for name in params:
                g, old, (m, v) = slope[name], params[name], state[name]
                if optimizer.name == "momentum":
                    m = optimizer.momentum * m + g
                    params[name] = old - net.rates(params, eta0)[name] * m
                elif name[0] != "t":
                    params[name], m, v = adam(net, optimizer, eta0, name, old, g, m, v, t)
                state[name] = (m, v)
    return np.stack(found)


def adam(
    net: Net, of: train.Optimizer, eta0: float, name: str, old: Any, g: Any, m: Any, v: Any, t: int
) -> Any:
    """One parameter, in the gradients' own units, with the decay decoupled."""
    outer = name in ("E", "P", "w")
    each = net.beta0 * net.L**-net.alpha_L * net.n**-0.5
    G = -g * net.gamma0 * net.n / (1 if outer else each)
    m, v = of.b1 * m + (1 - of.b1) * G, of.b2 * v + (1 - of.b2) * G**2
    u = m / (1 - of.b1 ** (t + 1)) / (jnp.sqrt(v / (1 - of.b2 ** (t + 1))) + of.eps)
    rate = eta0 * (1 if outer else net.n**-0.5 * net.L ** (net.alpha_L - 1))
    rate *= net.N ** (net.alpha_A - 1) if name[0] in "KQ" else 1
    return old * (1 - eta0 * of.weight_decay) + rate * u, m, v


def test_every_ingredient_moves_as_in_the_limit() -> None:
    """Rates of all parameters, with gains, wide MLP, two kinds of positions, tied and centred."""
    shape = replace(
        LANGUAGE,
        mlp_ratio=2.0,
        positions="both",
        rotary_base=3.0,
        tied=True,
        qk_norm="rms",
        score_gain=True,
    )
    net = Net(
        N=4,
        H=2,
        L=2,
        vocabulary=4,
        alpha_A=0.75,
        alpha_L=0.75,
        mlp_ratio=2,
        qk_norm="rms",
        score_gain=2.0,
        score_gain_rate=4.0,
        rotary=3.0,
        position_std=0.5,
        position_rate=0.3,
        tied=True,
        centred=True,
    )
    heavy = train.Optimizer("momentum", momentum=0.5)
    theirs = by_oracle(shape, net, 0.3, heavy)
    np.testing.assert_allclose(by_library(shape, net, 0.3, heavy), theirs, rtol=1e-9, atol=1e-11)
    # A rate of the gain that is a tenth larger is seen.
    other = by_library(shape, replace(net, score_gain_rate=4.4), 0.3, heavy)
    assert np.abs(other - theirs).max() > 1e-6


def test_adam_moves_as_in_the_limit() -> None:
    """Epsilon is in units of gradients of order one, and the decay takes the same off all."""
    shape = replace(LANGUAGE, qk_norm="layer")
    net = Net(N=4, H=2, L=2, vocabulary=4, qk_norm="layer", gamma0=0.7, score_gain=1.5)
    optimizer = train.Optimizer("adamw", b1=0.5, b2=0.8, eps=0.05, weight_decay=0.3)
    ours, theirs = (run(shape, net, 0.1, optimizer) for run in (by_library, by_oracle))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    assert np.abs(np.diff(ours, axis=0)).max() > 0.05


def test_numbers_of_the_limit() -> None:
    size = Size(head_dim=4, heads=8, layers=3, mlp_ratio=1.0)
    plain = limit_parameterization(size, beta0=2.0, gamma0=0.5)
    assert plain.score_scale == 1 / 4
    frozen = limit_parameterization(
        size, readout_std=0.0, position_std=0.5, position_rate=0.0, score_gain=2.0
    )
    assert (frozen.role(Role.READOUT).init, frozen.score_scale) == (0.0, 0.5)
    place = frozen.role(Role.POSITION_EMBEDDING)
    assert (place.lr, place.mult) == (0.0, 0.5 * plain.role(Role.POSITION_EMBEDDING).mult)
    sign, adam = (limit_parameterization(size, optimizer=name) for name in ("sign", "adam"))
    assert sign.role(Role.QUERY).lr == adam.role(Role.QUERY).lr == 32**-0.5
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"optimizer": "adam", "score_gain_rate": 1.0}, "score_gain_rate: got 1.0 under adam"),
        ({"optimizer": "muon"}, "optimizer: the paper has no 'muon'"),
        ({"score_gain": 0.0}, "score_gain: got 0"),
        ({"position_std": -1.0}, "position_std: got -1"),
    )
    for arguments, named in refused:
        with pytest.raises(ArgumentError, match=named):
            limit_parameterization(size, **arguments)


# -- networks of growing size ------------------------------------------------------------------


def trained(
    shape: TransformerShape,
    source: data.FullBatch,
    *,
    seeds: int,
    eta0: float,
    steps: int = 8,
    optimizer: train.Optimizer | None = None,
    loss: train.AbstractLoss | None = None,
    centred: bool = False,
    **numbers: Any,
) -> np.ndarray:
    """Predictions of networks [seeds, steps, ...]."""
    chosen = optimizer or train.Optimizer("sgd")
    history = train.train(
        shape,
        limit_parameterization(
            shape.size,
            optimizer=chosen.name,
            eta0=eta0,
            pixels=shape.patch_dim or 1,
            **{"beta0": 1.5, **numbers},
        ),
        source,
        train.Training(
            steps=steps - 1,
            rates=(1.0,),
            seeds=seeds,
            batch=len(source),
            optimizer=chosen,
            loss=loss or train.CrossEntropy(),
            centred=centred,
        ),
        key=jax.random.fold_in(KEY, shape.heads),
        observe=(train.Predictions(per_token=not shape.pooled),),
        observe_at=range(steps),
        probe=len(source),
    )
    return np.moveaxis(np.asarray(history["predictions"], np.float64)[:, :, 0], 0, 1)


def grown(
    shape: TransformerShape, source: data.FullBatch, sizes: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Extrapolated predictions of two sizes [(heads, seeds), ...], and their standard errors."""
    runs = [trained(replace(shape, heads=H), source, seeds=n, **options) for H, n in sizes]
    return extrapolated(*runs)


SENTENCES = data.FullBatch(LM12, LM12_NEXT)
SMALL = replace(LANGUAGE, head_dim=2, layers=1)
TANH: dict[str, Any] = {"mlp": Activation.TANH, "head_dim": 2}
#: Shape, numbers and training of networks, and options of the limit.
WORDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "rms": (
        {"qk_norm": "rms"},
        {"score_gain": 2.0},
        {"qk_norm": "rms", "score_gain": 2.0},
    ),
    "layer": ({"head_dim": 4, "qk_norm": "layer"}, {}, {"head_dim": 4, "qk_norm": "layer"}),
    "gain": ({"score_gain": True}, {"score_gain_rate": 8.0}, {"score_gain_rate": 8.0}),
    "rotary": (
        {"head_dim": 4, "positions": "both", "rotary_base": 3.0},
        {},
        {"head_dim": 4, "rotary": 3.0},
    ),
    "wide": ({"mlp_ratio": 2.0}, {}, {"mlp_ratio": 2.0}),
    "tied": (
        {"tied": True},
        {"centred": True, "eta0": 0.25},
        {"tied": True, "centred": True, "eta0": 0.25},
    ),
    "frozen": (
        {},
        {"position_std": 0.5, "position_rate": 0.0},
        {"position_std": 0.5, "position_rate": 0.0},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_language_models_approach_the_limit(name: str) -> None:
    shape, numbers, options = WORDS[name]
    method = CausalSampling(heads=2000, neurons=4000)
    solution = solve(lm12(**{"eta0": 0.5, **TANH, **options}), method, key=KEY)
    sizes = ((16, 400), (32, 200))
    mean, stderr = grown(replace(SMALL, **shape), SENTENCES, sizes, **{"eta0": 0.5, **numbers})
    z = (mean - solution.predictions)[1:] / np.hypot(stderr, solution.stderr)[1:]
    assert np.sqrt(np.mean(z**2)) < 2.2
    # Features that do not move are another theory, and are seen to be.
    lazy = limits.dmft.lazy_predictions(
        solution.ntk[0],
        LM12_NEXT.reshape(-1),
        steps=8,
        eta0=options.get("eta0", 0.5),
        loss=limits.dmft.CrossEntropy(),
        classes=4,
    )
    if name != "tied":  # whose readouts are not independent
        away = (mean.reshape(lazy.shape) - lazy)[1:] / stderr.reshape(lazy.shape)[1:]
        assert np.sqrt(np.mean(away**2)) > 4


POOLED = replace(
    SMALL,
    tokens=2,
    outputs=3,
    patch_dim=4,
    vocabulary=None,
    positions=None,
    causal=False,
    pooled=True,
    final_norm=False,
)
SIN = np.asarray(sin6(eta0=0.3).inputs)
#: Targets and loss of networks, their training, and options of the limit.
LOSSES: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
    "classes": (np.arange(3), {}, {}),
    "smoothed": (
        np.arange(3),
        {
            "loss": train.CrossEntropy(0.1, 0.5),
            "eta0": 0.1,
            "optimizer": train.Optimizer("momentum", momentum=0.5),
        },
        {"loss": limits.dmft.CrossEntropy(0.1, 0.5), "eta0": 0.1, "momentum": 0.5},
    ),
    "zero": (np.arange(3), {"readout_std": 0.0}, {"readout_std": 0.0}),
    "huber": (
        np.array([1.0, -1.0, 0.5]),
        {"loss": train.Huber(0.5), "eta0": 0.1},
        {"loss": limits.dmft.Huber(0.5), "eta0": 0.1},
    ),
    "logistic": (
        np.array([1.0, -1.0, -1.0]),
        {"loss": train.Logistic(0.7), "eta0": 0.1},
        {"loss": limits.dmft.Logistic(0.7), "eta0": 0.1},
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::translimit.limits.dmft.HeavyTailWarning")
@pytest.mark.parametrize("name", LOSSES)
def test_losses_approach_the_limit(name: str) -> None:
    targets, training, options = LOSSES[name]
    method = CausalSampling(heads=2000, neurons=4000)
    here: dict[str, Any] = {"eta0": 0.3, "norm": "rms", **TANH, "targets": targets, **options}
    solution = solve(sin6(**here), method, key=KEY)
    real = targets.dtype.kind == "f"
    source = data.FullBatch(SIN, targets[:, None] if real else targets)
    shape = replace(POOLED, outputs=1 if real else 3)
    sizes = ((32, 300), (64, 200))
    mean, stderr = grown(shape, source, sizes, **{"eta0": 0.3, **training})
    gap = mean.reshape(solution.predictions.shape) - solution.predictions
    z = gap[1:] / np.hypot(stderr.reshape(gap.shape), solution.stderr)[1:]
    assert np.sqrt(np.mean(z**2)) < 2.2


RING = replace(POOLED, outputs=1)
TARGETS = data.FullBatch(X, Y[:, None])


@pytest.mark.slow
def test_adam_has_the_printed_limit() -> None:
    """One attention layer under Adam; a rate that is a tenth larger misses."""
    shape = replace(RING, mlp_ratio=0.0)
    optimizer = train.Optimizer("adam", b1=0.5, b2=0.8, eps=0.05)
    options: dict[str, Any] = {"optimizer": optimizer, "loss": train.SquaredError(), "beta0": 1.0}
    sizes = ((32, 1500), (64, 1500))
    mean, stderr = grown(shape, TARGETS, sizes, eta0=0.1, **options)
    error = np.hypot(stderr[7, :, 0], 0.005)
    assert np.all(np.abs(mean[7, :, 0] - [1.071, -1.400]) < 4.5 * error)
    wrong, _ = grown(shape, TARGETS, sizes, eta0=0.11, **options)
    assert np.any(np.abs(wrong[4, :, 0] - mean[4, :, 0]) > 4.5 * stderr[4, :, 0])


@pytest.mark.slow
def test_activations_on_the_stream_have_the_printed_limits() -> None:
    """GELU of the stream before attention and MLP: pooled squared error, and a language model."""
    shape = replace(RING, stream_activation=Activation.GELU)
    options: dict[str, Any] = {"loss": train.SquaredError(), "gamma0": 1.5}
    mean, stderr = grown(shape, TARGETS, ((32, 1500), (64, 1500)), eta0=0.05, **options)
    gap = np.abs(mean[7, :, 0] - [0.750, -0.936])
    assert np.all(gap < 4.5 * np.hypot(stderr[7, :, 0], 0.009))
    # Without the activation the limit is another one.
    assert np.all(np.abs(mean[7, :, 0] - [0.986, -1.212]) > 0.1)
    words = replace(
        SMALL,
        layers=2,
        tokens=3,
        outputs=3,
        vocabulary=3,
        activation=Activation.GELU,
        stream_activation=Activation.GELU,
    )
    source = data.FullBatch(np.array([[0, 2, 0], [0, 0, 2]]), np.array([[2, 0, 2], [0, 2, 2]]))
    mean, stderr = grown(words, source, ((32, 300), (64, 300)), eta0=0.3)
    gap = np.abs(mean[7, 0, 0] - [0.077, -0.701, 0.620])
    assert np.all(gap < 4.5 * np.hypot(stderr[7, 0, 0], 0.007))
