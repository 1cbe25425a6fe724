"""The recursion of the Gram matrix: reference values, and every block term against drawn weights.

Networks of `RandomStack` draw every weight and know nothing of the recursion. For each block type
they are held against the chain of the Gram matrix (equal in law at finite width: means and
variances) and against the recursion (infinite width); recursions with a wrong term are refuted.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    MemoryLimitError,
    in_float64,
    memory,
    named_key,
)
from translimit.describe import (
    Attention,
    FeedForward,
    Frequencies,
    Norm,
    Normalisation,
    PreNormArchitecture,
    Rotary,
    Stack,
    SubBlock,
    read_architecture,
)
from translimit.limits.homogenized import GramChain, GramRecursion, PreNormRecursion
from translimit.limits.homogenized.high_temperature import layer_step
from translimit.limits.homogenized.pre_norm_terms import AttentionTerm, turn
from translimit.models import RandomStack

TOKENS = 6
#: Score standard deviation 3.2 at width 80: attention is far from uniform.
BASE = {
    "kind": "pre-norm",
    "layers": 3,
    "dim": 80,
    "heads": 4,
    "init_std": 0.11,
    "qk_std": 0.2,
    "token_std": 0.6,
    "norm_eps": 0.02,
}
MLP = {"mlp_dim": 160, "mlp_in_std": 0.15, "mlp_out_std": 0.05}
LLAMA = {**BASE, **MLP, "norm": "rms", "activation": "silu", "gated": True, "kv_heads": 1}
CASES = {
    "vit": {**BASE, **MLP, "causal": False},
    "llama": {**LLAMA, "rotary_dims": 20, "rotary_base": 50.0},
    "neox": {
        **BASE,
        **MLP,
        "parallel": True,
        "activation": "relu",
        "rotary_dims": 16,
        "rotary_base": 3.0,
    },
}
#: What is measured: mean overlap of different tokens, of neighbours, of the first and the last,
#: and the logarithm of the mean squared norm.
NAMES = ("different", "neighbours", "ends", "log square")


def observables(grams):
    """[copies, layers + 1, 4] from Gram matrices [copies, layers + 1, n, n]."""
    grams = np.asarray(grams, dtype=float)
    squares = np.diagonal(grams, axis1=-2, axis2=-1)
    R = grams / np.sqrt(squares[..., :, None] * squares[..., None, :])
    n = R.shape[-1]
    off = (R.sum(axis=(-2, -1)) - n) / (n * (n - 1))
    near = np.diagonal(R, offset=1, axis1=-2, axis2=-1).mean(axis=-1)
    return np.stack([off, near, R[..., 0, -1], np.log(squares.mean(axis=-1))], axis=-1)


def networks(a):
    """The architecture as a stack whose weights are drawn."""
    stds = a.qk_std, a.qk_std, a.v_std, a.out_std
    rotary = a.rotary and Frequencies.geometric(a.rotary.dims, a.rotary.base)
    branches = [Attention(a.heads, a.head_dim, *stds, kv_heads=a.kv_heads, rotary=rotary)]
    if (block := a.feed_forward) is not None:
        sizes = block.width, block.activation, block.in_std, block.out_std
        branches.append(FeedForward(*sizes, gated=block.gated))
    parts = [branches] if a.parallel else [[one] for one in branches]
    norm = Normalisation(a.norm, a.norm_eps)
    layer = tuple(SubBlock(tuple(one), norm_in=norm) for one in parts)
    return RandomStack(Stack(a.dim, (layer,) * a.layers, causal=a.causal))


def independent(a, tokens):
    """C of independent tokens with entries of the architecture's deviation."""
    return a.token_std**2 * a.free_dim / a.dim * np.eye(tokens)


def stacks(architecture, count, key):
    stack, cov = networks(architecture), independent(architecture, TOKENS)
    clouds = stack.draw_tokens(cov, replicas=count, key=named_key(key, "tokens"))
    return observables(architecture.dim * stack.simulate(clouds, replicas=count, key=key).covs)


def overlapping(dim):
    """Tokens of mean zero with the Gram matrix dim (0.02 I + 0.02): all overlaps are 1 / 2."""
    gram = dim * (0.02 * np.eye(TOKENS) + 0.02)
    draws = np.random.default_rng(0).standard_normal((dim, TOKENS))
    basis, _ = np.linalg.qr(draws - draws.mean(axis=0))
    return gram, np.linalg.cholesky(gram) @ basis.T


@pytest.fixture(scope="module", params=CASES)
def case(request):
    architecture = read_architecture(CASES[request.param])
    return request.param, architecture, stacks(architecture, 256, named_key(0, request.param))


def test_the_chain_has_the_law_of_drawn_weights(case):
    name, architecture, drawn = case
    problem = PreNormRecursion(architecture, tokens=TOKENS)
    chain = observables(solve(problem, GramChain(256), key=named_key(1, name)).grams)
    variances = drawn.var(axis=0, ddof=1), chain.var(axis=0, ddof=1)
    z = (drawn.mean(axis=0) - chain.mean(axis=0)) / np.sqrt(sum(variances) / 256)
    assert np.abs(z).max() < 4.5, z
    # The log of a ratio of variances of 256 near-Gaussian values each: standard error 0.125.
    assert np.abs(np.log(variances[0] / variances[1])).max() < 4.5 * 0.125


def wrong(architecture):
    """Recursions of other architectures, each wrong in one term."""
    block = architecture.feed_forward
    yield "scores", replace(architecture, qk_std=0.0)
    yield (
        "hidden inputs",
        replace(architecture, feed_forward=replace(block, in_std=1.3 * block.in_std)),
    )
    yield "epsilon", replace(architecture, norm_eps=0.0)
    if architecture.rotary is not None:
        yield "rotary", replace(architecture, rotary=None)
    if architecture.parallel:
        yield "parallel", replace(architecture, parallel=False)
    if block.gated:
        yield "gated", replace(architecture, feed_forward=replace(block, gated=False))


def test_the_recursion_is_the_limit_of_wide_networks_and_wrong_terms_are_refuted(case):
    _, narrow, _ = case
    # Six times as wide at the same score_std, Gamma / r_0^2 and inputs of the activation.
    by = 6
    root = by**-0.5
    block = narrow.feed_forward
    block = replace(
        block, width=by * block.width, in_std=root * block.in_std, out_std=root * block.out_std
    )
    wide = replace(
        narrow,
        dim=by * narrow.dim,
        head_dim=by * narrow.head_dim,
        qk_std=root * narrow.qk_std,
        v_std=root * narrow.v_std,
        out_std=root * narrow.out_std,
        rotary=narrow.rotary and Rotary(by * narrow.rotary.dims, narrow.rotary.base),
        feed_forward=block,
    )
    # Overlapping tokens, among which positions and the scores of neighbours count, and small
    # ones, so that what attention adds is seen.
    gram, cloud = overlapping(wide.dim)
    paths = networks(wide).simulate(np.float32(cloud), replicas=96, key=named_key(2))
    drawn = observables(wide.dim * paths.covs)
    centre, stderr = drawn.mean(axis=0), drawn.std(axis=0, ddof=1) / 96**0.5

    def distance(architecture):
        method = GramRecursion(128, 4)
        solution = solve(PreNormRecursion(architecture, initial=gram), method, key=named_key(3))
        limit = observables(solution.grams)
        error = np.hypot(stderr, limit.std(axis=0, ddof=1) / 2) + 1e-6
        # The bias of a finite width is O(1 / D): 3 / D bounds it here.
        return (np.abs(limit.mean(axis=0) - centre) - 3.0 / wide.dim) / error

    assert distance(wide).max() < 4.5
    distances = {term: distance(other)[1:].max() for term, other in wrong(wide)}
    assert min(distances.values()) > 4.5, distances


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_sharing_keys_and_values_changes_fluctuations_only(kv_heads):
    # One token: |u|^2 given the values has mean Gamma, and the values' part of its relative
    # variance is 2 / (kv_heads head_dim).
    architecture = read_architecture({**BASE, "kv_heads": kv_heads, "head_dim": 3})
    term, copies = AttentionTerm(architecture), 20_000

    def squares(keys):
        roots = jax.vmap(lambda key: term.root(jax.numpy.ones((1, 1)), key))(keys)
        return (roots**2).sum(axis=(1, 2)) * architecture.free_dim / architecture.branch_square

    sampled = np.asarray(squares(jax.random.split(named_key(0, "values"), copies)))
    assert abs(sampled.mean() - 1) < 4.5 * sampled.std() / copies**0.5
    # The kurtosis of a chi-square with f degrees of freedom: 3 + 12 / f.
    freedom = 3 * kv_heads
    stderr = ((2 + 12 / freedom) / copies) ** 0.5
    assert abs(sampled.var() * freedom / 2 - 1) < 4.5 * stderr


def test_rotary_positions_change_the_covariance_of_scores():
    # Cov(score_ij, score_kl) = K_ik K_jl c(i - j - k + l) for scores of unit variance.
    rotary, head_dim, heads = Rotary(4, 9.0), 6, 200_000
    F = np.random.default_rng(0).standard_normal((3, 3))
    F /= np.linalg.norm(F, axis=1, keepdims=True)

    def scores(F):
        draw = jax.random.normal(named_key(0, "heads"), (2, heads, 3, head_dim), F.dtype)
        q, k = (turn(rotary, F @ one) for one in draw)
        return q @ k.swapaxes(-1, -2) / head_dim**0.5

    sampled = in_float64(jax.jit(scores), F)
    K = F @ F.T
    frequencies = np.array([1.0, 1.0 / 3.0, 0.0])
    for i, j, k, m in [(0, 1, 0, 2), (0, 0, 1, 1), (2, 0, 0, 1), (1, 2, 2, 1), (2, 1, 2, 1)]:
        shift = np.cos((i - j - k + m) * frequencies).mean()
        product = sampled[:, i, j] * sampled[:, k, m]
        z = (product.mean() - K[i, k] * K[j, m] * shift) / product.std() * heads**0.5
        assert abs(z) < 4.5


def of_note(causal=False, **changes):
    """The stack of acceptance row 20, whose norms do not remove the mean."""
    sizes = {"layers": 12, "dim": 768, "heads": 12, "kv_heads": 12, "head_dim": 64}
    stds = {"qk_std": 0.02, "v_std": 0.02, "out_std": 0.02 / 24**0.5, "token_std": 0.02 * 2**0.5}
    made = PreNormArchitecture(family="note", **sizes, **stds, norm=Norm.RMS, causal=causal)
    return replace(made, **changes)


def test_acceptance_row_19():
    expected = {1: 0.0958313, 2: 0.1425730, 5: 0.3584942, 10: 0.6825922, 25: 0.9087766}
    expected[50] = 0.9611837
    m, square = 1 / 16, 11.52
    # The recursion itself at score_std = 0, with Gamma and r_0^2 of the row.
    dim, gain = 128, 6.79477248
    uniform = of_note(
        layers=50,
        dim=dim,
        heads=4,
        kv_heads=4,
        head_dim=32,
        qk_std=0.0,
        v_std=1.0,
        out_std=(gain / dim**3) ** 0.5,
        token_std=(square / dim) ** 0.5,
    )
    problem = PreNormRecursion(uniform, tokens=16)
    solution = solve(problem, GramRecursion(1, 2), key=named_key(0))
    for layer in range(1, 51):
        m, square = layer_step(m, square, gain)
        assert solution.overlap_all[0, layer] == pytest.approx(m, abs=1e-9)
        assert solution.squares[0, layer] == pytest.approx(square, rel=1e-9)
        assert square * (1 - m) == pytest.approx(11.52 * 15 / 16)
        if layer in expected:
            assert m == pytest.approx(expected[layer], abs=1e-6)


def test_acceptance_row_19_against_a_stack():
    # The note's figures of a stack of width 128 and its tolerance. It averaged 16 replicas, of
    # which one varies by 0.05 at layer 5; 200 of them resolve the tolerance. The row gives Gamma
    # only; with scores of standard deviation 0.46 (weights of 0.06) its figures come back.
    sizes = {"layers": 50, "dim": 128, "heads": 4, "kv_heads": 4, "head_dim": 32}
    stds = {"qk_std": 0.06, "v_std": 0.06, "out_std": (6.79477248 / 128**3) ** 0.5 / 0.06}
    architecture = of_note(**sizes, **stds, token_std=0.3)
    stack, cov = networks(architecture), independent(architecture, 16)
    tokens = stack.draw_tokens(cov, replicas=200, key=named_key(0, "row 19"))
    m = stack.simulate(tokens, replicas=200, key=named_key(1, "row 19")).overlap_all
    expected = {1: 0.090, 2: 0.135, 5: 0.347, 10: 0.660, 25: 0.907, 50: 0.9615}
    for layer, value in expected.items():
        assert m[layer] == pytest.approx(value, abs=0.015)


#: Acceptance row 20: the figures of the note's stack and how far two replicas may lie from them.
ROW_20 = {
    False: ([0.862, 0.960, 0.978], [0.015, 0.015, 0.015]),
    True: ([0.768, 0.872, 0.906], [0.04, 0.03, 0.025]),
}


@pytest.mark.parametrize("causal", [False, True])
def test_acceptance_row_20_by_the_recursion(causal):
    expected, bound = ROW_20[causal]
    problem = PreNormRecursion(of_note(causal=causal), tokens=48)
    m = solve(problem, GramRecursion(16, 2), key=named_key(0)).overlap_all.mean(axis=0)
    assert np.all(np.abs(m[[4, 8, 12]] - expected) < bound)
    if not causal:
        np.testing.assert_allclose(m[[4, 8, 12]], [0.8616, 0.9604, 0.9774], atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_acceptance_row_20_by_drawn_weights(causal):
    expected, bound = ROW_20[causal]
    architecture = of_note(causal=causal)
    stack, cov = networks(architecture), independent(architecture, 48)
    tokens = stack.draw_tokens(cov, replicas=2, key=named_key(0, "row 20"))
    m = stack.simulate(tokens, replicas=2, key=named_key(1, "row 20")).overlap_all
    assert np.all(np.abs(m[[4, 8, 12]] - expected) < bound)


def test_row_0_of_a_causal_stack_attends_to_itself_only():
    # Token 0 gains Gamma a layer, whatever the scores.
    architecture = of_note(causal=True, layers=5)
    solution = solve(
        PreNormRecursion(architecture, tokens=4), GramRecursion(2, 2), key=named_key(0)
    )
    growth = np.diff(solution.grams[0, :, 0, 0])
    np.testing.assert_allclose(growth, architecture.branch_square, rtol=1e-12)


def test_initial_gram_saves_and_labels():
    architecture = read_architecture({**BASE, "layers": 4})
    initial = 5.0 * (np.eye(3) + 0.5)
    problem = PreNormRecursion(architecture, initial=initial)
    whole = solve(problem, GramChain(3), key=named_key(0))
    np.testing.assert_allclose(whole.grams[:, 0], np.stack([initial] * 3), rtol=1e-9)
    kept = solve(problem, GramChain(3), key=named_key(0), save=[0.0, 2.0, 4.0])
    np.testing.assert_array_equal(kept.grams, whole.grams[:, ::2])
    data = kept.to_xarray()
    assert data["mean_overlap"].dims == ("sample", "time")
    assert whole.plot().get_xlabel() == "layer"
    # More tokens than half the width: the part outside their span is drawn otherwise.
    crowded = PreNormRecursion(replace(architecture, dim=8, heads=2, kv_heads=2), tokens=10)
    grams = solve(crowded, GramChain(2), key=named_key(0)).grams
    assert np.isfinite(grams).all()
    assert (np.linalg.matrix_rank(grams, tol=1e-9 * grams.max()) == 7).all()


@pytest.mark.usefixtures("as_user")
def test_refusals(monkeypatch):
    architecture = read_architecture({**BASE, "context": 8})
    with pytest.raises(ArgumentTypeError, match="read_architecture"):
        PreNormRecursion(BASE, tokens=3)
    with pytest.raises(ArgumentError, match="either tokens or initial"):
        PreNormRecursion(architecture)
    with pytest.raises(ArgumentError, match="tokens: is given with initial; pass either"):
        PreNormRecursion(architecture, tokens=2, initial=np.eye(2))
    with pytest.raises(ArgumentError, match="at most the context, 8"):
        PreNormRecursion(architecture, tokens=9)
    with pytest.raises(ArgumentError, match="norm zero"):
        PreNormRecursion(architecture, initial=np.diag([1.0, 0.0]))
    crowded = replace(architecture, dim=4, heads=1, kv_heads=1)
    with pytest.raises(ArgumentError, match="rank beyond 3"):
        PreNormRecursion(crowded, initial=np.eye(4))
    with pytest.raises(ArgumentError, match="negative eigenvalue"):
        PreNormRecursion(architecture, initial=[[1.0, 2.0], [2.0, 1.0]])
    problem = PreNormRecursion(architecture, tokens=3)
    with pytest.raises(ArgumentError, match="between two layers"):
        solve(problem, key=named_key(0), save=[0.5])
    with pytest.raises(ArgumentTypeError, match="key"):
        solve(problem)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 8.0 * (architecture.layers + 3) * 3**2)
    for method in (GramRecursion(), GramChain()):
        with pytest.raises(MemoryLimitError, match=r"tokens: pairs of 3 tokens, and .* free; pass"):
            solve(PreNormRecursion(architecture, tokens=3), method, key=named_key(0))
    with pytest.raises(MemoryLimitError, match="tokens: pairs of 4 tokens in all layers need"):
        PreNormRecursion(architecture, tokens=4)
    with pytest.raises(ArgumentError, match="batches"):
        GramRecursion(batches=1)
    with pytest.raises(ArgumentError, match="networks"):
        GramChain(1)
