"""One training problem, solved in the limit and trained in networks, with the same quantities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, data, describe, scaling, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.bordelon2024.extrapolation import extrapolated

if TYPE_CHECKING:
    from translimit.core import Key

#: The entry of attention whose law over heads is followed: input, query, key.
PLACE = (0, 1, 0)


@dataclass(frozen=True)
class Limit(ex.Arrays):
    """What the limit predicts, with standard errors over its populations."""

    predictions: Float[np.ndarray, "step sample output"]
    predictions_stderr: Float[np.ndarray, "step sample output"]
    kernel: Float[np.ndarray, "step sample sample2"]
    kernel_stderr: Float[np.ndarray, "step sample sample2"]
    loss: Float[np.ndarray, " step"]
    sharpness: Float[np.ndarray, " step"]
    score: Float[np.ndarray, "step head"]
    lazy: Annotated[Float[np.ndarray, "step sample output"], "with the kernel of the start"]

    def frozen(self) -> Limit:
        """The theory in which features do not move: the kernels of the start at all times."""
        kernel = np.broadcast_to(self.kernel[:1], self.kernel.shape)
        score = np.broadcast_to(self.score[:1], self.score.shape)
        return replace(self, predictions=self.lazy, kernel=kernel, score=score)


@dataclass(frozen=True)
class Networks(ex.Arrays):
    """Networks of one size, seed by seed."""

    predictions: Float[np.ndarray, "seed step sample output"]
    kernel: Float[np.ndarray, "seed step sample sample2"]
    loss: Float[np.ndarray, "seed step"]
    accuracy: Annotated[Float[np.ndarray, "seed step"], "share of rows that are classed right"]
    score: Float[np.ndarray, "seed step head"]
    motion: Annotated[Float[np.ndarray, "seed step"], "square of what all blocks add"]
    variation: Annotated[Float[np.ndarray, "seed step"], "sum of squares of what each adds"]
    heads: int
    head_dim: int
    layers: int


def solve_limit(
    problem: Problem,
    key: Key,
    *,
    omit: str | None = None,
    head_dim: int | float | None = None,
    layers: int | float | None = None,
    heads_kept: int = 2000,
) -> Limit:
    """The limit of a problem.

    Args:
        problem: data, architecture and gradient descent.
        key: of the sampled heads and neurons.
        omit: a response that is left out.
        heads_kept: heads of each population whose scores are kept.
        head_dim: N, that of the problem by default.
        layers: L, that of the problem by default.
    """
    dynamics = problem.limit(head_dim=head_dim, layers=layers)
    method = problem.method(dynamics, omit=omit, heads_kept=heads_kept)
    solution = core.solve(dynamics, method, key=key if method.random else None)
    end = solution.layers
    # Entries of the kernel move together at worst: their mean error bounds that of the mean.
    kernel, kernel_stderr = (
        np.einsum("tptq->tpq", x.mean(axis=(2, 5)))
        for x in (solution.kernel(end), solution.kernel_stderr(end))
    )
    stderr = np.hypot(solution.stderr, solution.cell_error)
    shape = (*solution.predictions.shape[:2], -1)
    scores = np.zeros((problem.steps, 0))  # without attention
    if dynamics.equations.architecture.attention:
        scores = solution.score_law(0).scores[:, :, *PLACE]
    return Limit(
        predictions=solution.predictions.reshape(shape),
        predictions_stderr=stderr.reshape(shape),
        kernel=kernel,
        kernel_stderr=kernel_stderr,
        loss=solution.loss,
        sharpness=solution.sharpness,
        score=scores,
        lazy=problem.lazy(dynamics, solution.ntk[0]).reshape(shape),
    )


def network_numbers(
    problem: Problem, shape: describe.TransformerShape
) -> describe.Parameterization:
    """Starts, multipliers and rates of a network of a problem.

    Args:
        problem: data, architecture and gradient descent.
        shape: of the network.
    """
    return scaling.limit_parameterization(
        shape.size,
        optimizer=problem.network_optimizer.name,
        alpha_A=problem.alpha_A,
        alpha_L=problem.alpha_L,
        beta0=problem.beta0,
        gamma0=problem.gamma0,
        eta0=problem.network_rate,
        pixels=shape.patch_dim or 1,
        **problem.more_of_start(),
    )


def train_networks(
    problem: Problem,
    key: Key,
    *,
    heads: int,
    seeds: int,
    head_dim: int | None = None,
    layers: int | None = None,
    shown: tuple[np.ndarray, np.ndarray] | None = None,
    at_once: int | None = None,
) -> Networks:
    """Networks of one size, seed by seed, on the data of the problem.

    Args:
        problem: data, architecture and gradient descent.
        key: of the starts.
        heads: H.
        seeds: how many networks.
        head_dim: N, that of the problem by default.
        layers: L, that of the problem by default.
        shown: inputs and targets that are observed; those that are trained by default.
        at_once: networks that memory holds at a time; all by default.
    """
    if at_once is not None and at_once < seeds:
        blocks = [
            train_networks(
                problem,
                core.named_key(key, start),
                heads=heads,
                seeds=min(at_once, seeds - start),
                head_dim=head_dim,
                layers=layers,
                shown=shown,
            )
            for start in range(0, seeds, at_once)
        ]
        return _joined(blocks)
    problem.require_networks()
    source, shape = problem.source(), problem.shape(heads, head_dim, layers)
    count = problem.inputs
    if shown is not None:
        count = len(shown[1])
        source = data.Observed(source, data.FullBatch(*problem.shown(shown)))
    run = train.Training(
        steps=problem.steps - 1,
        rates=(1.0,),
        seeds=seeds,
        batch=problem.inputs,
        optimizer=problem.network_optimizer,
        loss=problem.network_loss,
        schedule=problem.network_schedule,
        centred=problem.network_centred,
    )
    history = train.train(
        shape,
        network_numbers(problem, shape),
        source,
        run,
        key=key,
        observe=(
            train.ProbeLoss(),
            train.Predictions(per_token=not shape.pooled),
            train.StreamKernel(),
            train.StreamMotion(),
            train.AttentionLaw(places=(PLACE,)),
        ),
        observe_at=tuple(range(problem.steps)),
        probe=count,
    )
    f = np.moveaxis(np.asarray(history["predictions"])[:, :, 0], 0, 1)
    loss = np.asarray(history["probe_loss"])[:, :, 0].T
    if shown is None and (weights := problem.row_weights()) is not None:
        loss = weighted_loss(problem, f, weights)
    return Networks(
        predictions=f.reshape(*f.shape[:3], -1),
        kernel=np.moveaxis(np.asarray(history["stream_kernel"])[:, :, 0, -1], 0, 1),
        loss=loss,
        accuracy=np.asarray(history["accuracy"])[:, :, 0].T,
        score=np.moveaxis(np.asarray(history["score"])[:, :, 0, 0, :, 0], 0, 1),
        motion=np.asarray(history["stream_motion"])[:, :, 0].T,
        variation=np.asarray(history["stream_variation"])[:, :, 0].T,
        heads=heads,
        head_dim=shape.head_dim,
        layers=shape.layers,
    )


def weighted_loss(
    problem: Problem,
    f: Float[np.ndarray, "*any step sample ..."],
    weights: Float[np.ndarray, "step sample ..."],
) -> Float[np.ndarray, "*any step"]:
    """The loss of networks at every step, with the weights of that step.

    Args:
        problem: targets and loss.
        f: outputs [..., steps, *rows, outputs].
        weights: of rows [steps, *rows].
    """
    import jax.numpy as jnp

    targets = jnp.asarray(problem.shown()[1])
    if jnp.issubdtype(targets.dtype, jnp.integer):
        targets = jnp.broadcast_to(targets, f.shape[:-1])
    paid = np.asarray(problem.network_loss.rows(jnp.asarray(f), targets), np.float64)
    return np.sum(paid * weights, axis=tuple(range(-(weights.ndim - 1), 0)))


def _joined(blocks: Sequence[Networks]) -> Networks:
    """Networks of one size that were trained in blocks, each with starts of its own."""
    names = ("predictions", "kernel", "loss", "accuracy", "score", "motion", "variation")
    stacked = {name: np.concatenate([getattr(one, name) for one in blocks]) for name in names}
    return replace(blocks[0], **stacked)


def distances(networks: Networks, limit: Limit) -> Float[np.ndarray, " seed"]:
    """Rms distance of each network's predictions from the limit."""
    gap = networks.predictions - limit.predictions
    return np.sqrt(np.mean(gap**2, axis=(1, 2, 3)))


def extrapolated_gap(
    networks: Sequence[Networks], limit: Limit, name: Literal["predictions", "kernel"]
) -> Estimate:
    """Networks at infinite size minus the limit, averaged before its error is taken.

    Predictions are averaged with the signs of the limit's last ones, kernels relative to the sum
    of their sizes: entries of one network are nearly one common mode.

    Args:
        networks: of growing size; the last three are extrapolated.
        limit: what they should tend to.
        name: of the quantity.
    """
    value, stderr = getattr(limit, name), getattr(limit, f"{name}_stderr")
    if name == "predictions":
        weights = np.where(value[-1] < 0, -1.0, 1.0) * np.ones_like(value) / value.size
    else:
        weights = np.sign(value) / np.sum(np.abs(value))
    axes = tuple(range(1, weights.ndim + 1))
    ends = extrapolated([np.sum(getattr(net, name) * weights, axis=axes) for net in networks])
    return ends.estimate(float(np.sum(value * weights)), float(np.sum(stderr * np.abs(weights))))


def course(
    predictions: Float[np.ndarray, "*any step sample output"],
) -> Float[np.ndarray, "*any step"]:
    """Predictions towards the targets of two classes: means with the signs of the last ones.

    Args:
        predictions: of the limit, or of networks seed by seed.
    """
    end = predictions.reshape(-1, *predictions.shape[-3:]).mean(axis=0)[-1]
    return np.mean(predictions * np.where(end < 0, -1.0, 1.0), axis=(-2, -1))


def coordinate(networks: Sequence[Networks], limit: Limit, wrong: Limit) -> Estimate:
    """Where networks at infinite size lie between the limit (0) and a wrong one (1).

    The generalised least-squares fit of `course` along the difference of the two, with the
    covariance that networks have from evaluation to evaluation, and the bias that is left.

    Args:
        networks: of growing size; the last three are extrapolated.
        limit: what they should tend to.
        wrong: another theory, with the same random numbers.
    """
    ends = extrapolated([course(net.predictions)[:, 1:] for net in networks])
    right = course(limit.predictions)[1:]
    floor = np.mean(limit.predictions_stderr, axis=(-2, -1))[1:]
    away = course(wrong.predictions)[1:] - right
    along = np.linalg.solve(ends.cov + np.diag(floor**2 + ends.left**2), away)
    power = float(along @ away)
    return Estimate(float(along @ (ends.mean - right)) / power, power**-0.5, ends.count)


def spread(scores: Float[np.ndarray, "*any"]) -> float:
    """The 10-90 % spread of scores over heads."""
    return float(np.subtract(*np.quantile(scores, (0.9, 0.1))))


def spread_gap(networks: Networks, limit: Limit) -> Estimate:
    """Relative difference of the 10-90 % spreads of the score at the end, bootstrap over seeds."""
    ends = networks.score[:, -1]
    target = spread(limit.score[-1])
    draws = np.random.default_rng(0).integers(len(ends), size=(200, len(ends)))
    spreads = np.array([spread(ends[draw]) for draw in draws])
    # A quantile spread of n heads has a relative error of about 1.2 / sqrt(n).
    stderr = np.hypot(spreads.std(ddof=1) / target, 1.2 / limit.score.shape[1] ** 0.5)
    return Estimate(spread(ends) / target - 1, float(stderr), len(ends))
