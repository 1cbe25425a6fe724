"""Finite networks beside the training limit, for `benchmarks/dmft.py`: two inputs of two tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from translimit import data, describe, scaling, train
from translimit.limits.dmft import TrainingDynamics


def timed(function: Any) -> tuple[tuple[float, float], Any]:
    """Wall and processor seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def network_errors(
    training: TrainingDynamics, heads: int, limit: np.ndarray, steps: int, seeds: int = 32
) -> dict[str, float]:
    """Root mean square error of single networks, and processor seconds of each, in a batch."""
    go, _ = trained_networks(training, heads, steps, seeds)
    go()
    (_, cpu), history = timed(go)
    f = np.moveaxis(history["predictions"][:, :, 0, :, 0], 0, 1)
    error = float(np.sqrt(np.mean((f - limit) ** 2)))
    return {"heads": heads, "cpu_s": cpu / seeds, "rms_error": error}


def trained_networks(
    training: TrainingDynamics, heads: int, steps: int, seeds: int
) -> tuple[Callable[[], Any], int]:
    """What trains a batch of networks of a problem with two inputs of two tokens."""
    a = training.architecture
    shape = describe.TransformerShape(
        head_dim=2,
        heads=heads,
        layers=1,
        tokens=2,
        outputs=1,
        patch_dim=32,
        mlp_ratio=0.0,
        norm=None,
        gains=False,
        biases=False,
        positions=None,
    )
    numbers = scaling.paper_parameterization(
        shape.size, beta0=a.beta0, gamma0=a.gamma0, eta0=training.eta0, pixels=32
    )
    run = train.Training(
        steps=steps,
        rates=(1.0,),
        seeds=seeds,
        batch=2,
        optimizer=train.Optimizer(name="sgd"),
        loss="mse",
    )
    assert training.inputs is not None  # patches, no words
    source = data.Examples(training.inputs, training.targets[:, None])

    def go() -> Any:
        return train.train(
            shape,
            numbers,
            source,
            run,
            key=jax.random.key(3),
            observe=(train.Predictions(),),
            observe_at=tuple(range(steps + 1)),
            probe=2,
        )

    return go, seeds
