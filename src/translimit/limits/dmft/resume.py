r"""A solve that was stopped goes on: checkpoints of every pass, along its training time.

A pass is causal, so that its state after an evaluation and what it has recorded are all that the
rest needs. A pass that is finished leaves its trace in the place of its state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Array, PyTree

from translimit._version import __version__
from translimit.core import Key, config, load_checkpoint, save_checkpoint
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.plan import Numbers, Plan

#: Of the order of arrays in a checkpoint; files of another are refused.
_FORM = 5

S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Checkpoints:
    """Where one pass keeps its state.

    Attributes:
        folder: of this pass alone.
        every: evaluations between two writings.
        digest: of everything that decides the pass.
    """

    folder: Path
    every: int
    digest: str

    def load(self, state: S, record: R) -> tuple[int, S, R]:
        """Evaluations done, state and records; 0 and the arguments where nothing is stored."""
        return load_checkpoint(self.folder / "state", self.digest, state, record)

    def save(self, step: int, state: PyTree[Array], record: PyTree[np.ndarray]) -> None:
        """Write the state after an evaluation where it is time to."""
        if step % self.every == 0:
            save_checkpoint(self.folder / "state", self.digest, step, state, record)

    def finished(self, trace: R) -> R | None:
        """The trace of the pass where it is finished, else None; `trace` has its structure."""
        step, _, found = load_checkpoint(self.folder / "trace", self.digest, (), trace)
        return found if step else None

    def finish(self, steps: int, trace: PyTree[np.ndarray]) -> None:
        """Keep the trace, and remove the state, which is many times as large."""
        save_checkpoint(self.folder / "trace", self.digest, steps, (), trace)
        for file in (self.folder / "state").glob("*"):
            file.unlink()


def checkpoints_of(
    folder: str | None,
    every: int,
    number: int,
    *,
    key: Key,
    plan: Plan | Shape,
    numbers: Numbers,
    **more: int,
) -> Checkpoints | None:
    """The checkpoints of pass `number`, or None without a folder."""
    if folder is None:
        return None
    values = hashlib.sha256()
    for leaf in jax.tree.leaves(numbers):
        values.update(np.ascontiguousarray(leaf, dtype=np.float64).tobytes())
    digest = config.digest(
        {
            "plan": repr(plan),
            "numbers": values.hexdigest(),
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "translimit": __version__,
            "form": _FORM,
            **more,
        }
    )
    return Checkpoints(Path(folder) / f"pass-{number}", every, digest)
