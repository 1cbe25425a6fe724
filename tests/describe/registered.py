"""What becomes of every architecture that the installed library transformers registers.

`python -m tests.describe.registered` writes docs/architectures.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from tests.describe.small_classes import small_config
from tests.describe.test_classes import COMPARED
from tests.describe.unnamed_classes import cases

from translimit.core import TranslimitError
from translimit.describe import family_called, read_stack
from translimit.describe.families import NOT_DESCRIBED, WITHOUT_LIMIT

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"

#: What is asked, and the registers that answer.
REGISTERS: Mapping[str, tuple[str, ...]] = {
    "text decoders": ("MODEL_FOR_CAUSAL_LM_MAPPING",),
    "text encoders": ("MODEL_FOR_MASKED_LM_MAPPING",),
    "image encoders": ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",),
}
#: How a family that is read is held against its class.
EXACT, DRAWN = "entry by entry", "by drawn networks"
#: Families without a table of names, whose classes' own parameters are walked.
WALKED = {one.family for one in cases(64).values()}


@dataclass(frozen=True)
class Row:
    """One architecture.

    Attributes:
        name: its `model_type`.
        family: what it is read as, or nothing.
        check: how that is held against its class, or nothing.
        refused: why it is refused, in words; empty where it is not known.
    """

    name: str
    family: str = ""
    check: str = ""
    refused: str = ""


def registered(register: str) -> list[str]:
    """The `model_type`s of a register, each once."""
    kinds = getattr(transformers, register).keys()
    return sorted({kind.model_type for kind in kinds})


def row(name: str, what: str = "") -> Row:
    """What becomes of one; a model with two towers is asked for the one of its register."""
    reason = {**NOT_DESCRIBED, **WITHOUT_LIMIT}.get(name, "")
    try:
        values: dict[str, Any] = small_config(name).to_dict()
    except Exception:  # a class may refuse sizes that others take
        values = {"model_type": name}
    try:
        seen = what == "image encoders" and "vision_config" in values
        reason = reason or (NOT_DESCRIBED.get(f"{name}_vision_model", "") if seen else "")
        family = read_stack(values, tower="vision" if seen else None).family
    except TranslimitError:
        return Row(name, refused=reason)
    return Row(name, family, EXACT if family in {*COMPARED, *WALKED} else DRAWN)


def rows(what: str) -> list[Row]:
    """All of one kind, by their names."""
    return [row(name, what) for register in REGISTERS[what] for name in registered(register)]


def page() -> str:
    """The page."""
    told = {what: rows(what) for what in REGISTERS}
    lines = [
        "# Architectures",
        "",
        "<!-- Written by `python -m tests.describe.registered`. -->",
        "",
        "`translimit predict` reads the configurations of these architectures, of all that "
        f"transformers {transformers.__version__} registers. Those that are compared *entry by "
        "entry* are built small with random weights: every matrix has the deviation that is read, "
        "and every layer makes of its input what the description says, to single precision. The "
        "others are compared by overlaps and norms of drawn networks. What is not read is refused, "
        "never read as something else.",
        "",
        "| | registered | read | refused for a known reason | not known |",
        "|---|---|---|---|---|",
    ]
    for what, found in told.items():
        read = sum(bool(one.family) for one in found)
        known = sum(bool(one.refused) for one in found)
        lines.append(f"| {what} | {len(found)} | {read} | {known} | {len(found) - read - known} |")
    for what, found in told.items():
        lines += ["", f"## {what.capitalize()}", ""]
        for check in (EXACT, DRAWN):
            names = [_named(one) for one in found if one.check == check]
            if names:
                lines.append(f"Read, compared {check}: {', '.join(names)}.\n")
        lines += [f"- `{one.name}` {one.refused}" for one in found if one.refused]
        names = [f"`{one.name}`" for one in found if not one.family and not one.refused]
        if names:
            lines += ["", f"Not known, and refused: {', '.join(names)}."]
    return "\n".join(lines) + "\n"


def _named(one: Row) -> str:
    family = family_called(one.name)
    same = family is not None and family.name == one.family
    return f"`{one.name}`" if same else f"`{one.name}` (its `{one.family}`)"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
