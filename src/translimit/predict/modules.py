r"""A PyTorch module of a known family as a stack: the variances of its own weights are read.

The configuration tells the block; the module tells what its matrices were drawn from, layer by
layer: a user's own initialisation is what is predicted. What is said of a stack holds for fresh
draws alone, so every matrix is looked at (`fresh_draws`), and what is none is refused.

| of the module | becomes |
|---|---|
| root mean square of a matrix's entries | its standard deviation; one for all layers that agree |
| constant gain of a norm | its gain; gains that vary are refused |
| gain of a branch, score scale | the same of the stack |
| biases | ignored, told where they are not zero |
| embedding and readout of one tensor | a tied readout |

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from translimit.core import ArgumentError, ConfigError, JsonObject
from translimit.describe import (
    FAMILIES,
    NameTable,
    Role,
    StackReading,
    read_stack,
)
from translimit.predict.fresh_draws import Draw, Finding, measure_draw, pooled_stds, same_entries
from translimit.predict.module_kinds import Config, Configuration, Module
from translimit.predict.module_stack import (
    Drawn,
    rms,
    told_range,
    with_embedding,
    with_gains,
    with_scales,
    with_table,
    with_weights,
    without_padding,
)
from translimit.predict.module_weights import INSTEAD, Weight, module_weights
from translimit.scaling.adapters import unwrapped

#: How many matrices an error lists.
LISTED = 3


def read_module(module: Module, config: Config | None = None) -> StackReading:
    """The stack of a PyTorch module, with what its own weights were drawn from.

    Args:
        module: of a family whose parameters are known by name: bare or with a head, plain or in
            DistributedDataParallel, FullyShardedDataParallel or torch.compile.
        config: of the module, where it holds none itself.

    Raises:
        ConfigError: no configuration, or one that is not understood.
        NoSuchLimitError: an architecture without such a limit.
        ArgumentError: a family without a table of names, weights that are no fresh draw, that are
            not there or quantised, parameters or shapes that the configuration does not describe.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> sizes = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, initializer_range=0.1)
    >>> reading = read_module(GPT2LMHeadModel(sizes))
    >>> round(reading.stack.embedding.std, 2)
    0.1
    """
    model: Any = unwrapped(cast("Any", module))
    reading = read_stack(_configuration(model, config))
    table = _names(reading.family)
    weights = module_weights(model, table, reading.stack)
    of = reading.stack.embedding
    fixed = of is not None and of.sinusoids is not None
    drawn = _drawn([one for one in weights if not (fixed and one.role is Role.POSITION_EMBEDDING)])
    stack = with_weights(reading.stack, drawn)
    stack = with_gains(stack, weights, table)
    stack, scales = with_scales(with_table(stack, drawn), model, table)
    stack = replace(stack, embedding=with_embedding(stack, weights, drawn))
    assumed = [one for one in reading.assumptions if not one.startswith(("initializer", "init_"))]
    return replace(
        reading,
        stack=stack,
        assumptions=(*assumed, *_told(drawn), *scales),
        ignored=(*reading.ignored, *_biases(weights)),
        **_readout(reading, weights, drawn),
    )


def _configuration(model: Any, config: Config | None) -> str | Path | JsonObject:
    """What `read_stack` takes."""
    told = getattr(model, "config", None) if config is None else config
    if isinstance(told, Configuration):
        return told.to_dict()
    if told is None or not isinstance(told, (str, Path, Mapping)):
        raise ConfigError(
            "module",
            f"{type(model).__name__} holds no configuration",
            "pass config=, the content of its config.json",
        )
    return told


def _names(name: str) -> NameTable:
    known = {of: one.names for of, one in FAMILIES.items() if one.names is not None}
    latent = [of for of, table in known.items() if Role.KEY_VALUE_UP in table.roles.values()]
    if name in latent:
        raise ArgumentError("module", f"the weights of {name}'s latents are not read", INSTEAD)
    if name not in known:
        listed = ", ".join(of for of in known if of not in latent)
        raise ArgumentError(
            "module",
            f"the names of parameters of {name!r} are not known",
            f"{INSTEAD}; names are known of {listed}",
        )
    return known[name]


def _drawn(weights: list[Weight]) -> list[Drawn]:
    """All matrices with their laws, which must be those of fresh draws.

    Raises:
        ArgumentError: some are none.
    """
    found: list[tuple[Weight, Draw]] = []
    against: list[tuple[Weight, Finding]] = []
    before: dict[tuple[Role, bool], Draw] = {}
    seen: dict[int, Weight] = {}
    # A tied table counts as that of tokens, also where a class names its readout first.
    for weight in sorted(weights, key=lambda one: one.role is Role.READOUT):
        if not weight.is_matrix:
            continue
        place = weight.tensor.data_ptr()
        first = seen.setdefault(place, weight)
        if first is not weight and weight.layer is None:
            continue  # a tied readout
        rows = _rows(weight)
        draw = measure_draw(without_padding(rows) if _is_table(weight) else rows)
        against += [(weight, one) for one in draw.findings]
        if weight.layer is not None:
            kind = (weight.role, weight.shared)
            alike = same_entries(before[kind], draw) if kind in before else None
            against += [(weight, alike)] if alike is not None else []
            before[kind] = draw
        found.append((weight, replace(draw, block=draw.block[:0])))
    if against:
        raise _not_fresh(against, len(found))
    return _pooled(found)


def _pooled(found: list[tuple[Weight, Draw]]) -> list[Drawn]:
    """One standard deviation for all layers that agree within their errors."""
    made = []
    kinds = dict.fromkeys((weight.role, weight.shared, weight.layer is None) for weight, _ in found)
    for kind in kinds:
        those = [
            (weight, draw)
            for weight, draw in found
            if (weight.role, weight.shared, weight.layer is None) == kind
        ]
        stds = pooled_stds([draw for _, draw in those])
        if kind[2]:  # outside of the layers matrices of one role have nothing in common
            stds = [draw.std for _, draw in those]
        made += [Drawn(*pair, std) for pair, std in zip(those, stds, strict=True)]
    return made


def _rows(weight: Weight) -> np.ndarray:
    """A matrix; of experts one after the other, of an image the pixels of a patch in one row."""
    numbers = weight.numbers()
    kept = (
        len(numbers) if weight.role is Role.PATCH_EMBEDDING else numbers.size // numbers.shape[-1]
    )
    return numbers.reshape(kept, -1)


def _is_table(weight: Weight) -> bool:
    return weight.role in (Role.TOKEN_EMBEDDING, Role.READOUT, Role.POSITION_EMBEDDING)


def _not_fresh(against: list[tuple[Weight, Finding]], count: int) -> ArgumentError:
    against = sorted(against, key=lambda one: -one[1].excess)
    names = list(dict.fromkeys(weight.name for weight, _ in against))
    worst = {weight.name: f"{weight.name}: {one.says}" for weight, one in reversed(against)}
    told = "; ".join(worst[name] for name in names[:LISTED])
    return ArgumentError(
        "module",
        f"{len(names)} of {count} matrices are no fresh draw ({told})",
        "a trained network is not what this predicts: predict its configuration for the network "
        "at its start",
    )


def _readout(reading: StackReading, weights: list[Weight], drawn: list[Drawn]) -> dict[str, Any]:
    """What makes logits: its own matrix, the table of tokens, or nothing."""
    tables = {one.role: one for one in weights}
    tokens, readout = tables.get(Role.TOKEN_EMBEDDING), tables.get(Role.READOUT)
    words = reading.vocabulary if tokens is None else int(tokens.tensor.shape[0])
    if tokens is None or readout is None or readout.tensor.shape[0] != words:
        return {"vocabulary": words, "tied": False, "readout_std": None, "own_token": False}
    tied = tokens.tensor.data_ptr() == readout.tensor.data_ptr()
    role = Role.TOKEN_EMBEDDING if tied else Role.READOUT
    std = next(one.std for one in drawn if one.weight.role is role)
    dense = any(one.role is Role.READOUT_DENSE for one in weights)
    return {
        "vocabulary": words,
        "tied": tied,
        "readout_std": std,
        "own_token": tied and not dense,
    }


def _told(drawn: list[Drawn]) -> tuple[str, ...]:
    """What was read, in one sentence."""
    kinds: dict[str, list[float]] = {}
    for one in drawn:
        name = f"shared {one.weight.role}" if one.weight.shared else one.weight.role.value
        kinds.setdefault(name.replace("_", " "), []).append(one.std)
    told = ", ".join(f"{name} {told_range(stds)}" for name, stds in kinds.items())
    return (f"standard deviations of weights are the module's: {told}",)


def _biases(weights: list[Weight]) -> tuple[str, ...]:
    """Biases that are not zero, which no prediction takes into account."""
    squares: dict[Role, list[float]] = {}
    for one in weights:
        if one.role.is_bias:
            squares.setdefault(one.role, []).append(rms(one.numbers()))
    return tuple(
        f"{role.value}: up to {max(found):.3g} (root mean square), not zero"
        for role, found in squares.items()
        if max(found) > 0
    )
