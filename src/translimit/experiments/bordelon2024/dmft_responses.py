r"""Which terms of the limit matter: theories without one of them, and what networks say.

The four responses say how a Gaussian source feeds back through a matrix that is used twice,
forward and transposed: R^v and R^p of a head to the sources of its outputs and inputs, R^h and
R^g of the stream to the sources that a sub-block adds to it. A limit without one of them is what a
naive mean-field argument gives, which treats the two uses as independent.

Networks of three sizes are extrapolated to infinitely many heads. Two sizes are not enough: at late
evaluations they leave a bias of order 1 / H^2 that is many standard errors.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import RingProblem
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    coordinate,
    course,
    extrapolated_gap,
    solve_limit,
    train_networks,
)
from translimit.experiments.checked import (
    Count,
    Counts,
    Doubling,
    Increasing,
    Positive,
    Replicates,
    Two,
    require_one_each,
)

#: Other theories, and what they do otherwise.
THEORIES = {
    "R_v": "without $R^v$",
    "R_p": "without $R^p$",
    "R_h": "without $R^h$",
    "R_g": "without $R^g$",
    "half-depth": "half as many layers",
    "twice-depth": "twice as many layers",
    "rate": "the rate without $\\gamma_0^2$",
}
#: Their names, in that order; the first four leave out a response.
SAID = tuple(THEORIES.values())
#: Those that change the mean prediction by more than its tolerance.
COARSE = ("R_v", "R_h", "rate")


@dataclass(frozen=True)
class Config(RingProblem):
    """The problem, and networks of three sizes at every depth.

    Attributes:
        depths: L; the limit is also solved at half and at twice of each.
        heads: H, each twice the one before.
        seeds: networks of each H.
    """

    eta0: Positive = 0.05
    steps: Count = 8
    depths: Annotated[tuple[Two, ...], Increasing()] = (2, 4)
    heads: Annotated[Counts, Doubling(3)] = (16, 32, 64)
    seeds: Replicates = (1000, 3000, 3000)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        self.require_samples()
        require_one_each("seeds", self.seeds, "heads", self.heads)

    def theory(self, layers: int, name: str) -> Config:
        """The problem whose limit a theory takes."""
        depth = {"half-depth": max(1, layers // 2), "twice-depth": 2 * layers}.get(name, layers)
        rate = self.eta0 * (self.gamma0**2 if name == "rate" else 1.0)
        rate = min(max(rate, 1e-12), 1e12)
        return replace(self, layers=depth, eta0=rate)


def compute_limit(config: Config, at: tuple[int, str], keys: ex.Keys) -> Limit:
    """The limit of a theory; all theories share their random numbers."""
    layers, name = at
    omit = name if name.startswith("R_") else None
    with warnings.catch_warnings():
        if name == "rate":  # so large that it is at the edge of stability
            warnings.simplefilter("ignore")
        return solve_limit(config.theory(layers, name), keys.shared("limit"), omit=omit)


def compute_networks(config: Config, at: tuple[int, int], keys: ex.Keys) -> Networks:
    """Networks of one size."""
    layers, heads = at
    seeds = config.seeds[config.heads.index(heads)]
    return train_networks(config, keys.own, heads=heads, seeds=seeds, layers=layers)


def _networks_cost(config: Config, at: tuple[int, int]) -> ex.Cost:
    layers, heads = at
    return config.networks_cost(heads, config.seeds[config.heads.index(heads)], layers=layers)


LIMIT = ex.Part(
    "limit/L={layers}/{theory}",
    Limit,
    compute_limit,
    grid=lambda c: [(layers, name) for layers in c.depths for name in ("all", *THEORIES)],
    cost=lambda c, at: c.theory(*at).limit_cost(),
)
NETWORKS = ex.Part(
    "networks/L={layers}/H={heads}",
    Networks,
    compute_networks,
    grid=lambda c: [(layers, heads) for layers in c.depths for heads in c.heads],
    cost=_networks_cost,
)


def _trained(found: ex.Found[Config], layers: int) -> list[Networks]:
    return [found(NETWORKS, (layers, heads)) for heads in found.config.heads]


def _theory(found: ex.Found[Config], layers: int, name: str) -> Limit:
    if name == "lazy":
        return found(LIMIT, (layers, "all")).frozen()
    return found(LIMIT, (layers, name))


def _gap(found: ex.Found[Config], layers: int, name: str) -> Estimate:
    """Extrapolated predictions of networks minus those of a theory."""
    return extrapolated_gap(_trained(found, layers), _theory(found, layers, name), "predictions")


def _missed(name: str) -> ex.Rival[Config, int]:
    """Another theory of the mean prediction."""
    said = "features that do not move" if name == "lazy" else THEORIES[name]
    return ex.Rival(said, estimate=lambda found, layers: _gap(found, layers, name))


def _between(found: ex.Found[Config], at: tuple[int, str]) -> Estimate:
    layers, name = at
    right = found(LIMIT, (layers, "all"))
    return coordinate(_trained(found, layers), right, _theory(found, layers, name))


ALL = ex.Claims(
    "L={layers}-all",
    lambda found, layers: (
        f"With all responses the predictions of the limit at $L = {layers}$ are those of networks, "
        f"extrapolated from $H = {found.config.heads[-3:]}$ (mean over evaluations and inputs)."
    ),
    estimate=lambda found, layers: _gap(found, layers, "all"),
    prediction=0.0,
    tol=0.02,
    over=lambda c: c.depths,
    rivals=tuple(_missed(name) for name in (*COARSE, "lazy")),
)
EACH = ex.Claims(
    "L={layers}-{theory}",
    lambda found, at: (
        f"At $L = {at[0]}$ the course of training lies on the limit (0), not on another theory "
        f"(1), {THEORIES[at[1]]}: coordinate along their difference, weighted by the scatter of "
        "networks."
    ),
    estimate=_between,
    prediction=0.0,
    tol=0.3,
    over=lambda c: [(layers, name) for layers in c.depths for name in THEORIES],
    rivals=(ex.Rival("the other theory", 1.0), ex.Rival("its opposite", -1.0)),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """The course of training: networks, the limit and the other theories."""
    for layers in found.config.depths:
        ends = extrapolated([course(net.predictions) for net in _trained(found, layers)])
        errors = np.sqrt(np.diag(ends.cov))
        for t, (mean, error) in enumerate(zip(ends.mean, errors, strict=True)):
            yield (layers, "networks", t, float(mean), 2 * float(error))
        for name, said in {"all": "limit", **THEORIES}.items():
            for t, value in enumerate(course(found(LIMIT, (layers, name)).predictions)):
                yield (layers, said, t, float(value), 0.0)


RESPONSES = ex.Figure(
    name="responses",
    title="The limit and other theories",
    caption="Mean prediction towards the targets. Points: networks, extrapolated from three sizes, "
    "with two standard errors.",
    columns=("layers", "theory", "updates", "prediction", "two standard errors"),
    rows=_rows,
    x="updates",
    by="theory",
    panels="layers",
    titles="$L = {}$",
    layers=(
        figures.line("prediction", where={"theory": SAID[4:]}, dash="1.5 2"),
        figures.line("prediction", where={"theory": SAID[:4]}),
        figures.line("prediction", by="", series=None, label="limit", where={"theory": "limit"}),
        figures.points(
            "prediction",
            "two standard errors",
            by="",
            label="networks",
            where={"theory": "networks"},
        ),
    ),
    ylabel="prediction towards the targets",
    size=(10.0, 4.5),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-responses",
    title="Two and four layers: every term of the limit against networks",
    question="Is every term of the limit needed to match networks of two and four layers?",
    summary="A matrix that is used forward and transposed remembers: four responses carry it. "
    "Networks of two and four layers, extrapolated from three sizes, lie on the limit, and not on "
    "one without a response, of another depth, or with another rate.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(depths=(2,), samples=2000, populations=4, seeds=(800, 2000, 1600)),
        "standard": Config(samples=8000),
        "paper": Config(
            task="digits",
            inputs=8,
            eta0=0.1,
            steps=12,
            heads=(16, 32, 64, 128),
            seeds=(1000, 1000, 1000, 1000),
            samples=20_000,
        ),
    },
    parts=(LIMIT, NETWORKS),
    claims=(ALL, EACH),
    figures=(RESPONSES,),
    finding=ex.Finding(
        "At two layers, predictions of networks extrapolated in $H$ lie {0} from the limit with"
        " all of its terms; on the line from it to the limit without $R^v$ their coordinate is "
        "{1}",
        ("L=2-all", "L=2-R_v"),
    ),
)
