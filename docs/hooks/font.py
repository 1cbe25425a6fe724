"""The mathematical font of reports and pages, cut from TeX Gyre Termes Math and committed.

    python docs/hooks/font.py texgyretermes-math.otf

The TeX Gyre fonts (Debian: package fonts-texgyre-math) are under the GUST Font License, which lies
beside the result and asks that a changed font has another name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FAMILY = "translimit mathematics"
RESULT = Path(__file__).parents[2] / "src" / "translimit" / "report" / "templates"
#: What formulas hold: letters, accents, Greek, punctuation, letter-like signs, arrows, operators,
#: brackets, and the alphabets of mathematics (italic, bold, script, double-struck).
RANGES = (
    *((0x20, 0x7E), (0xA0, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2C6, 0x2C7), (0x2D8, 0x2DD)),
    *((0x300, 0x30C), (0x391, 0x3F6), (0x2010, 0x2057), (0x2070, 0x209C), (0x20D6, 0x20D7)),
    *((0x2100, 0x214F), (0x2190, 0x21A8), (0x21D0, 0x21D5), (0x2200, 0x22F1), (0x2308, 0x230B)),
    *((0x23B4, 0x23B5), (0x23DC, 0x23E1), (0x25A1, 0x25A1), (0x25CB, 0x25CF), (0x27E6, 0x27EF)),
    *((0x27F5, 0x27FF), (0x2A7D, 0x2A7E), (0x2AAF, 0x2AB0), (0x1D400, 0x1D467), (0x1D49C, 0x1D4CF)),
    *((0x1D538, 0x1D56B), (0x1D6A4, 0x1D71B), (0x1D7CE, 0x1D7E1)),
)


def cut(path: Path) -> TTFont:
    """The font with the characters of formulas, under a name of its own."""
    options = subset.Options()
    options.layout_features = ["ssty"]  # the forms in scripts: primes
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.hinting = False
    font = TTFont(path, recalcTimestamp=False)  # the same bytes whenever it is cut
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[code for low, high in RANGES for code in range(low, high + 1)])
    cutter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 4, 16):
            record.string = FAMILY
        elif record.nameID in (3, 6):
            record.string = FAMILY.title().replace(" ", "")
    font["CFF "].cff.fontNames = [FAMILY.title().replace(" ", "")]
    for top in font["CFF "].cff.topDictIndex:
        top.FullName = top.FamilyName = FAMILY
    font.flavor = "woff"
    return font


if __name__ == "__main__":
    cut(Path(sys.argv[1])).save(RESULT / "mathematics.woff")
