"""Small experiments whose cells misbehave on demand, named `fake_experiments:OBJECT`.

They stand in for real ones in the tests of store, execute, study and cli, and are importable from
worker processes because the tests put this folder on their search path.
"""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit.core import Estimate


@dataclass(frozen=True)
class Config:
    """How many cells, how slow, and what one of them does."""

    cells: int = 3
    size: int = 64
    seconds: float = 0.0
    action: str = "none"  # of cell 1: raise, die, exit, full; raise-once, die-once (with a marker)
    marker: str = ""  # a folder in which each start of a cell leaves a file
    memory: float = 2e8  # of each cell, as its cost says


@dataclass(frozen=True)
class Group(ex.Arrays):
    """Normal samples, and what else a cell may hold."""

    row: Int[np.ndarray, " row"]
    draws: Float[np.ndarray, "row column"]
    product: Float[np.ndarray, "row other"]
    label: str
    missing: Float[np.ndarray, " row"]


def compute(config: Config, index: int, keys: ex.Keys) -> Group:
    import jax

    if config.marker:
        Path(config.marker, f"{keys.cell}-{os.getpid()}-{time.time_ns()}").touch()
    time.sleep(config.seconds)
    if index == 1:
        misbehave(config, starts=len(list(Path(config.marker).glob(f"{keys.cell}-*"))))
    draws = np.asarray(jax.random.normal(keys.own, (config.size, config.size)))
    return Group(
        row=np.arange(config.size),
        draws=draws,
        product=np.asarray(draws @ draws.T) / config.size,
        label=f"group {index}",
        missing=np.full(config.size, np.nan),
    )


GROUPS = ex.Part(
    "group-{index}",
    Group,
    compute,
    grid=lambda c: range(c.cells),
    cost=lambda c, index: ex.Cost(1.0 / c.cells + c.seconds, c.memory),
)


def mean(found: ex.Found[Config]) -> Estimate:
    draws = np.concatenate([one.draws.ravel() for _, one in found.each(GROUPS)])
    return Estimate.from_samples(draws.astype(np.float64))


TEN = ex.Rival[Config, ex.Alone]("the mean is ten", 10.0)
PRINTED = ex.Rival[Config, ex.Alone](
    "the mean is minus ten", lambda found, at: Estimate(-10.0, 0.5), printed=True
)


def rows(found: ex.Found[Config]):
    return [(f"group-{index}", float(one.draws.mean())) for index, one in found.each(GROUPS)]


def draw(canvas, table, found):
    axes = canvas.subplots()
    axes.plot(table.numbers("mean"), "o")
    axes.set(xlabel="group", ylabel="mean")


def misbehave(config, starts):
    if config.action == "raise" or (config.action == "raise-once" and starts == 1):
        raise ValueError("this cell always fails")
    if config.action == "die" or (config.action == "die-once" and starts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if config.action == "exit":
        raise SystemExit(3)
    if config.action == "full":
        import resource
        import sys

        sys.dont_write_bytecode = True  # Python would leave a torn file and read it ever after
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def double(value):
    """A job for the tests of executors."""
    return {"twice": 2 * value, "pid": os.getpid()}


def environment(names, seconds=0.0):
    """The environment that a job sees."""
    time.sleep(seconds)
    return {name: os.environ.get(name) for name in names}


def platform():
    """What kind of device a job's arrays are on."""
    import jax

    (device,) = jax.numpy.ones(3).devices()
    return device.platform


def product_error(size, bits=24):
    """The largest error of a float32 product, over that of the product of absolute values.

    `bits` of the inputs' significands are kept: 11 are what TensorFloat-32 has.
    """
    import jax

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size)).astype(np.float32)
    exact, scale = a.astype(float) @ b, np.abs(a).astype(float) @ np.abs(b)
    unit = 2.0 ** (24 - bits)
    kept = [(np.round(np.ldexp(m, 24) / unit) * unit, e - 24) for m, e in map(np.frexp, (a, b))]
    a, b = (np.ldexp(m, e).astype(np.float32) for m, e in kept)
    return float(np.max(np.abs(np.asarray(jax.numpy.asarray(a) @ b) - exact) / scale))


def obey(action, seconds=0.0, marker=""):
    """A job that raises, dies or sleeps."""
    time.sleep(seconds)
    if action == "die-once" and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise ValueError("told to\non two lines")
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "exit":
        raise SystemExit(3)
    if action == "memory":
        raise MemoryError("too large")
    if action == "exhausted":
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
    if action == "parents":
        import psutil

        for above in reversed(psutil.Process().parents()[:2]):
            above.kill()
        time.sleep(60)
    if action == "pid":
        return os.getpid()
    if action == "print":
        print("this is not the protocol")
    if action == "object":
        return object()
    return action


EXPERIMENT = ex.Experiment(
    name="fake/means",
    title="Means of normal samples",
    summary="Samples of $N(0, 1)$ against their mean.",
    citations=("castin2025",),
    presets={"demo": Config(), "standard": Config(cells=4)},
    parts=(GROUPS,),
    claims=(
        ex.claim("mean", "The mean is zero.", mean, 0.0, 1.0, rivals=(TEN, PRINTED)),
        ex.claim("wrong", "The mean is ten.", mean, 10.0, 1.0, rivals=(PRINTED,)),
        ex.claim(
            "nothing",
            "Not a number is no verdict.",
            lambda found: Estimate(float("nan")),
            0.0,
            1.0,
            rivals=(TEN,),
        ),
    ),
    figures=(
        ex.Figure(
            name="means",
            title="Means",
            caption="The means.",
            columns=("group", "mean"),
            rows=rows,
            draw=draw,
            shown=lambda found, table: len(table.rows),
        ),
    ),
)
OTHER = replace(EXPERIMENT, name="fake/other", presets={"demo": Config(cells=2, size=8)})
