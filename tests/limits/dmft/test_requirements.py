"""What has no limit or no sense is refused, and what must be said is asked for."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, X, Y, ring4
from tests.limits.dmft.language import LM12, LM12_NEXT, lm12
from tests.limits.dmft.linear import LINEAR

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    NoSuchLimitError,
    solve,
)
from translimit.limits.dmft import (
    Adam,
    Architecture,
    CausalSampling,
    CrossEntropy,
    FrozenScoresWarning,
    Huber,
    LinearAlgebra,
    Logistic,
    PopulationSampling,
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
    with pytest.raises(ArgumentTypeError, match=r"^optimizer: got 'adam'; pass SGD"):
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
        if targets.shape != (len(inputs), inputs.shape[1]):
            with pytest.raises(ArgumentError, match=r"^targets: has shape.*pass \[2, "):
                TrainingDynamics(**given, inputs=inputs, targets=targets, readout="token")
    assert TrainingDynamics(**both, readout="token").weights.shape == (3, 2, 2)
    # Three axes can be read in one way.
    three = TrainingDynamics(**{**both, "targets": np.ones((2, 2, 3))})
    assert three.readout == "token"
    with pytest.raises(ArgumentError, match=r"^readout: got 'mean'; pass \"pooled\" or"):
        TrainingDynamics(**both, readout="mean")


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "cross_entropy"}, "loss: got 'cross_entropy'; pass SquaredError"),
        ({"loss": CrossEntropy}, "loss: got .*CrossEntropy"),
        ({"targets": LM12_NEXT * 1.0}, "targets: are float64, not integers"),
        ({"targets": LM12_NEXT + 1}, "targets: go from 2 to 4 where there are 4 classes"),
        ({"targets": LM12_NEXT - 3}, "targets: go from -2 to 0"),
        ({"targets": LM12_NEXT * 0 - 1}, "targets: go from -1 to -1"),
        ({"targets": [0, 1, 2], "readout": "token"}, r"targets: has shape \(3,\); pass \[3, 4\]"),
        ({"readout": "pooled"}, r"targets: has shape \(3, 4\); pass \[3\]"),
        ({"weights": np.ones(3)}, r"weights: has shape \(3,\)"),
        ({"vocabulary": None}, "vocabulary: is missing beside token_ids"),
        ({"vocabulary": 3}, "token_ids: go from 1 to 3 in a vocabulary of 3"),
        ({"token_ids": LM12 * 1.0}, "token_ids: are float64"),
        ({"inputs": X}, "inputs: and token_ids are both given"),
        ({"token_ids": None}, "inputs: and token_ids are both missing"),
        ({"position_std": -1.0}, "position_std: "),
        ({"readout_std": -1.0}, "readout_std: "),
        ({"tied": True, "readout_std": 0.5}, "readout_std: got 0.5 for a tied readout"),
        ({"tied": True, "classes": 5}, "tied: has 5 outputs for a vocabulary of 4"),
        ({"tied": True, "token_ids": None, "inputs": np.ones((3, 4, 2))}, "tied: is True without"),
        ({"classes": 1}, "classes: got 1"),
        ({"head_dim": 1, "qk_norm": "rms"}, "qk_norm: with one coordinate"),
        ({"qk_norm": "l2"}, "qk_norm: got 'l2'"),
        ({"score_gain": 0.0}, "score_gain: got 0"),
        ({"score_gain_rate": -1.0}, "score_gain_rate: "),
        ({"mlp_ratio": 0.0}, "mlp_ratio: "),
        ({"rotary": 1e4, "head_dim": math.inf}, "rotary: is not solved with infinite head_dim"),
        ({"rotary": 1e4, "head_dim": 3}, "rotary: turns pairs, and head_dim is 3"),
        ({"queries_per_key": 0}, "queries_per_key: got 0"),
        ({"queries_per_key": 2, "head_dim": math.inf}, "queries_per_key: is 2 with infinite"),
        ({"queries_per_key": 2, "optimizer": Adam()}, "queries_per_key: is 2 where optimizer is"),
        ({"head_dim": math.inf, "alpha_A": 0.5, "qk_norm": "rms"}, "alpha_A: .*no limit beyond"),
    ],
)
def test_losses_tokens_and_heads(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, NoSuchLimitError), match=f"^{message}"):
        lm12(**{"eta0": 0.5, "head_dim": 2, **change})


@pytest.mark.usefixtures("as_user")
def test_numbers_of_losses_and_what_has_no_classes(base: Any) -> None:
    for make, message in (
        (lambda: CrossEntropy(smoothing=1.0), "smoothing: got 1"),
        (lambda: CrossEntropy(temperature=0.0), "temperature: got 0"),
        (lambda: Logistic(temperature=-1.0), "temperature: got -1"),
        (lambda: Huber(0.0), "delta: got 0"),
        (lambda: ring4(**BASE, targets=[1.0, 0.5], loss=Logistic()), "targets: are not all -1"),
        (lambda: base.accuracy, "loss: is SquaredError.*knows no classes"),
        (lambda: base.loss_by_position, 'readout: is pooled.*solve with readout="token"'),
        (lambda: base.plot_positions("loss"), "name: got 'loss'; pass loss_by_position or"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            make()
    with pytest.warns(FrozenScoresWarning, match=r"^qk_norm='layer' over two coordinates"):
        Architecture(head_dim=2, qk_norm="layer")


@pytest.mark.usefixtures("as_user")
def test_methods_keys_and_times() -> None:
    exact, sampled = ring4(**BASE), ring4(**BASE, head_dim=2)
    assert exact.methods == (LinearAlgebra,)
    assert sampled.methods == (CausalSampling, PopulationSampling)
    linear = ring4(**LINEAR, steps=3, eta0=0.05)
    assert linear.methods == (LinearAlgebra, CausalSampling, PopulationSampling)
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
    with pytest.raises(ArgumentError, match=r"^heads: got 12, where .* directions after . of 12"):
        solve(sampled, CausalSampling(heads=12), key=jax.random.key(0))
    for change, message in (
        ({"cells": 6}, "cells: got 6; pass a multiple of 4"),
        ({"omit": ("R_x",)}, "omit: got R_x; known: R_v"),
        ({"populations": 1}, "populations: got 1"),
        ({"precision": "float16"}, "precision: got 'float16'"),
        ({"heads": 0}, "heads: got 0"),
        ({"tol": 0.0}, "tol: got 0"),
        ({"tol": 1e-10, "precision": "float32"}, "tol: got 1e-10, below what populations in float"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            CausalSampling(**change)  # pyright: ignore[reportArgumentType]
