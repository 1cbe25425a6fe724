"""The runs of `translimit extrapolate --demo`: small encoders of digits, along heads."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from translimit.core import whole_file
from translimit.extrapolate import Curves

if TYPE_CHECKING:
    from translimit.core import Progress

#: Heads of the networks; the rules carry all values from the base.
SIZES = (2, 3, 4, 6)
#: Updates after which the loss on the probe is taken, base rates, and seeds.
STEPS = (4, 8, 16, 24, 32, 48, 64)
RATES = (2**-8.0, 2**-7.0, 2**-6.0, 2**-5.0)
SEEDS = 6


def demo_losses(progress: Progress | None = None) -> Curves:
    """Train the networks.

    Args:
        progress: called with the fraction done.
    """
    from translimit import data, describe, scaling, train
    from translimit.core import named_key

    base = describe.TransformerShape(
        head_dim=4, heads=4, layers=2, tokens=8, outputs=10, patch_dim=8, mlp_ratio=2.0
    )

    def carried(shape: describe.TransformerShape) -> describe.Parameterization:
        start = describe.standard_parameterization(base.size, pixels=base.patch_dim or 1)
        return scaling.rules(base.size, shape.size, optimizer="adamw").applied(start)

    losses = train.ladder_losses(
        [train.resized_shape(base, "heads", size) for size in SIZES],
        carried,
        data.digit_patches((2, 4)),
        train.Training(
            steps=STEPS[-1],
            rates=RATES,
            seeds=SEEDS,
            batch=16,
            optimizer=train.Optimizer("adamw", eps=1e-12),
        ),
        STEPS,
        key=named_key(0, "extrapolate", "demo"),
        progress=progress,
    )
    return Curves.from_arrays({"heads": SIZES}, losses, STEPS, rates=RATES)


def write_losses(curves: Curves, path: Path) -> None:
    """Write curves as `translimit extrapolate` reads them.

    Args:
        curves: of one or several sizes.
        path: of the file.

    Raises:
        StoreError: the file cannot be written.
    """
    rows = []
    for place in np.ndindex(curves.losses.shape):
        point, seed, rate, step = place
        sizes = [f"{size:g}" for size in curves.sizes[point]]
        run = [curves.seeds[seed], f"{curves.rates[rate]:.6g}", "constant"]
        rows.append([*sizes, *run, f"{curves.steps[step]:g}", f"{curves.losses[place]:.6g}"])
    names = [*curves.axes, "seed", "lr", "schedule", "step", "loss"]
    with whole_file(path, remedy="name another file", again="train again") as temporary:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([names, *rows])
        temporary.write_text(text.getvalue(), encoding="utf-8")
