"""What encoders of text whose blocks are those of decoders change of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.core import Json
from translimit.describe.families.decoders import Parts
from translimit.describe.families.keys import Keys
from translimit.describe.families.positions import FULL, SLIDING, alternating


def esmc(k: Keys, parts: Parts) -> Parts:
    """What is added is divided by (layers / 36)^(1/2)."""
    del k
    parts.residual = math.sqrt(36 / parts.layers)
    return parts


def ultrabert_kinds(k: Keys) -> Callable[[int], str]:
    """Every third layer sees all; older files tell windows and bases of positions by layer.

    Args:
        k: the configuration.

    Raises:
        ConfigError: windows and bases of another number of layers.
    """
    bases: dict[str, Json] = {SLIDING: 1e4, FULL: 2.56e6}
    told: dict[str, Json] = {}
    windows = k.numbers("attention_windows")
    if windows:
        kinds = [SLIDING if window else FULL for window in windows]
        told = {"layer_types": kinds, "sliding_window": max(windows) or None}
        by_layer = k.values.get("rope_theta")
        if isinstance(by_layer, list):
            if len(by_layer) != len(kinds):
                raise k.refuse("rope_theta", f"write one for each of {len(kinds)} layers")
            bases |= dict(zip(kinds, by_layer, strict=True))
    if not isinstance(k.values.get("rope_theta"), float | int):
        k.inert("rope_theta")
        told["rope_parameters"] = {kind: {"rope_theta": base} for kind, base in bases.items()}
        k.values = {**told, **{key: one for key, one in k.values.items() if key != "rope_theta"}}
    return alternating(3)


def ultrabert(k: Keys, parts: Parts) -> Parts:
    """A window is the distance to which a token sees, on either side."""
    k.inert("prediction_head_size", "classifier_pooling")
    parts.score(
        lambda index, old: old if old.window is None else replace(old, window=old.window + 1)
    )
    return parts
