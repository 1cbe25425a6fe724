"""Plain data: what JSON can hold, as a type.

The types are for readers and for the checker of the source; a check at run time looks at the
outermost level only. They load nothing numerical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    #: A value of JSON; tuples count as lists.
    Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
else:
    Json = bool | int | float | str | Sequence | Mapping | None

#: An object of JSON.
JsonObject: TypeAlias = Mapping[str, Json]
