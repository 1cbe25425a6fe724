"""Drift and noise together, against chains of drawn heads, and its three special cases."""

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Retraction
from translimit.describe import FiniteHeads, ShiftedHeads, WideHeads
from translimit.limits.homogenized import ModifiedFlow, ModifiedSDE, SphereEuler
from translimit.models import RandomHeadChain

ROWS = np.array([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4], [-0.2, 0.1, 1.0]])
X = (ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)).astype(np.float32)
MEAN = np.array([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.0, 0.4, 0.6]])
OTHER = np.array([[1.2, -0.6, 0.2], [0.4, 0.9, -0.8], [-0.7, 0.5, 1.1]])
TURN = np.array([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.3], [0.0, 0.2, -1.0]])
#: Two heads far apart: a mean effect, and noise whose covariance is no multiple of the identity.
LAW = FiniteHeads(V=np.stack([MEAN + OTHER, MEAN - OTHER]), A=np.stack([np.eye(3), TURN]), beta=1.0)
PATHS = 10_000


def mean_overlaps(tokens: np.ndarray) -> np.ndarray:
    return ((tokens.astype(float).sum(axis=-2) ** 2).sum(axis=-1) - 3) / 6


def at_time_one(step: float, retraction: Retraction, method: Retraction, seed: int = 1):
    problem = ModifiedSDE(law=LAW, initial=X, t1=1.0, step=step, heads=1, retraction=retraction)
    euler = SphereEuler(max_step=0.05, paths=PATHS, retraction=method)
    solution = solve(problem, euler, key=jax.random.key(seed), save=[1.0])
    return mean_overlaps(solution.tokens[:, 0])


def chain(step: float, retraction: Retraction = Retraction.AMBIENT) -> np.ndarray:
    one = RandomHeadChain(
        law=LAW, step=step, heads=1, layers=round(1 / step), retraction=retraction
    )
    return mean_overlaps(one.simulate(X, replicas=PATHS, key=jax.random.key(0)).tokens[:, -1])


def gap(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Difference of the means, and its standard error."""
    return abs(one.mean() - other.mean()), np.hypot(one.std(), other.std()) / PATHS**0.5


@pytest.fixture(scope="module")
def chains() -> dict[float, np.ndarray]:
    return {step: chain(step) for step in (0.2, 0.1)}


def test_means_of_the_chain_to_second_order(chains):
    """alpha of the order of the step: halving it leaves a quarter of the gap (less than .4 of it).

    Standard errors are .0014 and .0012; the equation as printed leaves more than a half.
    """
    ambient = Retraction.AMBIENT
    gaps = [gap(chains[step], at_time_one(step, ambient, ambient)) for step in (0.2, 0.1)]
    assert gaps[1][0] < 0.4 * gaps[0][0] + 4.5 * np.hypot(0.4 * gaps[0][1], gaps[1][1])
    assert gaps[1][0] < 0.1**2 + 4.5 * gaps[1][1]
    # As printed: the drift and noise of the tangent chain. One step suffices to see it.
    printed = gap(chains[0.1], at_time_one(0.1, Retraction.TANGENT, ambient))
    assert printed[0] > 0.1**2 + 4.5 * printed[1]


def test_an_explicit_noise_drift_is_what_ambient_steps_supply():
    """The same equation by tangent steps with c and by ambient steps without: 4.5 s.e. + .003.

    The noise drift moves the mean overlap by far more.
    """
    step = 0.2
    ambient = at_time_one(step, Retraction.AMBIENT, Retraction.AMBIENT)
    tangent = at_time_one(step, Retraction.AMBIENT, Retraction.TANGENT, seed=2)
    difference, stderr = gap(ambient, tangent)
    assert difference < 4.5 * stderr + 3e-3


@pytest.mark.slow
def test_the_printed_equation_is_right_for_the_tangent_chain():
    gaps = []
    for step in (0.2, 0.1):
        limit = at_time_one(step, Retraction.TANGENT, Retraction.TANGENT)
        gaps.append(gap(chain(step, Retraction.TANGENT), limit))
    assert gaps[1][0] < 0.4 * gaps[0][0] + 4.5 * np.hypot(0.4 * gaps[0][1], gaps[1][1])


@pytest.mark.slow
def test_strong_noise_beside_a_drift():
    """alpha = 1, sigma_v^2 = heads / (step (dim - 1)): a gap of O(step), below half a step.

    20 000 paths, a standard error of .0034; the drift alone is off by .04, the noise alone by .35.
    """
    step, paths = 0.02, 20_000
    sigma_v = (1 / (2 * step)) ** 0.5
    method = SphereEuler(max_step=0.02, paths=paths)
    limits = {}
    for name, mean in (("both", MEAN), ("noise", 0 * MEAN)):
        law = ShiftedHeads(mean_v=mean, mean_a=np.eye(3), beta=1.0, sigma_v=sigma_v)
        problem = ModifiedSDE(law=law, initial=X, t1=1.0, step=step, heads=1)
        limits[name] = solve(problem, method, key=jax.random.key(3), save=[1.0])
    law = ShiftedHeads(mean_v=MEAN, mean_a=np.eye(3), beta=1.0, sigma_v=sigma_v)
    one = RandomHeadChain(law=law, step=step, heads=1, layers=50)
    finite = mean_overlaps(one.simulate(X, replicas=paths, key=jax.random.key(4)).tokens[:, -1])
    both, noise = (mean_overlaps(limits[name].tokens[:, 0]) for name in ("both", "noise"))
    allowed = step / 2 + 4.5 * np.hypot(finite.std(), both.std()) / paths**0.5
    assert abs(finite.mean() - both.mean()) < allowed
    assert both.std() == pytest.approx(finite.std(), rel=0.05)
    assert float(limits["both"].network.diffusive_time[-1]) == pytest.approx(1.5)
    flow = solve(ModifiedFlow(law=law, initial=X, t1=1.0, step=step), save=[1.0])
    assert abs(mean_overlaps(flow.tokens)[0] - finite.mean()) > allowed
    assert abs(noise.mean() - finite.mean()) > 0.3


def test_without_noise_it_is_the_modified_flow():
    law = ShiftedHeads(mean_v=MEAN, mean_a=np.eye(3), beta=1.0)
    options = {"law": law, "initial": X.astype(float), "t1": 1.0, "step": 0.1, "normalize": True}
    exact = solve(ModifiedFlow(**options), save=[1.0]).tokens[0]
    method = SphereEuler(max_step=0.05, paths=2)
    found = solve(ModifiedSDE(**options, heads=2), method, key=jax.random.key(0), save=[1.0])
    gap = np.abs(found.tokens[:, 0] - exact).max()
    assert gap < 2e-4  # the midpoint rule at half steps of 0.025
    assert np.abs(found.overlaps - exact @ exact.T).max() < found.discretisation


def test_without_a_mean_it_has_the_law_of_common_noise():
    """Two orthogonal tokens without scores: E R and E R^2 at tau = 1 by the backward equation."""
    law = WideHeads(dim=6, score_std=0.0)
    start = np.eye(2, 6, dtype=np.float32)
    # Step 1/2 and 2 heads: an eighth of diffusive time a layer, a quarter per unit of paper time.
    problem = ModifiedSDE(law=law, initial=start, t1=4.0, step=0.5, heads=2)
    method = SphereEuler(max_step=0.25, paths=PATHS)
    found = solve(problem, method, key=jax.random.key(5), save=[4.0])
    R = found.overlaps[:, 0, 0, 1].astype(float)
    for power, exact in ((1, 0.29143), (2, 0.20240)):
        values = R**power
        # The step error of the noise alone: STEP_ERROR of a diffusive step of 1/16.
        assert abs(values.mean() - exact) < 4.5 * values.std() / PATHS**0.5 + 0.08 / 16
    assert float(found.network.diffusive_time[-1]) == pytest.approx(1.0)
    assert found.network.layers[-1] == pytest.approx(8.0)
    data = found.to_xarray()
    assert {"layer", "diffusive_time", "slow_time"} < set(data.coords)
    assert data["time"].attrs["units"] == "paper time"
    assert "paper" in found.plot().get_xlabel()


@pytest.mark.usefixtures("as_user")
def test_refusals():
    random = ShiftedHeads(mean_v=MEAN, mean_a=np.eye(3), beta=1.0, sigma_a=1.0)
    good = {"law": LAW, "initial": X, "t1": 1.0, "step": 0.1, "heads": 1}
    for changes, error, argument in (
        ({"law": random}, ArgumentTypeError, "law"),
        ({"heads": 0}, ArgumentError, "heads"),
        ({"step": -0.1}, ArgumentError, "step"),
        ({"initial": 2 * X}, ArgumentError, "initial"),
        ({"retraction": "ambient"}, ArgumentTypeError, "retraction"),
    ):
        with pytest.raises(error) as caught:
            ModifiedSDE(**(good | changes))
        assert caught.value.argument == argument
