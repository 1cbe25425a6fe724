"""Minibatches of labelled examples and of running text: what a training loop draws from.

The batch of a step depends on the seed and the step alone, never on what was drawn before: a
resumed run continues with the same batches. Arrays may be memory-mapped; a batch reads what it
needs.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Shaped

from translimit.core import (
    POSITIVE,
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    require_real,
)
from translimit.data.patches import image_patches


class AbstractSource(abc.ABC):
    """Where minibatches come from."""

    @abc.abstractmethod
    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [size, tokens, ...] and targets [size, ...] of one step.

        Args:
            seed: of the order, in [0, 2^32).
            step: which batch, from 0.
            size: examples in the batch.

        Raises:
            ArgumentError: more examples in a batch than the source holds.
        """

    def row_weights(self, seed: int, step: int, size: int) -> np.ndarray | None:
        """Weights of the rows of a batch in its loss; None for the mean of those with a target.

        Args:
            seed: of the order.
            step: which batch, from 0.
            size: examples in the batch.
        """
        del seed, step, size
        return None

    @abc.abstractmethod
    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A fixed set of `size` examples, the same for every seed, for what is observed."""


@dataclass(frozen=True)
class Examples(AbstractSource):
    """Labelled examples, each epoch in a new order.

    Attributes:
        inputs: [examples, tokens, dim], or images [examples, height, width] or [examples, height,
            width, channels] with a `patch`.
        targets: labels [examples], or vectors [examples, outputs].
        patch: height and width of the patches that images are cut into; None for tokens.
        shift: subtracted from the inputs of a batch.
        scale: divides them afterwards.

    Raises:
        ArgumentError: as many inputs as targets are needed, and a positive scale.
    """

    inputs: Shaped[AnyArray, "examples ..."]
    targets: Shaped[AnyArray, "examples ..."]
    patch: tuple[int, int] | None = None
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        if len(self.inputs) != len(self.targets) or not len(self.inputs):
            raise ArgumentError(
                "targets",
                f"got {len(self.targets)} for {len(self.inputs)} inputs",
                "pass one target for each input, and at least one",
            )
        require_real(self.scale, "scale", POSITIVE)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """See the base class; what is left at the end of an epoch waits for the next order."""
        _require_size(size, len(self))
        epoch, position = divmod(step, len(self) // size)
        order = _order(len(self), seed, epoch)[position * size : (position + 1) * size]
        return self.take(order)

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The first examples of the file."""
        _require_size(size, len(self))
        return self.take(np.arange(size))

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples by index, in float32, as tokens."""
        order = np.argsort(indices, kind="stable")  # memory maps read forward
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        raw = np.asarray(self.inputs[indices[order]])[back]
        targets = np.asarray(self.targets[indices[order]])[back]
        if self.patch is not None:
            raw = _tokens(raw, self.patch)
        inputs = ((raw.astype(np.float64) - self.shift) / self.scale).astype(np.float32)
        return inputs, targets

    def split(self, first: int) -> tuple[Examples, Examples]:
        """The first examples, and the others.

        Raises:
            ArgumentError: one of the two would be empty.
        """
        if not 0 < first < len(self):
            raise ArgumentError("first", f"got {first}", f"pass 1 to {len(self) - 1}")
        return tuple(  # pyright: ignore[reportReturnType]
            Examples(self.inputs[part], self.targets[part], self.patch, self.shift, self.scale)
            for part in (slice(None, first), slice(first, None))
        )


@dataclass(frozen=True)
class FullBatch(AbstractSource):
    """All examples in every batch, in their order and precision, with weights of rows by choice.

    A row is an example, or a token where every token has outputs. The loss is then the weighted sum
    over rows; weights of 0 leave rows out.

    Attributes:
        inputs: [examples, tokens, dim], or token ids [examples, tokens].
        targets: labels [examples] or [examples, tokens], -1 where there is none; vectors [examples,
            outputs] or [examples, tokens, outputs].
        weights: of rows, [examples] or [examples, tokens]; the mean over those with a target by
            default.
        by_step: whether weights have an axis of steps before: every step has its own.

    Raises:
        ArgumentError: as many inputs as targets are needed, and weights of at least 0.
    """

    inputs: Shaped[AnyArray, "examples ..."]
    targets: Shaped[AnyArray, "examples ..."]
    weights: Shaped[AnyArray, ...] | None = None
    by_step: bool = False

    def __post_init__(self):
        if len(self.inputs) != len(self.targets) or not len(self.inputs):
            raise ArgumentError(
                "targets",
                f"got {len(self.targets)} for {len(self.inputs)} inputs",
                "pass one target for each input, and at least one",
            )
        if self.weights is not None and not np.all(np.asarray(self.weights) >= 0):
            raise ArgumentError("weights", "has negative numbers, or NaN", "pass at least 0")

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """See the base class; a batch has all of them."""
        del seed, step
        if size != len(self):
            raise ArgumentError("batch", f"got {size}", f"pass {len(self)}, all examples")
        return self.probe(size)

    def row_weights(self, seed: int, step: int, size: int) -> np.ndarray | None:
        """See the base class."""
        del seed, size
        if self.weights is None:
            return None
        if not self.by_step:
            return np.asarray(self.weights)
        if step >= len(self.weights):
            raise ArgumentError(
                "weights",
                f"are those of {len(self.weights)} steps, and step {step + 1} is asked for",
                "pass a row for each step",
            )
        return np.asarray(self.weights[step])

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The first examples."""
        _require_size(size, len(self))
        return np.asarray(self.inputs[:size]), np.asarray(self.targets[:size])


@dataclass(frozen=True)
class Sentences(AbstractSource):
    """Token sequences with a target for each token, all of them in every batch, in their order.

    Attributes:
        ids: token ids [sentences, tokens] of an integer type.
        targets: what follows each token, in the same shape.

    Raises:
        ArgumentError: shapes that differ.
        ArgumentTypeError: ids that are not integers.
    """

    ids: Shaped[AnyArray, "sentences tokens"]
    targets: Shaped[AnyArray, "sentences tokens"]

    def __post_init__(self):
        if not np.issubdtype(self.ids.dtype, np.integer):
            raise ArgumentTypeError("ids", f"are {self.ids.dtype}", "pass integers")
        if self.ids.shape != self.targets.shape:
            raise ArgumentError(
                "targets",
                f"have shape {self.targets.shape} for ids of {self.ids.shape}",
                "pass one target for each token",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """See the base class; a batch has all of them."""
        del seed, step
        if size != len(self):
            raise ArgumentError("batch", f"got {size}", f"pass {len(self)}, all sentences")
        return self.probe(size)

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The first sentences."""
        _require_size(size, len(self))
        return np.asarray(self.ids[:size]), np.asarray(self.targets[:size])


@dataclass(frozen=True)
class TokenStream(AbstractSource):
    """Windows of a running text with the next token as target.

    Attributes:
        ids: token ids [length] of an integer type, possibly memory-mapped.
        tokens: length of a window.

    Raises:
        ArgumentError: a text shorter than a window and one token, or a window of no tokens.
        ArgumentTypeError: ids that are not integers.
    """

    ids: Shaped[AnyArray, " length"]
    tokens: int

    def __post_init__(self):
        if self.tokens < 1 or len(self.ids) < self.tokens + 1:
            raise ArgumentError(
                "tokens",
                f"got windows of {self.tokens} in a text of {len(self.ids)}",
                "pass at least 1, and a text that is longer than a window",
            )
        if not np.issubdtype(self.ids.dtype, np.integer):
            raise ArgumentTypeError("ids", f"have dtype {self.ids.dtype}", "pass integers")

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows at independent uniform places; see the base class."""
        places = _generator(seed, step).integers(len(self.ids) - self.tokens, size=size)
        return self._windows(places)

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows evenly spread over the text."""
        return self._windows(np.linspace(0, len(self.ids) - self.tokens - 1, size).astype(int))

    def _windows(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.stack([self.ids[p : p + self.tokens + 1] for p in places]).astype(np.int32)
        return rows[:, :-1], rows[:, 1:]


@dataclass(frozen=True)
class Repeated(AbstractSource):
    """One batch of another source again and again, as coordinate checks need it.

    Attributes:
        source: where the batch comes from.
        fresh_for_each_seed: whether every seed has a batch of its own; else all have the probe.
    """

    source: AbstractSource
    fresh_for_each_seed: bool = field(default=False)

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The same for every step."""
        return self.source.batch(seed, 0, size) if self.fresh_for_each_seed else self.probe(size)

    def row_weights(self, seed: int, step: int, size: int) -> np.ndarray | None:
        """Those of the batch of step 0; see the base class."""
        return self.source.row_weights(seed, 0, size) if self.fresh_for_each_seed else None

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """That of the source."""
        return self.source.probe(size)


@dataclass(frozen=True)
class Observed(AbstractSource):
    """Batches of one source, and the probe of another: what is trained, and what is looked at.

    Attributes:
        trained: where batches come from.
        shown: where the probe comes from.
    """

    trained: AbstractSource
    shown: AbstractSource

    def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """That of the trained source."""
        return self.trained.batch(seed, step, size)

    def row_weights(self, seed: int, step: int, size: int) -> np.ndarray | None:
        """Those of the trained source."""
        return self.trained.row_weights(seed, step, size)

    def probe(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """That of the shown one."""
        return self.shown.probe(size)


@lru_cache(maxsize=64)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return _generator(seed, epoch).permutation(count)


def _generator(seed: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed << 32) + step))


def _require_size(size: int, count: int) -> None:
    if not 1 <= size <= count:
        raise ArgumentError(
            "size", f"got a batch of {size} from {count} examples", f"pass 1 to {count}"
        )


def _tokens(images: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """Patches of images with or without channels, the channels of a patch side by side."""
    if images.ndim == 3:
        return image_patches(images, patch)
    channels = [image_patches(images[..., c], patch) for c in range(images.shape[-1])]
    return np.concatenate(channels, axis=-1)
