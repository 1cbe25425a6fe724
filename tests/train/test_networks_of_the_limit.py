"""Networks beside the limit of training: every update is that of the theory, to rounding."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.dmft.language import LM12, LM12_NEXT
from tests.limits.dmft.network_with_autodiff import Net

from translimit import data, train
from translimit.core import ArgumentError, named_key
from translimit.describe import Activation, Parameterization, Role, Size, TransformerShape
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
