"""Classes without a table of names: their layers, deviations and gradients are those that are read.

Their own parameters are walked, and taken apart as the class takes them apart. Every matrix has the
deviation and as many entries as the stack tells, every layer makes of its input what
`exact_layers` makes of it, and sixteen networks have the gradients of the limit: that of the
stream, which is pulled back by autograd, and the square of every group of weights.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
import pytest
from tests.describe import exact_layers, unnamed_classes
from tests.describe.exact_layers import Turning
from tests.describe.unnamed_classes import Apart, Case

from translimit.core import solve
from translimit.describe import (
    FAMILIES,
    PatchEmbedding,
    Role,
    Stack,
    StackReading,
    matrices,
    read_stack,
)
from translimit.limits.signal import Recursion, SignalPropagation

torch = pytest.importorskip("torch")

IDS = 10 + np.arange(16) ** 2 % 7
#: No classes of transformers.
ELSEWHERE = {"baichuan", "chatglm", "qwen"}
#: Has a table, and values times a number that no parameter holds.
NAMED = {"mimo_v2_flash"}
SMALL, DIM, LAYERS, NETWORKS = 64, 256, 2, 16
CLOSE = 3e-6
NAMES = list(unnamed_classes.cases(DIM))
ROLES = {
    "query": Role.QUERY,
    "key": Role.KEY,
    "value": Role.VALUE,
    "attention_out": Role.ATTENTION_OUT,
    "out": Role.MLP_OUT,
    "up": Role.MLP_IN,
    "router": Role.ROUTER,
}


def test_every_family_without_a_table_is_here() -> None:
    here = {one.family for one in unnamed_classes.cases(DIM).values()}
    assert here - NAMED == {name for name, one in FAMILIES.items() if one.unnamed} - ELSEWHERE


def reading_of(config: Any) -> StackReading:
    reading = read_stack(config.to_dict())
    assert not [one for one in reading.ignored if "not known" in one]
    return reading


def entering(stack: Stack, config: Any) -> dict[str, Any]:
    """What a class is given: a text, an image, or sounds."""
    rng = torch.Generator().manual_seed(5)
    if isinstance(stack.embedding, PatchEmbedding):
        size = config.image_size
        return {"pixel_values": torch.randn(1, 3, size, size, generator=rng)}
    if stack.embedding is None:
        frames = 2 * config.max_source_positions
        return {"input_features": torch.randn(1, config.num_mel_bins, frames, generator=rng)}
    return {"input_ids": torch.tensor(IDS)[None]}


def arrays(model: Any) -> list[tuple[str, np.ndarray]]:
    return [(name, one.detach().double().numpy()) for name, one in model.named_parameters()]


def furthest(case: Case) -> float:
    """The largest difference of any layer from its class over the largest entry."""
    config = unnamed_classes.config_of(case, SMALL, LAYERS)
    stack = reading_of(config).stack
    torch.manual_seed(0)
    model = unnamed_classes.built(case, config)
    with torch.no_grad():
        for key, one in model.named_parameters():
            if re.fullmatch(case.zeroed, key):
                one.zero_()
        states = model(**entering(stack, config), output_hidden_states=True).hidden_states
    found = unnamed_classes.by_group(case, arrays(model))
    layers: list[exact_layers.Matrices] = [{} for _ in stack.layers]
    gated = any(group == "up" for _, group in found)
    roles = {**ROLES, "in": Role.MLP_GATE if gated else Role.MLP_IN}
    for (layer, group), every in found.items():
        if group in roles:
            (matrix,) = every
            layers[layer][roles[group]] = [np.swapaxes(matrix, -1, -2)]
    streams = [one[0].double().numpy() for one in states]

    def off(how: Turning) -> float:
        each = []
        for index, w in enumerate(layers):
            made = exact_layers.layer(stack, index, streams[index], w, how)
            ends = [made, exact_layers.norm(made, stack.norm_final)]
            after = streams[index + 1]
            each.append(min(np.abs(one - after).max() for one in ends) / np.abs(after).max())
        return max(each)

    return min(off(how) for how in Turning)


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_the_class(name: str) -> None:
    assert furthest(unnamed_classes.cases(SMALL)[name]) < CLOSE


@pytest.mark.parametrize(
    ("name", "packed", "other"),
    [
        ("codegen", r"attn\.qkv_proj", unnamed_classes.in_blocks(4)),
        ("falcon, groups", r"self_attention\.query_key_value", unnamed_classes.in_rows(64, 32, 32)),
        ("gpt_bigcode, all heads", r"attn\.c_attn", unnamed_classes.in_rows(64, 64, 64)),
    ],
)
def test_another_order_is_refuted(name: str, packed: str, other: Apart) -> None:
    case = unnamed_classes.cases(SMALL)[name]
    names = {**case.names, packed: other}
    assert len(names) == len(case.names)
    assert furthest(dataclasses.replace(case, names=names)) > 100 * CLOSE


@functools.cache
def stack_of(name: str) -> Stack:
    """Without the last layer, whose output the class normalises."""
    case = unnamed_classes.cases(DIM)[name]
    stack = reading_of(unnamed_classes.config_of(case, DIM, LAYERS + 1)).stack
    return dataclasses.replace(stack, layers=stack.layers[:LAYERS])


@functools.cache
def networks(name: str) -> tuple[dict[tuple[int, str], np.ndarray], np.ndarray, np.ndarray]:
    """|dW|^2 by layer and group, tr B by level, and the covariance of what enters, by network."""
    case, stack = unnamed_classes.cases(DIM)[name], stack_of(name)
    config = unnamed_classes.config_of(case, DIM, LAYERS + 1)
    squares: dict[tuple[int, str], list[float]] = {}
    back, covs = [], []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = unnamed_classes.built(case, config)
        stds(case, stack, model)
        states = model(**entering(stack, config), output_hidden_states=True).hidden_states
        for one in states:
            one.retain_grad()
        top = states[LAYERS]
        torch.sum(top * torch.randn(top.shape) / DIM**0.5).backward()
        grads = [
            (key, one.grad.double().numpy())
            for key, one in model.named_parameters()
            if one.grad is not None
        ]
        for at, every in unnamed_classes.by_group(case, grads).items():
            squares.setdefault(at, []).append(sum(float((one**2).sum()) for one in every))
        back.append([float((one.grad.double() ** 2).sum()) for one in states[:LAYERS]])
        x = states[0][0].detach().double().numpy()
        x = x - x.mean(axis=1, keepdims=True) if stack.centred else x
        covs.append(x @ x.T / DIM)
    return {at: np.array(row) for at, row in squares.items()}, np.array(back), np.array(covs)


def stds(case: Case, stack: Stack, model: Any) -> None:
    """Every group of every layer has the deviation and the entries that are told."""
    found = unnamed_classes.by_group(case, arrays(model))
    for index, layer in enumerate(stack.layers):
        told = matrices(layer, stack.dim)
        assert {group for number, group in found if number == index} == set(told)
        for group, of in told.items():
            every = np.concatenate([one.ravel() for one in found[index, group]])
            if group.startswith("norm"):
                assert np.all(every == 1)
            else:
                assert len(every) == of.entries, (index, group)
                assert exact_layers.off(of.std, every) < 5, (index, group)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_class(name: str) -> None:
    stack, (squares, back, covs) = stack_of(name), networks(name)
    image = isinstance(stack.embedding, PatchEmbedding)
    initial = covs.mean(axis=0) if image or stack.embedding is None else stack.initial_cov(IDS)
    problem = SignalPropagation(stack=stack, initial=initial)
    limit = solve(problem, Recursion(pairs=64, copies=4), key=jax.random.key(0))
    n = len(initial)
    told = np.trace(limit.grad_gram, axis1=1, axis2=2)[:LAYERS]
    error = back.std(axis=0, ddof=1) / NETWORKS**0.5
    assert np.all(np.abs(back.mean(axis=0) - told) < 4 * error + n / DIM * told)
    for (layer, group), row in squares.items():
        if layer < LAYERS:
            std = matrices(stack.layers[layer], DIM)[group].std
            place = limit.groups.index(group)
            own = float(limit.weight_squares[:, layer, place].mean()) / std**2
            error = row.std(ddof=1) / NETWORKS**0.5
            # Below drawn layers scores have the bias n / D_eff, of which D is half or less.
            bias = (1 if layer == 0 else 3) * n / DIM
            assert abs(row.mean() - own) < 4 * error + bias * own, (layer, group, row.mean() / own)
            assert 4 * error < (1 if group == "router" else 0.7) * row.mean(), (layer, group)
