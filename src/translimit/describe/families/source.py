"""Where a configuration stands: a mapping, a file, a folder; and which family it names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from translimit.core import ConfigError, Json, JsonObject, NoSuchLimitError, config
from translimit.describe.families.family import Family
from translimit.describe.families.keys import ALIASES
from translimit.describe.families.known import FAMILIES, family_called, family_of_class
from translimit.describe.families.public_models import PUBLIC_MODELS, public_model
from translimit.describe.families.refused import NOT_DESCRIBED, WITHOUT_LIMIT

#: Endings of files that hold weights alone.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


def load(source: str | Path | JsonObject) -> tuple[dict[str, Json], str]:
    """The content of a configuration, and how errors call it.

    Args:
        source: a mapping, a `.json` or `.toml` file, a folder with a `config.json`, or the name of
            a public model.

    Raises:
        ConfigError: weights alone, a folder without a configuration, a file that cannot be read, a
            name that is not known.
    """
    if isinstance(source, Mapping):
        return dict(source), "configuration"
    named = public_model(source)
    if named is not None:
        return dict(named), str(source)
    path = Path(source)
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        remedy = f"{_hint(str(path), PUBLIC_MODELS)}known: {', '.join(sorted(PUBLIC_MODELS))}"
        remedy += "; of any other model give the config.json"
        raise ConfigError(str(path), "is no file and no known model", remedy)
    if path.name.endswith(_WEIGHTS):
        raise ConfigError(
            str(path),
            "holds weights, which do not tell the block",
            "give the config.json beside it",
        )
    if path.is_dir():
        found = [path / name for name in ("config.json", "open_clip_config.json")]
        there = [one for one in found if one.is_file()]
        if not there:
            raise ConfigError(str(path), "has no config.json", "give the folder of a checkpoint")
        path = there[0]
    return config.read_file(path), str(path)


def family_of(values: JsonObject, where: str) -> Family:
    """The family by `model_type`, else by the class under `architectures`, exactly.

    Args:
        values: of the configuration.
        where: how errors call it.

    Raises:
        ConfigError: none is named, an unknown one, or the two contradict each other.
        NoSuchLimitError: one whose layers are known to have no limit here.
    """
    named, told = values.get("model_type"), values.get("architectures")
    classes = [one for one in (told if isinstance(told, list) else [told]) if isinstance(one, str)]
    by_class = next((found for one in classes if (found := family_of_class(one))), None)
    if named is None and by_class is not None:
        return by_class
    if named is None and not classes:
        remedy = f"give model_type: {', '.join(FAMILIES)}; or {beginning(values)}"
        raise ConfigError(where, "names no family: `model_type` and `kind` are absent", remedy)
    name = classes[0] if named is None else named
    if name in WITHOUT_LIMIT:
        problem = f"{name} {WITHOUT_LIMIT[str(name)]}"
        raise NoSuchLimitError(where, problem, "describe a Stack by hand")
    if named == "llava" and classes[:1] == ["LlavaLlamaForCausalLM"]:
        return FAMILIES[
            "llama"
        ]  # the keys of its text tower stand beside those of the vision tower
    if name in NOT_DESCRIBED:
        raise ConfigError(where, f"{name} {NOT_DESCRIBED[str(name)]}", beginning(values))
    family = family_called(name) if isinstance(name, str) else None
    if family is None:
        raise ConfigError(where, f"unknown family {name!r}", _remedy(str(name), values))
    if by_class is not None and by_class is not family:
        raise ConfigError(
            where,
            f"model_type says {named!r}, architectures says {classes[0]!r}",
            "keep the one that is meant",
        )
    return family


def _remedy(name: str, values: JsonObject) -> str:
    names = [one for family in FAMILIES.values() for one in (family.name, *family.aliases)]
    return f"{_hint(name, names)}known: {', '.join(FAMILIES)}; or {beginning(values)}"


def _hint(name: str, known: Iterable[str]) -> str:
    """A name is hinted at only where it is the same but for its spelling: one digit is a block."""
    same = [one for one in known if _plain(one) == _plain(name)]
    return f"did you mean {same[0]!r}? " if same else ""


def _plain(name: str) -> str:
    return "".join(one for one in name.lower() if one.isalnum())


def beginning(values: JsonObject) -> str:
    """The first lines of our own format, with what a configuration of any family tells.

    Args:
        values: of the configuration.
    """

    def told(name: str, default: int) -> int:
        found = (values.get(key) for key in ALIASES[name])
        return next((one for one in found if isinstance(one, int) and one > 0), default)

    dim = told("dim", 768)
    lines = {
        "kind": "stack",
        "dim": dim,
        "layers": told("layers", 12),
        "norm": "rms",
        "attention": {"heads": told("heads", 12)},
        "feed_forward": {"width": told("mlp_dim", 4 * dim), "activation": "silu", "gated": True},
    }
    return f"describe its block, beginning with {json.dumps(lines)}"
