"""A module of PyTorch, watched for one forward pass: the stream, its branches, attention weights.

| family | blocks | attention | MLP |
|---|---|---|---|
| gpt2, gptj | `h` | `attn` | `mlp` |
| llama, mistral, qwen2, qwen3, phi | `layers` | `self_attn` | `mlp` |
| gpt_neox | `layers` | `attention` | `mlp` |
| opt | `decoder.layers` | `self_attn` | `fc2` |
| gemma2, olmo2 | `layers` | `post_attention_layernorm` | `post_feedforward_layernorm` |
| bert, roberta, electra | `encoder.layer` | `attention.output.dense` | `output.dense` |
| distilbert | `transformer.layer` | `attention` | `ffn` |
| albert | `albert_layer_groups` | `...attention.dense` | `...ffn_output` |
| vit | `layers` | `attention` | `mlp` |


A module that is none of these has its longest list of equal blocks watched; branches are looked for
by the same names. Attention weights are seen where a module returns them, which needs eager
attention.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, TorchModule, TorchTensor

#: Names of a block's branches, in the order in which they are looked for.
_SANDWICH = ("post_attention_layernorm", "post_feedforward_layernorm")
_ATTENTION = (
    *("albert_layers.0.attention.dense", "attention.output.dense", "self_attn", "attn"),
    "attention",
)
_MLP = ("albert_layers.0.ffn_output", "fc2", "mlp", "ffn", "output.dense")
#: Modules that return attention weights.
_MAPS = ("albert_layers.0.attention", "attention.self", "attention.attention", *_ATTENTION[2:])
#: What an MLP begins with, whose input is the stream of a post-LN block.
_READERS = ("albert_layers.0.ffn", "intermediate", "ffn")


@dataclass
class Seen:
    """What one forward pass left: one entry for every call of a block.

    Attributes:
        entries: the stream before a block.
        exits: after it.
        attention: its branch, where a module for it was found.
        mlp: the same of the MLP.
        maps: attention weights, where they are returned.
        middles: what the MLP of a post-LN block reads.
    """

    entries: list[TorchTensor] = field(default_factory=list)
    exits: list[TorchTensor] = field(default_factory=list)
    attention: list[TorchTensor] = field(default_factory=list)
    mlp: list[TorchTensor] = field(default_factory=list)
    maps: list[TorchTensor] = field(default_factory=list)
    middles: list[TorchTensor] = field(default_factory=list)


@contextlib.contextmanager
def hooked(module: TorchModule) -> Iterator[Seen]:
    """Watch a module for one forward pass; the hooks are gone afterwards.

    Args:
        module: of PyTorch.

    Raises:
        ArgumentError: no list of blocks in it.
    """
    seen, handles = Seen(), []

    def kept(
        into: list[TorchTensor], pick: Callable[[object], TorchTensor | None]
    ) -> Callable[[object, object, object], None]:
        def hook(_: object, __: object, out: object) -> None:
            found = pick(out)
            if found is not None:
                into.append(found.detach())

        return hook

    def entry(_: object, args: tuple[TorchTensor, ...], kwargs: Mapping[str, TorchTensor]) -> None:
        given = args[0] if args else kwargs.get("hidden_states")
        if given is not None:
            seen.entries.append(given.detach())

    def reading(_: object, args: tuple[TorchTensor, ...]) -> None:
        seen.middles.append(args[0].detach())

    for block in dict.fromkeys(blocks_of(module)):
        inner = dict(block.named_modules())
        handles.append(block.register_forward_pre_hook(entry, with_kwargs=True))
        handles.append(block.register_forward_hook(kept(seen.exits, _first)))
        sandwiched = all(name in inner for name in _SANDWICH)
        for into, names in ((seen.attention, _ATTENTION), (seen.mlp, _MLP)):
            names = (_SANDWICH[0 if into is seen.attention else 1],) if sandwiched else names
            found = next((inner[name] for name in names if name in inner), None)
            if found is not None:
                handles.append(found.register_forward_hook(kept(into, _first)))
        reader = next((inner[name] for name in _READERS if name in inner), None)
        if reader is not None:
            handles.append(reader.register_forward_pre_hook(reading))
        maps = next((inner[name] for name in _MAPS if name in inner), None)
        if maps is not None:
            handles.append(maps.register_forward_hook(kept(seen.maps, _square)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def blocks_of(module: TorchModule) -> list[TorchModule]:
    """The blocks: those of the longest list of equal modules.

    Args:
        module: of PyTorch.

    Raises:
        ArgumentError: there is no such list.
    """
    import torch

    lists = [
        list(one)
        for one in module.modules()
        if isinstance(one, torch.nn.ModuleList | torch.nn.Sequential)
    ]
    for name, one in module.named_modules():
        if name.endswith("albert_layer_groups") and isinstance(one, torch.nn.ModuleList):
            return list(one)
    equal = [one for one in lists if one and len({type(block) for block in one}) == 1]
    if not equal:
        raise ArgumentError("module", "has no list of blocks", "pass the transformer itself")
    return max(equal, key=len)


def call_module(module: TorchModule, given: object) -> object:
    """Send one input through as a batch of one, with attention weights where that is known.

    Args:
        module: of PyTorch.
        given: ids, pixels, or whatever the module takes.
    """
    import torch

    tensor = torch.as_tensor(np.asarray(given))
    with torch.no_grad():
        if hasattr(module, "config") and not tensor.is_floating_point():
            return module(input_ids=tensor[None], output_attentions=True)
        if hasattr(module, "config"):
            tensor = tensor.to(next(module.parameters()).dtype)
            return module(pixel_values=tensor[None], output_attentions=True)
        return module(tensor[None])


def stream_between(seen: Seen, whole: np.ndarray, mlp: np.ndarray) -> np.ndarray | None:
    """The stream between the branches: x + a where blocks add up, else what the MLP reads.

    Args:
        seen: of one pass.
        whole: the stream at all places [places, n, D].
        mlp: branches of the MLPs [places - 1, n, D].
    """
    if len(seen.attention) != len(mlp):
        return None
    n = whole.shape[1]
    added = whole[:-1] + np.stack([rows_of(one).reshape(n, -1) for one in seen.attention])
    if np.abs(added + mlp - whole[1:]).max() < 1e-4 * np.abs(whole).max():
        return added
    if len(seen.middles) != len(mlp):
        return None
    return np.stack([rows_of(one).reshape(n, -1) for one in seen.middles])


def rows_of(tensor: TorchTensor) -> Float[np.ndarray, "n D"]:
    """The only sequence of a batch, in float64; OPT's MLP is flattened.

    Args:
        tensor: of PyTorch.
    """
    rows = tensor.double().cpu().numpy()
    return rows[0] if rows.ndim == 3 else rows


def _first(out: Any) -> Any:
    """The first tensor of what a module returned."""
    return out[0] if isinstance(out, tuple | list) else out


def _square(out: Any) -> Any:
    """Attention weights [1, heads, n, n] among what a module returned."""
    parts = out if isinstance(out, tuple | list) else (out,)
    square = (x for x in parts if getattr(x, "ndim", 0) == 4 and x.shape[-1] == x.shape[-2])
    return next(square, None)
