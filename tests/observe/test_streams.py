"""Observables of raw tokens, maps and heads: closed forms, identities, and what is not defined."""

import jax.numpy as jnp
import numpy as np
import pytest

from translimit import observe

RNG = np.random.default_rng(0)


def equal_overlaps(n, m):
    return (1 - m) * np.eye(n) + m


def maps(heads, n, rng, causal=False):
    scores = rng.normal(size=(heads, n, n))
    seen = np.tril(np.ones((n, n), bool)) if causal else np.ones((n, n), bool)
    p = np.where(seen, np.exp(scores), 0.0)
    return scores, p / p.sum(axis=-1, keepdims=True), seen


def test_equal_overlaps_have_closed_forms():
    n, m = 7, 0.3
    R = equal_overlaps(n, m)
    tokens = np.linalg.cholesky(R) * np.array([3.0])
    assert observe.token_overlap(tokens) == pytest.approx(m)
    assert observe.participation(R) == pytest.approx(n / (1 + (n - 1) * m**2))
    lam = np.array([(1 + (n - 1) * m) / n] + [(1 - m) / n] * (n - 1))
    rank = np.exp(-(lam * np.log(lam)).sum())
    assert observe.effective_rank_of(R) == pytest.approx(rank)
    assert observe.effective_rank(tokens) == pytest.approx(rank)
    # |mean unit token|^2 is the overlap with the diagonal, and mean_share is that of equal norms.
    assert observe.mean_share(tokens) == pytest.approx(observe.overlap_all(m, n))


def test_norms_do_not_count_in_the_overlap_and_do_in_the_share():
    tokens = RNG.normal(size=(5, 8))
    scaled = tokens * np.array([1, 2, 3, 4, 50.0])[:, None]
    assert observe.token_overlap(scaled) == pytest.approx(observe.token_overlap(tokens))
    assert observe.largest_share(scaled) > 0.9
    assert observe.outliers(scaled) == ([4], observe.outliers(scaled)[1])


def test_what_is_not_defined_is_nan():
    tokens = RNG.normal(size=(4, 6))
    tokens[1] = 0
    for found in (
        observe.token_overlap(tokens),
        observe.effective_rank_of(observe.cosines(tokens)),
    ):
        assert np.isnan(found)
    zero, z = np.zeros((4, 6)), np.zeros((2, 4, 6))
    assert np.isnan(observe.branch_ratio(tokens, zero))
    assert np.isnan(observe.varying_ratio(tokens, np.ones((4, 6))))
    assert np.isnan(observe.overlap_update(tokens, z).z_flip)
    assert np.isnan(observe.effective_heads(z))
    assert all(np.isnan(one) for one in observe.head_alikeness(z))
    # A head without output is left out, and does not make the others undefined.
    z = RNG.normal(size=(3, 4, 6))
    z[2] = 0
    np.testing.assert_allclose(observe.head_alikeness(z), observe.head_alikeness(z[:2]))
    equal = np.ones((4, 6))
    assert observe.token_overlap(equal) == pytest.approx(1.0)
    assert observe.effective_rank_of(observe.cosines(equal)) == pytest.approx(1.0)


@pytest.mark.parametrize("causal", [False, True])
def test_uniform_and_one_hot_maps(causal):
    n = 8
    _, p, seen = maps(2, n, RNG, causal)
    uniform = np.where(seen, 1 / seen.sum(axis=1)[:, None], 0.0)[None].repeat(2, axis=0)
    assert observe.relative_entropy_of_maps(uniform, seen) == pytest.approx(1.0)
    assert observe.uniform_distance(uniform, seen) == pytest.approx(0.0)
    assert observe.head_variance(uniform, seen) == pytest.approx(0.0)
    assert observe.sink(uniform) * n == pytest.approx(8 / 6.5 if causal else 1.0, rel=0.1)
    hot = np.zeros((2, n, n))
    hot[:, :, 0] = 1.0
    assert observe.relative_entropy_of_maps(hot, seen) == pytest.approx(0.0)
    assert observe.one_hot_share(hot, seen) == observe.first_key(hot) == observe.sink(hot) == 1.0
    assert observe.sink_keys(hot).tolist() == [0, 0]
    by_hand = [
        -(row[k] * np.log(row[k])).sum() / np.log(k.sum())
        for head in p
        for row, k in zip(head, seen, strict=True)
        if k.sum() > 1
    ]
    assert observe.relative_entropy_of_maps(p, seen) == pytest.approx(np.mean(by_hand))


def test_masked_scores_and_the_first_query_are_left_out():
    scores, _, seen = maps(3, 6, RNG, causal=True)
    filled = np.where(seen, scores, -1e4)
    by_hand = np.sqrt(np.mean([h[i, : i + 1].var() for h in scores for i in range(1, 6)]))
    assert observe.score_spread(filled, seen) == pytest.approx(by_hand)


def test_equal_maps_are_seen_below_a_sink_that_all_share():
    _, p, seen = maps(3, 8, RNG)
    p[1] = p[0]
    kept = np.ones(8, bool)
    apart = observe.map_distances(p, seen, kept)
    assert apart[0, 1] == pytest.approx(0)
    assert apart[0, 2] > 0.3
    _, q, _ = maps(3, 8, RNG)
    q = 0.05 * q
    q[:, :, 0] += 0.95
    kept[0] = False
    without = observe.map_distances(q, seen, kept)
    assert without[np.triu_indices(3, 1)].min() > 0.3
    with_sink = np.abs(q[0] - q[1]).sum(axis=-1).mean() / 2
    assert with_sink < 0.05


def test_the_parts_of_the_update_add_up():
    x, z = RNG.normal(size=(6, 10)), RNG.normal(size=(4, 6, 10))
    after = x + z.sum(axis=0)

    def mean_product(y):
        g = y @ y.T
        return (g.sum() - np.trace(g)) / 30

    unit = (x**2).sum(axis=1).mean()
    update = observe.overlap_update(x, z)
    parts = update.overlap_drift + update.coherent + update.independent
    assert parts == pytest.approx((mean_product(after) - mean_product(x)) / unit)
    same = observe.overlap_update(x, np.repeat(z[:1], 4, axis=0))
    assert same.coherent == pytest.approx(3 * same.independent)
    assert abs(update.z_flip) <= np.sqrt(4 * 5 / 2)


def test_the_sign_flip_test_is_exact():
    x, z = RNG.normal(size=(5, 6)), RNG.normal(size=(5, 5, 6))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    totals, scales = [], []
    for sign in signs:  # all flips: mean 0 and variance as told, exactly
        one = observe.overlap_update(x, sign[:, None, None] * z)
        totals.append(one.overlap_drift + one.coherent)
        scales.append(totals[-1] / one.z_flip)
    assert np.mean(totals) == pytest.approx(0, abs=1e-12)
    assert np.mean(np.square(totals)) == pytest.approx(scales[0] ** 2)


def test_jax_and_numpy_agree():
    x, z = RNG.normal(size=(6, 10)), RNG.normal(size=(4, 6, 10))
    for function, args in ((observe.overlap_update, (x, z)), (observe.head_alikeness, (z,))):
        ours, theirs = function(*args), function(*(jnp.asarray(one) for one in args))
        np.testing.assert_allclose(ours, np.array(theirs), rtol=2e-5)
        assert isinstance(theirs[0], jnp.ndarray)
