r"""A checkpoint as its parts: what makes tokens, the layers with their weights, the readout.

Tokens of ids enter as

    x_i = N(mu E[t_i] + P[i + offset] + T) M,

with a table E, positions P, one row T of token types, a norm and a matrix M, any of which but the
table may be absent. Patches of an image enter as p_i W + w after class tokens, with positions.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput
from translimit.describe import Norm, Normalisation
from translimit.diagnose.layers import Layer

#: Tensors outside the layers, by name: `token`, `position`, `type`, `embedding.gain`, `project`,
#: `patch`, `classes`, `final.gain`, `readout` and their biases.
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network, read from its files.

    Attributes:
        family: what it was read as.
        layers: from the first to the last; one object L times where they share their weights.
        tensors: outside the layers, by name.
        norm_embedding: of tokens before they enter, or None.
        norm_final: before the readout, or None.
        multiplier: mu, of the rows of the table.
        offset: added to positions.
        patches: whether it reads images.
        logit_scale: what logits are multiplied with.
        context: the largest number of tokens, or None.
        source: where it was read, in words.
    """

    family: str
    layers: tuple[Layer, ...]
    tensors: Tensors = field(repr=False)
    norm_embedding: Normalisation | None = None
    norm_final: Normalisation | None = None
    multiplier: float = 1.0
    offset: int = 0
    patches: bool = False
    logit_scale: float = 1.0
    context: int | None = None
    source: str = ""

    @property
    def dim(self) -> int:
        """D, width of the stream."""
        return self.layers[0].dim

    @property
    def causal(self) -> bool:
        """Whether tokens see only themselves and the tokens before them."""
        return self.layers[0].causal

    @property
    def shared(self) -> bool:
        """Whether layers share their weights."""
        return len({id(one) for one in self.layers}) < len(self.layers)

    @property
    def specials(self) -> tuple[int, ...]:
        """Tokens that stand for no word or patch, negative ones from the end.

        Under a mask the first, where sinks are; of images the class tokens; of texts read both
        ways the first and the last.
        """
        if self.causal:
            return (0,)
        return tuple(range(len(self.tensors.get("classes", ())))) if self.patches else (0, -1)

    @property
    def vocabulary(self) -> int | None:
        """Entries of its table, or None for images."""
        table = self.tensors.get("token")
        return None if table is None else len(table)

    @property
    def weights(self) -> int:
        """Numbers in its layers, shared ones once."""
        each = {id(one): one for one in self.layers}.values()
        return sum(int(np.size(value)) for one in each for value in one.parameters.values())

    def with_layers(self, layers: Sequence[Layer]) -> Checkpoint:
        """The checkpoint with other layers.

        Args:
            layers: from the first to the last.
        """
        return replace(self, layers=tuple(layers))

    def embed(self, given: ArrayInput) -> Float[np.ndarray, "n D"]:
        """The tokens that enter the first layer, in float64.

        Args:
            given: ids [n]; of an image its patches [n, pixels], as the model was trained on them.

        Raises:
            ArgumentError: ids that are no row of whole numbers of the vocabulary, more tokens than
                the context; patches of another shape.
        """
        return self._patches(np.asarray(given)) if self.patches else self._words(np.asarray(given))

    def _words(self, ids: np.ndarray) -> np.ndarray:
        of, table = self.tensors, self.tensors["token"]
        if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            told = f"have shape {ids.shape}, {ids.dtype}"
            raise ArgumentError("ids", told, "pass rows of whole numbers, one row a sequence")
        if ids.min() < 0 or ids.max() >= len(table):
            told = f"go from {ids.min()} to {ids.max()}, and the vocabulary has {len(table)} words"
            raise ArgumentError("ids", told, "pass ids of this model's vocabulary")
        if self.context is not None and len(ids) > self.context:
            told = f"are {len(ids)} in a sequence, and the context is {self.context}"
            raise ArgumentError("ids", told, "pass shorter sequences")
        x = self.multiplier * np.asarray(table[ids], np.float64)
        if "position" in of:
            x = x + of["position"][self.offset : self.offset + len(ids)]
        if "type" in of:
            x = x + of["type"]
        x = _normalised(self.norm_embedding, of, "embedding", x)
        return x @ of["project"] + of.get("project.bias", 0.0) if "project" in of else x

    def _patches(self, patches: np.ndarray) -> np.ndarray:
        of = self.tensors
        if patches.ndim != 2 or patches.shape[1] != of["patch"].shape[0]:
            told = f"has shape {patches.shape}"
            raise ArgumentError("patches", told, f"pass [patches, {of['patch'].shape[0]}]")
        x = np.asarray(patches, np.float64) @ of["patch"] + of.get("patch.bias", 0.0)
        classes = of.get("classes", np.zeros((0, self.dim)))
        positions, whole = of.get("position"), len(classes) + len(x)
        if positions is not None and len(positions) not in (len(x), whole):
            told = f"has {len(x)} patches, and there are {len(positions)} positions"
            raise ArgumentError("patches", told, "pass all patches of one image")
        if positions is not None and len(positions) == len(x):  # of the patches alone
            x = x + positions
        x = np.concatenate([classes, x])
        x = x + positions if positions is not None and len(positions) == whole else x
        return _normalised(self.norm_embedding, of, "embedding", x)

    def final(self, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
        """The stream after the last norm, which is no layer.

        Args:
            x: the stream after the last layer.
        """
        return _normalised(self.norm_final, self.tensors, "final", x)

    def logits(self, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n V"]:
        """Logits over the vocabulary.

        Args:
            x: the stream after the last layer.

        Raises:
            ArgumentError: a checkpoint whose readout was not read.
        """
        if "readout" not in self.tensors:
            raise ArgumentError("checkpoint", "has no readout", "pass a causal language model")
        logits = self.final(x) @ self.tensors["readout"] + self.tensors.get("readout.bias", 0.0)
        return self.logit_scale * logits

    def loss(self, ids: np.ndarray, x: Float[np.ndarray, "n D"]) -> float:
        """Mean cross-entropy of every next token, in nats.

        Args:
            ids: of the tokens [n].
            x: the stream after the last layer.
        """
        logits = self.logits(x)[:-1]
        most = logits.max(axis=1)
        norms = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
        return float(np.mean(norms - logits[np.arange(len(logits)), np.asarray(ids)[1:]]))


def _normalised(norm: Normalisation | None, of: Tensors, place: str, x: np.ndarray) -> np.ndarray:
    if norm is None:
        return x
    x = x - x.mean(axis=1, keepdims=True) if norm.kind is Norm.LAYER else x
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + norm.norm_eps)
    return x * of.get(f"{place}.gain", 1.0) + of.get(f"{place}.bias", 0.0)
