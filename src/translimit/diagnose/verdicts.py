r"""Sentences that follow from the numbers, each with its threshold in standard errors.

A verdict needs its observable beyond the threshold by two errors, on the mean over sequences, of
which there are eight at least.

| verdict | condition |
|---|---|
| collapsed | overlap above 0.9 in a layer and all after it |
| entry collapsed | the same of the tokens that enter |
| one vector | mean tokens of different inputs have a cosine above 0.9, as collapsed |
| uniform | 1 - entropy below 0.02 and tv below 0.1 |
| one-hot | more than half of the queries have a weight above 0.95 |
| redundant heads | two outputs of cosine above 0.95, or 0.5 over all pairs, or two equal maps |
| idle | medians and varying part of attention's branch below 0.01, z below -3 |
| massive token | one token holds more than half of the sum of squares |
| sink | weight on one key above 5 / n, beyond its null, for more than half of the heads |
| order | cosines of A above 0.2, and another order has a sum a tenth larger |
| depth | layers are independent noise, a flow, or neither (`along_depth`) |
| closure | medians of z against rotated tokens, of attention and of the MLP (`surrogate_layers`) |

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from translimit.core import JsonObject, with_error
from translimit.diagnose.along_depth import AlongDepth
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.depth import (
    LEAST_COSINE,
    MOST_LAYERS,
    best_order,
    depth_cosines,
    neighbour_sum,
)
from translimit.diagnose.measuring import Measured
from translimit.diagnose.statistics import Compared, sequence_error
from translimit.diagnose.surrogate_layers import Surrogates, surrogate_sentences

if TYPE_CHECKING:
    from jaxtyping import Float

#: Sequences below which nothing is said.
LEAST_SEQUENCES = 8
COLLAPSED, UNIFORM, UNIFORM_TV, ONE_HOT = 0.9, 0.02, 0.1, 0.5
LEAST_GAIN = 0.1
ALIKE, ALL_ALIKE, SAME_MAP, IDLE, IDLE_Z, MASSIVE, SINK = 0.95, 0.5, 0.1, 0.01, -3.0, 0.5, 5.0


@dataclass(frozen=True)
class Finding:
    """One sentence with its numbers.

    Attributes:
        kind: of the table above.
        layer: from 1; 0 of the tokens that enter; None of the whole network.
        heads: that are meant, from 0.
        numbers: that it rests on.
        sentence: what is said.
        fault: whether it is one; a sink and a massive token are not.
    """

    kind: str
    layer: int | None
    sentence: str
    heads: tuple[int, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    fault: bool = True

    def to_json(self) -> JsonObject:
        """As plain data."""
        return {
            "kind": self.kind,
            "layer": self.layer,
            "heads": list(self.heads),
            "numbers": {name: float(value) for name, value in self.numbers.items()},
            "sentence": self.sentence,
            "fault": self.fault,
        }

    def __str__(self) -> str:
        return self.sentence


def find_verdicts(
    checkpoint: Checkpoint | None, measured: Measured, compared: Mapping[str, Compared]
) -> tuple[Finding, ...]:
    """Everything that can be said; nothing below eight sequences.

    Args:
        checkpoint: for the order of its layers; None without a reader.
        measured: of the checkpoint.
        compared: of `compare_all`.
    """
    if len(measured) < LEAST_SEQUENCES:
        return ()
    found = list(_collapse(compared["overlap"]))
    for layer in range(1, len(compared["overlap"].value)):
        found += _attention(compared, layer)
        found += _redundancy(measured, compared, layer)
        found += _idle(compared, layer)
        found += _sink(measured, compared["sink"], layer)
    found += _massive(compared["largest_share"])
    return (*found, *(() if checkpoint is None else _order(checkpoint)))


def between_findings(between: Compared) -> Iterator[Finding]:
    """Whether all inputs end in one vector, from some layer on.

    Args:
        between: `overlap_between` of the mean token.
    """
    low = between.value - 2 * np.nan_to_num(between.error, nan=np.inf)
    layer = _from(low[1:] > COLLAPSED)
    if layer is None:
        return
    value, error = float(between.value[layer + 1]), float(between.error[layer + 1])
    said = (
        f"all inputs give one vector from layer {layer + 1} on: their mean tokens have cosine "
        f"{with_error(value, error, '.3f')}"
    )
    null = _from((between.null - 2 * between.null_std)[1:] > COLLAPSED)
    if null is not None:
        said += f"; drawn weights do so from layer {null + 1}"
    elif np.isfinite(between.null[1:]).any():
        said += "; drawn weights do not"
    numbers = {"overlap_between": value, "error": error}
    yield Finding("one vector", layer + 1, said, numbers=numbers)


def regime_findings(along: AlongDepth) -> Iterator[Finding]:
    """Whether the layers are noise, a flow, or neither.

    Args:
        along: branches and weights along depth.
    """
    if along.regime is not None:
        numbers = {
            "straightness": along.straightness["attention"],
            "error": along.errors["attention"],
            "neighbours": along.neighbours,
        }
        yield Finding("depth", None, str(along), numbers=numbers, fault=False)


def closure_findings(surrogates: Mapping[str, Surrogates]) -> Iterator[Finding]:
    """Whether sub-blocks read more than two moments of their tokens.

    Args:
        surrogates: of `surrogate_figures`.
    """
    for part, sentence in surrogate_sentences(surrogates):
        z = surrogates[part].median_z
        numbers = {f"z_{place}": float(value) for place, value in enumerate(z, 1)}
        yield Finding("closure", None, sentence, numbers=numbers, fault=False)


def _low(one: Compared) -> Float[np.ndarray, " places"]:
    return one.value - 2 * one.error


def _high(one: Compared) -> Float[np.ndarray, " places"]:
    return one.value + 2 * one.error


def _from(above: np.ndarray) -> int | None:
    """The first place from which on all are."""
    below = np.flatnonzero(~above)
    first = int(below[-1]) + 1 if len(below) else 0
    return first if first < len(above) else None


def _collapse(overlap: Compared) -> Iterator[Finding]:
    layer = _from(_low(overlap)[1:] > COLLAPSED)
    if layer is not None:
        value, error = float(overlap.value[layer + 1]), float(overlap.error[layer + 1])
        shown = with_error(value, error, ".3f")
        said = f"tokens have collapsed from layer {layer + 1} on: overlap {shown}"
        null = _from((overlap.null - 2 * overlap.null_std)[1:] > COLLAPSED)
        if null is not None:
            said += f"; drawn weights do so from layer {null + 1}"
        elif np.isfinite(overlap.null[1:]).any():
            said += "; drawn weights do not"
        numbers = {"overlap": value, "error": error}
        yield Finding("collapsed", layer + 1, said, numbers=numbers)
    if _low(overlap)[0] > COLLAPSED:
        value, error = float(overlap.value[0]), float(overlap.error[0])
        said = f"tokens have collapsed where they enter: overlap {with_error(value, error, '.3f')}"
        yield Finding("entry collapsed", 0, said, numbers={"overlap": value, "error": error})


def _attention(compared: Mapping[str, Compared], layer: int) -> Iterator[Finding]:
    entropy, tv, hot = compared["entropy"], compared["tv"], compared["one_hot"]
    if _low(entropy)[layer] > 1 - UNIFORM and _high(tv)[layer] < UNIFORM_TV:
        both = (entropy, compared["score_spread"])
        usual = all(abs(one.z[layer]) < one.threshold[layer] for one in both)
        beside = ", as with drawn weights" if usual else ""
        value = float(entropy.value[layer])
        said = f"attention of layer {layer} is uniform{beside}: entropy {value:.3f} of log n"
        numbers = {"entropy": value, "tv": float(tv.value[layer])}
        yield Finding("uniform", layer, said, numbers=numbers, fault=not usual)
    if _low(hot)[layer] > ONE_HOT:
        value = float(hot.value[layer])
        said = f"attention of layer {layer} is one-hot: {value:.0%} of its queries take one key"
        yield Finding("one-hot", layer, said, numbers={"one_hot": value})


def _redundancy(
    measured: Measured, compared: Mapping[str, Compared], layer: int
) -> Iterator[Finding]:
    pair, every, same = (compared[name] for name in ("head_pair", "head_cos", "head_map"))
    if _low(every)[layer] > ALL_ALIKE:
        value = float(every.value[layer])
        said = f"all heads of layer {layer} are redundant: mean cosine of their outputs {value:.2f}"
        yield Finding("redundant heads", layer, said, numbers={"head_cos": value})
    elif _low(pair)[layer] > ALIKE:
        heads = _usual_pair(measured.pairs[:, layer - 1])
        value = float(pair.value[layer])
        said = (
            f"heads {heads[0]} and {heads[1]} of layer {layer} are redundant: cosine of their "
            f"outputs {value:.3f}"
        )
        yield Finding("redundant heads", layer, said, heads, {"head_pair": value})
    if _high(same)[layer] < SAME_MAP:
        heads = _usual_pair(measured.same_maps[:, layer - 1])
        value = float(same.value[layer])
        said = (
            f"heads {heads[0]} and {heads[1]} of layer {layer} attend alike: their maps differ by "
            f"{value:.3f} of their distance to uniform"
        )
        yield Finding("same map", layer, said, heads, {"head_map": value})


def _usual_pair(pairs: np.ndarray) -> tuple[int, int]:
    """The pair of heads that most sequences name."""
    rows = Counter((min(a, b), max(a, b)) for a, b in pairs.astype(int).tolist())
    return rows.most_common(1)[0][0]


def _idle(compared: Mapping[str, Compared], layer: int) -> Iterator[Finding]:
    median, varies = compared["act_median"], compared["ratio_var"]
    small = _high(median)[layer] < IDLE and _high(varies)[layer] < IDLE
    if small and min(varies.z[layer], median.z[layer]) < IDLE_Z:
        value = float(varies.value[layer])
        said = (
            f"attention of layer {layer} does nothing: what it adds varies by {value:.4f} of the "
            f"stream, {float(varies.null[layer]):.3f} with drawn weights"
        )
        numbers = {"ratio_var": value, "act_median": float(median.value[layer])}
        yield Finding("idle", layer, said, numbers=numbers)


def _massive(share: Compared) -> Iterator[Finding]:
    layers = np.flatnonzero(_low(share) > MASSIVE)
    if len(layers):
        layer = int(layers[0])
        value = float(share.value[layers].max())
        said = (
            f"one token holds up to {value:.0%} of the sum of squares, from layer {layer} on: read "
            "medians, and the table without it"
        )
        yield Finding("massive token", layer, said, numbers={"largest_share": value}, fault=False)


def _sink(measured: Measured, sink: Compared, layer: int) -> Iterator[Finding]:
    times = measured.values["sink"][:, layer] * measured.tokens
    enough = times.mean() - 2 * sequence_error(times) > SINK
    if not enough or not sink.z[layer] > sink.threshold[layer]:
        return
    keys = measured.sink_keys[:, layer - 1]
    key, count = Counter(keys.reshape(-1).astype(int).tolist()).most_common(1)[0]
    if 2 * count > keys.size:
        value = float(sink.value[layer])
        said = (
            f"attention of layer {layer} has a sink: token {key} is the largest early key of "
            f"{count / keys.size:.0%} of the heads, weight {value:.2f}"
        )
        numbers = {"sink": value, "times": float(times.mean())}
        yield Finding("sink", layer, said, numbers=numbers, fault=False)


def _order(checkpoint: Checkpoint) -> Iterator[Finding]:
    if len(checkpoint.layers) > MOST_LAYERS or checkpoint.shared:
        return
    cosines, _ = depth_cosines(checkpoint)
    given = tuple(range(len(cosines)))
    best, mean = best_order(cosines), neighbour_sum(cosines, given) / max(len(cosines) - 1, 1)
    if best is None or best == given or not mean > LEAST_COSINE:
        return
    told = ", ".join(str(place + 1) for place in best)
    here, there = neighbour_sum(cosines, given), neighbour_sum(cosines, best)
    if there - here < LEAST_GAIN * there:  # clean networks of few layers gain some 5 %
        return
    said = (
        f"the layers are out of order: neighbours agree most in the order {told} (sum of cosines "
        f"{there:.2f}, {here:.2f} as given)"
    )
    yield Finding("order", None, said, numbers={"given": here, "best": there})
