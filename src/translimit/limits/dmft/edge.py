r"""Sharpness of the loss and the edge of stability, at any time of training.

Errors move by delta f(t + 1) - delta f(t) = -eta_0 K(t) w J(t) delta f(t) (and momentum), with the
tangent kernel K of all outputs, the weights w of rows and the second derivative J of the loss by
the outputs of a row (the Gauss-Newton part). With

    Lambda(t) = lambda_max((w J)^(1/2) K(t) (w J)^(1/2)),

updates of the heavy ball (whose velocity is a sum, not a mean) are stable while
eta_0 Lambda < 2 (1 + momentum). Products with K(t) are differences of branches, so that Lambda is
known for any number of outputs, classes and tokens, where nothing of the size of K is ever formed.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; Cohen et al., arXiv 2103.00065, for
the edge of stability; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Bounds,
    Key,
    MemoryLimitError,
    Outcome,
    Progress,
    available_memory,
    brief,
    calls_at_once,
    named_key,
    require_count,
    require_real,
    side_by_side,
)
from translimit.limits.dmft.branches import Branches, branches
from translimit.limits.dmft.edge_solution import EdgeSolution
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.largest_eigenvalue import largest_eigenvalue
from translimit.limits.dmft.losses import AbstractLoss
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra, Method
from translimit.limits.dmft.setup import depths_of, solve_bytes
from translimit.limits.dmft.summaries import richardson, stderr_of_mean
from translimit.limits.dmft.training import TrainingDynamics

T = TypeVar("T")


class Sharpness(NamedTuple):
    """What one pass says at one time.

    Attributes:
        value: Lambda.
        error: of the eigenvalue, and of the step of branches.
        direction: errors of rows and outputs along which the loss is sharpest.
        products: with the tangent kernel.
    """

    value: float
    error: float
    direction: Float[np.ndarray, "rows outputs"]
    products: int


def edge(
    problem: TrainingDynamics,
    method: Method | None = None,
    *,
    times: Sequence[int] | None = None,
    key: Key | None = None,
    products: int = 12,
    rtol: float = 1e-6,
    progress: Progress | None = None,
) -> EdgeSolution:
    """How sharp the loss is while the limit trains, and the rates at the edge of stability.

    Each product costs two time steps and two forward halves of one, and every population and
    time has up to `products` and one more.

    Args:
        problem: the training.
        method: as in `solve`; by default the problem's.
        times: evaluations; by default the first and the last.
        key: of the populations, as in `solve`: the same key looks at the same passes.
        products: with the tangent kernel at each time, at most, at least 2.
        rtol: error of the eigenvalue, relative, at which fewer are enough.
        progress: told the fraction that is done.

    Returns:
        Sharpness with its errors, the rates at the edge, and how far the problem's is from it.

    Raises:
        ArgumentError: times outside of the training, too few products.
        ArgumentTypeError: another method than linear algebra or causal sampling; no key for the
            second, a key for the first.
        MemoryLimitError: the passes do not fit into the memory that is free.

    Examples:
        >>> import math
        >>> from translimit.limits.dmft import Architecture, TrainingDynamics
        >>> problem = TrainingDynamics(
        ...     architecture=Architecture(head_dim=math.inf),
        ...     inputs=[[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]],
        ...     targets=[1.0, -1.0],
        ...     steps=5,
        ...     eta0=0.2,
        ... )
        >>> bool(edge(problem).ratio[0] < 1)
        True
    """
    used = require_method(problem, method, key)
    last = problem.steps - 1
    asked = tuple(sorted({0, last} if times is None else set(times)))
    if not asked or not all(0 <= require_count(t, "times", 0) <= last for t in asked):
        raise ArgumentError("times", f"got {list(asked)}", f"pass evaluations from 0 to {last}")
    require_count(products, "products", 2)
    tolerance = require_real(rtol, "rtol", Bounds(0.0, 1.0, "()"))
    equations = problem.equations

    def look(stopped: Branches) -> Sharpness:
        return sharpness_at(stopped, equations, products, tolerance)

    found = of_all_passes(equations, used, key, asked, look, progress)
    values = np.array([[[one.value for one in row] for row in cells] for cells in found])
    errors = np.array([[one.error for one in cells[0]] for cells in found])
    value, gap = richardson(values)
    mean = value.mean(axis=0)
    error = np.hypot(np.abs(gap).mean(axis=0), errors.mean(axis=0))
    bound = 2 * (1 + problem.momentum)
    with np.errstate(divide="ignore"):
        rates = bound / mean * problem.eta0 / problem.rate
    schedule = problem.schedule[list(asked)]
    return EdgeSolution(
        ts=np.array(asked, dtype=np.float64),
        sharpness=mean,
        stderr=stderr_of_mean(value),
        discretisation=error,
        rates=rates / np.where(schedule > 0, schedule, np.nan),
        ratio=problem.rate * schedule * mean / bound,
        directions=np.stack([one.direction for one in found[0][0]]),
        outcome=Outcome.successful if np.isfinite(mean).all() else Outcome.non_finite,
        samples=len(found),
        products=max(one.products for cells in found for row in cells for one in row),
        momentum=problem.momentum,
    )


def tangent_kernel(
    problem: TrainingDynamics,
    method: Method | None = None,
    *,
    time: int = 0,
    key: Key | None = None,
) -> tuple[
    Float[np.ndarray, "rows outputs rows outputs"], Float[np.ndarray, "rows outputs rows outputs"]
]:
    """The tangent kernel of all rows and outputs at one time, and its standard errors.

    In units where f(t + 1) - f(t) = eta_0 K Delta. It costs two branches for each row and output;
    `edge` needs a dozen in all.

    Args:
        problem: the training.
        method: as in `solve`.
        time: evaluation.
        key: of the populations, as in `solve`.

    Raises:
        ArgumentError: a time outside of the training.
        ArgumentTypeError: see `edge`.
    """
    used = require_method(problem, method, key)
    if not 0 <= require_count(time, "time", 0) < problem.steps:
        raise ArgumentError("time", f"got {time}", f"pass an evaluation below {problem.steps}")

    def look(stopped: Branches) -> np.ndarray:
        size = stopped.shape[0] * stopped.shape[1]
        units = np.eye(size).reshape(size, *stopped.shape)
        columns = [stopped.product(unit).reshape(size) for unit in units]
        return np.stack(columns, axis=1).reshape(*stopped.shape, *stopped.shape)

    found = of_all_passes(problem.equations, used, key, (time,), look, None)
    value, _ = richardson(np.array([[row[0] for row in cells] for cells in found]))
    return value.mean(axis=0), stderr_of_mean(value)


def require_method(problem: TrainingDynamics, method: Method | None, key: Key | None) -> Method:
    """The method, checked as `solve` does.

    Raises:
        ArgumentError: a problem of particles.
        ArgumentTypeError: see `edge`.
    """
    if not {LinearAlgebra, CausalSampling} & set(problem.methods):
        raise ArgumentError(
            "problem",
            "is solved by PopulationSampling alone: its optimizer works entry by entry, or an "
            "activation acts on the stream",
            "pass gradient descent without activation_on_stream; for Adam, solve at several eta0",
        )
    used = problem.default_method() if method is None else method
    if not isinstance(used, LinearAlgebra | CausalSampling) or type(used) not in problem.methods:
        names = " or ".join(one.__name__ for one in problem.methods)
        raise ArgumentTypeError("method", f"got {brief(used)}", f"pass {names} of limits.dmft")
    if used.strides:
        raise ArgumentTypeError(
            "method", f"has strides {used.strides}", "leave them out: single updates are needed"
        )
    if used.random != (key is not None):
        raise ArgumentTypeError(
            "key",
            "is missing, and heads or neurons are sampled" if used.random else "is not needed",
            "pass jax.random.key(0)" if used.random else "leave it out: nothing is sampled",
        )
    return used


def of_all_passes(
    equations: TrainingEquations,
    method: Method,
    key: Key | None,
    times: tuple[int, ...],
    look: Callable[[Branches], T],
    progress: Progress | None,
) -> list[list[list[T]]]:
    """What is seen at each time [populations][depths][times].

    Raises:
        MemoryLimitError: the passes do not fit into the memory that is free.
    """
    depths = depths_of(equations, method)
    populations = method.populations if isinstance(method, CausalSampling) else 1
    need, there = 2 * solve_bytes(equations, method), available_memory()
    if need > there:
        raise MemoryLimitError(
            "steps",
            f"two histories need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
            "take fewer inputs, tokens, steps, heads or neurons",
        )
    start = jax.random.key(0) if key is None else key
    keys = [named_key(start, "population", number) for number in range(populations)]

    def call_of(layers: int, own: Key) -> Callable[[Callable[[float], object]], list[T]]:
        def call(report: Callable[[float], object]) -> list[T]:
            seen = []
            for number, stopped in enumerate(branches(equations, method, layers, own, times)):
                seen.append(look(stopped))
                report((number + 1) / len(times))
            return seen

        return call

    calls = [call_of(layers, own) for own in keys for layers in depths]
    rows = side_by_side(calls, calls_at_once(len(calls), need, there), progress)
    return [rows[i : i + len(depths)] for i in range(0, len(rows), len(depths))]


def loss_roots(
    loss: AbstractLoss,
    f: Float[np.ndarray, "rows outputs"],
    equations: TrainingEquations,
    t: int,
) -> Float[np.ndarray, "rows outputs outputs"]:
    """(w J)^(1/2) of every row at outputs f, the symmetric root."""

    def error(row: jax.Array, target: jax.Array) -> jax.Array:
        return loss.error(row[None], target[None])[0]

    with jax.enable_x64(True):
        slopes = jax.vmap(jax.jacfwd(error))(jnp.asarray(f), jnp.asarray(equations.targets.y))
        J = -np.asarray(slopes)
    values, basis = np.linalg.eigh((J + J.swapaxes(1, 2)) / 2)
    root = np.einsum("rij,rj,rkj->rik", basis, np.sqrt(np.maximum(values, 0.0)), basis)
    return np.sqrt(equations.weights[t])[:, None, None] * root


def sharpness_at(
    stopped: Branches, equations: TrainingEquations, products: int, rtol: float
) -> Sharpness:
    """Lambda where a pass stopped, and its error from the eigenvalue and from the step of branches.

    The start of Lanczos' method is a fixed direction that no symmetry of the data has.
    """
    root = loss_roots(equations.loss, stopped.outputs(), equations, stopped.t)
    if not np.isfinite(root).all():
        return Sharpness(math.nan, math.nan, np.full(stopped.shape, math.nan), 0)

    def weighted(x: np.ndarray) -> np.ndarray:
        return np.einsum("rij,rj->ri", root, x.reshape(stopped.shape))

    def product(x: np.ndarray, factor: float = 1.0) -> np.ndarray:
        return weighted(stopped.product(weighted(x), factor)).reshape(-1)

    start = weighted(np.cos(1.0 + np.arange(root.shape[0] * root.shape[1]) ** 2)).reshape(-1)
    found = largest_eigenvalue(product, start, products, rtol)
    # Twice the step has four times its error, of which three are seen.
    twice, once = (float(found.vector @ product(found.vector, factor)) for factor in (2.0, 1.0))
    error = math.hypot(found.error, abs(twice - once) / 3)
    return Sharpness(found.value, error, weighted(found.vector), found.products)
