"""What has no limit or no sense is refused, and what must be said is asked for."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, FULL, X, Y, ring4
from tests.limits.dmft.linear import LINEAR

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    solve,
)
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    LinearAlgebra,
    TrainingDynamics,
)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha_A": 0.4}, "alpha_A: got 0.4; pass a number in"),
        ({"alpha_L": 1.1}, "alpha_L: got 1.1; pass a number in"),
        ({"gamma0": 0.0}, "gamma0: got 0, where the network is linear.*lazy_predictions"),
        ({"gamma0": -1.0}, "gamma0: "),
        ({"head_dim": 0}, "head_dim: got 0"),
        ({"head_dim": 2.5}, "head_dim: got 2.5; pass an integer"),
        ({"layers": -math.inf}, "layers: got -inf"),
        ({"layers": math.nan}, "layers: got nan"),
        ({"mlp": "tanh"}, "mlp: got 'tanh'; pass a member of describe.Activation"),
        ({"norm": "batch"}, 'norm: got \'batch\'; pass "rms", "layer" or None'),
        ({"trained_gains": True}, "trained_gains: .*leave the gains untrained"),
        ({"attention": 1}, "attention: got 1"),
        ({"head_dim": math.inf, "alpha_A": 0.5}, "alpha_A: .*no limit beyond initialisation"),
        ({"layers": math.inf, "alpha_L": 0.5}, "alpha_L: .*only alpha_L = 1 has the depth ODE"),
        ({"eta0": 0.0}, "eta0: "),
        ({"steps": 0}, "steps: got 0"),
        ({"momentum": 1.0}, "momentum: got 1"),
        ({"inputs": X[0]}, r"inputs: has shape \(2, 4\)"),
        ({"inputs": np.full((2, 2, 2), np.nan)}, "inputs: has NaN or infinity in 8 of 8 entries"),
        ({"targets": [1.0, 2.0, 3.0]}, r"targets: has shape \(3,\)"),
        ({"weights": [0.5, -0.5]}, "weights: .*least entry -0.5"),
        ({"weights": np.ones((3, 2))}, r"weights: has shape \(3, 2\)"),
    ],
)
def test_what_has_no_limit_or_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, NoSuchLimitError), match=f"^{message}"):
        ring4(**{**BASE, "head_dim": 2, **change})


@pytest.mark.usefixtures("as_user")
def test_optimisers_conventions_and_traced_values() -> None:
    given: dict[str, Any] = {
        "architecture": Architecture(head_dim=2),
        "inputs": X,
        "targets": Y,
        "steps": 3,
    }
    with pytest.raises(NoSuchLimitError, match=r"^optimizer: got 'adam'"):
        TrainingDynamics(**given, eta0=0.1, optimizer="adam")
    with pytest.raises(ArgumentError, match=r"^lr_convention: got 'other'"):
        TrainingDynamics(**given, eta0=0.1, lr_convention="other")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentTypeError, match=r"^inputs: some values are traced"):
        jax.jit(lambda eta0: TrainingDynamics(**given, eta0=eta0).eta0)(0.1)
    with pytest.raises(ArgumentTypeError, match=r"^architecture: got 3; pass limits.dmft.Arch"):
        TrainingDynamics(**{**given, "architecture": 3}, eta0=0.1)
    with pytest.raises(ArgumentError, match=r"^schedule: .* least entry -1; pass factors of at"):
        TrainingDynamics(**given, eta0=0.1, schedule=[1.0, -1.0, 1.0])
    with pytest.raises(ArgumentError, match=r"^schedule: has shape"):
        TrainingDynamics(**given, eta0=0.1, schedule=[1.0])
    table = TrainingDynamics(
        **{**given, "architecture": Architecture(head_dim=2, gamma0=2.0)},
        eta0=0.4,
        lr_convention="table",
    )
    assert table.rate == pytest.approx(0.1)


@pytest.mark.usefixtures("as_user")
def test_targets_that_can_be_read_in_two_ways_ask_which() -> None:
    given: dict[str, Any] = {"architecture": Architecture(head_dim=2), "steps": 3, "eta0": 0.1}
    both = {**given, "inputs": X, "targets": np.ones((2, 2))}
    with pytest.raises(ArgumentTypeError, match=r"^readout: is missing.* shape \(2, 2\).*pooled"):
        TrainingDynamics(**both)
    assert TrainingDynamics(**both, readout="pooled").targets.shape == (2, 2)
    # One token is its own mean; three outputs are not those of two tokens.
    for inputs, targets in (
        (X[:, :1], np.ones((2, 1))),
        (X, np.ones((2, 3))),
        (X, np.ones((2, 1))),
        (X, Y),
    ):
        for readout in (None, "pooled"):
            TrainingDynamics(**given, inputs=inputs, targets=targets, readout=readout)
        with pytest.raises(NoSuchLimitError, match=r"^readout: got 'token'.*not solved yet"):
            TrainingDynamics(**given, inputs=inputs, targets=targets, readout="token")
    with pytest.raises(ArgumentError, match=r"^readout: got 'mean'; pass \"pooled\""):
        TrainingDynamics(**both, readout="mean")


@pytest.mark.usefixtures("as_user")
def test_methods_keys_and_times() -> None:
    exact, sampled = ring4(**BASE), ring4(**BASE, head_dim=2)
    assert exact.methods == (LinearAlgebra,)
    assert sampled.methods == (CausalSampling,)
    assert ring4(**LINEAR, steps=3, eta0=0.05).methods == (LinearAlgebra, CausalSampling)
    with pytest.raises(ArgumentTypeError, match=r"^key: LinearAlgebra is deterministic"):
        solve(exact, key=jax.random.key(0))
    with pytest.raises(ArgumentTypeError, match=r"^key: CausalSampling draws random numbers"):
        solve(sampled)
    with pytest.raises(ArgumentTypeError, match=r"LinearAlgebra does not solve TrainingDynamics"):
        solve(sampled, LinearAlgebra())
    with pytest.raises(ArgumentError, match=r"^save: every evaluation is kept"):
        solve(exact, save=[0.0, 5.0])
    with pytest.raises(ArgumentError, match=r"^keep_states: is False, and nothing is observed"):
        solve(exact, keep_states=False)
    with pytest.raises(NoSuchLimitError, match="TrainingDynamics has no state to show"):
        solve(exact, observe={"loss": lambda t, state: t})
    with pytest.raises(ArgumentError, match=r"^heads: got 96, where moment matching needs 97"):
        solve(sampled, CausalSampling(heads=96), key=jax.random.key(0))
    full = {**FULL, "attention": False}
    with pytest.raises(ArgumentError, match=r"^neurons: got 64, where moment matching needs 65"):
        solve(ring4(**full), CausalSampling(neurons=64), key=jax.random.key(0))
    for change, message in (
        ({"cells": 6}, "cells: got 6; pass a multiple of 4"),
        ({"omit": ("R_x",)}, "omit: got R_x; known: R_v"),
        ({"populations": 1}, "populations: got 1"),
        ({"precision": "float16"}, "precision: got 'float16'"),
        ({"heads": 0}, "heads: got 0"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            CausalSampling(**change)  # pyright: ignore[reportArgumentType]
