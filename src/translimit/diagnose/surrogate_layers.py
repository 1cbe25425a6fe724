r"""The test against rotated surrogates in every layer of a network, and its sentence.

`surrogate_test` asks one sub-block of one sequence whether it reads more than the mean and the
covariance of its tokens. Here it is asked of all of them: attention on the stream x before the
layer, the MLP on the stream y between the branches. Special tokens stay as they
are and are left out of the covariances, alike in both. z is right-skewed over sequences, so
that a sentence rests on medians, and needs eight sequences.

`surrogate_flow` rotates the tokens that enter and sends them through the whole network: what it
would make of Gaussian tokens with the same two moments.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit import observe
from translimit.core import (
    ArgumentError,
    Key,
    NoSuchLimitError,
    Progress,
    available_threads,
    named_key,
    one_blas_thread,
    part_of,
    require_count,
    side_by_side,
)
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import Layer
from translimit.diagnose.nulls import generator
from translimit.diagnose.passing import doubled, in_layer
from translimit.diagnose.surrogates import BEYOND, SURROGATES, SurrogateTest, surrogate_of
from translimit.diagnose.surrogates import surrogate_test as test_one

#: The sub-blocks that are asked.
Part = Literal["attention", "mlp"]
PARTS: tuple[Part, ...] = ("attention", "mlp")
#: The stream after a layer, and the tests of its sub-blocks.
_Tested = tuple[np.ndarray, dict[str, SurrogateTest]]


@dataclass(frozen=True, eq=False)
class Surrogates:
    """`SurrogateTest` of a sub-block in all layers.

    Attributes:
        z: of every sequence and layer [sequences, layers].
        p: the same.
        share: the same; NaN where nothing is resolved.
        resolved: whether the sub-block changes the covariance by more than two floors.
    """

    z: Float[np.ndarray, "sequences layers"]
    p: Float[np.ndarray, "sequences layers"]
    share: Float[np.ndarray, "sequences layers"]
    resolved: Float[np.ndarray, "sequences layers"]

    @property
    def median_z(self) -> Float[np.ndarray, " layers"]:
        """The median of z over sequences."""
        return np.asarray(np.median(self.z, axis=0))

    @property
    def beyond(self) -> np.ndarray:
        """Layers whose median z says that more than two moments are read."""
        return self.median_z > BEYOND

    @property
    def known(self) -> np.ndarray:
        """Layers in which most sequences resolve the change of the covariance."""
        return self.resolved.mean(axis=0) > 0.5

    def sentence(self, part: str) -> str:
        """What the layers say.

        Args:
            part: attention or the MLP, in words.
        """
        z = self.median_z
        two = self.known & ~self.beyond
        kinds = (
            (two, "reads no more than two moments of its tokens in {} ({})"),
            (self.beyond, "reads more than two moments of its tokens in {} ({})"),
            (~self.known & ~self.beyond, "moves the covariance by less than two floors in {} ({})"),
        )
        said = [
            words.format(_layers(chosen), _range(z[chosen]))
            for chosen, words in kinds
            if chosen.any()
        ]
        return f"{part} {', '.join(said)}"


def surrogate_figures(
    checkpoint: Checkpoint,
    entries: Sequence[np.ndarray],
    *,
    key: Key | int,
    draws: int = SURROGATES,
    atoms: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> dict[str, Surrogates]:
    """The test in every layer, by sub-block.

    Args:
        checkpoint: the network, without a mask.
        entries: tokens that enter, of every sequence.
        key: of the surrogates.
        draws: R, at least 4.
        atoms: tokens that stay and are left out of the covariances, negative ones from the end; by
            default `Checkpoint.specials`.
        progress: called with the fraction done.

    Raises:
        NoSuchLimitError: a mask, or positions that turn queries and keys.
        ArgumentError: fewer than four surrogates or three rotated tokens; no sequence.
    """
    if not len(entries):
        raise ArgumentError("entries", "are none", "pass a sequence at least")
    require_count(draws, "draws", 4)
    depth, kept = len(checkpoint.layers), checkpoint.specials if atoms is None else atoms
    found: dict[str, list[list[SurrogateTest]]] = {part: [] for part in PARTS}
    streams = [np.asarray(one, np.float64) for one in entries]
    at_once = min(len(streams), available_threads())
    for place, layer in enumerate(map(doubled, checkpoint.layers)):

        def one(_: object, number: int, x: np.ndarray, layer: Layer, place: int) -> _Tested:
            root = named_key(key, "surrogates", place, number)
            passed = in_layer(layer, x)
            told: list[tuple[Part, np.ndarray]] = [("attention", x)]
            if passed.middle is not None and layer.units is not None:
                told.append(("mlp", np.asarray(passed.middle)))
            tested = {
                part: test_one(layer, tokens, part, key=root, draws=draws, atoms=kept)
                for part, tokens in told
            }
            return np.asarray(passed.exit), tested

        calls = [
            partial(one, number=number, x=x, layer=layer, place=place)
            for number, x in enumerate(streams)
        ]
        with one_blas_thread():
            rows = side_by_side(
                calls, at_once, part_of(progress, place / depth, (place + 1) / depth)
            )
        streams = [exit for exit, _ in rows]
        for part in PARTS:
            found[part].append([tested[part] for _, tested in rows if part in tested])
    return {part: _stacked(layers) for part, layers in found.items() if all(map(len, layers))}


def surrogate_flow(
    checkpoint: Checkpoint,
    entry: Float[np.ndarray, "n D"],
    *,
    key: Key | int,
    draws: int = SURROGATES,
    atoms: Sequence[int] = (),
) -> Float[np.ndarray, "draws places"]:
    """Overlap of rotated tokens through the whole network, at the entry and after every layer.

    They have the mean and the covariance of the tokens that enter, and nothing else of them. What
    comes out is *approximate* as a closure: after one layer they are Gaussian no longer.

    Args:
        checkpoint: the network, without a mask.
        entry: tokens that enter.
        key: of the surrogates.
        draws: how many.
        atoms: tokens that stay, negative ones from the end.

    Raises:
        NoSuchLimitError: a mask, or positions that turn queries and keys.
        ArgumentError: fewer than three rotated tokens.
    """
    first = checkpoint.layers[0]
    if first.causal or first.attention.rotary is not None:
        problem = "positions are not exchangeable: a rotation would mix them"
        raise NoSuchLimitError("checkpoint", problem, "take `fit_closures`, one step at a time")
    layers, rows = [doubled(one) for one in checkpoint.layers], []
    for r in range(require_count(draws, "draws", 1)):
        rng = generator(named_key(key, "surrogate flow", r))
        x = surrogate_of(np.asarray(entry, np.float64), rng, atoms)
        row = [float(observe.token_overlap(x))]
        for layer in layers:
            x = np.asarray(in_layer(layer, x).exit)
            row.append(float(observe.token_overlap(x)))
        rows.append(row)
    return np.array(rows)


def surrogate_sentences(found: Mapping[str, Surrogates]) -> Iterator[tuple[str, str]]:
    """A sentence of every sub-block, by its name.

    Args:
        found: of `surrogate_figures`.
    """
    for part, one in found.items():
        yield part, one.sentence("attention" if part == "attention" else "the MLP")


def _stacked(layers: Sequence[Sequence[SurrogateTest]]) -> Surrogates:
    def of(name: str) -> Float[np.ndarray, "sequences layers"]:
        return np.array([[float(getattr(one, name)) for one in row] for row in layers]).T

    return Surrogates(of("z"), of("p"), of("share"), of("resolved"))


def _range(z: np.ndarray) -> str:
    """Medians of z, in words."""
    told = f"{z.min():.1f} to {z.max():.1f}" if len(z) > 1 else f"{z[0]:.1f}"
    return f"median z {told}"


def _layers(chosen: np.ndarray) -> str:
    """Layers from 1, in words, runs as from a to b."""
    places = (np.flatnonzero(chosen) + 1).tolist()
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    told = [f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"{'layer' if len(places) == 1 else 'layers'} {', '.join(told)}"
