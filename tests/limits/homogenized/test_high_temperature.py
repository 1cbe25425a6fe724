"""The second order of weak scores in the drift of the overlaps."""

import numpy as np
import pytest

from translimit.core import SPHERE, ArgumentError
from translimit.limits.homogenized import high_temperature, overlaps


def test_the_correction_is_the_second_order_of_the_kernel_without_1_over_d():
    tokens = SPHERE.project(np.random.default_rng(0).standard_normal((5, 6)))
    R = tokens @ tokens.T
    s = np.asarray(overlaps.small_score_overlap(R, 1.0) - overlaps.small_score_overlap(R, 0.0))
    variance = np.diagonal(s)
    expected = s - 0.5 * R * (variance[:, None] + variance)
    correction = high_temperature.score_correction(R)
    np.testing.assert_allclose(correction, expected, atol=1e-14)
    assert correction[0, 1] < -1e-3


def test_it_refuses_what_is_no_correlation_matrix():
    with pytest.raises(ArgumentError, match="diagonal"):
        high_temperature.score_correction(2 * np.eye(3))
