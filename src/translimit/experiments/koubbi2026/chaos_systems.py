"""Small systems of tokens among many under the same heads; single layers and heads without scores.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import attention, core, describe, limits, models
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from translimit.core import Key

#: Diffusive time, that of a layer, and how far apart the other starts are.
TIME, STEP, APART = 0.8, 0.05, 0.2
LAYERS = round(TIME / STEP)
#: Replicas that run at once without scores; tokens of the laws on which single heads act.
BATCH, CLOUD = 50, 16


@dataclass(frozen=True)
class Case:
    """A dimension and the deviation of the scores."""

    dim: int
    score_std: float

    @property
    def name(self) -> str:
        """As in the names of claims."""
        return f"d={self.dim},beta={self.score_std:g}"

    @property
    def words(self) -> str:
        """As in figures."""
        return f"d = {self.dim}, score deviation {self.score_std:g}"

    @property
    def expected(self) -> float:
        """N times the mean square distance, without scores."""
        return limits.homogenized.chaos.token_distance(self.dim, TIME, STEP)


FREE, SCORED = (Case(3, 0.0), Case(8, 0.0)), Case(8, 1.0)
CASES, DIMS = (*FREE, SCORED), (3, 8)


@dataclass(frozen=True)
class Chaos(ex.Arrays):
    """Mean square distances of tokens of small systems to the same tokens of a large one.

    Without the share n / N of its error that a system of n has with the large one.
    """

    size: Annotated[Int[np.ndarray, " size"], "tokens $n$"]
    equal: Annotated[Float[np.ndarray, "replica size"], "from equal starts"]
    apart: Annotated[Float[np.ndarray, "replica size"], "what starts apart add"]
    start: Annotated[Float[np.ndarray, "replica size"], "mean square distance of the starts"]


@dataclass(frozen=True)
class Single(ex.Arrays):
    """Single layers and heads without scores, over what they are in theory."""

    first: Annotated[Float[np.ndarray, " layer"], "first layer"]
    token: Annotated[Float[np.ndarray, " head"], "two tokens, one law"]
    law: Annotated[Float[np.ndarray, " head"], "one token, two laws"]
    overlap: float


#: What takes all systems through the same layers.
Run = Callable[[list[np.ndarray]], list[np.ndarray]]


def _squares(a: Float[np.ndarray, "*batch n d"], b: Float[np.ndarray, "*batch n d"]) -> np.ndarray:
    return np.mean(np.sum((a - b) ** 2, axis=-1), axis=-1)


def _free_layer(draw: np.random.Generator, x: list[np.ndarray]) -> list[np.ndarray]:
    """A layer without scores, the same for all systems: V times the mean token, written out."""
    replicas, _, d = x[0].shape
    V = (STEP / d) ** 0.5 * draw.standard_normal((replicas, d, d))
    return [core.SPHERE.project(one + one.mean(1, keepdims=True) @ V) for one in x]


def _through(
    sizes: Sequence[int], largest: int, count: int, dim: int, draw: np.random.Generator, run: Run
) -> list[np.ndarray]:
    """Distances of a batch of replicas: from equal starts, what others add, of the starts."""
    large = core.SPHERE.project(draw.standard_normal((count, largest, dim)))
    moved = core.SPHERE.project(large + APART * dim**-0.5 * draw.standard_normal(large.shape))
    equal, apart = ([one[:, :n] for n in sizes] for one in (large, moved))
    start = [_squares(a, b) for a, b in zip(equal, apart, strict=True)]
    end, *small = run([large, *equal, *apart])
    ends = [_squares(one, end[:, : one.shape[1]]) for one in small]
    first, second = ends[: len(start)], ends[len(start) :]
    share = 1.0 - np.array(sizes) / largest
    columns = [np.stack(one, axis=1) for one in (first, second, start)]
    return [columns[0] / share, columns[1] - columns[0], columns[2]]


def _joined(sizes: Sequence[int], batches: list[list[np.ndarray]]) -> Chaos:
    equal, apart, start = (np.concatenate(one) for one in zip(*batches, strict=True))
    return Chaos(size=np.array(sizes), equal=equal, apart=apart, start=start)


def without_scores(
    case: Case, sizes: Sequence[int], largest: int, replicas: int, key: Key
) -> Chaos:
    """Replicas of all systems without scores, in double precision."""
    draw, batches = common.generator(key), []

    def run(systems: list[np.ndarray]) -> list[np.ndarray]:
        for _ in range(LAYERS):
            systems = _free_layer(draw, systems)
        return systems

    for first in range(0, replicas, BATCH):
        count = min(BATCH, replicas - first)
        batches.append(_through(sizes, largest, count, case.dim, draw, run))
    return _joined(sizes, batches)


def with_scores(sizes: Sequence[int], largest: int, replicas: int, key: Key) -> Chaos:
    """The same with scores, by the chain with explicit weights, in single precision."""
    law = describe.GaussianHeads.of_score_std(SCORED.score_std, dim=SCORED.dim)
    chain = models.RandomHeadChain(law=law, step=STEP**0.5, heads=1, layers=LAYERS)
    draw, batches = common.generator(key), []
    for replica in range(replicas):
        own = core.named_key(key, "heads", replica)

        def run(systems: list[np.ndarray], key: Key = own) -> list[np.ndarray]:
            starts = [one[0].astype(np.float32) for one in systems]
            ends = [chain.simulate(one, key=key, normalize=True).tokens[:, -1] for one in starts]
            return [np.asarray(one, np.float64) for one in ends]

        batches.append(_through(sizes, largest, 1, SCORED.dim, draw, run))
    return _joined(sizes, batches)


def single(dim: int, sizes: Sequence[int], largest: int, layers: int, key: Key) -> Single:
    """One layer of uniform tokens at every size; heads on two tokens, and on two laws."""
    import jax
    import jax.numpy as jnp

    draw, ratios = common.generator(key), []
    expected = limits.homogenized.chaos.first_layer_distance(dim, STEP, 0.0)
    for _ in range(layers // BATCH):
        equal, *_ = _through(sizes, largest, BATCH, dim, draw, lambda x: _free_layer(draw, x))
        ratios.append((equal * np.array(sizes)).mean(axis=1) / expected)
    law = describe.GaussianHeads(dim=dim, beta=0.0, sigma_a=1.0)
    clouds = core.SPHERE.project(draw.standard_normal((2, CLOUD, dim)) + np.eye(dim)[0])
    clouds[1, 0] = clouds[0, 0]  # one token of both laws

    def effects(number: jax.Array) -> jax.Array:
        V, A = law.sample(jax.random.fold_in(key, number), jnp.float64)
        outputs = jnp.stack(
            [attention.head_output(V, A, law.beta, jnp.asarray(x), causal=False) for x in clouds]
        )
        G = outputs - jnp.sum(outputs * clouds, -1, keepdims=True) * clouds
        return jnp.sum(jnp.stack([G[0, 1] - G[0, 2], G[0, 0] - G[1, 0]]) ** 2, axis=-1)

    with jax.enable_x64(True):
        every = jax.jit(lambda n: jax.lax.map(effects, n, batch_size=1000))
        token, other = np.asarray(every(jnp.arange(layers))).T
    (mean, moved), overlap = clouds.mean(axis=1), float(clouds[0, 1] @ clouds[0, 2])
    return Single(
        first=np.concatenate(ratios),
        token=token / (2 / dim * (mean @ mean) * (1 - overlap**2)),
        law=other / ((dim - 1) / dim * np.sum((mean - moved) ** 2)),
        overlap=overlap,
    )
