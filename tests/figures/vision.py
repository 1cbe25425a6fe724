"""What a figure looks like without colour vision, and which series only their colour tells apart.

Dichromats are simulated by the matrices of Machado, Oliveira and Fernandes, "A
physiologically-based model for simulation of color vision deficiency", IEEE Transactions on
Visualization and Computer Graphics 15 (2009), at severity 1, in linear RGB. Distances are those of
CIELAB (1976, D65); of a grey print only the lightness L* is left.
"""

from collections import defaultdict
from itertools import combinations

import numpy as np
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, StepPatch

DICHROMATS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
#: Lightness between two thin lines that a grey print still shows beyond doubt.
CLEARLY_LIGHTER = 25.0
# sRGB to XYZ under D65 (IEC 61966-2-1).
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def seen(colour, viewer="everybody"):
    """CIELAB coordinates of a colour as a viewer sees it."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if viewer in DICHROMATS:
        linear = np.clip(np.array(DICHROMATS[viewer]) @ linear, 0.0, 1.0)
    ratio = _XYZ @ linear / _XYZ.sum(axis=1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def lightness(colour):
    """L*: what a grey print keeps, from 0 to 100."""
    return float(seen(colour)[0])


def distance(one, other, viewer="everybody"):
    """CIELAB distance of two colours; about 2.3 is just noticeable."""
    return float(np.linalg.norm(seen(one, viewer) - seen(other, viewer)))


def colour_alone(figure):
    """Pairs of series that share axes and legend and differ in nothing but their colour.

    What has a name in a legend must differ in its shape (marker, dash or hatch) from all else with
    a name there, or be clearly lighter. In axes without names a series is what has one colour: it
    must differ in its shapes from those that are named anywhere in the figure.
    """
    pairs, names, unnamed = set(), {}, []
    for ax in figure.axes:
        artists = list(_artists(ax))
        named = {a for a in artists if a[2] and not a[2].startswith("_")}
        names |= {colour: label for colour, _, label in named}
        for one, other in combinations(sorted(named, key=str), 2):
            if one[1] == other[1] and one[2] != other[2] and not _lighter(one[0], other[0]):
                pairs.add(tuple(sorted((one[2], other[2]))))
        if not named:
            unnamed.append(artists)
    for artists in unnamed:
        shapes = defaultdict(set)
        for colour, shape, _ in artists:
            shapes[colour].add(shape)
        for one, other in combinations(sorted(c for c in shapes if c in names), 2):
            if shapes[one] == shapes[other] and not _lighter(one, other):
                pairs.add(tuple(sorted((names[one], names[other]))))
    return sorted(pairs)


def _lighter(one, other):
    """Whether two colours are far apart in a grey print."""
    return abs(lightness(one) - lightness(other)) > CLEARLY_LIGHTER


def _artists(ax):
    """Colour, shape and label of everything that is drawn as a series."""
    bars = {id(patch) for box in ax.containers if isinstance(box, BarContainer) for patch in box}
    for box in ax.containers:
        if isinstance(box, ErrorbarContainer) and box[0] is not None:
            yield to_hex(box[0].get_color()), _line(box[0]), str(box.get_label())
        if isinstance(box, BarContainer) and len(box):
            hatch = ("hatch", box[0].get_hatch() or "")
            yield to_hex(box[0].get_facecolor()), hatch, str(box.get_label())
    for artist in ax.get_children():
        label = str(artist.get_label())
        if isinstance(artist, Line2D) and len(artist.get_xdata()):
            if artist.get_linestyle() != "None" or artist.get_marker() not in ("None", "|", "_"):
                yield to_hex(artist.get_color()), _line(artist), label
        elif isinstance(artist, (StepPatch, Polygon)) and id(artist) not in bars:
            dash = ("dash", str(artist.get_linestyle()), bool(artist.get_fill()))
            yield to_hex(artist.get_edgecolor()), dash, label
        elif isinstance(artist, PolyCollection) and len(artist.get_facecolor()) == 1:
            area = ("area", artist.get_hatch(), artist.get_alpha())
            yield to_hex(artist.get_facecolor()[0]), area, label
        elif isinstance(artist, PathCollection) and len(artist.get_facecolor()) == 1:
            yield to_hex(artist.get_facecolor()[0]), ("dots",), label


def _line(line):
    dash = str(getattr(line, "_unscaled_dash_pattern", line.get_linestyle()))
    return line.get_marker(), line.get_fillstyle(), line.get_linestyle(), dash
