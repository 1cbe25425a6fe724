r"""Any module of PyTorch, by forward hooks: observables without weights.

`observe.hooked` says which parts of a block are seen. Outputs of single heads and scores are not:
what rests on them is NaN. The null redraws parameters of two axes and more, `matched`; there is no
recursion and no closure.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from translimit import observe
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    Key,
    NoSuchLimitError,
    Progress,
    TorchModule,
    brief,
    in_float64,
    named_key,
    part_of,
    require_count,
    require_package,
)
from translimit.describe import read_stack
from translimit.diagnose.diagnosis import Diagnosis
from translimit.diagnose.layer_figures import NAMES, stream_figures
from translimit.diagnose.measuring import Measured
from translimit.diagnose.nulls import gaussian, generator

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


def diagnose_module(
    module: TorchModule,
    inputs: Sequence[object] | np.ndarray,
    *,
    key: Key | int,
    draws: int = 8,
    call: Callable[[TorchModule, Any], object] | None = None,
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
    run = call or observe.call_module
    measured = measure_module(
        module, inputs, call=run, progress=part_of(progress, 0.0, 1 / (draws + 1))
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
    module: TorchModule,
    inputs: Sequence[object] | np.ndarray,
    *,
    call: Callable[[TorchModule, Any], object] | None = None,
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
    rows, parallel = [], _parallel(module)
    for place, given in enumerate(inputs):
        with observe.hooked(module) as seen:
            (call or observe.call_module)(module, given)
        rows.append(_figures(seen, parallel))
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
        straight=np.stack([row[4] for row in rows]),
    )


def _parallel(module: TorchModule) -> bool:
    """Whether attention and MLP read the same stream, as the configuration of the module says.

    A module without a configuration that is understood counts as one whose MLP reads what
    attention leaves.
    """
    told = getattr(getattr(module, "config", None), "to_dict", None)
    if told is None:
        return False
    try:
        first = read_stack(json.loads(json.dumps(told(), default=str))).stack.layers[0]
    except (ConfigError, NoSuchLimitError):
        return False
    return any(len(block.branches) > 1 for block in first)


def _figures(
    seen: observe.Seen, parallel: bool
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None, int, np.ndarray]:
    """Figures of one pass by name [places], ends of the stream, keys of sinks, tokens, and s."""
    streams = [observe.rows_of(seen.entries[0]), *(observe.rows_of(one) for one in seen.exits)]
    whole = np.stack(streams)
    each = [stream_figures(one) for one in whole]
    found = {name: np.array([one[name] for one in each]) for name in each[0]}
    depth, n = len(streams), whole.shape[1]
    branches = {"a": seen.attention, "f": seen.mlp}
    straight = {name: observe.Straightness() for name in branches}
    for name, held in branches.items():
        if len(held) == depth - 1:
            rows = np.stack([observe.rows_of(one).reshape(n, -1) for one in held])
            for row in rows:
                straight[name].add(row)
            below = whole[:-1]
            if name == "f" and not parallel:
                middle = observe.stream_between(seen, whole, rows)
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
    return found, ends, keys, n, np.array([one.ratio() for one in straight.values()])


@jax.jit
def _ratios(branch: Array, stream: Array) -> tuple[Array, Array, Array]:
    return (
        jnp.asarray(observe.branch_ratio(branch, stream)),
        jnp.asarray(observe.median_ratio(branch, stream)),
        jnp.asarray(observe.varying_ratio(branch, stream)),
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
        figures = {name: jnp.asarray(value) for name, value in told.items()}
        return figures, jnp.asarray(observe.sink_keys(p))

    return jax.vmap(one)(maps)
