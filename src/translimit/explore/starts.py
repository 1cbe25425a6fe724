"""Where tokens on the circle and on the sphere start: drawn from a seed, and moved by hand.

Starts that were moved are text, `number:x,y,z` with `;` between them, so that an address carries
them. Tokens are numbered from 0 and scaled to norm one.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from translimit.core import SPHERE, ConfigError, brief

#: Tokens that may be moved by hand.
MOST_MOVED = 64


def moved_of(text: str) -> dict[int, tuple[float, float, float]]:
    """The tokens that a text moves, each with where it starts.

    Args:
        text: as the module's docstring has it; empty where none is moved.

    Raises:
        ConfigError: a text of another form, a start of norm zero, a token that is named twice.

    Examples:
        >>> moved_of("0:0,0,1;3:1,0,0")
        {0: (0.0, 0.0, 1.0), 3: (1.0, 0.0, 0.0)}
    """
    found: dict[int, tuple[float, float, float]] = {}
    for part in filter(None, text.split(";")):
        number, _, place = part.partition(":")
        try:
            token = int(number)
            x, y, z = (float(one) for one in place.split(","))
        except ValueError:
            raise _not_understood(part) from None
        norm = math.hypot(x, y, z)
        if not (0 < norm < math.inf) or token < 0 or token in found:
            raise _not_understood(part)
        found[token] = (x, y, z)
    if len(found) > MOST_MOVED:
        raise ConfigError("moved", f"names {len(found)} tokens", f"move at most {MOST_MOVED}")
    return found


def start(dim: int, tokens: int, seed: int, moved: str = "") -> Float[np.ndarray, "tokens dim"]:
    """Tokens of norm one, uniform on the sphere; the first of more tokens are those of fewer.

    Args:
        dim: 2 for the circle, 3 for the sphere.
        tokens: how many.
        seed: of the draw.
        moved: tokens that start elsewhere; numbers beyond the tokens are passed over.

    Raises:
        ConfigError: a `moved` that is not understood.
    """
    found = np.random.default_rng([seed, dim]).standard_normal((tokens, dim))
    for token, place in moved_of(moved).items() if dim == 3 else ():
        if token < tokens:
            found[token] = place
    return np.asarray(SPHERE.project(found))


def _not_understood(part: str) -> ConfigError:
    return ConfigError("moved", f"got {brief(part)}", "write number:x,y,z;number:x,y,z")
