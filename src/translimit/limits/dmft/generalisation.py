r"""Networks of finite size around their limit: what a loss gains, single and averaged.

With f_H = f + b / H + xi / sqrt(H) in the number of heads H, E xi xi^T = v, the error
Delta = -dL/df and the second derivative J of the loss l of a row, at the limit f,

    E L[f_H] - L[f] = (-sum_r Delta_r . b_r + sum_r w_r tr(J_r v_rr) / 2) / H + O(1 / H^2),

and for the mean of the outputs of k networks v becomes v / k. The bias stays: an ensemble of k
networks is not one network of k times the width.

At the start v is the readout's: given the features phi, outputs are Gaussian,

    v(0) = sigma_w^2 <phi_r phi_s> / (gamma_0^2 N)  for each output,

and at small gamma_0 what training makes of it, delta f(t + 1) = (1 - eta_0 K w J) delta f(t), is
all of v to leading order in 1 / gamma_0.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput, NoSuchLimitError, as_float64, require_count
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.training import TrainingDynamics


@dataclass(frozen=True)
class FiniteSize:
    """How outputs of networks of one size lie around the limit.

    Attributes:
        bias: b = H (E f_H - f).
        bias_stderr: its standard error over networks and the populations of the limit.
        covariance: v = H Cov f_H between the outputs of each row.
        networks: how many it was taken from.
    """

    bias: Float[np.ndarray, "steps rows outputs"]
    bias_stderr: Float[np.ndarray, "steps rows outputs"]
    covariance: Float[np.ndarray, "steps rows outputs outputs"]
    networks: int


def finite_size(
    problem: TrainingDynamics, solution: TrainingSolution, predictions: ArrayInput, heads: int
) -> FiniteSize:
    """Bias and covariance of networks of one size, times their number of heads.

    Args:
        problem: the training.
        solution: of it.
        predictions: of networks [networks, steps, ...], otherwise as those of the solution.
        heads: H of the networks.

    Raises:
        ArgumentError: another shape, fewer than two networks.
    """
    H = require_count(heads, "heads", 1)
    f = np.asarray(as_float64(predictions, "predictions"))
    size = int(np.prod(solution.predictions.shape))
    if f.ndim < 2 or len(f) < 2 or f[0].size != size or f.shape[1] != problem.steps:
        raise ArgumentError(
            "predictions",
            f"has shape {f.shape}",
            f"pass at least two networks, {['networks', *solution.predictions.shape]}",
        )
    rows, outputs = problem.equations.targets.y.shape
    f = f.reshape(len(f), problem.steps, rows, outputs)
    limit = solution.predictions.reshape(problem.steps, rows, outputs)
    own = solution.stderr.reshape(limit.shape)
    away = f - f.mean(axis=0)
    return FiniteSize(
        bias=H * (f.mean(axis=0) - limit),
        bias_stderr=H * np.hypot(f.std(axis=0, ddof=1) / math.sqrt(len(f)), own),
        covariance=H * np.einsum("ntro,ntru->trou", away, away) / (len(f) - 1),
        networks=len(f),
    )


def loss_correction(
    problem: TrainingDynamics,
    limit: ArrayInput,
    bias: ArrayInput,
    covariance: ArrayInput,
    *,
    networks: int = 1,
    test: bool = False,
) -> Float[np.ndarray, " steps"]:
    """H (E L[f_H] - L[f]) to leading order in 1 / H.

    Args:
        problem: the training.
        limit: predictions of its solution.
        bias: b [steps, rows, outputs].
        covariance: v [steps, rows, outputs, outputs], between the outputs of each row.
        networks: k, whose outputs are averaged before the loss is taken.
        test: of the mean over rows of a test, else of the training loss.

    Raises:
        ArgumentError: other shapes, no rows for a test.
    """
    k = require_count(networks, "networks", 1)
    equations = problem.equations
    rows, outputs = equations.targets.y.shape
    b = np.asarray(as_float64(bias, "bias"))
    v = np.asarray(as_float64(covariance, "covariance"))
    error, J = loss_slopes(problem, limit)
    of_bias = (problem.steps, rows, outputs)
    wanted: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
        "bias": (b, of_bias),
        "covariance": (v, (*of_bias, outputs)),
    }
    for name, (values, shape) in wanted.items():
        if values.shape != shape:
            raise ArgumentError(name, f"has shape {values.shape}", f"pass {list(shape)}")
    weights = equations.weights
    if test:
        tested = equations.targets.counted & ~equations.trained
        if not tested.any():
            raise ArgumentError("test", "is True, and every row is trained", "give some weight 0")
        weights = np.broadcast_to(tested / tested.sum(), weights.shape)
    first = -np.einsum("tr,tro,tro->t", weights, error, b)
    second = np.einsum("tr,trou,truo->t", weights, J, v) / 2
    return first + second / k


def output_covariance(
    problem: TrainingDynamics, solution: TrainingSolution
) -> Float[np.ndarray, "steps rows outputs rows outputs"]:
    """V of outputs over networks, from the readout they start with, carried on by training.

    Exact to leading order in 1 / H at the start; later to leading order in 1 / gamma_0 as well,
    with the tangent kernel of the start. Networks with centred outputs do not have this part.

    Args:
        problem: the training.
        solution: of it.

    Raises:
        NoSuchLimitError: heads of infinite dimension, whose networks have another size; a tied
            readout, whose start is no fluctuation.
        ArgumentError: the tangent kernel at the start is not known.
    """
    a, equations = problem.architecture, problem.equations
    if math.isinf(a.head_dim):
        raise NoSuchLimitError(
            "head_dim", "is infinite: no number of heads is a size", "take a finite head_dim"
        )
    if problem.tied:
        raise NoSuchLimitError(
            "tied", "is True: outputs at the start are no fluctuation", "take tied=False"
        )
    K = solution.ntk[0]
    if not np.isfinite(K).all():
        raise ArgumentError("solution", "has no tangent kernel at the start", "take fewer rows")
    rows, outputs = equations.targets.y.shape
    m = equations.fields
    stream = solution.kernel(solution.layers)[0, :, :, 0].reshape(m, m)
    if a.final_norm:
        rho = np.sqrt(np.diagonal(stream) + a.norm_eps)
        stream = stream / np.outer(rho, rho)
    F = equations.features @ stream @ equations.features.T
    size = rows * outputs
    start = problem.readout_std**2 / (a.gamma0**2 * a.head_dim) * np.kron(F, np.eye(outputs))
    if problem.centred:
        start = np.zeros_like(start)
    _, J = loss_slopes(problem, solution.predictions)
    full = np.kron(K, np.eye(outputs))
    moved, velocity = np.eye(size), np.zeros((size, size))
    found = []
    for t in range(problem.steps):
        found.append(moved @ start @ moved.T)
        curve = np.zeros((rows, outputs, rows, outputs))
        place = np.arange(rows)
        curve[place, :, place, :] = equations.weights[t][:, None, None] * J[t]
        step = problem.rate * problem.schedule[t] * full @ curve.reshape(size, size) @ moved
        velocity = problem.momentum * velocity - step
        moved = moved + velocity
    return np.stack(found).reshape(problem.steps, rows, outputs, rows, outputs)


def slopes(
    equations: TrainingEquations, f: Float[np.ndarray, "steps rows outputs"]
) -> tuple[
    Float[np.ndarray, "steps rows outputs"], Float[np.ndarray, "steps rows outputs outputs"]
]:
    """-dl/df of every row, and d^2 l / df^2 between its outputs; 0 without a target."""

    def error(row: jax.Array, target: jax.Array) -> jax.Array:
        return equations.loss.error(row[None], target[None])[0]

    with jax.enable_x64(True):
        y, given = jnp.asarray(equations.targets.y), jnp.asarray(f)
        both = jax.vmap(jax.vmap(error), (0, None))(given, y)
        J = -jax.vmap(jax.vmap(jax.jacfwd(error)), (0, None))(given, y)
    counted = equations.targets.counted
    return (
        np.where(counted[None, :, None], np.asarray(both), 0.0),
        np.where(counted[None, :, None, None], np.asarray(J), 0.0),
    )


def loss_slopes(
    problem: TrainingDynamics, limit: ArrayInput
) -> tuple[
    Float[np.ndarray, "steps rows outputs"], Float[np.ndarray, "steps rows outputs outputs"]
]:
    """-dl/df of every row without its weight, and d^2 l / df^2 between its outputs.

    Args:
        problem: the training.
        limit: predictions, of a solution or others.

    Raises:
        ArgumentError: another number of predictions.
    """
    rows, outputs = problem.equations.targets.y.shape
    f = np.asarray(as_float64(limit, "limit"))
    if f.size != problem.steps * rows * outputs:
        raise ArgumentError("limit", f"has shape {f.shape}", "pass predictions of a solution")
    return slopes(problem.equations, f.reshape(problem.steps, rows, outputs))
