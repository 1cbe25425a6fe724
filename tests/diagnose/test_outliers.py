"""Outliers that are planted, and the table without them."""

from dataclasses import replace

import numpy as np
import pytest

from translimit import observe
from translimit.core import ArgumentError
from translimit.diagnose import find_outliers, stream_of


def planted(model):
    """A token whose embedding is huge in one coordinate: it stays so through all layers."""
    table = np.array(model.tensors["token"])
    table[7] *= 0.1
    table[7, 5] = 4000.0
    return replace(model, tensors={**model.tensors, "token": table})


def test_planted_tokens_and_coordinates_are_named_and_left_out(byte_model, windows):
    rows = [np.array(row[:16]) for row in windows[:3]]
    for row in rows:
        row[row == 7] = 8
        row[3] = 7
    model = planted(byte_model)
    found = find_outliers(model, rows)
    for place in (0, 1, -1):
        assert found.shared(place)[0] == found.any(place)[0] == (3,)
        assert 5 in found.shared(place)[1]
    assert (found.values["largest_share"] > 0.9).all()
    assert (found.without["largest_share"] < 0.5).all()
    # By hand: tokens and coordinates left out of the stream after the last layer.
    by_hand = []
    for row, columns in zip(rows, found.coordinates, strict=True):
        x = np.delete(stream_of(model, row)[-1], 3, axis=0)
        by_hand.append(observe.token_overlap(np.delete(x, columns[-1], axis=1)))
    assert found.without["overlap"][-1] == pytest.approx(np.mean(by_hand))
    said = str(found)
    assert "outlying tokens 3 (the same in all inputs)" in said
    assert "nan" not in said
    assert found.to_json()["tokens"][0][0] == [3]
    assert found.to_json()["without"]["ratio_a"][0] is None  # the entry has no branch


def test_a_model_without_outliers_has_one_table(byte_model, windows):
    found = find_outliers(byte_model, list(windows[:2, :12]), times=1e6)
    for name, rows in found.values.items():
        np.testing.assert_array_equal(found.without[name], rows, err_msg=name)
    assert "no outlying tokens; no outlying coordinates" in str(found)
    with pytest.raises(ArgumentError, match="times"):
        find_outliers(byte_model, windows[:1], times=1.0)
