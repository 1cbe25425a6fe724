"""Configurations: frozen dataclasses of numbers, strings and tuples, as JSON and back.

Files are TOML or JSON, read by the standard library; what is written is JSON. Unknown keys are
refused with the nearest known one. The digest of a configuration is stable between processes and
machines: it names run folders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from translimit.core.errors import ConfigError, brief, cause_of, nearest

T = TypeVar("T")

#: Levels to which a file may be nested: what reads it afterwards calls itself once for each.
LEVELS = 100


def to_json(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain JSON data (tuples become lists).

    Values take their annotated types, so that `t1=1` and `t1=1.0` are one configuration with one
    digest.

    Raises:
        ConfigError: a value of the wrong type.
    """
    normal = from_json(type(config), _fields_of(config))
    return json.loads(json.dumps(dataclasses.asdict(normal)))


def from_json(kind: type[T], values: Mapping[str, Any], *, where: str = "configuration") -> T:
    """Build a configuration from plain data.

    Args:
        kind: the frozen dataclass.
        values: key to value; missing keys take their defaults.
        where: how error messages call the source.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one, or a value of
            the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    hints = types_of(kind)
    for key in values:
        if key not in fields:
            raise ConfigError(where, f"unknown key {key!r}", nearest(key, fields))
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(where, f"missing key {missing[0]!r}", "give it a value")
    return kind(**{key: coerced(hints[key], value, key) for key, value in values.items()})


def replace(config: T, changes: Mapping[str, str]) -> T:
    """A configuration with `key=value` strings applied, as `--set` gives them.

    Values are read as JSON where they parse as JSON, else as a bare string; a comma-separated list
    is a tuple.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of the wrong type.
    """
    current = _fields_of(config)
    hints = types_of(type(config))
    for key, text in changes.items():
        if key not in current:
            raise ConfigError("--set", f"unknown key {key!r}", nearest(key, current))
        current[key] = _from_text(hints[key], text, key)
    return from_json(type(config), current, where="--set")


def parse_value(text: str) -> Any:
    """Text from the command line as JSON, else as the string itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, too many digits, or nested too deeply
        return text


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a TOML or JSON configuration file.

    Raises:
        ConfigError: the file is absent, unreadable, of another kind, or malformed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path), f"cannot be read ({cause_of(error)})", "pass a readable .toml or .json file"
        ) from error
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(str(path), f"has suffix {path.suffix!r}", "use .toml or .json")
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        if too_deep(values):
            raise RecursionError
    except RecursionError as error:
        problem = f"is nested deeper than {LEVELS} levels"
        raise ConfigError(str(path), problem, "write fewer levels") from error
    except ValueError as error:  # also a number with more digits than Python reads
        raise ConfigError(str(path), f"is malformed ({error})", "mend the syntax") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), "holds no JSON object", "write {key: value, ...}")
    return values


def too_deep(data: Any, levels: int = LEVELS) -> bool:
    """Whether plain data is nested deeper than so many levels, however deep it is."""
    level = [data]
    for _ in range(levels):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def digest(data: Any) -> str:
    """A stable hexadecimal digest of JSON data: 64 characters; run folders show the first 8."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _fields_of(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


@functools.cache
def types_of(kind: type[Any]) -> dict[str, Any]:
    """Annotated types of the fields of a dataclass, without rules.

    Annotations are text, which is compiled once for every class.
    """
    return typing.get_type_hints(kind)


def _from_text(hint: Any, text: str, key: str) -> Any:
    """Text of the command line as the annotated type: JSON, the bare string, or a list."""
    parsed = parse_value(text)
    listed = [parse_value(part.strip()) for part in text.split(",")]
    for candidate in (parsed, text, listed, text.split(",")):
        try:
            return coerced(hint, candidate, key)
        except ConfigError:
            continue
    return coerced(hint, parsed, key)


def coerced(hint: Any, value: Any, key: str) -> Any:
    """A JSON value as the annotated type; integers are welcome where floats are asked for.

    Args:
        hint: the annotated type, without rules (see `types_of`).
        value: the value.
        key: how error messages call it.

    Raises:
        ConfigError: a value of the wrong type.
    """
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
        if inner is None and len(arguments) != len(value):
            raise ConfigError(key, f"has length {len(value)}", f"pass length {len(arguments)}")
        kinds = [inner] * len(value) if inner is not None else list(arguments)
        return tuple(coerced(kind, item, key) for kind, item in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return coerced(option, value, key)
            except ConfigError:
                continue
    elif origin is typing.Literal:
        if value in arguments:
            return value
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer that no float holds
            return float(value)
    elif hint is type(None) and value is None:
        return None
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_json(hint, value, where=key)
    elif (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))
    ):
        return value
    raise ConfigError(key, f"got {brief(value)}", f"pass {_in_words(hint)}")


_WORDS = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "truth values"),
    type(None): ("null", "nulls"),
}


def _in_words(hint: Any, *, many: bool = False) -> str:
    """An annotated type as whoever writes a configuration calls it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(option, many=many) for option in arguments)
    if origin is tuple:
        kinds = dict.fromkeys(_in_words(one, many=True) for one in arguments if one is not Ellipsis)
        return f"{'lists' if many else 'a list'} of {' and '.join(kinds)}"
    if hint in _WORDS:
        return _WORDS[hint][many]
    return f"{'objects' if many else 'an object'} with the fields of {hint.__name__}"
