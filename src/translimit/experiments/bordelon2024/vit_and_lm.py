"""What the experiments over sizes of trained networks share: sizes, shapes, training, records.

A size is (N, H, L): dimension of a head, heads, layers. Along an axis one of the three changes
and the others are those of the base. The networks are bare: pre-LN without gains, no biases, an
MLP as wide as the stream.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypedDict, Unpack

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import describe, scaling, train
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Counts,
    Distinct,
    Exponent,
    Four,
    Positive,
)

if TYPE_CHECKING:
    from translimit.core import Key
    from translimit.data import AbstractSource

AXES = ("N", "H", "L")
LONG = {"N": "head dimension $N$", "H": "heads $H$", "L": "layers $L$"}
#: (sample, query token, key token) of the recorded entries of the scores.
PLACES = ((0, 1, 0), (1, 3, 2), (2, 5, 1), (3, 4, 4))
WHEN = ("before", "after")
#: Pooled kernels that are recorded.
KERNELS = ("stream", "gradient")

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes(CheckedConfig):
    """The base and what each axis takes; the largest entry of an axis is its reference.

    Attributes:
        base: (N, H, L).
        head_dims: values of N.
        heads: values of H.
        layers: values of L.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    head_dims: Annotated[Counts, Distinct()] = (4, 8, 16, 32)
    heads: Annotated[Counts, Distinct()] = (2, 4, 8, 16, 32)
    layers: Annotated[Counts, Distinct()] = (1, 2, 4, 8, 16)

    def values(self, axis: str) -> tuple[int, ...]:
        """What an axis takes, increasing."""
        found = {"N": self.head_dims, "H": self.heads, "L": self.layers}[axis]
        return tuple(sorted(found))

    def at(self, axis: str, value: int) -> Size:
        """The base with one number changed."""
        N, H, L = (
            value if name == axis else own for name, own in zip(AXES, self.base, strict=True)
        )
        return N, H, L

    def along(self, axis: str) -> list[Size]:
        """The sizes of an axis, increasing."""
        return [self.at(axis, value) for value in self.values(axis)]

    def all(self, axes: Sequence[str] = AXES) -> list[Size]:
        """Every size once."""
        return list(dict.fromkeys(size for axis in axes for size in self.along(axis)))


@dataclass(frozen=True)
class At:
    """What is trained.

    Attributes:
        alpha_A: exponent of the scores.
        size: (N, H, L).
    """

    alpha_A: float
    size: Size


def label(size: Sequence[int]) -> str:
    """`4-8-2` of (4, 8, 2)."""
    return "-".join(str(number) for number in size)


@dataclass(frozen=True)
class Study(CheckedConfig):
    """Sizes and training.

    Attributes:
        sizes: base and axes.
        exponents: alpha_A; the first for all axes, every one along those of `compared`.
        alpha_L: exponent of the branches.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: examples of an update.
        probe: examples on which kernels are recorded.
    """

    #: Axes along which all exponents train.
    compared: ClassVar[tuple[str, ...]] = ("N",)

    sizes: Sizes = field(default_factory=Sizes)
    exponents: Annotated[tuple[Exponent, ...], Distinct()] = (1.0, 0.5)
    alpha_L: Exponent = 1.0
    beta0: Positive = 4.0
    gamma0: Positive = 1.0
    eta0: Positive = 0.05
    steps: Count = 300
    seeds: Four = 8
    batch: Count = 32
    probe: Four = 24

    @property
    def first(self) -> float:
        """The exponent of all axes."""
        return self.exponents[0]

    def points(self) -> list[At]:
        """Each size at the first exponent, and along some axes at each other."""
        several = self.sizes.all(self.compared)
        made = [At(self.first, size) for size in self.sizes.all()]
        return made + [At(alpha_A, size) for alpha_A in self.exponents[1:] for size in several]

    def training(self, optimizer: train.Optimizer) -> train.Training:
        """Of all seeds at the base rate."""
        return train.Training(
            steps=self.steps,
            rates=(self.eta0,),
            seeds=self.seeds,
            batch=self.batch,
            optimizer=optimizer,
        )


@dataclass(frozen=True)
class Losses(ex.Arrays):
    """Minibatch losses of the networks of one size at one rate."""

    seed: Int[np.ndarray, " seed"]
    step: Int[np.ndarray, " step"]
    updates: Int[np.ndarray, " observation"]
    loss: Annotated[Float[np.ndarray, "seed step"], "minibatch loss"]
    diverged_at: Int[np.ndarray, " seed"]


@dataclass(frozen=True)
class Trained(Losses):
    """The networks of one size before and after training; kernels before every block and last."""

    probe_loss: Annotated[Float[np.ndarray, "observation seed"], "loss on the probe"]
    accuracy: Float[np.ndarray, "observation seed"]
    stream_kernel: Float[np.ndarray, "observation seed level sample sample_2"]
    gradient_kernel: Float[np.ndarray, "observation seed level sample sample_2"]
    score: Annotated[Float[np.ndarray, "observation seed layer head place"], "score $A$"]
    attention: Float[np.ndarray, "observation seed layer head place"]
    score_head_var: Float[np.ndarray, "observation seed layer"]
    attention_head_var: Float[np.ndarray, "observation seed layer"]
    parameters: int
    tokens: int

    def kernels(self, kind: str, when: int) -> Float[np.ndarray, "seed sample sample_2"]:
        """The stream's kernels after the last block, or the gradient's before the first."""
        if kind == "stream":
            return self.stream_kernel[when, :, -1]
        return self.gradient_kernel[when, :, 0]

    def head_deviation(self, when: int) -> Float[np.ndarray, " seed"]:
        """Standard deviation over heads of the scores, root mean square over blocks."""
        return self.score_head_var[when].mean(axis=-1).astype(float) ** 0.5

    def final_losses(self) -> Float[np.ndarray, " seed"]:
        """Loss on the probe at the end."""
        return self.probe_loss[-1].astype(float)


class ShapeOptions(TypedDict, total=False):
    """What a shape says beside its sizes (see `describe.TransformerShape`)."""

    tokens: int
    outputs: int
    patch_dim: int
    vocabulary: int
    causal: bool
    pooled: bool


def numbers(
    size: Sequence[int],
    optimizer: Literal["sgd", "momentum", "adam"],
    alpha_A: float,
    alpha_L: float,
    beta0: float,
    gamma0: float,
    pixels: int = 1,
) -> describe.Parameterization:
    """The paper's parameterization at one size, base rate eta_0."""
    N, H, L = size
    return scaling.paper_parameterization(
        describe.Size(head_dim=N, heads=H, layers=L, mlp_ratio=1.0),
        optimizer=optimizer,
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        beta0=beta0,
        gamma0=gamma0,
        pixels=pixels,
    )


def bare_shape(size: Sequence[int], **options: Unpack[ShapeOptions]) -> describe.TransformerShape:
    """The paper's network: pre-LN without gains, no biases, MLP of ratio 1."""
    N, H, L = size
    return describe.TransformerShape(
        head_dim=N, heads=H, layers=L, mlp_ratio=1.0, gains=False, biases=False, **options
    )


def train_size(
    shape: describe.TransformerShape,
    parameterization: describe.Parameterization,
    source: AbstractSource,
    training: train.Training,
    key: Key,
    probe: int,
    *more: train.AbstractObservable,
) -> dict[str, np.ndarray]:
    """The arrays of `Trained`: one size with all its seeds, at one rate; and what else is asked."""
    history = train.train(
        shape,
        parameterization,
        source,
        training,
        key=key,
        observe=(
            train.ProbeLoss(),
            train.StreamKernel(),
            train.StreamKernel(gradient=True),
            train.AttentionLaw(places=PLACES),
            train.HeadVariance(),
            *more,
        ),
        observe_at=(0, training.steps),
        probe=probe,
    )
    return recorded(history)


def recorded(history: train.History) -> dict[str, np.ndarray]:
    """The arrays of `Losses` and what was observed, of an ensemble at one rate."""
    seeds, _, steps = history.losses.shape
    observed = {name: np.asarray(one)[:, :, 0] for name, one in history.observations.items()}
    return {
        "seed": np.arange(seeds),
        "step": np.arange(steps),
        "updates": np.array(history.observed_at, dtype=int),
        "loss": np.asarray(history.losses)[:, 0],
        "diverged_at": np.asarray(history.diverged_at)[:, 0],
        **observed,
    }
