r"""Null models: the architecture of a checkpoint with redrawn weights.

| null | redrawn | kept |
|---|---|---|
| reference | every matrix as the family starts; biases 0, gains too | architecture |
| matched | every matrix and bias N(0, its mean square); gains are their rms | scale |
| spectrum | singular vectors, head by head and of the MLP; biases as matched | scale, spectrum |
| permuted | nothing: the order of the layers | every layer |
| part:W1,W2 | the named matrices, as matched | everything else |

Matrices are split before: query, key and value have scales of their own. The mean entry is not
kept. Gains become one number and biases of norms Gaussian, since a trained pattern over
coordinates would stay in a post-LN stream. Layers that share their weights are drawn once. Tokens
that enter are the checkpoint's own (`measured`), or its tables redrawn as well (`drawn`).

A rotation of the whole stream is no null: with RMS norms whose gains are folded into the matrices
that read, every observable is unchanged by it.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, Floats, Key, named_key, nearest
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import MATRICES, Layer, Parameters, attention_of, units_of

#: Nulls by name; `part:` takes names of matrices after it.
KINDS = ("matched", "reference", "spectrum", "permuted")


@dataclass(frozen=True)
class Null:
    """A null model.

    Attributes:
        kind: of `KINDS`, or "part".
        parts: matrices that a part null redraws.
    """

    kind: str
    parts: tuple[str, ...] = ()

    @classmethod
    def named(cls, name: str) -> Null:
        """A null by its name.

        Args:
            name: of `KINDS`, or `part:` and names of matrices with commas between.

        Raises:
            ArgumentError: an unknown null or matrix.
        """
        kind, _, told = name.partition(":")
        if kind == "part":
            plain = {one.replace("_", "").lower(): one for one in MATRICES} | {"wgate": "W_up"}
            given = [one.strip() for one in told.split(",") if one.strip()]
            for one in given:
                if one.replace("_", "").lower() not in plain:
                    raise ArgumentError("null", f"unknown matrix {one!r}", nearest(one, MATRICES))
            if not given:
                raise ArgumentError("null", f"got {name!r}", f"name some of {', '.join(MATRICES)}")
            return cls("part", tuple(plain[one.replace("_", "").lower()] for one in given))
        if kind not in KINDS or told:
            raise ArgumentError(
                "null", f"unknown null {name!r}", nearest(name, (*KINDS, "part:W_1"))
            )
        return cls(kind)

    def __str__(self) -> str:
        return self.kind if self.kind != "part" else f"part:{','.join(self.parts)}"

    @property
    def predicted(self) -> bool:
        """Whether the Gram recursion predicts it."""
        return self.kind in ("matched", "reference")


class DrawnNetwork:
    """One network of a null: its layers are drawn when they are asked for, and not kept.

    Args:
        checkpoint: whose architecture it has.
        null: what is redrawn.
        key: of this network.
    """

    def __init__(self, checkpoint: Checkpoint, null: Null, key: Key | int):
        self.checkpoint, self.null, self.key = checkpoint, null, key
        self._last: tuple[int, Layer] | None = None
        depth = len(checkpoint.layers)
        self.order = np.arange(depth)
        if null.kind == "permuted":
            self.order = generator(named_key(key, "order")).permutation(depth)

    def layer(self, place: int) -> Layer:
        """The layer at a place.

        Args:
            place: from 0.
        """
        layer = self.checkpoint.layers[int(self.order[place])]
        if self.null.kind == "permuted":
            return layer
        first = next(i for i, one in enumerate(self.checkpoint.layers) if one is layer)
        if self._last is None or self._last[0] != first:
            self._last = first, redrawn(layer, self.null, named_key(self.key, "layer", first))
        return self._last[1]


def redrawn(layer: Layer, null: Null, key: Key | int) -> Layer:
    """A layer with redrawn weights.

    Args:
        layer: the checkpoint's own.
        null: what is redrawn.
        key: of this layer in this network.
    """
    of = layer.parameters
    if null.kind == "reference":
        return replace(layer, parameters=_reference(layer, key))
    drawn: dict[str, np.ndarray] = {}
    for name, value in of.items():
        rng = generator(named_key(key, name))
        if null.kind == "part":
            drawn[name] = gaussian(rng, value) if name in null.parts else np.asarray(value)
        elif name.endswith(".gain"):
            drawn[name] = np.full(np.shape(value), rms(value))
        elif null.kind == "spectrum" and name in MATRICES:
            drawn[name] = _turned_spectrum(layer, name, rng)
        else:
            drawn[name] = gaussian(rng, value)
    return replace(layer, parameters=drawn)


def redrawn_entry(checkpoint: Checkpoint, key: Key | int) -> Checkpoint:
    """The checkpoint with redrawn tables of words, positions and classes.

    Args:
        checkpoint: whose tables are redrawn, as matched.
        key: of this network.
    """
    tensors = dict(checkpoint.tensors)
    for name in ("token", "position", "type", "classes", "patch", "project"):
        if name in tensors:
            tensors[name] = gaussian(generator(named_key(key, "entry", name)), tensors[name])
    if "embedding.gain" in tensors:
        gain = tensors["embedding.gain"]
        tensors["embedding.gain"] = np.full(gain.shape, rms(gain))
    if "embedding.bias" in tensors:
        rng = generator(named_key(key, "entry", "embedding.bias"))
        tensors["embedding.bias"] = gaussian(rng, tensors["embedding.bias"])
    return replace(checkpoint, tensors=tensors)


def second_moments(layer: Layer, null: Null) -> dict[str, float]:
    """The mean square of every tensor of a drawn layer, what the Gram recursion takes.

    Args:
        layer: the checkpoint's own.
        null: matched or reference.

    Raises:
        ArgumentError: another null.
    """
    if null.kind == "matched":
        return {name: rms(value) ** 2 for name, value in layer.parameters.items()}
    if null.kind != "reference":
        raise ArgumentError("null", f"got {null}", "the recursion is of matched and reference")
    told = {name: std**2 for name, std in reference_stds(layer).items()}
    for name in layer.parameters:
        if name.endswith(".gain"):
            told[name] = _gain_at_start(layer, name) ** 2
        elif name not in MATRICES:
            told[name] = 0.0
    return told


def reference_stds(layer: Layer) -> dict[str, float]:
    """Standard deviations of the entries of matrices as the family starts.

    Args:
        layer: whose record tells them.
    """
    of, units = attention_of(layer.blocks), units_of(layer.blocks)
    told = {"W_Q": of.query_std, "W_K": of.key_std, "W_V": of.value_std, "W_O": of.out_std}
    if units is not None:
        told |= {"W_1": units.in_std, "W_2": units.out_std}
        told |= {"W_up": units.up_std or units.in_std} if units.gated else {}
    return told


def rms(value: Floats) -> float:
    """The root of the mean square of the entries.

    Args:
        value: a tensor.
    """
    return float(np.sqrt(np.mean(np.square(np.asarray(value, np.float64)))))


def gaussian(rng: np.random.Generator, value: Floats) -> np.ndarray:
    """Gaussian entries of the mean square of a tensor, in its shape.

    Args:
        rng: randomness.
        value: the tensor.
    """
    return rms(value) * rng.standard_normal(np.shape(value))


def haar(rng: np.random.Generator, rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    """Orthonormal columns, uniformly: QR of Gaussian numbers with the signs of R's diagonal.

    Args:
        rng: randomness.
        rows: at least as many as columns.
        columns: how many.
    """
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.where(np.diagonal(r) < 0, -1.0, 1.0)


def generator(key: Key) -> np.random.Generator:
    """NumPy's random numbers from a key: the same bits wherever it runs.

    Args:
        key: for nothing else.
    """
    words = np.asarray(jax.random.key_data(key), np.uint64).reshape(-1)
    return np.random.Generator(np.random.Philox(key=int((words[0] << np.uint64(32)) | words[-1])))


def _reference(layer: Layer, key: Key | int) -> Parameters:
    stds, found = reference_stds(layer), {}
    for name, value in layer.parameters.items():
        if name in MATRICES:
            rng = generator(named_key(key, name))
            found[name] = stds[name] * rng.standard_normal(np.shape(value))
        elif name.endswith(".gain"):
            found[name] = np.full(np.shape(value), _gain_at_start(layer, name))
        else:
            found[name] = np.zeros(np.shape(value))
    return found


def _gain_at_start(layer: Layer, name: str) -> float:
    if name in ("q.gain", "k.gain"):
        norm = attention_of(layer.blocks).qk_norm
        return 1.0 if norm is None else norm.gain
    part, place = name.removesuffix(".gain").split("_")
    block = layer.blocks[0 if part == "attention" else -1]
    norm = getattr(block, f"norm_{place}")
    return 1.0 if norm is None else norm.gain


def _turned_spectrum(layer: Layer, name: str, rng: np.random.Generator) -> np.ndarray:
    """A matrix, head by head for attention, with its singular values and fresh vectors."""
    value, of = layer.parameters[name], attention_of(layer.blocks)
    heads = {"W_Q": of.heads, "W_K": of.key_heads, "W_V": of.key_heads, "W_O": of.heads}
    parts = heads.get(name, 1)
    axis = 0 if name == "W_O" else 1
    turned = []
    for block, values in zip(
        np.split(np.asarray(value), parts, axis=axis), _spectra(layer, name, parts), strict=True
    ):
        rows, columns = block.shape
        left, right = haar(rng, rows, len(values)), haar(rng, columns, len(values))
        turned.append((left * values) @ right.T)
    return np.concatenate(turned, axis=axis)


@functools.lru_cache(maxsize=512)
def _spectra(layer: Layer, name: str, parts: int) -> tuple[np.ndarray, ...]:
    """Singular values of the blocks of a matrix, once for all draws."""
    value = np.asarray(layer.parameters[name], np.float64)
    blocks = np.split(value, parts, axis=0 if name == "W_O" else 1)
    return tuple(np.linalg.svd(one, compute_uv=False) for one in blocks)
