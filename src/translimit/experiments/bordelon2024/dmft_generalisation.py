r"""What networks of finite size pay on digits that they have not seen, single and averaged.

Digits of three classes are learned under cross-entropy; others have weight zero. Around the limit
f, outputs of networks with H heads are f + b / H + xi / sqrt(H), E xi xi^T = v, and to first order
in 1 / H the loss of a test gains

    -Delta . b + w tr(J v) / 2,

and the loss of the mean over k networks the same with v / k: an ensemble loses the scatter and
keeps the bias, so that it is no network of k times the width. Losses, bias and covariance are those
of the same networks, so that what they have in common cancels, and the expansion itself is seen.

At the start v is that of the readout, sigma_w^2 <phi phi> / (gamma_0^2 N).

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.bordelon2024.unseen_digits import (
    AVERAGED,
    CLASSES,
    LIMIT,
    NETWORKS,
    Config,
    Size,
)

#: How far the expansion in 1 / H may be off at the smallest networks, relatively.
EXPANSION = 0.15


@dataclass(frozen=True)
class Asked:
    """A loss and a time.

    Attributes:
        rows: "test" or "train".
        averaged: networks whose outputs are averaged.
        update: after which.
    """

    rows: str
    averaged: int
    update: int


def _asked(config: Config) -> list[Asked]:
    last = config.steps - 1
    singles = [Asked("test", 1, last), Asked("test", AVERAGED, last)]
    return [*singles, Asked("train", 1, last // 2), Asked("train", AVERAGED, last // 2)]


def _paid(
    config: Config, f: Float[np.ndarray, "*any sample output"], rows: str
) -> Float[np.ndarray, "*any"]:
    """Cross-entropy of unseen or of trained digits."""
    part = slice(config.inputs, None) if rows == "test" else slice(None, config.inputs)
    y = config.all_digits()[1][part]
    f = f[..., part, :]
    own = np.take_along_axis(f, np.broadcast_to(y[:, None], (*f.shape[:-1], 1)), -1)[..., 0]
    top = f.max(axis=-1)
    paid = top + np.log(np.exp(f - top[..., None]).sum(axis=-1)) - own
    return np.asarray(paid.mean(axis=-1))


def _gap(
    found: ex.Found[Config], at: Asked, *, bias: float = 1.0, spread: float | None = None
) -> Estimate:
    """H (E L_H - L) over what bias and covariance say, minus one; parts of these for rivals.

    The expansion is linear in b and v, so that every group of networks gives it, and its
    difference from the group's own loss.
    """
    config = found.config
    size = Size(*config.counts()[0])
    f = found(NETWORKS, size).predictions[:, at.update]
    limit = found(LIMIT).predictions
    part = slice(config.inputs, None) if at.rows == "test" else slice(None, config.inputs)
    error, J = limits.dmft.loss_slopes(found.once(_problem), limit)
    error, J = error[at.update, part], J[at.update, part]
    b = size.heads * (f - limit[at.update])[:, part]
    root = math.sqrt(size.heads * len(f) / (len(f) - 1)) * (f - f.mean(axis=0))[:, part]
    linear = -np.einsum("ro,nro->n", error, b) / len(error)
    square = np.einsum("nro,rou,nru->n", root, J, root) / (2 * len(error))
    share = 1 / at.averaged if spread is None else spread
    groups = len(f) // at.averaged
    kept = groups * at.averaged
    said = (bias * linear + share * square)[:kept].reshape(groups, at.averaged).mean(axis=1)
    means = f[:kept].reshape(groups, at.averaged, *f.shape[1:]).mean(axis=1)
    start = float(_paid(config, limit[at.update], at.rows))
    paid = size.heads * (_paid(config, means, at.rows) - start)
    # The ratio of two means, to first order.
    ratio = float(paid.mean() / said.mean())
    stderr = float((paid - ratio * said).std(ddof=1) / abs(said.mean()) / math.sqrt(groups))
    return Estimate(ratio - 1, stderr, groups)


def _problem(found: ex.Found[Config]) -> limits.dmft.TrainingDynamics:
    return found.config.limit()


GAINS = ex.Claims(
    "{rows}-of-{averaged}",
    lambda found, at: (
        f"After {at.update} updates the loss of "
        f"{'unseen' if at.rows == 'test' else 'trained'} digits of "
        + ("single networks" if at.averaged == 1 else f"means over {at.averaged} networks")
        + f" of {found.config.heads_swept[0]} heads is above the limit by what bias and covariance "
        "say (relative difference)."
    ),
    estimate=_gap,
    prediction=0.0,
    tol=EXPANSION,
    over=_asked,
    rivals=(
        ex.Rival[Config, Asked](
            "the bias alone",
            estimate=lambda found, at: _gap(found, at, spread=0.0),
            when=lambda c, at: at.averaged == 1,
        ),
        ex.Rival[Config, Asked](
            "one network of as many times the width",
            estimate=lambda found, at: _gap(
                found, at, bias=1 / at.averaged, spread=1 / at.averaged
            ),
            when=lambda c, at: at.averaged > 1,
        ),
        ex.Rival[Config, Asked](
            "averaging that loses nothing",
            estimate=lambda found, at: _gap(found, at, spread=1.0),
            when=lambda c, at: at.averaged > 1,
        ),
        ex.Rival[Config, Asked](
            "the covariance twice",
            estimate=lambda found, at: _gap(found, at, spread=2 / at.averaged),
        ),
    ),
    decided_by="standard",
)


def _start(found: ex.Found[Config], factor: float = 1.0) -> Estimate:
    """H times the variance of outputs at the start over what the readout says, minus one."""
    size = Size(*found.config.counts()[0])
    f = found(NETWORKS, size).predictions[:, 0]
    squares = size.heads * np.mean(f**2 / found(LIMIT).start, axis=(1, 2))
    return Estimate.from_samples(squares / factor - 1)


START = ex.claim(
    "start",
    "Outputs at the start scatter over networks as the readout does: the mean over digits of H "
    "times the variance over sigma_w^2 <phi phi> / (gamma_0^2 N), minus one.",
    estimate=_start,
    prediction=0.0,
    tol=0.1,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "in units of heads, without 1 / N",
            estimate=lambda found, at: _start(found, float(found.config.head_dim)),
        ),
        ex.Rival("none", -1.0),
    ),
)


def _extrapolated(found: ex.Found[Config], rows: str = "test") -> Estimate:
    """The loss of networks at infinite size minus the limit's, after the last update."""
    config = found.config
    small, large = (
        _paid(config, found(NETWORKS, Size(*one)).predictions[:, -1], "test")
        for one in config.counts()[-2:]
    )
    limit = found(LIMIT)
    said = limit.test_loss[-1] if rows == "test" else limit.loss[-1]
    value = 2 * large.mean() - small.mean() - said
    square = 4 * large.var(ddof=1) / len(large) + small.var(ddof=1) / len(small)
    return Estimate(
        float(value), float(math.hypot(square**0.5, limit.test_loss_stderr[-1])), len(large)
    )


LOSS = ex.claim(
    "limit",
    "The loss of unseen digits, extrapolated from two sizes in 1/H, is that of the limit.",
    estimate=_extrapolated,
    prediction=0.0,
    tol=0.02,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "that of trained digits", estimate=lambda found, at: _extrapolated(found, "train")
        ),
        ex.Rival[Config, ex.Alone](
            "that of guessing",
            estimate=lambda found, at: _shifted(
                _extrapolated(found), found(LIMIT).test_loss[-1] - math.log(CLASSES)
            ),
        ),
    ),
    decided_by="standard",
)


def _shifted(one: Estimate, by: float) -> Estimate:
    return Estimate(one.value + float(by), one.stderr, one.count)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    config = found.config
    for t, (loss, error) in enumerate(
        zip(found(LIMIT).test_loss, found(LIMIT).test_loss_stderr, strict=True)
    ):
        yield ("limit", t, float(loss), 2 * float(error))
    for heads, seeds in config.counts():
        f = found(NETWORKS, Size(heads, seeds)).predictions
        for k in (1, AVERAGED):
            means = f[: len(f) // k * k].reshape(-1, k, *f.shape[1:]).mean(axis=1)
            paid = _paid(config, means, "test")
            for t in range(config.steps):
                mean = Estimate.from_samples(paid[:, t])
                name = f"H = {heads}" + (f", means of {k}" if k > 1 else "")
                yield (name, t, mean.value, 2 * mean.stderr)


LOSSES = ex.Figure(
    name="test-loss",
    title="Loss of unseen digits",
    caption="The limit, and networks of two sizes, single and averaged over four; two standard "
    "errors.",
    columns=("who", "updates", "loss", "two standard errors"),
    rows=_rows,
    x="updates",
    by="who",
    layers=(figures.line("loss", label="{}"),),
    ylabel="cross-entropy of unseen digits",
    size=(7.0, 4.5),
)

_DIGITS = Config(
    mlp="tanh",
    norm="rms",
    gamma0=1.0,
    steps=8,
    eta0=0.3,
    samples=2000,
    neurons=4000,
    populations=4,
    at_once=400,
    networks=1600,
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-generalisation",
    title="What networks of finite size pay on unseen digits, single and averaged",
    question="How much worse is a finite network on unseen digits, alone and in an ensemble?",
    summary="Digits of three classes under cross-entropy. The limit says the loss of unseen "
    "digits; bias and covariance of outputs around it say what single networks and ensembles pay "
    "in addition, to first order in 1/H.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": _DIGITS,
        "standard": replace(_DIGITS, networks=24_000, samples=4000, neurons=8000),
        "paper": replace(
            _DIGITS, inputs=6, unseen=12, networks=48_000, samples=6000, neurons=12_000
        ),
    },
    parts=(LIMIT, NETWORKS),
    claims=(GAINS, START, LOSS),
    figures=(LOSSES,),
    finding=ex.Finding(
        "What single networks lose on unseen digits differs from what bias and covariance say "
        "by a relative {0}; their loss, extrapolated in $1/H$, lies {1} from that of the limit",
        ("test-of-1", "limit"),
    ),
)
