r"""Sites: what a head or a neuron does with its fields, whatever became of them in a matrix.

Fields of a population are rows [fields, families * width], a head having three families (keys,
queries and values) and a neuron one; width counts the coordinates of all heads, or the neurons.
Heads that share keys and values are one site, which writes a family each. Means over the population
are in the metric <x y> = scale times the sum over the row.

An MLP of `ratio` times as many neurons as the stream has coordinates has its second matrix
multiplied by (ratio n)^(-1/2). In the metric ratio times the mean, what is written is W x with x =
ratio^(-1/2) phi(m), its gradient ratio^(-1/2) W^T g, and both matrices are adjoint.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from translimit.describe import Activation
from translimit.limits.dmft.plan import Numbers


class Written(NamedTuple):
    """What a site hands to its output matrix, its scores, and what its gradients need."""

    x: Float[Array, "fields width"]
    scores: Float[Array, "heads inputs tokens tokens"]
    saved: PyTree[Array]


class Gradients(NamedTuple):
    """Gradients of a site's fields.

    Attributes:
        p: of all families.
        gain: of the factor of its scores, field by field, the mean over sites.
    """

    p: Float[Array, "fields stacked"]
    gain: Float[Array, "fields 1"]


@dataclass(frozen=True)
class AbstractSite(abc.ABC):
    """Frozen and hashable: a shape, no numbers.

    Attributes:
        inputs: P.
        tokens: S.
    """

    inputs: int
    tokens: int

    #: Whether sites are sampled (else fields are coefficient rows).
    sampled: ClassVar[bool]

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def families(self) -> int:
        """Fields of the input matrix beside each other, of a width each."""
        return 1

    @property
    def written(self) -> int:
        """Fields of the output matrix beside each other."""
        return 1

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Coordinates of the population."""

    @property
    @abc.abstractmethod
    def scale(self) -> float:
        """Of the metric."""

    @property
    def slow(self) -> bool:
        """Whether keys and queries learn at a rate of their own."""
        return False

    @abc.abstractmethod
    def forward(
        self, y: Float[Array, "fields stacked"], numbers: Numbers, gain: Float[Array, ""]
    ) -> Written:
        """What the fields write."""

    @abc.abstractmethod
    def backward(
        self,
        r: Float[Array, "fields width"],
        saved: PyTree[Array],
        numbers: Numbers,
        gain: Float[Array, ""],
    ) -> Gradients:
        """Gradients, from that of what is written."""

    def learning(
        self, p: Float[Array, "fields stacked"], numbers: Numbers
    ) -> Float[Array, "fields stacked"]:
        """Gradients times the learning rates of their families, relative to c."""
        return p

    def key_gradient(self, p: Float[Array, "fields stacked"]) -> Float[Array, ""]:
        """The mean of ((p^K)^2 + (p^Q)^2) / 2."""
        return jnp.zeros((), jnp.float64)


@dataclass(frozen=True)
class AbstractSampledSite(AbstractSite):
    """A population.

    Attributes:
        samples: sampled heads, or neurons.
        matched: moment matching.
        dtype: name of its precision.
    """

    samples: int
    matched: bool
    dtype: str

    sampled: ClassVar[bool] = True


@dataclass(frozen=True)
class Neurons(AbstractSampledSite):
    """MLP neurons.

    Attributes:
        activation: phi.
        ratio: neurons for each coordinate of the stream.
    """

    activation: Activation
    ratio: float

    @property
    def width(self) -> int:
        """Neurons."""
        return self.samples

    @property
    def scale(self) -> float:
        """Ratio times the mean."""
        return self.ratio / self.samples

    def forward(
        self, y: Float[Array, "fields stacked"], numbers: Numbers, gain: Float[Array, ""]
    ) -> Written:
        """phi(m)."""
        x, slope = jax.jvp(self.activation, (y,), (jnp.ones_like(y),))
        scores = jnp.zeros((0, self.inputs, self.tokens, self.tokens), y.dtype)
        return Written(self.ratio**-0.5 * x, scores, slope)

    def backward(
        self,
        r: Float[Array, "fields width"],
        saved: PyTree[Array],
        numbers: Numbers,
        gain: Float[Array, ""],
    ) -> Gradients:
        """phi'(m) z."""
        return Gradients(saved * (self.ratio**-0.5 * r), jnp.zeros((self.fields, 1)))
