"""Random stacks: against NumPy with the same weights, differences, the limit, and transformers."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.signal.stacks import IDS, STACKS
from tests.models import numpy_stack

from translimit.core import ArgumentError, ArgumentTypeError, MemoryLimitError, memory, solve
from translimit.describe import (
    Activation,
    Attention,
    Branch,
    Embedding,
    Experts,
    FeedForward,
    Frequencies,
    LatentAttention,
    Norm,
    Normalisation,
    QueryKeyNorm,
    Scores,
    Stack,
    SubBlock,
)
from translimit.limits.signal import Chain, Recursion, SignalPropagation
from translimit.limits.signal.sub_blocks import GROUPS
from translimit.models import LanguageReadout, RandomStack, StackPaths
from translimit.models.random_mixers import relative_rows

KEY = jax.random.key(5)
DIM = 12
RMS, LAYER = Normalisation(norm_eps=0.1, gain=1.5), Normalisation(Norm.LAYER, 0.01)


def attention(**more: Any) -> Attention:
    return Attention(4, 6, *(0.5, 0.6, 0.4, 0.3), **more)


def units(width: int = 10, activation: Activation = Activation.GELU, **more: Any) -> FeedForward:
    return FeedForward(width, activation, 0.5, 0.4, **more)


GATED = units(7, Activation.SILU, gated=True, up_std=0.8, shift=1.0)
ROTARY = Frequencies.geometric(4, 10.0)
ROTATED = dataclasses.replace(ROTARY, factor=1.3)
#: Every mixer, each of its options at least once.
MIXERS: dict[str, Branch] = {
    "plain": attention(),
    "grouped, rotary, values of another size": attention(kv_heads=2, value_dim=5, rotary=ROTARY),
    "values times a number": attention(value_scale=1.4),
    "norm of heads": attention(qk_norm=QueryKeyNorm(norm_eps=0.2, gain=1.2), rotary=ROTATED),
    "layer norm of heads": attention(kv_heads=1, qk_norm=QueryKeyNorm(Norm.LAYER, 0.2)),
    "norm of all heads": attention(qk_norm=QueryKeyNorm(norm_eps=0.1, over="all"), kv_heads=2),
    "turned, then norm": attention(qk_norm=QueryKeyNorm(norm_eps=0.1, turned=True), rotary=ROTARY),
    "capped, window": attention(scores=Scores(score_scale=0.9, softcap=1.5, window=3)),
    "chunk, sink": attention(scores=Scores(chunk=2, sink=True)),
    "slopes": attention(scores=Scores(slopes=(0.5, 0.25, 0.1, 0.0))),
    "table": attention(scores=Scores(score_scale=1.0, bias_std=0.7, bias_buckets=8, bias_reach=6)),
    "latents": LatentAttention(3, 4, 4, 5, 6, 0.5, 0.4, query_rank=7, rotary=ROTARY),
    "latents of keys only": LatentAttention(3, 4, 4, 5, 6, 0.5, 0.4, rotary=ROTATED),
    "feed-forward": units(),
    "gated": GATED,
    "experts, softmax": Experts(5, 2, units(), 0.6, "softmax", factor=1.5),
    "experts, renormalised": Experts(4, 2, GATED, 0.6, shared=units(6)),
    "experts, softmax of the top": Experts(6, 3, GATED, 0.6, "softmax_top", bias_std=0.5),
    "experts in groups": Experts(
        8, 2, units(), 0.7, "sigmoid", shared=GATED, groups=4, open_groups=2, factor=2.5
    ),
}
PLACEMENTS = {
    "pre": {"norm_in": RMS},
    "post": {"norm_post": LAYER, "residual": 1.7},
    "sandwich": {"norm_in": RMS, "norm_out": RMS, "branch": 0.6},
    "reordered": {"norm_out": RMS},
}


def stack_of(*branches: Branch, causal: bool = True, layers: int = 2, **placement: Any) -> Stack:
    layer = tuple(SubBlock((one,), **(placement or PLACEMENTS["pre"])) for one in branches)
    return Stack(DIM, (layer,) * layers, Embedding(0.9), causal)


def against_numpy(stack: Stack, n: int = 5, single: bool = False) -> None:
    """Two replicas in float64, or in single precision, against the same weights."""
    network = RandomStack(stack)
    dtype, share = (np.float32, 1e-4) if single else (np.float64, 1e-5)
    tokens = network.draw_tokens(np.eye(n) + 0.3, replicas=2, key=KEY, dtype=dtype)
    told = network.simulate(tokens, replicas=2, key=KEY)
    assert told.covs.dtype == dtype
    for replica, x in enumerate(tokens.astype(float)):
        expected, entropies = [numpy_stack.cov(stack, x)], []
        for layer in range(len(stack.layers)):
            weights = network.draw_weights(layer, replica=replica, key=KEY)
            x, heads = numpy_stack.passed(stack, layer, weights, x)
            expected.append(numpy_stack.cov(stack, x))
            entropies.append(heads or [0.0])
        # Weights are drawn, and scaled here, in single precision.
        size = np.abs(expected).max(axis=(1, 2), keepdims=True)
        assert np.max(np.abs(told.covs[replica] - expected) / size) < share
        assert np.allclose(
            told.attention_entropies[replica], np.mean(entropies, axis=1), atol=share
        )
        assert np.allclose(
            told.attention_entropy_stds[replica], np.std(entropies, axis=1), atol=share
        )


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_against_numpy(name: str) -> None:
    against_numpy(stack_of(MIXERS[name], causal=name != "table"))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement_against_numpy(name: str) -> None:
    against_numpy(stack_of(attention(), GATED, causal=name != "post", **PLACEMENTS[name]))


def test_single_precision_against_numpy() -> None:
    against_numpy(stack_of(attention(kv_heads=2, rotary=ROTARY), GATED), single=True)


def test_parallel_branches_and_layers_that_differ_against_numpy() -> None:
    stack = stack_of(MIXERS["table"], causal=False)
    parallel = (SubBlock((attention(kv_heads=1), units()), norm_in=LAYER, residual=0.9),)
    against_numpy(dataclasses.replace(stack, layers=(stack.layers[0], parallel, stack.layers[0])))
    causal = stack_of(MIXERS["table"], units(), causal=True, norm_in=LAYER)
    against_numpy(causal, n=9)


def test_one_table_of_positions_serves_all_layers() -> None:
    network = RandomStack(stack_of(MIXERS["table"]))
    first, second = (network.draw_weights(layer, key=KEY)[0][0] for layer in (0, 1))
    assert np.array_equal(first["table"], second["table"])
    assert not np.array_equal(first["query"], second["query"])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("rows", "reach"), [(32, 128), (16, 64), (8, 20)])
def test_rows_of_the_table_are_those_of_t5(causal: bool, rows: int, reach: int) -> None:
    scores = Scores(bias_std=1.0, bias_buckets=rows, bias_reach=reach)
    found = relative_rows(scores, causal, 150)
    expected = [[numpy_stack.t5_row(scores, j - i, causal) for j in range(150)] for i in range(150)]
    assert np.array_equal(found, expected)


def readout(n: int, words: int = 7, **more: Any) -> LanguageReadout:
    given: dict[str, Any] = {"std": 0.4} | more
    return LanguageReadout(np.arange(n) % 5, words, **given)


@pytest.mark.parametrize(
    ("branches", "placement", "more"),
    [
        (("norm of heads", "gated"), "sandwich", {}),
        pytest.param(
            ("latents", "experts in groups"),
            "pre",
            {"softcap": 2.0, "multiplier": 1.3},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("chunk, sink", "experts, renormalised"),
            "reordered",
            {"std": None, "tied": KEY},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gradients_against_finite_differences(
    branches: tuple[str, str], placement: str, more: dict[str, Any]
) -> None:
    """Of the loss with respect to every entry of the tokens, in float64."""
    stack = stack_of(*(MIXERS[one] for one in branches), **PLACEMENTS[placement])
    stack = dataclasses.replace(stack, norm_final=RMS)
    network, h = RandomStack(stack), 1e-5
    x = network.draw_tokens(np.arange(3), key=KEY, dtype=np.float64)

    def told(x: np.ndarray) -> StackPaths:
        return network.simulate(x, key=jax.random.key(1), readout=readout(3, **more))

    found = told(x)
    assert found.grad_grams is not None
    gradient = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[at] = h
        ahead, behind = told(x + step).losses, told(x - step).losses
        assert ahead is not None
        assert behind is not None
        gradient[at] = (ahead[0] - behind[0]) / (2 * h)
    assert np.allclose(found.grad_grams[0, 0], gradient @ gradient.T, rtol=1e-4, atol=1e-9)


def test_gradients_of_weights_against_finite_differences() -> None:
    """sigma_W^2 |dW|^2 of every group, by differences in NumPy with the weights of the network."""
    gated = FeedForward(3, Activation.SILU, 0.5, 0.4, gated=True, up_std=0.8, shift=1.0)
    inner = FeedForward(2, Activation.GELU, 0.5, 0.4)
    mixer = Attention(2, 3, *(0.5, 0.6, 0.4, 0.3), kv_heads=1)
    branches = (mixer, Experts(2, 1, gated, 0.6, "softmax", shared=inner))
    stack = stack_of(*branches, layers=1)
    stack = dataclasses.replace(stack, norm_final=LAYER, dim=6)
    network = RandomStack(stack)
    x = network.draw_tokens(np.arange(3), key=KEY, dtype=np.float64)
    table = network.draw_tokens(np.arange(7), key=KEY, dtype=np.float64)
    told = network.simulate(x, key=KEY, readout=readout(3, std=None, tied=KEY))
    weights = network.draw_weights(0, key=KEY)
    assert told.losses is not None
    assert told.weight_squares is not None

    def loss(given: Any) -> float:
        y, _ = numpy_stack.passed(stack, 0, given, x)
        logits = numpy_stack.norm(LAYER, y) @ table.T
        own = logits[np.arange(3), np.arange(3) % 5]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - own))

    assert told.losses[0] == pytest.approx(loss(weights), rel=1e-6)
    whole = [[{k: np.array(v, float) for k, v in one.items()} for one in b] for b in weights]
    stds = {"query": 0.5, "key": 0.6, "value": 0.4, "attention_out": 0.3}
    stds |= {"in": 0.5, "up": 0.8, "out": 0.4, "router": 0.6}
    places = {name: [(0, name)] for name in ("query", "key", "value")}
    places |= {"attention_out": [(0, "out")], "router": [(1, "router")], "up": [(1, "up")]}
    places |= {name: [(1, name)] for name in ("in", "out", "shared_in", "shared_out")}
    stds |= {"shared_in": 0.5, "shared_out": 0.4}
    for group, found in zip(told.groups, told.weight_squares[0, 0], strict=True):
        total = 0.0
        for block, name in places.get(group, []):  # no gate of the shared block, nor of its input
            matrix = whole[block][0][name]
            for at in np.ndindex(*matrix.shape):
                kept, values = matrix[at], []
                for step in (1e-5, -1e-5):
                    matrix[at] = kept + step
                    values.append(loss(whole))
                matrix[at] = kept
                total += ((values[0] - values[1]) / 2e-5) ** 2
        assert found == pytest.approx(stds.get(group, 0.0) ** 2 * total, rel=1e-4), group


@functools.cache
def drawn(name: str, count: int = 24) -> StackPaths:
    network = RandomStack(STACKS[name])
    tokens = network.draw_tokens(IDS, replicas=count, key=jax.random.key(7))
    return network.simulate(tokens, replicas=count, key=jax.random.key(8), top_gradient="identity")


def summaries(told: Any) -> np.ndarray:
    """Overlap, log mean square, log trace of B by level; entropy by layer [copies, 4, levels]."""
    square = np.diagonal(told.covs, axis1=-2, axis2=-1).mean(axis=-1)
    trace = np.diagonal(told.grad_grams, axis1=-2, axis2=-1).mean(axis=-1)
    overlap = told.overlaps.mean(axis=(-2, -1))
    entropy = np.pad(told.attention_entropies, ((0, 0), (1, 0)))
    return np.stack([overlap, np.log(square), np.log(trace), entropy], axis=1)


def weights(told: Any) -> np.ndarray:
    """Log sum of sigma_W^2 |dW|^2 of the last layer, of the groups that are there.

    Queries, keys and routers are left out: at width 256 their bias exceeds n / D (documentation,
    "Signal propagation": 24 % for queries of post-LN stacks).
    """
    names = ("value", "attention_out", "in", "up", "out")
    last = told.weight_squares[:, -1, [told.groups.index(one) for one in names]]
    return np.log(last[:, (last > 0).all(axis=0)])


def gaps(name: str, solution: Any) -> tuple[np.ndarray, np.ndarray]:
    """Distances of a solution's means from those of networks, and their standard errors."""
    network = drawn(name)
    both = [
        np.concatenate([summaries(t).reshape(t.samples, -1), weights(t)], axis=1)
        for t in (network, solution)
    ]
    centre, other = (one.mean(axis=0) for one in both)
    error = [one.std(axis=0, ddof=1) / len(one) ** 0.5 for one in both]
    return np.abs(centre - other), np.hypot(*error)


def solved(stack: Stack, method: Recursion | Chain) -> Any:
    problem = SignalPropagation(stack=stack, initial=stack.initial_cov(IDS))
    return solve(problem, method, key=jax.random.key(2))


def check_recursion(name: str) -> None:
    """Within 4 standard errors and n / D."""
    gap, error = gaps(name, solved(STACKS[name], Recursion(pairs=32, copies=4)))
    assert np.all(gap < 4 * error + len(IDS) / STACKS[name].dim), gap


def test_networks_agree_with_the_recursion() -> None:
    check_recursion("qwen3")


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_networks_of_every_kind_agree_with_recursion_and_chain(name: str) -> None:
    """The chain's overlaps and mean squares within 4 standard errors alone."""
    check_recursion(name)
    gap, error = gaps(name, solved(STACKS[name], Chain(networks=48, pairs=6)))
    assert np.all(gap < 4 * error + len(IDS) / STACKS[name].dim), gap
    assert np.all(gap[:10] < 4 * error[:10] + 1e-6), gap


@pytest.mark.slow
def test_wrong_terms_are_refuted() -> None:
    """No norm of queries and keys, another mask, no gate: each beyond 4 errors and n / D."""
    stack = STACKS["qwen3"]

    def changed(**to: Any) -> Stack:
        def branch(one: Branch) -> Branch:
            own = {k: v for k, v in to.items() if hasattr(one, k)}
            return dataclasses.replace(one, **own)

        def block(one: SubBlock) -> SubBlock:
            return dataclasses.replace(one, branches=tuple(map(branch, one.branches)))

        return dataclasses.replace(
            stack, layers=tuple(tuple(map(block, layer)) for layer in stack.layers)
        )

    wrong = {
        "no norm of queries and keys": changed(qk_norm=None),
        "no gate": changed(gated=False),
        "no mask": dataclasses.replace(stack, causal=False),
    }
    for what, other in wrong.items():
        solution = solved(other, Recursion(pairs=8, copies=4))
        both = [summaries(t).reshape(t.samples, -1) for t in (drawn("qwen3"), solution)]
        error = np.hypot(*(one.std(axis=0, ddof=1) / len(one) ** 0.5 for one in both))
        gap = np.abs(both[0].mean(axis=0) - both[1].mean(axis=0))
        assert np.any(gap > 4 * error + len(IDS) / stack.dim), what


def test_groups_are_those_of_the_limit() -> None:
    """The limit has gains of norms beside the matrices, of which networks draw none."""
    groups = drawn("qwen3").groups
    assert GROUPS[: len(groups)] == groups
    assert all(name.startswith("norm_") for name in GROUPS[len(groups) :])


def test_a_given_gradient_arrives_with_its_gram_matrix() -> None:
    """B at the top is a mean over D entries: relative deviation (2 / D)^(1/2) of its diagonal."""
    network, n, count = RandomStack(stack_of(units(), layers=1)), 3, 400
    top = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 0.25]])
    tokens = network.draw_tokens(np.eye(n), replicas=count, key=KEY)
    found = network.simulate(tokens, replicas=count, key=KEY, top_gradient=top).grad_grams
    assert found is not None
    error = found[:, -1].std(axis=0) / count**0.5
    assert np.all(np.abs(found[:, -1].mean(axis=0) - top) < 4.5 * error)


@pytest.mark.parametrize(
    "embedding",
    [
        Embedding(0.3, multiplier=2.0, position_std=0.4, type_std=0.2, padding=3),
        Embedding(0.3, position_std=0.4, type_std=0.2, norm=Normalisation(Norm.LAYER, 1e-5)),
    ],
)
def test_tokens_have_the_covariance_of_their_embedding(embedding: Embedding) -> None:
    """400 draws at width 12, with a repeated id and a padding row; norms at width 2000."""
    ids = np.array([1, 3, 1, 2, 3])
    dim = DIM if embedding.norm is None else 2000
    count = 400 if embedding.norm is None else 12
    stack = Stack(dim, stack_of(units()).layers, embedding)
    for given in (ids, stack.initial_cov(ids)):
        x = RandomStack(stack).draw_tokens(given, replicas=count, key=KEY)
        covs = x @ np.swapaxes(x, 1, 2) / dim
        error = covs.std(axis=0, ddof=1) / count**0.5 + 4 / dim * (embedding.norm is not None)
        # A layer norm inside of a stack of other norms: the mean is removed from 1 of D entries.
        gap = np.abs(covs.mean(axis=0) - stack.initial_cov(ids))
        assert np.all(gap < 4.5 * error + 1e-6), gap / error


def test_a_layer_norm_stack_draws_centred_covariances() -> None:
    stack = stack_of(units(), norm_in=LAYER)
    network, cov = RandomStack(stack), np.eye(3) + 1.0
    tokens = network.draw_tokens(cov, replicas=2000, key=KEY)
    found = network.simulate(tokens, replicas=2000, key=KEY).covs[:, 0]
    assert np.all(np.abs(found.mean(axis=0) - cov) < 4.5 * found.std(axis=0) / 2000**0.5)


@pytest.mark.slow
def test_replicas_do_not_depend_on_their_number_and_both_precisions_are_one_network() -> None:
    network = RandomStack(stack_of(attention(), units()))
    tokens = network.draw_tokens([1, 2, 3, 1], replicas=3, key=KEY)
    three = network.simulate(tokens, replicas=3, key=KEY, top_gradient="identity")
    two = network.simulate(tokens[:2], replicas=2, key=KEY, top_gradient="identity")
    assert np.array_equal(three.covs[:2], two.covs)
    assert three.grad_grams is not None
    assert two.grad_grams is not None
    assert np.array_equal(three.grad_grams[:2], two.grad_grams)
    fine = network.simulate(
        tokens.astype(np.float64), replicas=3, key=KEY, top_gradient="identity"
    ).grad_grams
    assert fine is not None
    assert np.allclose(fine, three.grad_grams, rtol=1e-3, atol=1e-3)
    assert not np.allclose(three.covs[0], three.covs[1])


def test_zero_tokens_stay_zero_and_their_gradient_is_finite() -> None:
    """A padding row meets norms with eps, and latents that divide by their own size."""
    stack = stack_of(MIXERS["latents"])
    stack = dataclasses.replace(stack, embedding=Embedding(0.9, padding=0))
    network = RandomStack(stack)
    tokens = network.draw_tokens([0, 1, 2], key=KEY)
    assert np.all(tokens[0] == 0)
    told = network.simulate(tokens, key=KEY, top_gradient="identity")
    assert np.all(told.covs[0, :, 0] == 0)  # it attends to itself alone
    assert np.isfinite(told.grad_gram).all()


def test_labels_and_plot() -> None:
    network = RandomStack(stack_of(attention()))
    tokens = network.draw_tokens(np.eye(4), replicas=2, key=KEY)
    bare = network.simulate(tokens, replicas=2, key=KEY)
    data = bare.to_xarray()
    assert data["overlap"].dims == ("sample", "time")
    assert "grad_square" not in data
    assert bare.plot().get_xlabel() == "level"
    full = network.simulate(tokens, replicas=2, key=KEY, readout=readout(4)).to_xarray()
    assert full["weight_square"].dims == ("sample", "layer", "group")
    assert full["loss"].shape == (2,)
    assert np.allclose(bare.error(bare.mean_overlaps).shape, 3)
    with pytest.raises(ArgumentError, match="top_gradient: was not passed"):
        _ = bare.grad_gram


@pytest.mark.usefixtures("as_user")
def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentTypeError, match=r"stack: .*describe\.Stack"):
        RandomStack({"dim": 3})  # pyright: ignore[reportArgumentType]
    network = RandomStack(stack_of(attention()))
    x = np.ones((3, DIM))
    with pytest.raises(ArgumentError, match=r"pass \[n, 12\], or \[1, n, 12\]"):
        network.simulate(np.ones((3, 13)), key=KEY)
    with pytest.raises(ArgumentError, match="replicas"):
        network.simulate(x, replicas=0, key=KEY)
    with pytest.raises(ArgumentError, match="top_gradient"):
        network.simulate(x, key=KEY, top_gradient=np.eye(4))
    with pytest.raises(ArgumentError, match='"identity"'):
        network.simulate(x, key=KEY, top_gradient="one")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="with a readout"):
        network.simulate(x, key=KEY, top_gradient="identity", readout=readout(3))
    with pytest.raises(ArgumentError, match="4 targets for 3 tokens"):
        network.simulate(x, key=KEY, readout=readout(4))
    with pytest.raises(ArgumentError, match="targets: go from 0 to 4; pass ids from 0 to 2"):
        readout(5, words=3)
    with pytest.raises(ArgumentError, match="std: stands beside tied"):
        readout(3, tied=KEY)
    with pytest.raises(ArgumentError, match="ids_or_cov"):
        network.draw_tokens([-1, 2], key=KEY)
    with pytest.raises(ArgumentError, match="layer: got 2; pass 0 to 1"):
        network.draw_weights(2, key=KEY)
    bare = RandomStack(dataclasses.replace(network.stack, embedding=None))
    with pytest.raises(ArgumentError, match="no table of embeddings; pass the covariance"):
        bare.draw_tokens([1, 2], key=KEY)
    with pytest.raises(ArgumentError, match="no table of embeddings; pass its std"):
        bare.simulate(x, key=KEY, readout=readout(3, std=None, tied=KEY))
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 100.0)
    with pytest.raises(MemoryLimitError, match="tokens: pairs of 3 tokens at 3 depths"):
        network.simulate(x, key=KEY)
