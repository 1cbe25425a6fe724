"""Particles on both sides: printed figures of trained networks, and networks trained here."""

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RICH, ring4
from tests.limits.dmft.network_with_adam import Net
from tests.limits.dmft.test_populations import ADAM, ATTENTION, KEY, UNIT, networks, rms, zs

from translimit.core import solve
from translimit.describe import Activation
from translimit.limits.dmft import (
    SGD,
    AdamW,
    Architecture,
    CrossEntropy,
    PopulationSampling,
    Sign,
    TrainingDynamics,
)

pytestmark = pytest.mark.slow
TANH: dict[str, Any] = {"mlp": Activation.TANH}
MLP: dict[str, Any] = {**UNIT, "head_dim": 2, "attention": False}
GELU: dict[str, Any] = {"activation_on_stream": Activation.GELU, "optimizer": SGD()}
SIGN: dict[str, Any] = {"optimizer": Sign(), "eta0": 0.05, "steps": 7}
WORDS, NEXT = np.array([[0, 2, 0], [0, 0, 2]]), np.array([[2, 0, 2], [0, 2, 2]])
#: Errors of some runs under sign descent change their sign at the end, which is told as a warning.
CROSSING = pytest.mark.filterwarnings("ignore::translimit.limits.dmft.remarks.SignChangeWarning")
#: Problem, units, populations, evaluation, predictions there and their errors, as printed.
PRINTED: dict[str, tuple[dict[str, Any], int, int, int, tuple[float, float], float]] = {
    "two linear layers": ({**MLP, "mlp": Activation.LINEAR}, 384, 6, 7, (1.052, -1.405), 0.004),
    "tanh": ({**MLP, **TANH, "norm": "rms"}, 384, 6, 7, (1.077, -1.264), 0.003),
    "attention": (ATTENTION, 384, 6, 7, (1.071, -1.400), 0.005),
    "two blocks": (
        {**ATTENTION, **TANH, "layers": 2, "eta0": 0.07},
        720,
        3,
        7,
        (1.113, -1.326),
        0.005,
    ),
    "sign of linear layers": (
        {**MLP, **SIGN, "mlp": Activation.LINEAR},
        384,
        6,
        6,
        (0.842, -0.879),
        0.005,
    ),
    "sign of tanh": (
        {**MLP, **SIGN, **TANH, "norm": "rms", "eta0": 0.1, "steps": 8},
        384,
        6,
        7,
        (1.09, -1.18),
        0.008,
    ),
    "sign of attention": ({**ATTENTION, **SIGN}, 384, 6, 6, (0.852, -0.908), 0.006),
    "gelu on the stream": (
        {**ATTENTION, **TANH, **RICH, **GELU, "eta0": 0.05},
        480,
        4,
        7,
        (0.750, -0.936),
        0.009,
    ),
}


@CROSSING
@pytest.mark.parametrize("name", PRINTED)
def test_printed_figures(name: str) -> None:
    options, units, populations, t, printed, error = PRINTED[name]
    method = PopulationSampling(units=units, populations=populations)
    solution = solve(ring4(**options), method, key=KEY)
    gap = np.abs(solution.predictions[t] - printed)
    assert solution.stderr[t].max() < 0.025
    assert np.all(gap < 5 * np.hypot(solution.stderr[t], error)), (gap, solution.stderr[t])


def words(**options: Any) -> TrainingDynamics:
    """Two sentences of three tokens out of three words."""
    own = {
        name: options.pop(name) for name in list(options) if name in Architecture.__annotations__
    }
    a = Architecture(head_dim=2, norm="rms", causal=True, final_norm=True, **own)
    data = {"token_ids": WORDS, "vocabulary": 3, "targets": NEXT, "loss": CrossEntropy()}
    return TrainingDynamics(architecture=a, steps=8, **data, **options)


def columns() -> np.ndarray:
    """Words that occur, and positions."""
    ids = np.unique(WORDS, return_inverse=True)[1].reshape(WORDS.shape)
    positions = np.broadcast_to(np.eye(3), (2, 3, 3))
    return np.concatenate([np.eye(2)[ids], positions], axis=-1)


def test_a_language_model_under_adam() -> None:
    problem = words(**TANH, beta0=1.0, gamma0=1.0, eta0=0.1, optimizer=ADAM)
    solution = solve(problem, PopulationSampling(units=540, populations=4), key=KEY)
    gap = np.abs(solution.predictions[7, 0, 0] - [0.149, -0.785, 0.629])
    assert np.all(gap < 5 * np.hypot(solution.stderr[7, 0, 0], 0.008))
    given = {"N": 2, "outputs": 3, "mlp": "tanh", "causal": True, "tokens": True}
    runs = networks(((32, 300), (64, 150)), phi=columns(), y=NEXT, **given)
    assert rms(zs(runs, solution)) < 2
    assert np.isnan(solution.ntk).all()


def test_gelu_on_the_stream_of_a_language_model() -> None:
    options = {"mlp": Activation.GELU, "activation_on_stream": Activation.GELU, "layers": 2}
    problem = words(**options, beta0=1.5, gamma0=1.0, eta0=0.3)
    solution = solve(problem, PopulationSampling(units=900, populations=2), key=KEY)
    gap = np.abs(solution.predictions[7, 0, 0] - [0.077, -0.701, 0.620])
    assert np.all(gap < 5 * np.hypot(solution.stderr[7, 0, 0], 0.007))


@CROSSING
@pytest.mark.parametrize("name", ["decay", "sign", "gelu", "momentless"])
def test_networks_approach_it_and_refute_what_is_wrong(name: str) -> None:
    here: dict[str, Any] = {
        "decay": {"optimizer": AdamW(0.5, 0.8, 0.05, weight_decay=1.0)},
        "sign": SIGN,
        "gelu": {**GELU, **RICH, **TANH, "eta0": 0.05, "steps": 6},
        # Near its targets this is nearly sign descent: an epsilon of the size of its gradients.
        "momentless": {"optimizer": AdamW(0.0, 0.0, 0.3, weight_decay=0.0)},
    }[name]
    there: dict[str, Any] = {
        "decay": {"decay": 1.0},
        "sign": {"update": "sign", "eta0": 0.05, "steps": 7},
        "gelu": {"update": "sgd", "activation": "gelu", "mlp": "tanh", **RICH, "eta0": 0.05},
        "momentless": {"b1": 0.0, "b2": 0.0, "eps": 0.3},
    }[name]
    if name == "gelu":
        there["steps"] = 6
    options = {**ATTENTION, **here}
    method = PopulationSampling(units=384, populations=6)
    solution = solve(ring4(**options), method, key=KEY)
    sizes = ((48, 400), (96, 200)) if name == "sign" else ((32, 400), (64, 200))
    runs = networks(sizes, N=2, **there)
    assert rms(zs(runs, solution)) < 2
    faster = solve(ring4(**{**options, "eta0": 1.25 * options["eta0"]}), method, key=KEY)
    assert rms(zs(runs, faster)) > 3
    if name == "decay":
        plain = solve(ring4(**ATTENTION), method, key=KEY)
        assert rms(zs(runs, plain)) > 3
    if name == "gelu":
        bare = {**options, "activation_on_stream": None}
        assert rms(zs(runs, solve(ring4(**bare), method, key=KEY))) > 3


def test_layer_norm_is_another_limit_with_gelu_on_the_stream() -> None:
    options: dict[str, Any] = {**ATTENTION, **GELU, **TANH, "beta0": 2.0, "gamma0": 2.0}
    options |= {"eta0": 0.06, "steps": 4, "targets": np.array([1.5, 1.5])}
    method = PopulationSampling(units=512, populations=6)
    f = {
        norm: solve(ring4(**{**options, "norm": norm}), method, key=KEY).predictions
        for norm in ("rms", "layer")
    }
    # Printed, of networks with 96 heads: .026 +- .007 and .033 +- .004.
    gap = (f["rms"] - f["layer"]).mean(axis=1)
    np.testing.assert_allclose(gap[2:], [0.026, 0.033], atol=0.012)
    odd = {**options, "activation_on_stream": Activation.TANH}
    f = {
        norm: solve(ring4(**{**odd, "norm": norm}), method, key=KEY).predictions
        for norm in ("rms", "layer")
    }
    assert np.abs(f["rms"] - f["layer"]).max() < 0.012


def test_matched_innovations_are_what_makes_it_a_solver() -> None:
    # M mse(f) of single runs: as noisy as a network without, and 25 to 50 times less with them.
    problem = ring4(**ATTENTION)
    spread = {}
    for matched in (True, False):
        method = PopulationSampling(units=256, populations=6, moment_matching=matched)
        spread[matched] = 6 * np.mean(solve(problem, method, key=KEY).stderr ** 2)
    assert spread[False] > 8 * spread[True]


def test_net_is_the_network_of_the_other_oracle() -> None:
    # Gradient descent of this network and of the field-level one, from the same weights.
    from tests.limits.dmft.network import RING4_Y, Network
    from tests.limits.dmft.test_populations import PHI

    one = Net(N=2, H=3, mlp="tanh", norm="rms", update="sgd", beta0=1.5, eta0=0.1)
    other = Network(N=2, H=3, mlp="tanh", norm="rms", beta0=1.5, gamma0=1.0, eta0=0.1)
    params = one.start(jax.random.key(1), 4)
    slopes = jax.grad(one.loss, has_aux=True)(params, PHI, RING4_Y)[0]
    moved, _ = one.step(params, dict.fromkeys(params, (0.0, 0.0)), slopes, 0)
    named = {"E": "E", "w": "w"} | {f"0{z}": f"{z}0" for z in "KQVO12"}
    theirs = {ours: np.asarray(params[name])[None] for ours, name in named.items()}
    theirs["w"] = theirs["w"].swapaxes(1, 2)
    fields = other.forward(theirs, 2 * PHI)
    change = other.increments(theirs, fields, 2 * PHI, (RING4_Y - fields["f"]) / 2)
    for ours, name in named.items():
        want = change[ours][0].T if ours == "w" else change[ours][0]
        np.testing.assert_allclose(moved[name] - params[name], want, atol=2e-6)
