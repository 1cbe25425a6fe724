"""Particles on both sides: Adam, sign descent and activations on the stream.

Printed figures, quadrature, the other methods, and trained networks by automatic differentiation;
wrong rates and theories without a response are refuted.
"""

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RICH, X, Y, ring4
from tests.limits.dmft.network import extrapolated
from tests.limits.dmft.network_with_adam import Net, two_layer_linear

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    MemoryLimitError,
    NoSuchLimitError,
    solve,
)
from translimit.describe import Activation
from translimit.limits.dmft import (
    SGD,
    Adam,
    AdamW,
    Architecture,
    CausalSampling,
    CrossEntropy,
    LinearAlgebra,
    PopulationSampling,
    Sign,
    SignChangeWarning,
    TrainingDynamics,
)

KEY = jax.random.key(0)
ADAM = Adam(0.5, 0.8, 0.05)
UNIT: dict[str, Any] = {"steps": 8, "eta0": 0.1, "beta0": 1.0, "gamma0": 1.0, "optimizer": ADAM}
ATTENTION: dict[str, Any] = {**UNIT, "head_dim": 2, "norm": "rms"}
#: Columns of the embedding of ring4.
PHI = X / X.shape[2] ** 0.5


def zs(runs: Any, solution: Any, f: Any = None) -> np.ndarray:
    """Of the extrapolated networks against predictions of the limit, without the start."""
    value, stderr = extrapolated(*(np.asarray(run) for run in runs))
    f = solution.predictions if f is None else f
    shape = value.shape
    both = np.hypot(stderr, np.asarray(solution.stderr).reshape(shape))
    return ((value - f.reshape(shape)) / both)[1:]


def rms(z: np.ndarray) -> float:
    return float(np.sqrt(np.mean(z**2)))


def networks(sizes: Any, *, phi: Any = PHI, y: Any = None, **options: Any) -> list[Any]:
    """Outputs of networks of two sizes (heads, seeds)."""
    y = Y[:, None] if y is None else y
    steps = options.pop("steps", 8)
    return [
        Net(H=H, **options).train(jax.random.key(H), phi, y, steps=steps, seeds=seeds)
        for H, seeds in sizes
    ]


def test_adam_of_attention_against_networks_and_wrong_theories() -> None:
    method = PopulationSampling(units=256, populations=4)
    solution = solve(ring4(**ATTENTION), method, key=KEY)
    np.testing.assert_array_less(
        np.abs(solution.predictions[7] - [1.071, -1.400]), 4.5 * np.hypot(solution.stderr[7], 0.005)
    )
    runs = networks(((16, 400), (32, 200)), N=2)
    assert rms(zs(runs, solution)) < 2
    # A rate of 1.1 instead of 1, and a theory without responses, with the same random numbers.
    faster = solve(ring4(**{**ATTENTION, "eta0": 0.11}), method, key=KEY)
    assert rms(zs(runs, faster)) > 4
    without = PopulationSampling(units=256, populations=8, omit=("R_v", "R_h", "R_p", "R_g"))
    wrong = solve(ring4(**ATTENTION), without, key=KEY)
    change = np.sqrt(np.mean((wrong.predictions - solution.predictions) ** 2))
    assert change == pytest.approx(0.28, rel=0.25)
    assert rms(zs(runs, wrong)) > 4


@pytest.mark.parametrize(
    ("b1", "b2", "eps", "stated", "printed"),
    [
        (0.0, 0.0, 0.3, 1e-4, [(0.08456, 0.00514), (0.37502, -0.01980), (0.59720, -0.10624)]),
        (0.5, 0.8, 0.05, 1.5e-3, [(0.1301, -0.0004), (0.5786, -0.0915), (0.8661, -0.3308)]),
    ],
)
def test_c10_two_linear_layers_by_quadrature(
    b1: float, b2: float, eps: float, stated: float, printed: Any
) -> None:
    phi, y = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([1.0, -0.5])
    numbers = {"b1": b1, "b2": b2, "eps": eps}
    exact = two_layer_linear(phi, y, eta0=0.1, steps=10, **numbers)
    np.testing.assert_allclose(exact[[1, 5, 9]], printed, atol=stated)
    problem = TrainingDynamics(
        architecture=Architecture(head_dim=1, attention=False),
        inputs=np.sqrt(2) * phi[:, None],
        targets=y,
        steps=10,
        eta0=0.1,
        optimizer=Adam(**numbers),
    )
    solution = solve(problem, PopulationSampling(units=40_000, populations=6), key=KEY)
    assert solution.stderr.max() < 2e-3
    gap = np.abs(solution.predictions - exact)
    assert np.all(gap < 4.5 * np.hypot(solution.stderr, stated) + 1e-12)
    # Without the bias corrections of the moments f(1) is another number.
    assert np.abs(0.5 * exact[1] - exact[1]).max() > 20 * solution.stderr[1].max()


def test_gradient_descent_is_that_of_the_other_methods() -> None:
    options: dict[str, Any] = {**RICH, "norm": "rms", "steps": 8, "eta0": 0.05, "momentum": 0.3}
    problem = ring4(**options, head_dim=2, score_gain_rate=4.0, qk_norm="rms", causal=True)
    assert problem.methods == (CausalSampling, PopulationSampling)
    assert isinstance(problem.default_method(), CausalSampling)
    one = solve(problem, CausalSampling(heads=1000, populations=4), key=KEY)
    other = solve(problem, PopulationSampling(units=256, populations=6), key=KEY)
    stderr = np.hypot(one.stderr, other.stderr)[1:]
    z = (other.predictions - one.predictions)[1:] / stderr
    assert stderr.max() < 0.02
    assert rms(z) < 2.5
    ntk = [solution.ntk.mean(axis=0) for solution in (other, one)]
    np.testing.assert_allclose(*ntk, rtol=0.1, atol=0.3)
    np.testing.assert_allclose(other.score_gain, one.score_gain, atol=5e-3)
    for name in ("kernel", "gradient_kernel"):
        ours, theirs = getattr(other, name)(1), getattr(one, name)(1)
        scale = np.sqrt(np.mean(theirs**2))
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.03 * scale
    np.testing.assert_allclose(other.stream_motion()[0], one.stream_motion()[0], rtol=0.1)
    spread = [law.score_law(0).quantiles((0.1, 0.9))[:, 7, 0, 1, 0] for law in (one, other)]
    np.testing.assert_allclose(*spread, atol=0.12)
    assert other.to_xarray()["predictions"].shape == (8, 2)
    assert other.plot().get_xlabel()


def test_same_seed_same_bits_and_what_a_solve_tells() -> None:
    problem = ring4(**ATTENTION)
    method = PopulationSampling(units=256, populations=2)
    first, again = (solve(problem, method, key=KEY) for _ in range(2))
    assert first.predictions.tobytes() == again.predictions.tobytes()
    assert first.samples == 2
    assert 0 < first.discretisation < 0.2
    assert np.isnan(first.edge_ratio).all()  # that of gradient descent
    assert np.isfinite(first.sharpness).all()
    with pytest.raises(ArgumentError, match=r"^layer: PopulationSampling forms no responses"):
        first.responses(0)
    cost = problem.cost(method)
    assert cost.units == 256
    assert cost.innovations == {"stream": 4 + 1 + 4 * 32, "heads": 4 * 32}
    assert cost.bytes == problem.memory(method)
    assert problem.cost().units == 2 * (4 + 1 + 4 * 32)
    larger = problem.cost(PopulationSampling(units=1024, populations=2))
    assert larger.bytes > 9 * cost.bytes
    assert larger.seconds > cost.seconds


def test_sign_descent_warns_where_errors_change_sign() -> None:
    options = {**UNIT, "attention": False, "optimizer": Sign(), "eta0": 0.3}
    with pytest.warns(SignChangeWarning, match=r"evaluation \d+: sign descent is discontinuous"):
        solve(ring4(**options), PopulationSampling(units=2000, populations=2), key=KEY)


@pytest.mark.usefixtures("as_user")
def test_too_few_units_are_refused_with_the_number_that_is_enough() -> None:
    few = PopulationSampling(units=32, populations=2)
    with pytest.raises(ArgumentError, match=r"^units: got 32 with \d+ innov.*take 266 units"):
        solve(ring4(**ATTENTION), few, key=KEY)
    with pytest.raises(ArgumentError, match=r"^units: got 33 with head_dim 2; .*like 34"):
        solve(ring4(**ATTENTION), PopulationSampling(units=33), key=KEY)
    with pytest.raises(MemoryLimitError, match=r"^units: particles need about"):
        solve(ring4(**ATTENTION), PopulationSampling(units=2**20), key=KEY)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": np.inf}, r"optimizer: is Adam\(b1=0.5.* infinite head_dim: .*from head to"),
        ({"layers": np.inf}, r"optimizer: is Adam.* infinite layers"),
        ({"alpha_A": 0.75}, "alpha_A: is 0.75 under Adam.* only alpha_A = 1 was verified"),
        ({"layers": 2, "alpha_L": 0.5}, "alpha_L: is 0.5 under Adam"),
        ({"score_gain_rate": 1.0}, "score_gain_rate: is 1 under"),
        ({"mlp": Activation.TANH, "mlp_ratio": 2.0}, "mlp_ratio: is 2 under"),
        ({"trained_gains": True}, "trained_gains: "),
        ({"momentum": 0.5}, "momentum: got 0.5 beside Adam.*Adam has b1"),
        ({"optimizer": "adam"}, r"optimizer: got 'adam'; pass SGD\(\), Adam\(\)"),
        ({"optimizer": Adam}, "optimizer: got "),
        (
            {"optimizer": SGD(), "activation_on_stream": Activation.GELU, "head_dim": np.inf},
            "activation_on_stream: is .* infinite head_dim: coordinates of the stream",
        ),
        ({"activation_on_stream": "gelu"}, "activation_on_stream: got 'gelu'; pass a member"),
    ],
)
def test_what_was_not_verified_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError, NoSuchLimitError), match=f"^{message}"):
        ring4(**{**ATTENTION, **change})


@pytest.mark.usefixtures("as_user")
def test_numbers_of_optimisers_methods_and_conventions() -> None:
    for make, message in (
        (lambda: Adam(eps=0.0), "eps: got 0"),
        (lambda: Adam(b1=1.0), "b1: got 1"),
        (lambda: AdamW(weight_decay=-1.0), "weight_decay: got -1"),
        (lambda: Sign(weight_decay=-1.0), "weight_decay: got -1"),
        (lambda: PopulationSampling(tolerance=0.0), "tolerance: got 0"),
        (lambda: PopulationSampling(omit=("R",)), "omit: got R; known: R_v"),
        (lambda: PopulationSampling(populations=1), "populations: got 1"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            make()
    with pytest.raises(ArgumentTypeError, match=r"^method: CausalSampling does not solve"):
        solve(ring4(**ATTENTION), CausalSampling(), key=KEY)
    with pytest.raises(ArgumentTypeError, match=r"^method: got LinearAlgebra; pass Population"):
        ring4(**ATTENTION).cost(LinearAlgebra())  # pyright: ignore[reportArgumentType]
    tokens = {"token_ids": [[0, 1]], "vocabulary": 2, "targets": [[1, 0]], "steps": 3}
    tied = {**tokens, "loss": CrossEntropy(), "tied": True, "eta0": 0.1}
    with pytest.raises(NoSuchLimitError, match=r"^tied: is True under AdamW"):
        TrainingDynamics(architecture=Architecture(head_dim=2), optimizer=AdamW(), **tied)
    given: dict[str, Any] = {"inputs": X, "targets": Y, "steps": 3, "eta0": 0.1}
    given |= {"architecture": Architecture(head_dim=2, gamma0=2.0), "optimizer": ADAM}
    assert TrainingDynamics(**given).rate == 0.1
    assert TrainingDynamics(**given, lr_convention="gamma0").rate == 0.2
    with pytest.raises(ArgumentError, match=r"^lr_convention: got 'gamma0_squared' under Adam"):
        TrainingDynamics(**given, lr_convention="gamma0_squared")


def test_stream_activations_are_for_particles_alone() -> None:
    problem = ring4(**{**ATTENTION, "optimizer": SGD()}, activation_on_stream=Activation.GELU)
    assert problem.methods == (PopulationSampling,)
