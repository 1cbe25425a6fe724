"""Tokens on circle and sphere."""

import numpy as np
import pytest
import xarray as xr

from translimit.core import ArgumentError
from translimit.figures import (
    plot_angles,
    plot_hemispheres,
)


def test_circle_and_sphere():
    angles = np.array([[3.0, 0.0], [-3.1, 0.5]])  # the first token crosses pi
    tokens = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    data = xr.Dataset({"tokens": (("time", "token", "component"), tokens)}, {"time": [0.0, 1.0]})
    crossing, straight = plot_angles(data).lines
    assert crossing.get_label() == "one line a token, 2"
    part = plot_angles(data, shown=1).get_legend()
    assert [text.get_text() for text in part.get_texts()] == ["one line a token, 1 of 2"]
    assert np.isnan(crossing.get_ydata()[0])
    np.testing.assert_allclose(straight.get_ydata(), [0.0, 0.5])
    points = xr.DataArray([[0.6, 0.0, 0.8], [0.0, 0.6, -0.8]], dims=("token", "component"))
    _, back, front = plot_hemispheres(points).lines
    assert back.get_xydata().tolist() == [[0.0, 0.6]]
    assert front.get_xydata().tolist() == [[0.6, 0.0]]
    with pytest.raises(ArgumentError, match="has 3 components"):
        plot_angles(xr.Dataset({"tokens": (("time", "token", "component"), np.ones((1, 2, 3)))}))
    with pytest.raises(ArgumentError, match=r"pass \[token, 3\]"):
        plot_hemispheres(points[:, :2])
