"""Configurations of several towers: which of them is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from translimit.core import ArgumentError, ConfigError, Json, JsonObject, nearest

#: A part of a model of several.
Tower: TypeAlias = Literal["text", "vision"]

#: Where configurations of towers stand, as Hugging Face and open_clip call them.
_KEYS: dict[str, tuple[str, ...]] = {
    "text": ("text_config", "text_cfg", "llm_config", "language_config"),
    "vision": ("vision_config", "vision_cfg"),
}


#: Names of open_clip that stand for other things elsewhere.
_OPEN_CLIP = {"layers": "num_hidden_layers", "heads": "num_attention_heads"}


def choose_tower(
    values: JsonObject, where: str, tower: str | None
) -> tuple[dict[str, Json], str, str | None]:
    """The configuration of one tower, how errors call it, and what is assumed in choosing it.

    Without towers, or where none tells its family, it is the configuration itself.

    Args:
        values: of the configuration.
        where: how errors call it.
        tower: which; text by default where there is one.

    Raises:
        ArgumentError: no such name of a tower.
        ConfigError: the configuration has no such tower.
    """
    if tower is not None and tower not in _KEYS:
        raise ArgumentError("tower", f"got {tower!r}", nearest(str(tower), _KEYS))
    inner = values.get("model_cfg")
    values = inner if isinstance(inner, Mapping) else values
    found: dict[str, tuple[str, JsonObject]] = {}
    for name, keys in _KEYS.items():
        for key in keys:
            table = values.get(key)
            if isinstance(table, Mapping) and ("model_type" in table or key.endswith("_cfg")):
                found.setdefault(name, (key, table))
    if not found:
        if tower is not None:
            raise ConfigError(where, f"has no {tower} tower", "leave tower out")
        return dict(values), where, None
    if tower is not None and tower not in found:
        raise ConfigError(where, f"has no {tower} tower", f"it has {' and '.join(found)}")
    name = tower or next(iter(found))
    key, table = found[name]
    assumed = None
    if tower is None and len(found) > 1:
        others = " and ".join(f"tower={one!r}" for one in found if one != name)
        assumed = f"the {name} tower is read; {others} reads the other"
    made = dict(table)
    if key.endswith("_cfg"):
        made = {_OPEN_CLIP.get(one, one): value for one, value in made.items()}
        made["quick_gelu"] = values.get("quick_gelu", False)
    return made, f"{where}: {key}", assumed
