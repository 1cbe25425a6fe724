r"""Clouds that flow and clouds at rest: the weights of their tokens, computed.

- `DEPTH`: Gaussian clouds flow to t1; the entropy and the effective sample size of the weights of
  every token, averaged over the tokens, beside those of the closure started from each cloud's own
  moments (see `tilted_weights`).
- `SHARP`: clouds at rest and single queries x of growing |Sigma^(1/2) A x|^2.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, limits, observe
from translimit.experiments.castin2025.canonical import (
    BLOW_UP,
    COV,
    MEAN,
    K,
    Q,
    V,
    batch_size,
    canonical_attention,
    gaussian_clouds,
)
from translimit.experiments.castin2025.tilted_weights import closure_weights, scores, tilts
from translimit.experiments.checked import (
    CheckedConfig,
    Distinct,
    OneOf,
    Replicates,
    Sizes,
    Two,
    Within,
    require_one_each,
)

if TYPE_CHECKING:
    from translimit.core import AnyArray

VARIANTS = ("softmax", "l2")
#: What the weights are compared with: the closure's Gaussian tilt, and rivals.
LAWS = (
    "the closure",
    "queries and keys swapped",
    "scores times 1.1",
    "the moments at the start",
    "no confinement by the keys",
)
#: Depths that are kept, ends included, and Runge-Kutta steps to the last.
SAVES, STEPS = 5, 12
#: Exponents |Sigma^(1/2) A x|^2 of the single queries.
EXPONENTS = np.arange(0.0, 24.1, 0.5)
#: One pair of tokens in one evaluation of the field, and in the observables, on one core.
SECONDS_PER_PAIR = 4e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        variants: of `VARIANTS`.
        tokens: numbers of tokens n of the clouds that flow.
        clouds: independent clouds at each of these n.
        t1: final depth, well before the closure's blow-up at 3.93.
        sharp_tokens: numbers of tokens of the clouds at rest.
        sharp_clouds: how many of each.
    """

    variants: Annotated[tuple[str, ...], OneOf(VARIANTS), Distinct()] = VARIANTS
    tokens: Sizes = (100, 400, 1600)
    clouds: Replicates = (64, 32, 16)
    t1: Annotated[float, Within(0, BLOW_UP, above=True, below=True)] = 0.8
    sharp_tokens: Sizes = (100, 1000, 10_000)
    sharp_clouds: Two = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)

    def clouds_of(self, tokens: int) -> int:
        """How many clouds of so many tokens flow."""
        return self.clouds[self.tokens.index(tokens)]

    @property
    def shown(self) -> list[tuple[str, int]]:
        """The smallest and the largest clouds of every variant."""
        return [(v, n) for v in self.variants for n in (min(self.tokens), max(self.tokens))]


@dataclass(frozen=True)
class Depth(ex.Arrays):
    """Weights along depth, averaged over the tokens of each cloud."""

    time: Annotated[Float[np.ndarray, " time"], "depth $t$"]
    deficit: Annotated[Float[np.ndarray, "cloud time"], "log n - entropy (nats)"]
    fraction: Annotated[Float[np.ndarray, "cloud time"], "effective sample size / n"]
    law_deficit: Annotated[Float[np.ndarray, "law cloud time"], "of `LAWS` (nats)"]
    law_fraction: Annotated[Float[np.ndarray, "law cloud time"], "of `LAWS`"]

    def both(
        self, array: str, law: str = LAWS[0]
    ) -> tuple[Float[np.ndarray, "cloud time"], Float[np.ndarray, "cloud time"]]:
        """An array of the clouds, and of the closure or another law."""
        place = LAWS.index(law)
        if array == "deficit":
            return self.deficit, self.law_deficit[place]
        return self.fraction, self.law_fraction[place]


@dataclass(frozen=True)
class Sharp(ex.Arrays):
    """Weights of single queries in clouds at rest, and their limits."""

    exponent: Float[np.ndarray, " exponent"]
    deficit: Annotated[Float[np.ndarray, "cloud exponent"], "log n - entropy (nats)"]
    fraction: Annotated[Float[np.ndarray, "cloud exponent"], "effective sample size / n"]
    limit_deficit: Float[np.ndarray, " exponent"]
    limit_fraction: Float[np.ndarray, " exponent"]


def compute_depth(config: Config, at: tuple[str, int], keys: ex.Keys) -> Depth:
    """Clouds and closures along depth, in float64."""
    import jax

    variant, tokens = at
    clouds = config.clouds_of(tokens)
    chosen, ts = canonical_attention(variant), np.linspace(0.0, config.t1, SAVES)
    initial = gaussian_clouds(keys.own, clouds, tokens, np.float64)

    def flow(cloud: AnyArray) -> AnyArray:
        problem = limits.meanfield.ParticleFlow(attention=chosen, initial=cloud, t1=config.t1)
        return core.solve(problem, limits.meanfield.FixedODE(steps=STEPS), save=ts).tokens

    def closure(mean: AnyArray, cov: AnyArray) -> tuple[AnyArray, AnyArray]:
        problem = limits.meanfield.GaussianFlow(attention=chosen, mean=mean, cov=cov, t1=config.t1)
        solution = core.solve(problem, limits.meanfield.FixedODE(steps=64), save=ts)
        return solution.mean, solution.cov

    with jax.enable_x64(True):
        batch = batch_size(clouds, tokens)
        paths = np.asarray(jax.jit(lambda x: jax.lax.map(flow, x, batch_size=batch))(initial))
        mean, cov = (
            np.asarray(part) for part in jax.jit(jax.vmap(closure))(*observe.moments(initial))
        )
    deficit, fraction = np.empty((2, clouds, SAVES))
    for cloud in range(clouds):
        for time in range(SAVES):
            logits = scores(chosen, paths[cloud, time], paths[cloud, time])
            deficit[cloud, time] = np.log(tokens) - observe.attention_entropy(logits).mean()
            fraction[cloud, time] = observe.effective_sample_size(logits).mean() / tokens
    fields = {
        "queries and keys swapped": canonical_attention(variant, swapped=True),
        "scores times 1.1": canonical_attention(variant, 1.1**0.5),
        "no confinement by the keys": attention.Softmax(Q=Q, K=K, V=V, score_scale=2.0),
    }
    start = tuple(np.repeat(moment[:, :1], SAVES, axis=1) for moment in (mean, cov))
    laws = [
        closure_weights(fields.get(law, chosen), *(start if "start" in law else (mean, cov)))
        for law in LAWS
    ]
    return Depth(ts, deficit, fraction, *map(np.stack, zip(*laws, strict=True)))


def compute_sharp(config: Config, tokens: int, keys: ex.Keys) -> Sharp:
    """Queries along the direction in which scores vary most, in float64."""
    softmax = canonical_attention("softmax")
    clouds = gaussian_clouds(keys.own, config.sharp_clouds, tokens, np.float64) - MEAN
    transposed, _ = tilts(softmax, np.eye(2))
    values, axes = np.linalg.eigh(transposed @ COV @ transposed.T)
    queries = np.sqrt(EXPONENTS / values[-1])[:, None] * axes[:, -1]
    entropy, size = np.empty((2, config.sharp_clouds, EXPONENTS.size))
    for index, cloud in enumerate(clouds):
        logits = scores(softmax, queries, cloud)
        entropy[index] = observe.attention_entropy(logits)
        size[index] = observe.effective_sample_size(logits)
    tilt, _ = tilts(softmax, queries)
    return Sharp(
        exponent=EXPONENTS,
        deficit=np.log(tokens) - entropy,
        fraction=size / tokens,
        limit_deficit=observe.gaussian_entropy_deficit(tilt, COV),
        limit_fraction=observe.gaussian_sample_fraction(tilt, COV),
    )


def _depth_cost(config: Config, at: tuple[str, int]) -> ex.Cost:
    """Compilation, and pairs of tokens."""
    pairs = at[1] ** 2 * config.clouds_of(at[1]) * (6 * STEPS + 4 * SAVES)
    return ex.Cost(3.0 + SECONDS_PER_PAIR * pairs)


DEPTH = ex.Part(
    "depth/{variant}/n={tokens}",
    Depth,
    compute_depth,
    grid=lambda c: [(v, n) for n in sorted(c.tokens, reverse=True) for v in c.variants],
    cost=_depth_cost,
)
SHARP = ex.Part(
    "sharp/n={tokens}",
    Sharp,
    compute_sharp,
    grid=lambda c: c.sharp_tokens,
    cost=lambda c, n: ex.Cost(1.0 + SECONDS_PER_PAIR * n * c.sharp_clouds * 4 * len(EXPONENTS)),
)
