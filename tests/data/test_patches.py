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


def test_synthetic_images_are_of_ten_classes_that_patches_of_the_noise_do_not_tell():
    source = data.synthetic_images(400)
    inputs, labels = source.take(np.arange(400))
    assert inputs.shape == (400, 64, 48)
    assert np.bincount(labels).tolist() == [40] * 10
    assert abs(inputs.std() - 1) < 0.15
    # Half the images tell the class of the other half by the nearest mean.
    flat = inputs.reshape(400, -1)
    means = np.array([flat[:200][labels[:200] == c].mean(axis=0) for c in range(10)])
    nearest = ((flat[200:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert 0.3 < (nearest == labels[200:]).mean() < 0.99
    assert np.array_equal(data.synthetic_images(400).take(np.arange(5))[0], inputs[:5])
