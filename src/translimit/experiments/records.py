"""What a part of an experiment computes: labelled arrays, as a dataclass that says its shapes.

A field's annotation is all there is to say: `Float[np.ndarray, "sample time"]` names the
dimensions of the stored array, `Annotated[..., "mean overlap"]` labels it. An array of one
dimension with the field's own name is the coordinate of that dimension; numbers, truth values and
text are stored as they are; None is not stored.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np

from translimit.core import ConfigError

if TYPE_CHECKING:
    import xarray


class OtherVersionError(ConfigError):
    """A stored cell that another version of its experiment wrote; its arrays have other names."""


A = TypeVar("A", bound="Arrays")


@dataclass(frozen=True)
class Arrays:
    """The base of records of labelled arrays."""

    def to_dataset(self, attrs: Mapping[str, Any]) -> xarray.Dataset:
        """The record as it is stored.

        Args:
            attrs: what else is stored with it.
        """
        import xarray

        variables, coordinates = {}, {}
        for name, (dims, label) in _layout(type(self)).items():
            value = getattr(self, name)
            if value is None:
                continue
            about = {"long_name": label} if label else {}
            array = np.asarray(value)
            named = tuple(_dimension(name, dim, axis) for axis, dim in enumerate(dims))
            place = coordinates if named == (name,) else variables
            place[name] = (named[: array.ndim], array, about)
        return xarray.Dataset(variables, coordinates, dict(attrs))

    @classmethod
    def from_dataset(cls: type[A], data: xarray.Dataset) -> A:
        """The record in a stored dataset.

        Args:
            data: as `to_dataset` gives it; plain values may be among its attributes.

        Raises:
            OtherVersionError: an array is missing.
        """
        values: dict[str, Any] = {}
        optional = {field.name for field in dataclasses.fields(cls) if field.default is None}
        for name, (dims, _) in _layout(cls).items():
            if name in data.variables:
                array = data[name].values
                values[name] = array if dims else array.item()
            elif name in data.attrs:
                values[name] = data.attrs[name]
            elif name not in optional:
                raise OtherVersionError(
                    cls.__name__, f"the stored cell has no {name!r}", "compute the cell again"
                )
        return cls(**values)


@functools.cache
def _layout(kind: type[Arrays]) -> dict[str, tuple[tuple[str, ...], str]]:
    """Dimensions and label of every field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: _said(hints[field.name]) for field in dataclasses.fields(kind)}


def _said(hint: Any) -> tuple[tuple[str, ...], str]:
    label = ""
    if typing.get_origin(hint) is Annotated:
        hint, label, *_ = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    return tuple(getattr(hint, "dim_str", "").split()), label


def _dimension(field: str, name: str, axis: int) -> str:
    """The name of a dimension; one that is a number is told by its field and place."""
    return f"{field}_{axis}" if name.isdigit() else name.lstrip("#*?_")
