"""Networks in a size that grows, and the limit of their training dynamics, on any data.

The problem (data, architecture, gradient descent) is the configuration's. Networks are trained seed
by seed, and the limit is solved, not simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    distances,
    solve_limit,
    train_networks,
)
from translimit.experiments.checked import Count, Distinct, Doubled, Entries, Four, OneOf, Positive

#: By axis: its symbol in figures and cell names.
SYMBOLS = {"heads": "H", "head_dim": "N", "layers": "L", "none": ""}
#: The responses of the stream and of heads.
RESPONSES = ("R_v", "R_p", "R_h", "R_g")


class Sizes(TypedDict, total=False):
    """Sizes of networks, where they are not those of the problem."""

    heads: int
    head_dim: int
    layers: int


@dataclass(frozen=True)
class Config(Problem):
    """The problem, and the networks that approach its limit.

    Attributes:
        axis: the size that grows; "none" for the limit alone, without networks.
        sizes: its values, each twice the one before.
        heads: H where another size grows; of the first network where layers grow.
        seeds: networks of each size.
        at_once: networks that memory holds at a time.
        tol: the largest gap of predictions (absolute) and kernels (relative) that is agreement.
        without: responses ("R_v", "R_p", "R_h", "R_g") of which other limits leave one out each.
    """

    axis: Literal["heads", "head_dim", "layers", "none"] = "heads"
    sizes: Doubled = (8, 16, 32, 64)
    heads: Count = 16
    seeds: Four = 1500
    at_once: Count = 6000
    tol: Positive = 0.02
    without: Annotated[tuple[str, ...], Entries(0), OneOf(RESPONSES), Distinct()] = ()

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        if self.axis != "head_dim":
            self.require_samples()
        if self.axis == "head_dim" and self.alpha_A < 1:
            raise ConfigError(
                "axis", f"head_dim has no limit at alpha_A = {self.alpha_A:g}", "pass alpha_A = 1"
            )
        if self.axis == "layers" and self.alpha_L < 1:
            raise ConfigError(
                "axis",
                f"layers has no depth ODE at alpha_L = {self.alpha_L:g}",
                "pass alpha_L = 1, or grow the heads at finite layers",
            )

    @property
    def symbol(self) -> str:
        """Of the size that grows."""
        return SYMBOLS[self.axis]

    @property
    def ends(self) -> tuple[int, ...]:
        """The smallest and the largest size; none where nothing grows."""
        return () if self.axis == "none" else (self.sizes[0], self.sizes[-1])

    @property
    def largest(self) -> tuple[int, ...]:
        """The sizes that are extrapolated: the three largest, or both."""
        return self.sizes[-3:]

    @property
    def theories(self) -> tuple[str, ...]:
        """Other limits: without a response, or as deep as the smallest network."""
        return (*self.without, *(("finite-depth",) if self.axis == "layers" else ()))

    @property
    def infinitely_deep(self) -> bool:
        """Whether the limit has infinitely many layers."""
        return self.axis == "layers"

    def infinite(self, axis: Literal["head_dim", "layers"]) -> float | None:
        """That a size of the limit is infinite; None where it is that of the problem."""
        return math.inf if self.axis == axis else None

    def network(self, size: int) -> Sizes:
        """The sizes of a network."""
        if self.axis == "heads":
            return {"heads": size}
        if self.axis == "head_dim":
            return {"heads": self.heads, "head_dim": size}
        return {"heads": self.heads * size // self.sizes[0], "layers": size}


@dataclass(frozen=True)
class Source:
    """What the limit is solved for.

    Attributes:
        data: digest of the data in a file, so that other data are another run; "" for what is
            shipped. It does not name the cell.
    """

    data: str = ""


@dataclass(frozen=True)
class Ensemble:
    """Networks of one size.

    Attributes:
        symbol: of the size that grows.
        size: its value.
        data: see `Source`.
    """

    symbol: str
    size: int
    data: str = ""


@dataclass(frozen=True)
class Theory:
    """Another limit.

    Attributes:
        name: a response that it leaves out, or "finite-depth".
        data: see `Source`.
    """

    name: str
    data: str = ""


def compute_limit(config: Config, at: Source, keys: ex.Keys, theory: str = "") -> Limit:
    """The limit; all limits share their random numbers."""
    del at
    depth = config.sizes[0] if theory == "finite-depth" else config.infinite("layers")
    return solve_limit(
        config,
        keys.shared("limit"),
        omit=theory if theory in RESPONSES else None,
        head_dim=config.infinite("head_dim"),
        layers=depth,
        heads_kept=8000,
    )


def compute_theory(config: Config, at: Theory, keys: ex.Keys) -> Limit:
    """Another limit."""
    return compute_limit(config, Source(at.data), keys, at.name)


def compute_networks(config: Config, at: Ensemble, keys: ex.Keys) -> Networks:
    """All networks of one size."""
    sizes = config.network(at.size)
    return train_networks(config, keys.own, seeds=config.seeds, at_once=config.at_once, **sizes)


def _source(config: Config) -> Source:
    return Source(config.file_digest() or "")


def _ensembles(config: Config) -> Sequence[Ensemble]:
    data = _source(config).data
    sizes = () if config.axis == "none" else config.sizes
    return [Ensemble(config.symbol, size, data) for size in sizes]


def _limit_cost(config: Config, at: Source | Theory) -> ex.Cost:
    """Passes of the limit."""
    del at
    cells = 28 if config.infinitely_deep else None
    return config.limit_cost(cells=cells)


def _networks_cost(config: Config, at: Ensemble) -> ex.Cost:
    sizes = config.network(at.size)
    return config.networks_cost(seeds=config.seeds, at_once=config.at_once, **sizes)


LIMIT = ex.Part("limit", Limit, compute_limit, grid=lambda c: [_source(c)], cost=_limit_cost)
OTHER = ex.Part(
    "limit-{name}",
    Limit,
    compute_theory,
    grid=lambda c: [Theory(name, _source(c).data) for name in c.theories],
    cost=_limit_cost,
)
NETWORKS = ex.Part(
    "networks/{symbol}={size}", Networks, compute_networks, grid=_ensembles, cost=_networks_cost
)
PARTS = (LIMIT, OTHER, NETWORKS)


def limit(found: ex.Found[Config]) -> Limit:
    """The limit."""
    return found(LIMIT, Source())


def other(found: ex.Found[Config], theory: str) -> Limit:
    """Another limit; "lazy" is that of features that do not move."""
    return limit(found).frozen() if theory == "lazy" else found(OTHER, Theory(theory))


def networks(found: ex.Found[Config], sizes: Sequence[int]) -> list[Networks]:
    """Networks of these sizes."""
    return [found(NETWORKS, Ensemble(found.config.symbol, size)) for size in sizes]


def errors(found: ex.Found[Config]) -> list[Float[np.ndarray, " seed"]]:
    """Distances of networks from the limit, size by size."""
    rows = [distances(one, limit(found)) for one in networks(found, found.config.sizes)]
    if not all(np.isfinite(row).all() for row in rows):
        raise ConfigError(
            "eta0",
            "networks or the limit diverged: their predictions are not finite",
            "pass a smaller one, or smaller beta0, gamma0 or momentum",
        )
    return rows


def fitted_rate(found: ex.Found[Config]) -> core.RateFit:
    """The power of the size with which they fall."""
    return core.fit_rate(found.config.sizes, found.once(errors))
