"""Networks of growing size approach the limits that the solver finds, or that are printed."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import X, Y
from tests.limits.dmft.language import LM12, LM12_NEXT, lm12, sin6
from tests.limits.dmft.network import extrapolated
from tests.train.test_networks_of_the_limit import KEY, LANGUAGE

from translimit import data, limits, train
from translimit.core import solve
from translimit.describe import Activation, TransformerShape
from translimit.limits.dmft import CausalSampling
from translimit.scaling import limit_parameterization


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
    if name == "tied":  # readouts are not independent, and the start has no kernel of one output
        return
    # Features that do not move are another theory, and are seen to be.
    lazy = limits.dmft.lazy_predictions(
        solution.ntk[0],
        LM12_NEXT.reshape(-1),
        steps=8,
        eta0=options.get("eta0", 0.5),
        loss=limits.dmft.CrossEntropy(),
        classes=4,
    )
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
