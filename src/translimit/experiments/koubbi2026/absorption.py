r"""Sharp heads: where the overlap of two tokens ends, at finite dimension and in the limit.

With m = A x / |A x| imposed the overlap is, on the slow clock t = tau / d, a diffusion at every
dimension, with the exact mean cosine c of a head:

    drift (d - 2 + u^2) c(u) - (d - 1) u,     half squared volatility (1 - u^2) (1 - u c(u)).

Its limit is du = -kappa u (1 - u^2) dt + 2^{1/2} (1 - u^2) dB. Printed is kappa = 1, for which
arcsin u is a martingale and P[u_inf = 1] = 1/2 + arcsin(u_0) / pi. With kappa = 3/2 (d_k infinite)
the overlap ends at +1 less often; with kappa = 2 (d_k = d) it does not settle, and the share of
overlaps above zero falls to one half. Chains of four heads a layer, whose steps add nothing to the
drift near +-1, are compared with the diffusion, the diffusion against its limits.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Step, Two, Within

if TYPE_CHECKING:
    from translimit.limits.homogenized.two_tokens import Kernel

#: Overlap at the start, slow times, heads of a layer.
START, TIMES, HEADS = 0.5, (2.0, 4.0, 8.0), 4
#: d_k by the name of a chain, as a multiple of d, and kappa.
WIDTHS = {"wide": math.inf, "square": 1.0}
KAPPAS = {"wide": 1.5, "square": 2.0}
#: Dimensions from which the limit is extrapolated, and the coefficients that are compared.
DIMS, OTHERS = (32, 64), (0.0, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dim: dimension of the tokens, at least 16.
        replicas: chains of either kind.
        step: diffusive step of a layer.
    """

    dim: Annotated[int, Within(16)] = 32
    replicas: Two = 3000
    step: Step = 0.1


@dataclass(frozen=True)
class Ends(ex.Arrays):
    """Overlaps of chains at slow times, and what the diffusion and its limits say."""

    time: Annotated[Float[np.ndarray, " time"], "slow time $t = \\tau / d$"]
    overlap: Annotated[Float[np.ndarray, "replica time"], "overlap $u$"]
    above: Annotated[Float[np.ndarray, " time"], "$P[u > 0]$ of the diffusion"]
    kappa: Float[np.ndarray, " kappa"]
    limit: Annotated[Float[np.ndarray, "kappa time"], "$P[u > 0]$ of the limit"]


@dataclass(frozen=True)
class Shares(ex.Arrays):
    """Of the diffusion at two dimensions: the share that ends at 1, and that above 0 at the end."""

    dim: Float[np.ndarray, " dim"]
    settled: Annotated[Float[np.ndarray, " dim"], "$P[u_\\infty = 1]$, $d_k$ infinite"]
    above: Annotated[Float[np.ndarray, " dim"], "$P[u > 0]$, $d_k = d$"]


def above_zero(overlap: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
    """1 above zero, 0 below, a half at zero."""
    return 0.5 * (1.0 + np.sign(overlap))


def compute_ends(config: Config, name: str, keys: ex.Keys) -> Ends:
    """Chains of one kind."""
    sharp, head_dim = limits.homogenized.low_temperature, WIDTHS[name] * config.dim
    columns = head_dim if math.isinf(head_dim) else round(head_dim)
    chain = models.SharpHeadChain(
        dim=config.dim, head_dim=columns, diffusive_step=config.step, heads=HEADS
    )
    paths = chain.simulate(START, TIMES, replicas=config.replicas, key=keys.own)
    kernel = sharp.sharp_kernel(config.dim, columns)
    return Ends(
        time=np.array(TIMES),
        overlap=paths.overlaps,
        above=np.array([_diffusion(kernel, config.dim, time) for time in TIMES]),
        kappa=np.array(OTHERS),
        limit=np.array([[_limit(kappa, time) for time in TIMES] for kappa in OTHERS]),
    )


def compute_shares(config: Config, at: ex.Alone, keys: ex.Keys) -> Shares:
    """The diffusion at two dimensions; nothing is random."""
    del config, at, keys
    two, sharp = limits.homogenized.two_tokens, limits.homogenized.low_temperature
    wide = [sharp.sharp_kernel(dim, math.inf) for dim in DIMS]
    settled = [
        two.joining_probability(one, dim, initial=START)
        for one, dim in zip(wide, DIMS, strict=True)
    ]
    above = [_diffusion(sharp.sharp_kernel(dim), dim, TIMES[-1]) for dim in DIMS]
    return Shares(dim=np.array(DIMS, float), settled=np.array(settled), above=np.array(above))


def _diffusion(kernel: Kernel, dim: int, time: float) -> float:
    return limits.homogenized.two_tokens.pair_expectation(
        above_zero, kernel, initial=START, t1=dim * time, dim=dim, nodes=1601
    )


def _limit(kappa: float, time: float) -> float:
    sharp = limits.homogenized.low_temperature
    return sharp.slow_expectation(above_zero, kappa, initial=START, t1=time, nodes=1601)


ENDS = ex.Part(
    "{name}",
    Ends,
    compute_ends,
    grid=lambda c: tuple(WIDTHS),
    # The kernel at a finite head dimension, and layers times replicas.
    cost=lambda c, name: ex.Cost(4.0 + 1e-6 * c.replicas * TIMES[-1] * c.dim / c.step),
)
SHARES = ex.Part(
    "diffusion", Shares, compute_shares, grid=ex.alone, cost=lambda c, at: ex.Cost(8.0)
)


def _share(found: ex.Found[Config], at: tuple[str, float]) -> Estimate:
    """The share of chains above zero at a slow time."""
    name, time = at
    return Estimate.from_samples(above_zero(found(ENDS, name).overlap[:, TIMES.index(time)]))


def _predicted(found: ex.Found[Config], at: tuple[str, float]) -> float:
    name, time = at
    return float(found(ENDS, name).above[TIMES.index(time)])


def _at_kappa(kappa: float) -> Callable[[ex.Found[Config], tuple[str, float]], float]:
    """The share of the limit with another coefficient."""

    def prediction(found: ex.Found[Config], at: tuple[str, float]) -> float:
        name, time = at
        return float(found(ENDS, name).limit[OTHERS.index(kappa), TIMES.index(time)])

    return prediction


def _ends(kappa: float) -> Callable[[ex.Found[Config], ex.Alone], float]:
    """The share that ends at 1 in the limit."""
    return lambda found, at: limits.homogenized.low_temperature.hitting_probability(START, kappa)


def _square_at(kappa: float) -> Callable[[ex.Found[Config], ex.Alone], float]:
    """That share at the last time, where d_k = d."""
    return lambda found, at: _at_kappa(kappa)(found, ("square", TIMES[-1]))


def _to_infinity(values: Float[np.ndarray, " dim"]) -> Estimate:
    """Extrapolated in 1 / d; half of what that adds is its error."""
    added = float(values[1] - values[0])
    return Estimate(float(values[1]) + added, 0.0, len(values), abs(added) / 2)


SHARE = ex.Claims(
    "{name}-t={time:g}",
    lambda found, at: (
        f"At slow time {at[1]:g} the share of chains above zero is that of their diffusion, "
        f"{'$d_k$ infinite' if at[0] == 'wide' else '$d_k = d$'}, from overlap 1/2."
    ),
    estimate=_share,
    prediction=_predicted,
    tol=0.015,
    over=lambda c: tuple((name, TIMES[-1]) for name in WIDTHS),
    rivals=(
        ex.Rival("kappa = 1", _at_kappa(1.0)),
        ex.Rival("no drift, (1 + u_0) / 2", _at_kappa(0.0)),
        ex.Rival("kappa = 3/2", _at_kappa(1.5), when=lambda c, at: at[0] == "square"),
        ex.Rival("kappa = 2", _at_kappa(2.0), when=lambda c, at: at[0] == "wide"),
        ex.Rival("no pull to either side, 1/2", 0.5),
    ),
    printed=r"$\Pr[u_\infty = 1] = 1/2 + \arcsin(u_0)/\pi$",
    decided_by="standard",
)
SETTLED = ex.claim(
    "settled-share",
    "The share of pairs that end at $+1$ tends to that of $\\kappa = 3/2$ as the dimension grows, "
    "$d_k$ infinite.",
    lambda found: _to_infinity(found(SHARES).settled),
    lambda found: _ends(1.5)(found, ex.Alone()),
    tol=0.002,
    rivals=tuple(ex.Rival(f"kappa = {kappa:g}", _ends(kappa)) for kappa in (0.0, 1.0, 1.4, 1.6)),
    printed=r"$1/2 + \arcsin(u_0)/\pi$",
)
UNSETTLED = ex.claim(
    "unsettled-share",
    "With $d_k = d$ the share above zero at slow time 8 tends to that of $\\kappa = 2$, whose "
    "overlap never settles.",
    lambda found: _to_infinity(found(SHARES).above),
    lambda found: _square_at(2.0)(found, ex.Alone()),
    tol=0.002,
    rivals=(
        ex.Rival("kappa = 1", _square_at(1.0), printed=True),
        ex.Rival("kappa = 3/2", _square_at(1.5)),
        ex.Rival("settled, 1/2", 0.5),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name, data in found.each(ENDS):
        for place, time in enumerate(TIMES):
            share = _share(found, (name, time))
            others = data.limit[:, place].tolist()
            yield (name, time, share.value, share.stderr, float(data.above[place]), *others)


ABOVE = ex.Figure(
    name="share-above-zero",
    title="Where the overlap under sharp heads ends",
    caption=lambda found: (
        f"Share of {found.config.replicas} chains above zero from overlap 1/2, $d = "
        f"{found.config.dim}$, {HEADS} heads a layer, diffusive step {found.config.step:g} (bars "
        "of one standard error); their diffusion at this dimension (full lines), and limits at "
        "other coefficients (dashed). Left $d_k$ infinite, right $d_k = d$."
    ),
    columns=(
        *("heads", "slow time", "share", "stderr", "diffusion"),
        *(f"kappa = {kappa:g}" for kappa in OTHERS),
    ),
    rows=_rows,
    x="slow time",
    panels="heads",
    titles={"wide": "$d_k$ infinite", "square": "$d_k = d$"},
    layers=(
        *(
            figures.line(
                f"kappa = {kappa:g}", label=f"$\\kappa = {kappa:g}$", series=place, dash=dash
            )
            for place, kappa, dash in zip(
                (1, 2, 3), OTHERS[1:], ("6 3", "7 2 1.5 2", "1.5 2"), strict=True
            )
        ),
        figures.line("diffusion", label="diffusion", series=None),
        figures.points("share", "stderr", label="chains"),
    ),
    xlabel="slow time $t = \\tau / d$",
    ylabel="$P[u > 0]$",
    size=(9.0, 4.2),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/absorption",
    title="Sharp heads: where the overlap of two tokens ends",
    question="With sharp heads, where does the overlap of two tokens end?",
    summary="Under sharp heads the overlap of two tokens is a diffusion on the slow clock. The "
    "printed equation ends at $+1$ with probability $1/2 + \\arcsin(u_0)/\\pi$; with the exact "
    "mean cosine of a head it ends there less often, and for $d_k = d$ it does not settle. Chains "
    "at finite dimension are compared with their diffusion, and that against its limits.",
    citations=("koubbi2026",),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=40_000),
        "paper": Config(dim=64, replicas=100_000, step=0.05),
    },
    parts=(ENDS, SHARES),
    claims=(SHARE, SETTLED, UNSETTLED),
    figures=(ABOVE,),
    finding=ex.Finding(
        "For wide keys a share of {0} of the pairs of tokens ends at overlap $+1$; with $d_k = "
        "d$ a share of {1} lies above zero at slow time 8",
        ("settled-share", "unsettled-share"),
    ),
)
