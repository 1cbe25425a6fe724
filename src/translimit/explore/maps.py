"""The maps Q, K, V of attention in the plane, by name or written out, and its variants.

Maps that are written are text, `Q / K / V` with four numbers each, row by row, so that an address
carries them. The score temperature divides the scores: Q and K are divided by its square root.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from translimit.attention import L2, AbstractOneHead, Linear, Sigmoid, Sinkhorn, Softmax
from translimit.core import ConfigError, brief

Maps = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

_SAME = (1.0, 0.0, 0.0, 1.0)
#: Rows of Q, K and V by name, the default first.
MAPS: dict[str, Maps] = {
    "turn and stretch": (_SAME, _SAME, (0.4, -0.6, 0.6, -1.2)),
    "attraction": (_SAME, _SAME, _SAME),
    "repulsion": (_SAME, _SAME, (-1.0, 0.0, 0.0, -1.0)),
    "rotation": (_SAME, _SAME, (0.0, -1.0, 1.0, 0.0)),
    "saddle": (_SAME, _SAME, (1.0, 0.0, 0.0, -1.0)),
    "scores of one direction": ((1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), _SAME),
    "keys turned by a right angle": (_SAME, (0.0, -1.0, 1.0, 0.0), _SAME),
}
#: Variants of attention by name, the default first.
VARIANTS: dict[str, type[AbstractOneHead]] = {
    "softmax": Softmax,
    "L2": L2,
    "Sinkhorn": Sinkhorn,
    "linear": Linear,
    "sigmoid": Sigmoid,
}


def maps_of(name: str, text: str = "") -> Maps:
    """Q, K and V, row by row.

    Args:
        name: one of `MAPS`.
        text: maps that are written out, which then hold in place of the named ones.

    Raises:
        ConfigError: a text of another form.

    Examples:
        >>> maps_of("repulsion")[2]
        (-1.0, 0.0, 0.0, -1.0)
    """
    if not text:
        return MAPS[name]
    try:
        query, key, value = (
            tuple(float(one) for one in part.replace(",", " ").split()) for part in text.split("/")
        )
    except ValueError:
        raise _not_understood(text) from None
    found = (query, key, value)
    numbers = np.array([one for part in found for one in part])
    if {len(one) for one in found} != {4} or not (np.abs(numbers) <= 100).all():
        raise _not_understood(text)
    return found


def attention(variant: str, maps: Maps, score_temperature: float | int) -> AbstractOneHead:
    """The attention whose scores <Qx, Ky> are divided by a score temperature.

    Args:
        variant: one of `VARIANTS`.
        maps: Q, K and V, row by row.
        score_temperature: what they are divided by; positive.
    """
    query, key, value = map(_square, maps)
    scale = np.sqrt(score_temperature)
    return VARIANTS[variant](Q=query / scale, K=key / scale, V=value)


def _square(rows: tuple[float, ...]) -> Float[np.ndarray, "2 2"]:
    return np.array(rows).reshape(2, 2)


def _not_understood(text: str) -> ConfigError:
    return ConfigError(
        "maps_text",
        f"got {brief(text)}",
        "write Q / K / V, four numbers of at most 100 each: 1,0,0,1 / 1,0,0,1 / -1,0,0,-1",
    )
