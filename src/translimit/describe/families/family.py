"""What a family of transformers is: one record, from which every reader takes what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.parameter_names import NameTable

#: Makes a stack of a configuration, given the name of the family.
Reader: TypeAlias = Callable[[Keys, str], StackReading]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of transformers.

    Attributes:
        name: the `model_type` of its configurations.
        reader: of its configurations. It refuses switches that change the block in a way that is
            not described, and tells what it assumes and what it leaves out.
        classes: how the names of its classes begin, beside `name` without its underscores.
        aliases: other `model_type`s of the same block and defaults.
        names: of its parameters, or None where there is no such table; adapters and checks go by
            them. The table takes the family's name.
        unnamed: why there is none, as the end of a sentence about the family.
        packed: whether query, key and value are one tensor, where `names` does not tell.
        diagnosed: whether the weights of its checkpoints are read (`diagnose`): its tensors were
            compared with its model class.
        float64: whether that class computes in float64 throughout when it is asked to.
    """

    name: str
    reader: Reader
    classes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    names: NameTable | None = None
    unnamed: str = ""
    packed: bool = False
    diagnosed: bool = False
    float64: bool = False

    def __post_init__(self) -> None:
        """Give the table of names the family's name."""
        if self.names is not None:
            object.__setattr__(self, "names", replace(self.names, family=self.name))

    @property
    def packed_qkv(self) -> bool:
        """Whether query, key and value are one tensor."""
        return self.packed or (self.names is not None and self.names.packed_qkv)

    @property
    def gain_offset(self) -> float:
        """What is added to the gains of norms that its files hold."""
        return 0.0 if self.names is None else self.names.gain_offset

    @property
    def interleaved(self) -> bool:
        """Whether that tensor goes head by head."""
        return self.names is not None and self.names.interleaved

    def has_class(self, name: str) -> bool:
        """Whether a class is of this family by its name: how it begins, and one usual ending.

        Args:
            name: of the class.
        """
        own = {_plain(one) for one in (self.name, *self.classes)}
        return any(
            ending in name and _plain(name.partition(ending)[0]) in own for ending in _ENDINGS
        )


#: What follows the family in the name of a class.
_ENDINGS = ("For", "LMHead", "DoubleHeads", "PreTrained", "Model", "Attention")


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
