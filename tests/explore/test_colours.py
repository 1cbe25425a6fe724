"""The map of regimes is read by everybody, and in a grey print."""

from itertools import combinations, pairwise

import pytest
from tests.figures.vision import DICHROMATS, distance, lightness

from translimit.explore import View, panel_of
from translimit.figures import Cells


@pytest.fixture(scope="module")
def shades():
    (cells,) = {
        mark.colours
        for chart in panel_of(View(panel="regimes")).figures
        for mark in chart.marks
        if isinstance(mark, Cells)
    }
    return cells


@pytest.mark.parametrize("viewer", ["everybody", *DICHROMATS])
def test_classes_stay_apart_for_every_viewer(shades, viewer):
    assert min(distance(*pair, viewer) for pair in combinations(shades, 2)) > 20


def test_classes_are_shades_of_grey(shades):
    grey = sorted(map(lightness, shades))
    assert min(later - one for one, later in pairwise(grey)) > 10
