"""Images as patches of one scale."""

import numpy as np
import pytest

from translimit import data


def test_digits_are_patches_of_one_scale():
    source = data.digit_patches()
    inputs, labels = source.take(np.arange(len(source)))
    assert inputs.shape == (1797, 8, 8)
    assert abs(inputs.mean()) < 1e-6
    assert inputs.std() == pytest.approx(1.0, abs=1e-6)
    assert set(labels) == set(range(10))
    train_set, test_set = source.split(1500)
    assert (len(train_set), len(test_set)) == (1500, 297)
    np.testing.assert_array_equal(test_set.probe(3)[0], inputs[1500:1503])
