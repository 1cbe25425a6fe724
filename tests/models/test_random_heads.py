"""The chain of random heads: acceptance rows, two routes to one law, streams of keys, refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError, Outcome, Retraction, SolveError
from translimit.describe import GaussianHeads, ShiftedHeads, WideHeads
from translimit.models import RandomHeadChain, head_update

LAW = GaussianHeads.of_score_std(1.5, dim=8)


def off_diagonal(overlaps: np.ndarray) -> np.ndarray:
    n = overlaps.shape[-1]
    return (overlaps.sum((-1, -2)) - n) / (n * (n - 1))


def chain(step: float, heads: int, **options) -> RandomHeadChain:
    layers = round(1.5 * heads / step**2)
    return RandomHeadChain(law=LAW, step=step, heads=heads, layers=layers, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "heads"), [(0.5, 4), (0.25, 1)])
def test_acceptance_2_and_3_explicit_and_integrated_weights(step, heads):
    """Mean overlap at tau = 1.5: .207 +- .010 and .215 +- .011 explicit, .199, .221 +- .011 Gram.

    2000 replicas each (s.e. .005): within 4.5 combined standard errors of these values, and
    of each other. The chain and its Gram form: "The diffusive limit", docs/theory/homogenized.md.
    """
    one = chain(step, heads)
    third = one.layers // 3
    paths = one.simulate(np.eye(6, 8), replicas=2000, key=jax.random.key(2), save_every=third)
    explicit = off_diagonal(paths.overlaps[:, -1])
    gram = off_diagonal(
        one.simulate_overlaps(np.eye(6), replicas=2000, key=jax.random.key(3)).overlaps[:, -1]
    )
    stderr = explicit.std() / np.sqrt(2000)
    values_of = {4: (0.207, 0.199), 1: (0.215, 0.221)}[heads]
    for values, value in zip((explicit, gram), values_of, strict=True):
        assert abs(values.mean() - value) < 4.5 * np.hypot(0.011, stderr)
    assert abs(explicit.mean() - gram.mean()) < 4.5 * np.sqrt(2) * stderr
    assert explicit.std() == pytest.approx(gram.std(), rel=0.1)
    # What is kept, and when.
    assert paths.tokens.shape == (2000, 4, 6, 8)
    np.testing.assert_allclose(paths.clocks.layers, third * np.arange(4))
    np.testing.assert_allclose(paths.clocks.diffusive_time, 0.5 * np.arange(4))
    np.testing.assert_allclose(paths.tokens[5, 0], np.eye(6, 8))


def test_two_routes_under_a_mask():
    """Every overlap at tau = 1.5, causal: 2000 replicas, 15 entries, 4.5 standard errors."""
    one = chain(0.5, 4, causal=True)
    explicit = one.simulate(np.eye(6, 8), replicas=2000, key=jax.random.key(4)).overlaps[:, -1]
    gram = one.simulate_overlaps(np.eye(6), replicas=2000, key=jax.random.key(5)).overlaps[:, -1]
    stderr = np.hypot(explicit.std(axis=0), gram.std(axis=0)) / np.sqrt(2000)
    assert (abs(explicit.mean(axis=0) - gram.mean(axis=0)) <= 4.5 * stderr + 1e-9).all()
    # Later tokens average over more: their overlaps differ from those of the first two.
    assert abs(gram.mean(axis=0)[0, 1] - gram.mean(axis=0)[4, 5]) > 10 * stderr[0, 1]


@pytest.mark.parametrize(
    ("causal", "retraction"), [(False, Retraction.AMBIENT), (True, Retraction.TANGENT)]
)
def test_a_layer_against_loops(causal, retraction):
    """Rows are queries: weights, scores, values and both retractions written out in NumPy."""
    tokens = np.random.default_rng(0).standard_normal((4, 8))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    key = jax.random.key(7)
    one = RandomHeadChain(
        law=LAW, step=0.3, heads=2, layers=1, causal=causal, retraction=retraction
    )
    found = one.simulate(tokens, key=key).tokens[0, 1]
    update = np.zeros_like(tokens)
    with jax.enable_x64(True):
        for head in range(2):
            head_key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, 0), 0), head)
            V, A = map(np.asarray, LAW.sample(head_key, jnp.float64))
            for i in range(4):
                seen = range(i + 1) if causal else range(4)
                scores = [float(LAW.beta) * tokens[k] @ A @ tokens[i] for k in seen]
                weights = np.exp(scores) / np.exp(scores).sum()
                mean = sum(w * tokens[k] for w, k in zip(weights, seen, strict=True))
                update[i] += 0.15 * V @ mean
    if retraction is Retraction.TANGENT:
        update -= np.sum(update * tokens, axis=1, keepdims=True) * tokens
    expected = tokens + update
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_infinite_scores_attend_to_the_best_key():
    law = WideHeads(dim=8, score_std=math.inf)
    tokens = np.random.default_rng(1).standard_normal((4, 8))
    key = jax.random.key(3)
    V, A = map(np.asarray, law.sample(key))
    for causal in (False, True):
        found = head_update(law, jnp.asarray(tokens), key, causal=causal)
        for i in range(4):
            seen = i + 1 if causal else 4
            best = np.argmax(tokens[:seen] @ A @ tokens[i])
            np.testing.assert_allclose(found[i], V @ tokens[best], rtol=1e-5, atol=1e-5)


def test_heads_do_not_depend_on_the_tokens_or_the_replicas():
    """Under a mask the first tokens of a larger system are the smaller system itself."""
    one = RandomHeadChain(law=LAW, step=0.3, heads=2, layers=5, causal=True)
    large = one.simulate(np.eye(6, 8), replicas=3, key=jax.random.key(1), save_every=1)
    small = one.simulate(np.eye(3, 8), replicas=2, key=jax.random.key(1), save_every=5)
    np.testing.assert_allclose(large.tokens[:2, [0, 5], :3], small.tokens, rtol=1e-12, atol=1e-14)


def test_the_first_crossing_is_that_of_the_whole_chain():
    """Same key, every layer kept; a depth that does not suffice for all."""
    law = WideHeads(dim=8, score_std=1.0)
    one = RandomHeadChain(law=law, step=0.5, heads=1, layers=8)
    key, start = jax.random.key(9), np.eye(6, dtype=np.float32)
    means = off_diagonal(one.simulate_overlaps(start, replicas=20, key=key, save_every=1).overlaps)
    found = one.first_crossing(start, 0.4, replicas=20, key=key)
    crossed = means > 0.4
    expected = np.where(crossed.any(axis=1), crossed.argmax(axis=1), np.nan)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.isnan(found).sum() < 20
    paths = one.simulate_overlaps(start, replicas=20, key=key, save_every=1)
    between = paths.collapse_time(0.4)  # on the line between layers
    np.testing.assert_array_equal(np.ceil(between), np.where(np.isnan(found), np.inf, found))
    assert paths.clusters(np.pi / 3).shape == means.shape
    assert (paths.clusters(np.pi / 3)[:, 0] == 6).all()  # orthogonal at the start
    assert (one.first_crossing(start, -0.1, replicas=20, key=key) == 0).all()
    with pytest.raises(ArgumentError, match="one token"):
        one.first_crossing(np.eye(1), 0.4, key=key)
    with pytest.raises(ArgumentError, match="threshold"):
        one.first_crossing(np.eye(6), 1.0, key=key)


def test_an_update_that_cancels_a_token():
    law = ShiftedHeads(mean_v=-np.eye(2), mean_a=np.zeros((2, 2)), beta=1.0)
    one = RandomHeadChain(law=law, step=1.0, heads=1, layers=1)
    with pytest.raises(SolveError, match="smaller step"):
        one.simulate(np.array([[1.0, 0.0], [1.0, 0.0]]), key=jax.random.key(0))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"step": 0.0}, "step"),
        ({"heads": 0}, "heads"),
        ({"layers": -1}, "layers"),
        ({"layers": 1.5}, "layers"),
        ({"causal": 1}, "causal"),
        ({"retraction": "ambient"}, "retraction"),
        ({"law": 3}, "law"),
    ],
)
def test_refusals(options, argument):
    with pytest.raises(ArgumentError) as caught:
        RandomHeadChain(**({"law": LAW, "step": 0.1, "heads": 1, "layers": 4} | options))
    assert caught.value.argument == argument


def test_refusals_of_a_simulation(monkeypatch):
    one = RandomHeadChain(law=LAW, step=0.1, heads=1, layers=4)
    key = jax.random.key(0)
    with pytest.raises(ArgumentError, match="does not divide"):
        one.simulate_overlaps(np.eye(6), key=key, save_every=3)
    with monkeypatch.context() as patched:
        patched.setattr("translimit.models.random_heads.following_inputs", lambda *_: -np.ones(1))
        with pytest.raises(SolveError, match=r"RandomHeadChain: .*smaller step"):
            one.first_crossing(np.eye(2), 0.4, key=key)
    with pytest.raises(ArgumentTypeError, match="initial: is traced; pass concrete overlaps"):
        jax.jit(lambda start: one.first_crossing(start, 0.4, key=key))(np.eye(2))
    with pytest.raises(ArgumentError, match="rank beyond 8"):
        one.simulate_overlaps(np.eye(9), key=key)
    with pytest.raises(ArgumentError, match=r"has shape \(3, 3\); pass \[tokens, 8\]"):
        one.simulate(np.eye(3), key=key)
    with pytest.raises(ArgumentError, match="norm"):
        one.simulate(2 * np.eye(8), key=key)
    law = ShiftedHeads(mean_v=np.eye(2), mean_a=np.eye(2), beta=1.0)
    with pytest.raises(ArgumentTypeError, match="not Markov"):
        RandomHeadChain(law=law, step=0.1, heads=1, layers=1).simulate_overlaps(np.eye(2), key=key)


def test_paths_of_a_chain_have_the_face_of_a_solution() -> None:
    chain = RandomHeadChain(law=LAW, step=0.5, heads=2, layers=4)
    paths = chain.simulate_overlaps(np.eye(3), replicas=2, key=jax.random.key(0), save_every=2)
    assert paths.samples == 2
    np.testing.assert_array_equal(paths.ts, [0.0, 2.0, 4.0])
    assert paths.outcome == Outcome.successful
    assert repr(paths).startswith("ChainPaths(times: 3, from 0 to 4; samples: 2")
    data = paths.to_xarray()
    assert data["mean_overlap"].dims == ("sample", "time")
    np.testing.assert_allclose(data["paper_time"], [0.0, 1.0, 2.0])
    assert data.attrs["discretisation"] == "not estimated: a network has no steps but its layers"
    assert paths.plot().get_ylabel() == "mean overlap of two tokens"
