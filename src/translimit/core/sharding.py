"""Several devices for one computation: inside `over_devices`, what has a natural axis is cut.

| computation | axis | communication |
|---|---|---|
| training of an ensemble | seeds | none |
| paths of the covariance SDE and of the equations on the sphere | paths | none |
| attention between many tokens | queries; keys go to every device | once an evaluation |

The context is JAX's own mesh, so that compiled programs of the two worlds are never confused, and
the devices may belong to several processes (`jax.distributed`). Results agree with those of one
device within rounding: the streams of randomness belong to paths and seeds, and what changes is the
order in which a vectorised loop meets its numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from translimit.core.errors import ArgumentError

#: The name of the mesh axis that is ours; a mesh without it changes nothing.
AXIS = "translimit"


@contextlib.contextmanager
def over_devices(devices: int | None = None) -> Iterator[int]:
    """Cut ensembles and clouds over several devices while the context is open.

    Args:
        devices: how many, of those of all processes; all by default.

    Yields:
        The number of devices.

    Raises:
        ArgumentError: more devices than there are, or none.

    >>> with over_devices() as count:
    ...     assert count == jax.device_count()
    """
    present = jax.devices()
    count = len(present) if devices is None else devices
    if not 1 <= count <= len(present):
        raise ArgumentError("devices", f"got {devices}", f"pass 1 to {len(present)}")
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=present[:count])
    with jax.set_mesh(mesh):
        yield count


def device_count() -> int:
    """How many devices share the computation that is being built; 1 outside of `over_devices`.

    Also 1 within a part that is cut already.
    """
    mesh = jax.sharding.get_abstract_mesh()
    for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True):
        if name == AXIS and kind is not AxisType.Manual:
            return mesh.shape[AXIS]
    return 1


def rounded_up(count: int) -> int:
    """The least multiple of the number of devices that is at least `count`."""
    devices = device_count()
    return -(-count // devices) * devices


def map_shards(
    function: Callable[..., Any],
    cut: tuple[Any, ...],
    axes: tuple[int, ...],
    shared: Any,
    out_axes: Any = 0,
) -> Any:
    """`function(*cut, shared)` with each device on its part of the cut arrays; to be called in jit.

    Args:
        function: maps over the axis that is cut, and sees a shorter one on each device. It must
            not close over traced arrays: they come in `shared`.
        cut: pytrees of arrays.
        axes: of each of them, the axis that is cut; its length is a multiple of the devices.
        shared: a pytree that every device has whole.
        out_axes: the axis of every result along which the parts are joined.
    """
    if device_count() == 1:
        return function(*cut, shared)
    arrays, others = eqx.partition(shared, eqx.is_array)

    def part(*arguments: Any) -> Any:
        *cut, arrays = arguments
        return function(*cut, eqx.combine(arrays, others))

    specs = (*(_spec(axis) for axis in axes), PartitionSpec())
    joined = jax.tree.map(_spec, out_axes)
    return jax.shard_map(part, in_specs=specs, out_specs=joined, check_vma=False)(*cut, arrays)


def cut_leading(array: jax.Array) -> jax.Array:
    """Ask for an array to live in parts of its first axis, where that divides; in jit."""
    devices = device_count()
    if devices == 1 or array.shape[0] % devices:
        return array
    return jax.lax.with_sharding_constraint(array, _spec(0))


def to_numpy(array: Any) -> np.ndarray:
    """An array on this host, gathered from other processes where parts of it live there."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def _spec(axis: int) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, AXIS)
