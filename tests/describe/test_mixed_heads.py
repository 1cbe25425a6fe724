"""Laws of heads that mix others."""

import jax
import numpy as np
import pytest

from translimit.describe import (
    FiniteHeads,
    SampledHeads,
    ShiftedHeads,
)


def test_mixed_laws():
    fixed = ShiftedHeads(mean_v=np.eye(2), mean_a=2 * np.eye(2), beta=1.0)
    V, A = fixed.sample(jax.random.key(0))
    np.testing.assert_allclose(V, np.eye(2))
    np.testing.assert_allclose(A, 2 * np.eye(2))
    assert fixed.deterministic_scores
    assert not fixed.centred
    assert float(fixed.variance_proxy) == 0
    noisy = ShiftedHeads(mean_v=3 * np.eye(2), mean_a=np.eye(2), beta=1.0, sigma_a=1.0)
    assert float(noisy.variance_proxy) == pytest.approx(9.0)
    assert not noisy.deterministic_scores
    assert ShiftedHeads(mean_v=np.zeros((2, 2)), mean_a=np.eye(2), beta=1.0).centred
    few = FiniteHeads.drawn_from(noisy, 3, key=jax.random.key(1))
    V, A = few.sample(jax.random.key(2))
    assert few.dim == 2
    assert any(np.allclose(A, one) for one in np.asarray(few.A))
    own = SampledHeads(
        dim=2,
        beta=1.0,
        sampler=lambda key: (np.eye(2), np.eye(2)),
        centred=False,
        variance_proxy=1.0,
    )
    np.testing.assert_allclose(own.sample(jax.random.key(0))[0], np.eye(2))
