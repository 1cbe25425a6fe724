"""A figure as a small picture inside the HTML of a notebook."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def small_picture(figure: Figure | SubFigure, label: str) -> str:
    """An element of a page that holds a figure as pixels, at most 30 em wide.

    Args:
        figure: what is shown.
        label: the text alternative, without markup.
    """
    file = io.BytesIO()
    whole = figure.get_figure(root=True)
    assert whole is not None
    whole.savefig(file, format="png", dpi=80)
    data = base64.b64encode(file.getvalue()).decode()
    style = "width:100%;max-width:30em;background:#fff"
    return f'<img alt="{label}" style="{style}" src="data:image/png;base64,{data}">'
