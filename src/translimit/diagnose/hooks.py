r"""Any module of PyTorch, by forward hooks: observables without weights.

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
attention. Outputs of single heads and scores are not: what rests on them is NaN. Its null redraws
parameters of two axes and more, `matched`; there is no recursion and no closure.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit import observe
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    Key,
    Progress,
    brief,
    in_float64,
    named_key,
    part_of,
    require_count,
    require_package,
)
from translimit.diagnose.diagnosis import Diagnosis
from translimit.diagnose.measuring import NAMES, Measured, stream_figures
from translimit.diagnose.nulls import gaussian, generator

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
#: Families whose branches stand side by side.
_PARALLEL = ("gptj", "gpt_neox", "phi", "codegen", "cohere", "falcon")
#: Observables that hooks give.
SEEN = (
    *("overlap", "mean_share", "effective_rank", "participation", "mean_square"),
    *(
        "mean_square_median",
        "largest_share",
        "ratio_a",
        "ratio_a_median",
        "ratio_var",
        "act_median",
    ),
    *("ratio_f", "ratio_f_median", "entropy", "tv", "ipr", "one_hot", "sink", "first", "head_var"),
)


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
        parallel: whether attention and MLP read the same stream.
    """

    entries: list[Any] = field(default_factory=list)
    exits: list[Any] = field(default_factory=list)
    attention: list[Any] = field(default_factory=list)
    mlp: list[Any] = field(default_factory=list)
    maps: list[Any] = field(default_factory=list)
    middles: list[Any] = field(default_factory=list)
    parallel: bool = False


def diagnose_module(
    module: Any,
    inputs: Sequence[Any],
    *,
    key: Key | int,
    draws: int = 8,
    call: Callable[[Any, Any], object] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Observables of any module beside `draws` copies with redrawn parameters.

    Args:
        module: of PyTorch; it is left as it was.
        inputs: sequences, of ids or whatever the module takes.
        key: of the drawn networks.
        draws: R, or 0 for no null.
        call: sends one input through the module; by default as a batch of one, of ids where they
            are whole numbers.
        progress: called with the fraction done.

    Raises:
        ArgumentTypeError: no module of PyTorch.
        ArgumentError: no list of blocks in it, or no input.
        MissingExtraError: torch is not installed.
    """
    import torch

    require_count(draws, "draws", 0)
    run = call or _default_call
    measured = measure_module(
        module, inputs, call=run, progress=part_of(progress, 0, 1 / (draws + 1))
    )
    held = {name: value.detach().clone() for name, value in module.named_parameters()}
    nulls: list[Measured] = []
    try:
        for index in range(draws):
            one = named_key(key, "module", index)
            with torch.no_grad():
                for name, value in module.named_parameters():
                    if (
                        value.ndim >= 2
                        and "embed" not in name
                        and not name.startswith(("wte", "wpe"))
                    ):
                        rng = generator(named_key(one, name))
                        fresh = gaussian(rng, held[name].double().cpu().numpy())
                        value.copy_(torch.as_tensor(fresh, dtype=value.dtype))
            part = part_of(progress, (index + 1) / (draws + 1), (index + 2) / (draws + 1))
            nulls.append(measure_module(module, inputs, call=run, progress=part))
    finally:
        with torch.no_grad():
            for name, value in module.named_parameters():
                value.copy_(held[name])
    return Diagnosis(
        source=f"{type(module).__name__} by hooks",
        inputs=f"{len(inputs)} sequences",
        measured=measured,
        nulls=tuple(nulls),
        null="matched" if draws else "none",
        notes=("by hooks: no scores, no outputs of single heads, no prediction",),
    )


def measure_module(
    module: Any,
    inputs: Sequence[Any],
    *,
    call: Callable[[Any, Any], object] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Observables of a module, sequence by sequence.

    Args:
        module: of PyTorch.
        inputs: sequences.
        call: see `diagnose_module`.
        progress: called with the fraction done.

    Raises:
        ArgumentTypeError: no module of PyTorch.
        ArgumentError: no list of blocks, no input.
    """
    require_package("torch", "torch")
    if not hasattr(module, "named_modules"):
        raise ArgumentTypeError("module", f"got {brief(module)}", "pass a module of PyTorch")
    if not len(inputs):
        raise ArgumentError("inputs", "are none", "pass sequences of two tokens at least")
    rows = []
    for place, given in enumerate(inputs):
        with hooked(module) as seen:
            (call or _default_call)(module, given)
        rows.append(_figures(seen))
        if progress is not None:
            progress((place + 1) / len(inputs))
    depth = rows[0][1].shape[0]
    values = {
        name: np.stack([row[0].get(name, np.full(depth, np.nan)) for row in rows]) for name in NAMES
    }
    none = np.zeros((len(rows), depth - 1, 1), int)
    keys = [row[2] for row in rows]
    pairs = np.zeros((len(rows), depth - 1, 2), int)
    return Measured(
        values,
        tokens=np.array([row[3] for row in rows]),
        sink_keys=none if any(one is None for one in keys) else np.stack(keys),
        pairs=pairs,
        same_maps=pairs,
        losses=np.full(len(rows), np.nan),
        ends=np.stack([row[1] for row in rows]),
    )


@contextlib.contextmanager
def hooked(module: Any) -> Iterator[Seen]:
    """Watch a module for one forward pass; the hooks are gone afterwards.

    Args:
        module: of PyTorch.

    Raises:
        ArgumentError: no list of blocks in it.
    """
    seen, handles = Seen(), []

    def kept(into: list[Any], pick: Callable[[Any], Any]) -> Callable[..., None]:
        def hook(_: Any, __: Any, out: Any) -> None:
            found = pick(out)
            if found is not None:
                into.append(found.detach())

        return hook

    def entry(_: Any, args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs.get("hidden_states")
        if given is not None:
            seen.entries.append(given.detach())

    def reading(_: Any, args: Any) -> None:
        seen.middles.append(args[0].detach())

    seen.parallel = getattr(getattr(module, "config", None), "model_type", "") in _PARALLEL
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


def blocks_of(module: Any) -> list[Any]:
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
    named = [one for name, one in module.named_modules() if name.endswith("albert_layer_groups")]
    if named:
        return list(named[0])
    equal = [one for one in lists if one and len({type(block) for block in one}) == 1]
    if not equal:
        raise ArgumentError("module", "has no list of blocks", "pass the transformer itself")
    return max(equal, key=len)


def _default_call(module: Any, given: Any) -> object:
    """One input as a batch of one, with attention weights where the module knows the switch."""
    import torch

    tensor = torch.as_tensor(np.asarray(given))
    with torch.no_grad():
        if hasattr(module, "config") and not tensor.is_floating_point():
            return module(input_ids=tensor[None], output_attentions=True)
        if hasattr(module, "config"):
            tensor = tensor.to(next(module.parameters()).dtype)
            return module(pixel_values=tensor[None], output_attentions=True)
        return module(tensor[None])


def _first(out: Any) -> Any:
    """The first tensor of what a module returned."""
    return out[0] if isinstance(out, tuple | list) else out


def _square(out: Any) -> Any:
    """Attention weights [1, heads, n, n] among what a module returned."""
    parts = out if isinstance(out, tuple | list) else (out,)
    return next(
        (x for x in parts if getattr(x, "ndim", 0) == 4 and x.shape[-1] == x.shape[-2]), None
    )


def _figures(seen: Seen) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None, int]:
    """Figures of one pass by name [places], ends of the stream, keys of sinks, tokens."""
    streams = [_rows(seen.entries[0]), *(_rows(one) for one in seen.exits)]
    whole = np.stack(streams)
    found = dict(in_float64(stream_figures, whole))
    depth, n = len(streams), whole.shape[1]
    branches = {"a": seen.attention, "f": seen.mlp}
    for name, held in branches.items():
        if len(held) == depth - 1:
            rows = np.stack([_rows(one).reshape(n, -1) for one in held])
            below = whole[:-1]
            if name == "f" and not seen.parallel:
                middle = _middle(seen, whole, rows)
                if middle is None:
                    continue
                below = middle
            told = in_float64(_ratios, rows, below)
            names = (
                ("ratio_a", "ratio_a_median", "ratio_var")
                if name == "a"
                else ("ratio_f", "ratio_f_median")
            )
            for one, row in zip(names, told, strict=False):
                found[one] = np.concatenate([[np.nan], row])
    if "ratio_a_median" in found:
        found["act_median"] = found["ratio_a_median"]
    keys = None
    if len(seen.maps) == depth - 1:
        maps = np.stack([one[0].double().cpu().numpy() for one in seen.maps])
        visible = (maps > 0).any(axis=(0, 1))
        told, keys = in_float64(_map_figures, maps, visible)
        for one, row in told.items():
            found[one] = np.concatenate([[np.nan], row])
    ends = np.stack([whole.mean(axis=1), whole[:, 0], whole[:, -1]], axis=1)
    return found, ends, keys, n


def _middle(seen: Seen, whole: np.ndarray, mlp: np.ndarray) -> np.ndarray | None:
    """The stream between the branches: x + a where blocks add up, else what the MLP reads."""
    if len(seen.attention) != len(mlp):
        return None
    n = whole.shape[1]
    added = whole[:-1] + np.stack([_rows(one).reshape(n, -1) for one in seen.attention])
    if np.abs(added + mlp - whole[1:]).max() < 1e-4 * np.abs(whole).max():
        return added
    if len(seen.middles) != len(mlp):
        return None
    return np.stack([_rows(one).reshape(n, -1) for one in seen.middles])


def _rows(tensor: Any) -> Float[np.ndarray, "n D"]:
    """The only sequence of a batch, in float64; OPT's MLP is flattened."""
    rows = tensor.double().cpu().numpy()
    return rows[0] if rows.ndim == 3 else rows


@jax.jit
def _ratios(branch: Array, stream: Array) -> tuple[Array, Array, Array]:
    return (
        observe.branch_ratio(branch, stream),
        observe.median_ratio(branch, stream),
        observe.varying_ratio(branch, stream),
    )


@jax.jit
def _map_figures(maps: Array, visible: Array) -> tuple[dict[str, Array], Array]:
    def one(p: Array) -> tuple[dict[str, Array], Array]:
        told = {
            "entropy": observe.relative_entropy_of_maps(p, visible),
            "tv": observe.uniform_distance(p, visible),
            "ipr": observe.inverse_participation(p),
            "one_hot": observe.one_hot_share(p, visible),
            "sink": observe.sink(p),
            "first": observe.first_key(p),
            "head_var": observe.head_variance(p, visible),
        }
        return told, jnp.asarray(observe.sink_keys(p))

    return jax.vmap(one)(maps)
