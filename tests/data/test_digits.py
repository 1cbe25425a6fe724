"""The shipped digits, and images as tokens."""

import numpy as np
import pytest

from translimit.core import ArgumentError, StoreError
from translimit.data import digits as digits_module
from translimit.data import image_patches, load_digits, standardise


def test_digits_are_the_published_ones():
    """1,797 images with pixels 0 to 16 and, as in the source's documentation, about 178 a class."""
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8)
    assert (digits.images.min(), digits.images.max()) == (0, 16)
    counts = np.bincount(digits.labels)
    assert counts.size == 10
    assert counts.min() >= 174
    assert counts.max() <= 183


def test_patches_are_the_image():
    images = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    tokens = image_patches(images, 2)
    assert tokens.shape == (2, 6, 4)
    np.testing.assert_array_equal(tokens[1, 4], images[1, 2:4, 2:4].ravel())
    assert image_patches(images, 1).shape == (2, 24, 1)


def test_standardised_tokens():
    tokens = np.random.default_rng(0).normal(3.0, [1.0, 4.0, 0.1], (50, 3))
    scaled = standardise(tokens)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-12)
    assert np.trace(np.cov(scaled.T, ddof=0)) == pytest.approx(3.0)
    ratio = np.std(scaled, axis=0) / np.std(tokens, axis=0)
    np.testing.assert_allclose(ratio, ratio[0])


@pytest.mark.usefixtures("as_user")
def test_refusals(monkeypatch):
    with pytest.raises(ArgumentError, match="patch: 3 does not divide"):
        image_patches(np.zeros((1, 8, 8)), 3)
    with pytest.raises(ArgumentError, match="all tokens are equal"):
        standardise(np.ones((4, 2)))
    with monkeypatch.context() as patched:
        patched.setattr(digits_module, "_FILE", "absent.npz")
        with pytest.raises(StoreError, match=r"cannot be read \(No such file.*\); install"):
            load_digits()
    monkeypatch.setattr(digits_module, "SHA256", "0" * 64)
    with pytest.raises(StoreError, match="digest"):
        load_digits()
