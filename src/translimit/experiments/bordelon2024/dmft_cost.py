r"""What the limit costs: time against inputs, tokens, steps and layers, error against heads.

A pass costs O(steps inputs tokens r layers heads head_dim) with r directions of each field, which
grow with inputs and tokens and settle with the steps. Times are medians after compilation, with
the powers fitted to them: measurements of one machine, not claims. What is claimed is the error:
the scatter of predictions over populations falls like heads^(-1/2).

Reference: documentation, "Training dynamics".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.dmft_problem import Problem
from translimit.experiments.checked import Count, Entries, Four, IncreasingSizes, Two

#: The sizes along which time is measured.
AXES = ("inputs", "tokens", "steps", "layers")


@dataclass(frozen=True)
class Config(Problem):
    """The base of the grid, and how far each size grows.

    Attributes:
        factors: each size is the base times these.
        repeats: timed passes of each size; their median counts.
        heads: heads of a population where the error is measured.
        scattered: populations of one solve there.
        replicates: independent solves of each.
    """

    task: str = "synthetic"
    inputs: Count = 2
    tokens: Count = 2
    dim: Count = 32
    steps: Count = 8
    samples: Count = 2000
    populations: Two = 2
    factors: Annotated[IncreasingSizes, Entries(2)] = (1, 2, 4, 8)
    repeats: Count = 3
    heads: Annotated[IncreasingSizes, Entries(2)] = (250, 700, 2000, 4000)
    scattered: Two = 16
    replicates: Four = 24

    def size(self, axis: str, factor: int) -> int:
        """A size of the grid."""
        return factor * getattr(self, axis)

    def sized(self, axis: str, factor: int) -> Config:
        """The configuration with one size of the grid."""
        return replace(self, **{axis: self.size(axis, factor)})


@dataclass(frozen=True)
class Times(ex.Arrays):
    """Seconds of a population along one axis [s], and the memory told before [byte]."""

    size: Int[np.ndarray, " size"]
    seconds: Annotated[Float[np.ndarray, "size repeat"], "seconds of a population"]
    memory: Annotated[Float[np.ndarray, " size"], "bytes told"]


@dataclass(frozen=True)
class Populations(ex.Arrays):
    """How predictions of populations scatter, solve by solve."""

    heads: Int[np.ndarray, " heads"]
    scatter: Annotated[
        Float[np.ndarray, "heads replicate"],
        "deviation of one population, rms over evaluations after the first and inputs",
    ]


def compute_times(config: Config, axis: str, keys: ex.Keys) -> Times:
    """Timed passes after one that compiles."""
    seconds, told = [], []
    for factor in config.factors:
        sized = config.sized(axis, factor)
        problem = sized.limit()
        method = sized.method(problem)
        core.solve(problem, method, key=keys.own)
        row = []
        for repeat in range(config.repeats):
            start = time.perf_counter()
            core.solve(problem, method, key=core.named_key(keys.own, factor, repeat))
            row.append((time.perf_counter() - start) / config.populations)
        seconds.append(row)
        told.append(float(problem.memory(method)))
    sizes = [config.size(axis, factor) for factor in config.factors]
    return Times(np.array(sizes), np.array(seconds), np.array(told))


def compute_populations(config: Config, at: ex.Alone, keys: ex.Keys) -> Populations:
    """Repeated solves with every number of heads."""
    del at
    scatter = []
    for heads in config.heads:
        sized = replace(config, samples=heads, populations=config.scattered)
        problem = sized.limit()
        method = sized.method(problem)
        own = [core.named_key(keys.own, heads, i) for i in range(config.replicates)]
        errors = np.array([core.solve(problem, method, key=key).stderr[1:] for key in own])
        scatter.append(np.sqrt(config.scattered * np.mean(errors**2, axis=(1, 2))))
    return Populations(np.array(config.heads), np.array(scatter))


def _time_cost(config: Config, axis: str) -> ex.Cost:
    """Compilation, and passes that grow."""
    history = config.factors[-1] * config.steps * 4
    work = 6e-9 * config.samples * config.head_dim * history**2
    passes = config.repeats * config.populations
    largest = config.sized(axis, config.factors[-1])
    return ex.Cost(4.0 * len(config.factors) + passes * work, largest.limit_bytes())


def _error_cost(config: Config, at: ex.Alone) -> ex.Cost:
    del at
    largest = replace(config, samples=config.heads[-1])
    each = sum(0.04 + 4e-5 * heads for heads in config.heads)
    seconds = 10.0 * len(config.heads) + config.replicates * config.scattered * each
    return ex.Cost(seconds, largest.limit_bytes())


TIME = ex.Part("time/{axis}", Times, compute_times, grid=lambda c: AXES, cost=_time_cost)
ERROR = ex.Part("error", Populations, compute_populations, grid=ex.alone, cost=_error_cost)


def _scatter(found: ex.Found[Config]) -> Estimate:
    """The power of the heads in the deviation of one population."""
    return core.fit_rate(found.config.heads, found(ERROR).scatter).estimate()


SCATTER = ex.claim(
    "error",
    "The scatter of predictions over populations falls like the inverse square root of the sampled "
    "heads.",
    _scatter,
    prediction=-0.5,
    tol=0.1,
    rivals=(
        ex.Rival("of an average that cancels its first order, exponent -1", -1.0),
        ex.Rival("of correlated heads, exponent -1/4", -0.25),
        ex.Rival("no gain from more heads", 0.0),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for axis, data in found.each(TIME):
        median = np.median(data.seconds, axis=1)
        power = float(np.polyfit(np.log(data.size[-2:]), np.log(median[-2:]), 1)[0])
        columns = (found.config.factors, data.size, median, data.memory)
        for factor, size, seconds, memory in zip(*columns, strict=True):
            yield (axis, int(size), float(seconds), float(memory) / 2**20, power, factor)


COST = ex.Figure(
    name="cost",
    title="Cost of one population of the limit",
    caption="Medians of {repeats} timed passes after compilation on the machine of this run, not "
    "repeated elsewhere; base P = {inputs}, S = {tokens}, T = {steps}, L = {layers}, N = "
    "{head_dim}, {samples} heads.",
    columns=("axis", "size", "seconds", "MiB told", "power of the last pair", "factor"),
    rows=_rows,
    x="factor",
    by="axis",
    layers=(figures.points("seconds", joined=True),),
    xlabel="factor of the base size",
    ylabel="seconds a population",
    log="xy",
    ticks=True,
    shown=lambda found, table: len(table.rows),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-cost",
    title="What the limit costs",
    question="What does it cost to solve the limit?",
    summary="Time of one population against inputs, tokens, steps and layers, memory told before "
    "the solve, and the error against the number of sampled heads.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        # The mean square over evaluations and inputs has about two degrees of freedom a population:
        # 14 solves of 16 give the exponent between 250 and 2000 heads to 0.022, its tolerance over
        # 4.5.
        "demo": Config(factors=(1, 2), samples=1000, heads=(250, 700, 2000), replicates=14),
        "standard": Config(),
        "paper": Config(factors=(1, 2, 4, 8, 16), samples=8000, replicates=32),
    },
    parts=(TIME, ERROR),
    claims=(SCATTER,),
    figures=(COST,),
    finding=ex.Finding(
        "Predictions scatter over populations with the exponent {0} in the number of sampled heads",
        ("error",),
    ),
)
