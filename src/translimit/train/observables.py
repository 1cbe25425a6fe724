r"""What is recorded while networks train: named functions of the weights now and at the start.

Width averages are <h_a h_b> = sum_i h_{a,i} h_{b,i} / d, with a a token of a sample of the probe;
pooled fields are means over the tokens of a sample. g is d times the derivative of one output by
the stream, so that all kernels are of order one in the scaled parameterizations.

Two channels move the scores: W_Q and W_K learn, and what they are fed moves. Quantities with the
prefix `learned_` see the first alone: the new weights at the inputs of the start.

Reference: documentation, "Training transformers" and "Scaling rules".
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array

from translimit.core import ArgumentError
from translimit.models import Fields, Transformer, Weights
from translimit.train.losses import Loss, mean_over_targets, row_loss


class Snapshot:
    """A network, its start and the probe; what several observables need is computed once.

    Args:
        model: the network.
        weights: now.
        start: at the start.
        inputs: of the probe [samples, tokens, ...].
        targets: of the probe.
        loss: of rows.
        centred: whether outputs of the start are subtracted.
    """

    def __init__(
        self,
        model: Transformer,
        weights: Weights,
        start: Weights,
        inputs: Array,
        targets: Array,
        loss: Loss,
        *,
        centred: bool = False,
    ):
        self.model, self.weights, self.start = model, weights, start
        self.inputs, self.targets = inputs, targets
        self.loss: Loss = loss
        self.centred = centred

    @cached_property
    def fields(self) -> Fields:
        """Fields of all samples now, samples first."""
        return jax.vmap(self.model.fields, (None, 0))(self.weights, self.inputs)

    @cached_property
    def start_fields(self) -> Fields:
        """Fields of all samples at the start, samples first."""
        return jax.vmap(self.model.fields, (None, 0))(self.start, self.inputs)

    @cached_property
    def outputs(self) -> Array:
        """What is compared with targets [samples, ...]: less those of the start where centred."""
        now = self.fields.output
        return now - self.start_fields.output if self.centred else now

    @cached_property
    def learned(self) -> tuple[Array, Array, Array]:
        """Queries, keys and scores of the weights now at the inputs of the start."""
        at_start = self.start_fields.attention_input
        return jax.vmap(self.model.queries_and_keys, (None, 0))(self.weights, at_start)

    @cached_property
    def gradients(self) -> Array:
        """D times the derivative of output 0 by the stream [samples, layers + 1, tokens, dim].

        Outputs of all tokens are summed.
        """
        shape = self.model.shape

        def first(inputs: Array, kick: Array) -> Array:
            return jnp.sum(self.model(self.weights, inputs, kick)[..., 0])

        tokens = self.inputs.shape[1]
        dtype = self.fields.stream.dtype
        kick = jnp.zeros((shape.layers + 1, tokens, shape.dim), dtype)
        return shape.dim * jax.vmap(jax.grad(first, argnums=1), (0, None))(self.inputs, kick)


class AbstractObservable(abc.ABC):
    """A named function of a snapshot."""

    @property
    @abc.abstractmethod
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of what is recorded, with the names of their axes."""

    @abc.abstractmethod
    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """The arrays, by the names of `dims`."""


@dataclass(frozen=True)
class ProbeLoss(AbstractObservable):
    """Loss on the probe, and the part of the labels that is right; rows with a target count."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        return {"probe_loss": (), "accuracy": ()}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        loss, outputs, targets = row_loss(snapshot.loss), snapshot.outputs, snapshot.targets
        found = {"probe_loss": loss.rows, "accuracy": loss.right}
        return {n: mean_over_targets(f(outputs, targets), targets) for n, f in found.items()}


@dataclass(frozen=True)
class Predictions(AbstractObservable):
    """Outputs on the probe; [samples, tokens, outputs] where every token has a readout.

    Where training is centred, those of the start are subtracted.
    """

    per_token: bool = False

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        middle = ("token",) if self.per_token else ()
        return {"predictions": ("sample", *middle, "output")}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        return {"predictions": snapshot.outputs}


@dataclass(frozen=True)
class StreamKernel(AbstractObservable):
    """<h_a h_b> after every block and before the first.

    Attributes:
        pooled: of the means over tokens of all samples; else of the tokens of one sample.
        sample: which sample, where not pooled.
        gradient: of g instead of h.
    """

    pooled: bool = True
    sample: int = 0
    gradient: bool = False

    @property
    def name(self) -> str:
        """`stream_kernel`, `spatial_kernel`, `gradient_kernel` or `spatial_gradient_kernel`."""
        if self.gradient:
            return "gradient_kernel" if self.pooled else "spatial_gradient_kernel"
        return "stream_kernel" if self.pooled else "spatial_kernel"

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        pair = ("sample", "sample_2") if self.pooled else ("token", "token_2")
        return {self.name: ("level", *pair)}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        h = snapshot.gradients if self.gradient else snapshot.fields.stream
        if self.pooled:
            h = h.sum(axis=2) if self.gradient else h.mean(axis=2)
            kernel = jnp.einsum("pld,qld->lpq", h, h)
        else:
            one = h[self.sample]
            kernel = jnp.einsum("lsd,ltd->lst", one, one)
        return {self.name: kernel / h.shape[-1]}


@dataclass(frozen=True)
class PooledStream(AbstractObservable):
    """The pooled stream itself, from which `train.time_kernel` makes kernels across times."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        return {"pooled_stream": ("level", "sample", "coordinate")}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        return {"pooled_stream": snapshot.fields.stream.mean(axis=2).swapaxes(0, 1)}


@dataclass(frozen=True)
class StreamMotion(AbstractObservable):
    """How far blocks carry the stream: (h^L - h^0)^2, and the sum of what each block adds squared.

    Means over coordinates, tokens and samples. The second is the quadratic variation along depth.
    """

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        return {"stream_motion": (), "stream_variation": ()}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        h = snapshot.fields.stream
        return {
            "stream_motion": jnp.mean((h[:, -1] - h[:, 0]) ** 2),
            "stream_variation": jnp.mean(jnp.sum(jnp.diff(h, axis=1) ** 2, axis=1)),
        }


@dataclass(frozen=True)
class AttentionLaw(AbstractObservable):
    """Scores at fixed places for every head: samples of their law over heads.

    Attributes:
        places: (sample, query token, key token) of each entry.

    Raises:
        ArgumentError: no places.
    """

    places: tuple[tuple[int, int, int], ...] = ((0, 0, 1),)

    def __post_init__(self):
        if not self.places:
            raise ArgumentError("places", "is empty", "name at least one entry of the scores")

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        axes = ("layer", "head", "place")
        return {"score": axes, "attention": axes}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        sample, query, key = (jnp.array(column) for column in zip(*self.places, strict=True))
        fields = snapshot.fields
        return {
            name: jnp.moveaxis(entries[sample, :, :, query, key], 0, -1)
            for name, entries in (("score", fields.scores), ("attention", fields.attention))
        }


@dataclass(frozen=True)
class HeadVariance(AbstractObservable):
    """Variance over heads of the scores and of the attention, mean over entries, by layer."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        return {"score_head_var": ("layer",), "attention_head_var": ("layer",)}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        fields = snapshot.fields
        return {
            "score_head_var": jnp.var(fields.scores, axis=2).mean(axis=(0, 2, 3)),
            "attention_head_var": jnp.var(fields.attention, axis=2).mean(axis=(0, 2, 3)),
        }


@dataclass(frozen=True)
class ScoreChange(AbstractObservable):
    """How scores changed since the start, by layer: what heads share, and what tells them apart.

    Of the change delta of an entry in H heads: its variance over heads (with H - 1), and
    mean(delta)^2 - variance / H, which for independent heads is the square of their common part in
    the mean. Means over entries; NaN for one head.
    """

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class."""
        return {"score_change_common": ("layer",), "score_change_head_var": ("layer",)}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        change = snapshot.fields.scores - snapshot.start_fields.scores
        # Masked entries stay where they were, whatever is written there.
        change = jnp.where(jnp.isfinite(change), change, 0)
        variance = jnp.var(change, axis=2, ddof=1)
        common = jnp.mean(change, axis=2) ** 2 - variance / change.shape[2]
        return {
            "score_change_common": common.mean(axis=(0, 2, 3)),
            "score_change_head_var": variance.mean(axis=(0, 2, 3)),
        }


#: Names of `Coordinates`, the first column of a coordinate check.
COORDINATES = (
    "stream",
    "stream_change",
    "hidden",
    "hidden_change",
    "key",
    "query",
    "learned_key_change",
    "learned_query_change",
    "score",
    "score_change",
    "learned_score_change",
    "learned_score_mean",
    "learned_score_head_var",
    "output",
    "output_change",
)


@dataclass(frozen=True)
class Coordinates(AbstractObservable):
    """Sizes of fields and of their changes: root mean squares over entries, samples and blocks.

    The stream is that after the last block: over all of them its mean square would change with
    their number alone, since the stream moves more the deeper it is.

    Attributes:
        by_layer: root mean squares for every block instead; the stream counts after a block.
    """

    by_layer: bool = False

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """See the base class; outputs have no layers."""
        inner = ("layer",) if self.by_layer else ()
        return {name: () if name.startswith("output") else inner for name in COORDINATES}

    def __call__(self, snapshot: Snapshot) -> dict[str, Array]:
        """See the base class."""
        now, start = snapshot.fields, snapshot.start_fields
        query, key, scores = snapshot.learned
        learned = jnp.where(start.scores == 0, 0, scores - start.scores)

        first = 1 if self.by_layer else -1

        def rms(field: Array) -> Array:
            axes = tuple(i for i in range(field.ndim) if not (self.by_layer and i == 1))
            return jnp.sqrt(jnp.mean(field**2, axis=axes))

        out, out_start = now.output, start.output
        hidden, hidden_start = now.hidden, start.hidden
        if not snapshot.model.shape.hidden:
            hidden = hidden_start = jnp.zeros_like(now.attention_input[..., :1])
        return {
            "stream": rms(now.stream[:, first:]),
            "stream_change": rms((now.stream - start.stream)[:, first:]),
            "hidden": rms(hidden),
            "hidden_change": rms(hidden - hidden_start),
            "key": rms(now.key),
            "query": rms(now.query),
            "learned_key_change": rms(key - start.key),
            "learned_query_change": rms(query - start.query),
            "score": rms(now.scores),
            "score_change": rms(now.scores - start.scores),
            "learned_score_change": rms(learned),
            "learned_score_mean": rms(learned.mean(axis=2)),
            "learned_score_head_var": rms(jnp.std(learned, axis=2)) ** 2,
            "output": jnp.sqrt(jnp.mean(out**2)),
            "output_change": jnp.sqrt(jnp.mean((out - out_start) ** 2)),
        }


def observe_all(
    observables: tuple[AbstractObservable, ...], snapshot: Snapshot
) -> dict[str, Array]:
    """Everything that several observables record."""
    recorded: dict[str, Array] = {}
    for observable in observables:
        recorded |= observable(snapshot)
    return recorded
