"""Checkpoints of a long run: whole or absent, and refused where they belong to another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from translimit.core.errors import StoreError, cause_of
from translimit.core.files import TEMPORARY, unwritable, whole_file

#: The file of a folder that holds the newest state.
_NAME = "training.npz"


def save_checkpoint(folder: Path, digest: str, step: int, tree: Any, record: Any) -> None:
    """Write the state after `step` steps; an older state stays until the new one is whole.

    Args:
        folder: made where it does not exist.
        digest: of everything that decides the run.
        step: steps done.
        tree: the state, a pytree of arrays.
        record: what was recorded so far, a pytree of arrays.

    Raises:
        DiskFullError: no space; the older state is whole.
        StoreError: the folder cannot be written.
    """
    leaves = jax.tree.leaves((tree, record))
    arrays: dict[str, Any] = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    head = np.frombuffer(json.dumps({"digest": digest, "step": step}).encode(), dtype=np.uint8)
    remedy, again = "pass another folder", "run again"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, remedy=remedy, again=again) from error
    place = whole_file(folder / _NAME, remedy=remedy, again=again)
    with place as partial, partial.open("wb") as file:
        np.savez(file, head=head, **arrays)


def load_checkpoint(folder: Path, digest: str, tree: Any, record: Any) -> tuple[int, Any, Any]:
    """The newest state: steps done, state and record; step 0 and the arguments without one.

    Args:
        folder: of the checkpoints.
        digest: of everything that decides the run.
        tree: a state of the same structure.
        record: a record of the same structure.

    Raises:
        StoreError: the folder holds another run's state, or one that cannot be read.
    """
    path = folder / _NAME
    for torn in folder.glob(f"{TEMPORARY}{_NAME}-*"):  # of a process that was killed while writing
        torn.unlink(missing_ok=True)
    if not path.exists():
        return 0, tree, record
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            head = json.loads(bytes(archive["head"]))
            leaves = [archive[f"leaf_{i}"] for i in range(len(archive.files) - 1)]
            written, step = head["digest"], int(head["step"])
    except Exception as error:  # a torn archive, no archive, or one of something else
        raise StoreError(
            path, f"cannot be read ({cause_of(error)})", "delete it to start over"
        ) from error
    structure = jax.tree.structure((tree, record))
    if written != digest or len(leaves) != structure.num_leaves:
        raise StoreError(
            path,
            "belongs to another training run (model, numbers, training, key or data differ)",
            "pass another folder, or delete it to start over",
        )
    tree, record = jax.tree.unflatten(structure, leaves)
    return step, tree, record
