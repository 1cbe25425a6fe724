r"""Overlaps under sharp heads: one head's kernel, slow motion of two tokens, and a few tokens.

One head A = W W'^T maps the cosine R of two tokens to R - (1 / (2 d) + 1 / (2 d_k)) R (1 - R^2) in
the mean. With m = A x / |A x| imposed, as infinitely many tokens that fill the sphere make it, the
overlap of two tokens moves on the slow clock t = tau / d with kappa = 3/2 + d / (2 d_k).

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from jax import Array
    from matplotlib.figure import Figure as Canvas

    from translimit.core import Key
    from translimit.models import SharpHeadChain

#: Of the kernel: dimension and the cosine of the two tokens.
KERNEL_DIM, START = 16, 0.6
#: From a lost cosine to the coefficient of R (1 - R^2) / d.
KERNEL_SCALE = KERNEL_DIM / (START * (1 - START**2))
#: Coefficients of the slow equation; the law of the last is known.
KAPPAS = (1.0, 1.5, 2.0)
#: Finitely many tokens, and their dimension.
COUNTS, FEW_DIM = (2, 8, 16), 32


@dataclass(frozen=True)
class Kernel(ex.Arrays):
    """The coefficient by which one head draws a cosine together, and the exact mean cosine."""

    coefficient: float
    stderr: float
    exact: float
    samples: int

    @property
    def estimate(self) -> Estimate:
        """With what the exact kernel differs by from its first order in 1 / d."""
        exact = (START - self.exact) * KERNEL_SCALE
        return Estimate(self.coefficient, self.stderr, self.samples, abs(exact - 1.0))


@dataclass(frozen=True)
class Motion(ex.Arrays):
    """Overlaps of chains at slow times, and mean squares of the slow equation."""

    time: Annotated[Float[np.ndarray, " time"], "slow time $t = \\tau / d$"]
    kappa: Float[np.ndarray, " kappa"]
    overlap: Annotated[Float[np.ndarray, "replica time"], "overlap $u$"]
    theory: Annotated[Float[np.ndarray, "kappa time"], "$E u^2$"]

    @property
    def squares(self) -> Float[np.ndarray, "replica time"]:
        """Squared overlaps."""
        return self.overlap**2

    def rows(self) -> Iterator[tuple[float, ...]]:
        """Time, mean square overlap, its standard error, and what the equations predict."""
        columns = (self.time, *common.mean_and_stderr(self.squares), *self.theory)
        yield from zip(*(one.tolist() for one in columns), strict=True)


@dataclass(frozen=True)
class FewTokens(ex.Arrays):
    """Mean overlaps of finitely many tokens at diffusive time 1."""

    tokens: Annotated[Int[np.ndarray, " tokens"], "tokens $n$"]
    change: Annotated[Float[np.ndarray, "tokens replica"], "mean overlap"]
    dim: int


def kernel(samples: int, key: Key) -> Kernel:
    """Cosines after one head of two Gaussian layers, in float64."""
    import jax
    import jax.numpy as jnp

    def cosine(index: Array) -> Array:
        head = jax.random.fold_in(key, index)
        inner = models.sample_cosine(jnp.asarray(START), KERNEL_DIM, core.named_key(head, "W'"))
        return models.sample_cosine(inner, KERNEL_DIM, core.named_key(head, "W"))

    with jax.enable_x64(True):
        values = np.asarray(jax.jit(jax.vmap(cosine))(jnp.arange(samples)))
    mean, stderr = common.mean_and_stderr(values)
    return Kernel(
        coefficient=float((START - mean) * KERNEL_SCALE),
        stderr=float(stderr * KERNEL_SCALE),
        exact=float(limits.homogenized.low_temperature.output_cosine(START, KERNEL_DIM)),
        samples=samples,
    )


def motion(
    chain: SharpHeadChain, times: Sequence[float], *, replicas: int, paths: int, key: Key
) -> Motion:
    """Chains of two tokens from orthogonal, and paths of the slow equation."""
    overlaps = chain.simulate(0.0, times, replicas=replicas, key=key)
    theory = []
    for kappa in KAPPAS:
        if kappa == 2.0:
            theory.append(limits.homogenized.low_temperature.marginal_square(times))
            continue
        method = limits.homogenized.ArtanhEuler(paths=paths)
        problem = limits.homogenized.SlowOverlap(initial=0.0, t1=times[-1], kappa=kappa)
        solution = core.solve(problem, method, key=core.named_key(key, "slow"), save=times)
        theory.append((solution.overlap**2).mean(axis=0))
    return Motion(
        time=np.array(times),
        kappa=np.array(KAPPAS),
        overlap=np.asarray(overlaps),
        theory=np.array(theory),
    )


def few_tokens(step: float, replicas: int, key: Key) -> FewTokens:
    """Orthonormal tokens under one-hot attention."""
    law = describe.WideHeads(dim=FEW_DIM, score_std=1e3)
    layers = round(1.0 / step)
    chain = models.RandomHeadChain(law=law, step=step**0.5, heads=1, layers=layers)
    rows = []
    for tokens in COUNTS:
        own = core.named_key(key, tokens)
        paths = chain.simulate_overlaps(np.eye(tokens), replicas=replicas, key=own)
        rows.append(observe.mean_overlap(paths.tokens[:, -1]))
    return FewTokens(tokens=np.array(COUNTS), change=np.array(rows), dim=FEW_DIM)


def draw_motion(canvas: Canvas, chains: Mapping[int, Motion]) -> None:
    """Mean squares over time, and laws at the last time, of chains by their heads; the limit.

    With kappa = 2 the limit is u = tanh y, y normal with variance 2 t.
    """
    edges = np.linspace(-1.0, 1.0, 41)
    squares: list[figures.Mark] = []
    laws: list[figures.Mark] = []
    last = 0.0
    for series, (heads, data) in enumerate(chains.items()):
        word, last = f"{heads} {'head' if heads == 1 else 'heads'}", float(data.time[-1])
        colour, shape = figures.COLOURS[series], figures.SHAPES[series]
        mean, error = common.mean_and_stderr(data.squares)
        squares.append(
            figures.Points(data.time, mean, colour, f"chain, {word}", shape, error=error)
        )
        heights, _ = np.histogram(data.overlap[:, -1], edges, density=True)
        laws.append(figures.Steps(edges, heights, colour, word, figures.PATTERNS[series]))
    times, u = np.linspace(0.5, last, 60), np.linspace(-0.9995, 0.9995, 2001)
    exact = np.asarray(limits.homogenized.low_temperature.marginal_square(times))
    squares.append(figures.Line(times, exact, label="limit, $\\kappa = 2$"))
    density = np.exp(-(np.arctanh(u) ** 2) / (4 * last)) / np.sqrt(4 * np.pi * last)
    laws.append(figures.Line(u, density / (1 - u**2), label="limit, $\\kappa = 2$"))
    slow, square = figures.ChartAxis("slow time $t = \\tau / d$"), figures.ChartAxis("$E\\,u^2$")
    overlap = figures.ChartAxis(f"overlap $u$ at slow time {last:g}")
    height = figures.ChartAxis("density", 1e-2, 60, log=True)
    charts = [
        figures.Chart("Mean square overlaps", slow, square, tuple(squares)),
        figures.Chart("Laws of the overlap", overlap, height, tuple(laws)),
    ]
    figures.draw_charts(charts, canvas)
