"""Tokens on the sphere as a picture that a reader turns, and whose starts a reader moves.

The page's script draws it in place of a still chart, which is what a reader without scripts sees.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.explore.drawing import svg
from translimit.figures import COLOURS, Chart

#: Points of the way of a token, and of all ways together.
LONGEST, MOST = 24, 4096


@dataclass(frozen=True)
class Globe:
    """Tokens on the unit sphere along depth.

    Attributes:
        chart: the same from one side, with title, text alternative and legend.
        path: from the start to now [times, tokens, 3].
        network: the tokens of a network of finite depth now [tokens, 3].
        moved: starts that were moved by hand, as a view has them.
    """

    chart: Chart
    path: Float[np.ndarray, "times tokens 3"]
    network: Float[np.ndarray, "tokens 3"]
    moved: str = ""


def globe_html(globe: Globe) -> str:
    """The picture as a `figure` element: its still chart inside of what the script draws.

    Args:
        globe: what is drawn.
    """
    times, tokens = globe.path.shape[:2]
    count = max(2, min(LONGEST, MOST // tokens, times))
    picks = np.unique(np.linspace(0, times - 1, count).round().astype(int))
    data = {
        "path": globe.path[picks].round(3).tolist(),
        "network": globe.network.round(3).tolist(),
        "moved": globe.moved,
        "colours": [COLOURS[1], COLOURS[0]],
    }
    told = html.escape(json.dumps(data, separators=(",", ":")), quote=True)
    alt = html.escape(globe.chart.alt, quote=True)
    opening = f'<tl-globe data-globe="{told}" data-alt="{alt}">'
    still = svg(globe.chart)
    inner, after = still.index("<svg"), still.rindex('<div class="legend">')
    return f"{still[:inner]}{opening}{still[inner:after]}</tl-globe>{still[after:]}"
