"""What a diagnosis costs: with eight draws, growing layers and tokens, and `observe.watch`.

    python benchmarks/diagnose.py [FOLDER]

FOLDER is a checkpoint with a tokenizer, as `make test-slow` puts into `.venv/checkpoints`; without
it the embedded byte model. Compilation is part of a first run and left out of a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from translimit import observe
from translimit.diagnose import (
    diagnose,
    held_out_windows,
    measure,
    packaged_folder,
    packaged_inputs,
    read_checkpoint,
)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def growth() -> None:
    model = read_checkpoint(packaged_folder())
    for layers in (4, 8, 16):
        deep = model.with_layers(model.layers * (layers // 4))
        for tokens in (16, 32, 64):
            entries = [deep.embed(row[:tokens]) for row in held_out_windows(8)]
            first, second = (seconds(lambda e=entries, d=deep: measure(d, e)) for _ in range(2))
            print(f"{layers:3d} layers, {tokens:3d} tokens: {first:.2f} s, then {second:.3f} s")


def whole(folder: Path) -> None:
    model = read_checkpoint(folder)
    rows = packaged_inputs(model, folder).rows[:6]
    for name in ("first", "second"):
        start = time.process_time()
        took = seconds(lambda: diagnose(model, list(rows), key=0, draws=8))
        spent = time.process_time() - start
        print(
            f"{folder.name}: {len(rows)} sequences, null of eight draws, closures, recursion and "
            f"rotated tokens, {name} time {took:.1f} s, {spent:.1f} processor seconds"
        )


def watching() -> None:
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    optimiser = torch.optim.AdamW(model.parameters())
    batch = torch.randn(32, 64, 256)

    def step() -> None:
        optimiser.zero_grad()
        model(batch).square().mean().backward()
        optimiser.step()

    step()
    plain = np.median([seconds(step) for _ in range(10)])
    watch = observe.watch(model, [torch.randn(64, 256) for _ in range(2)], every=50)
    look = np.median([seconds(watch.look) for _ in range(10)])
    share = look / (50 * plain)
    print(
        f"watch every 50 steps: {100 * look / plain:.0f} % of one step, {100 * share:.1f} % in all"
    )


if __name__ == "__main__":
    growth()
    watching()
    whole(Path(sys.argv[1]) if len(sys.argv) > 1 else packaged_folder())
