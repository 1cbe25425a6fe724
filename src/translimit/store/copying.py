"""Taking a whole cell over from another run folder, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from translimit.core import StoreError, sync_folder, temporary_name
from translimit.store.cells import (
    CellAddress,
    CellState,
    cell_state,
    flush_folder,
    put_in_place,
)


def copy_cell(source: CellAddress, target: CellAddress) -> CellState:
    """Copy a cell; what stands at the target, whole or damaged, is replaced.

    Args:
        source: where it is whole.
        target: where it belongs; the same computation, so the same digest.

    Returns:
        What is stored at the target, every digest computed anew.

    Raises:
        StoreError: the copy is not whole (the source is not, or changed meanwhile); nothing is
            left behind.
        OSError: the target is not writable, or the disk is full; nothing is left behind.
    """
    final = target.folder
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(final)
    try:
        shutil.copytree(source.folder, temporary)
        require_whole(temporary, target)
        flush_folder(temporary)
        put_in_place(temporary, target, keep_whole=False)
        sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return cell_state(target)


def require_whole(folder: Path, address: CellAddress) -> None:
    """Refuse a folder that is not this cell, whole.

    Raises:
        StoreError: it is not.
    """
    state = cell_state(address, folder)
    if not state.whole:
        raise StoreError(
            address.folder,
            f"is not the whole cell {address.cell!r} ({state.problem or state.state})",
            "copy it from where it is whole, or compute it again",
        )
