"""Observables of a module while it trains: a few numbers by layer, every so many steps.

    watch = observe.watch(module, inputs, every=100)
    for step, batch in enumerate(batches):
        ...
        wandb.log({"loss": loss, **watch(step)})

A call sends the inputs through the module without gradients and takes the mean over them. On other
steps it returns an empty dict and costs nothing.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from translimit.core import ArgumentError, TorchModule, require_count, require_package
from translimit.observe.attention_maps import relative_entropy_of_maps, sink
from translimit.observe.module_hooks import call_module, hooked, rows_of
from translimit.observe.streams import branch_ratio, token_overlap


@final
class Watch:
    """Observables of a module at some steps; see the module's docstring.

    Args:
        module: of PyTorch.
        inputs: sequences, always the same: a handful suffices.
        every: steps between two looks.
        call: sends one input through the module; by default as a batch of one.

    Raises:
        ArgumentError: no input; `every` below 1.
        MissingExtraError: torch is not installed.
    """

    def __init__(
        self,
        module: TorchModule,
        inputs: Sequence[object] | np.ndarray,
        *,
        every: int = 100,
        call: Callable[[TorchModule, Any], object] | None = None,
    ):
        require_package("torch", "torch")
        if not len(inputs):
            raise ArgumentError("inputs", "are none", "pass sequences of two tokens at least")
        self.module, self.inputs = module, inputs
        self.every, self.call = require_count(every, "every", 1), call or call_module

    def __call__(self, step: int) -> dict[str, float]:
        """The figures at a step, by `name/layer_l`; empty between two looks.

        Args:
            step: from 0.
        """
        return {} if step % self.every else self.look()

    def look(self) -> dict[str, float]:
        """The figures now; the module is left in its mode."""
        import torch

        training, rows = self.module.training, []
        self.module.eval()
        try:
            for given in self.inputs:
                with torch.no_grad(), hooked(self.module) as seen:
                    self.call(self.module, given)
                rows.append(_figures(seen))
        finally:
            self.module.train(training)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def watch(
    module: TorchModule,
    inputs: Sequence[object] | np.ndarray,
    *,
    every: int = 100,
    call: Callable[[TorchModule, Any], object] | None = None,
) -> Watch:
    """Watch a module inside a training loop.

    Args:
        module: of PyTorch.
        inputs: sequences, always the same.
        every: steps between two looks.
        call: sends one input through the module.

    Raises:
        ArgumentError: no input; `every` below 1.
        MissingExtraError: torch is not installed.
    """
    return Watch(module, inputs, every=every, call=call)


def _figures(seen: Any) -> dict[str, float]:
    streams = [rows_of(seen.entries[0]), *map(rows_of, seen.exits)]
    found = {f"overlap/layer_{place}": token_overlap(x) for place, x in enumerate(streams)}
    if len(seen.attention) == len(seen.exits):
        for place, one in enumerate(seen.attention):
            found[f"ratio_a/layer_{place + 1}"] = branch_ratio(rows_of(one), streams[place])
    for place, one in enumerate(seen.maps if len(seen.maps) == len(seen.exits) else ()):
        p = one[0].double().cpu().numpy()
        visible = (p > 0).any(axis=0)
        found[f"entropy/layer_{place + 1}"] = relative_entropy_of_maps(p, visible)
        found[f"sink/layer_{place + 1}"] = sink(p)
    return {name: float(value) for name, value in found.items()}
