"""Heads add."""

import numpy as np
from tests.attention.gaussian_laws import QKV, X
from tests.limits.meanfield.canonical import K, Q, V

from translimit.attention import (
    MultiHead,
    Softmax,
)


def test_identity_one_head_is_softmax_and_heads_add():
    single = MultiHead(Q=[Q], K=[K], V=[V], W=[np.eye(2)], score_scale=0.8)
    np.testing.assert_allclose(single(X, X), Softmax(**QKV, score_scale=0.8)(X, X), atol=1e-14)
    # Cut heads: head h is softmax attention that keeps row h of V.
    cut = MultiHead.from_matrices(Q, K, V, heads=2, score_scale=0.8)
    parts = [
        Softmax(Q=Q[h : h + 1], K=K[h : h + 1], V=np.diag(np.eye(2)[h]) @ V, score_scale=0.8)
        for h in (0, 1)
    ]
    np.testing.assert_allclose(cut(X, X), sum(part(X, X) for part in parts), atol=1e-14)
    np.testing.assert_allclose(cut.effective_V, [part.V for part in parts], atol=1e-15)
    np.testing.assert_allclose(cut.A, [part.A for part in parts], atol=1e-15)
