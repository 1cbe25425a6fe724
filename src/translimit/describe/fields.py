"""The values of a configuration file, taken one by one under any of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from translimit.core import ConfigError, Json, JsonObject, brief

T = TypeVar("T")

#: The names under which the families call one thing.
ALIASES: dict[str, tuple[str, ...]] = {
    "layers": ("n_layer", "num_hidden_layers", "num_layers"),
    "dim": ("n_embd", "hidden_size", "d_model"),
    "heads": ("n_head", "num_attention_heads"),
    "kv_heads": ("num_key_value_heads", "n_head_kv"),
    "head_dim": ("head_dim",),
    "mlp_dim": ("n_inner", "intermediate_size", "ffn_dim"),
    "activation": ("activation_function", "hidden_act", "hidden_activation"),
    "init_std": ("initializer_range",),
    "norm_eps": ("layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps"),
    "context": ("n_positions", "max_position_embeddings", "n_ctx"),
    "rotary_base": ("rope_theta", "rotary_emb_base"),
    "window": ("sliding_window",),
}


#: Sizes are stored in 32 bits; squares and products of numbers stay finite.
_LARGEST, _LARGEST_NUMBER = 2**31 - 1, 1e12


class Fields:
    """A configuration from which fields are taken; what was absent is remembered in words.

    Args:
        values: the content of the file.
        where: how errors call it.
    """

    def __init__(self, values: JsonObject, where: str):
        self._values, self._where = values, where
        self.assumptions: list[str] = []
        self.ignored: list[str] = []

    def count(self, name: str, default: int | None = None) -> int:
        """A positive integer, or the family's default for it.

        Raises:
            ConfigError: absent without a default, or of another kind.
        """
        key, value = self._take(name)
        if value is None:
            return self._default(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
            remedy = f"write a positive integer of at most {_LARGEST}"
            raise ConfigError(self._where, f"{key} is {brief(value)}", remedy)
        return value

    def optional_count(self, name: str) -> int | None:
        """A positive integer or None, where absence means what null means."""
        return None if self._take(name)[1] is None else self.count(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A number that is not negative, or the family's default for it.

        Raises:
            ConfigError: absent without a default, or of another kind.
        """
        key, value = self._take(name)
        if value is None:
            return self._default(name, default)
        flag = isinstance(value, bool)
        if flag or not isinstance(value, int | float) or not 0 <= value <= _LARGEST_NUMBER:
            remedy = f"write a number of at least 0 and at most {_LARGEST_NUMBER:g}"
            raise ConfigError(self._where, f"{key} is {brief(value)}", remedy)
        return float(value)

    def word(self, name: str, default: str) -> tuple[str, str]:
        """The key and a word, or the family's default for it."""
        key, value = self._take(name)
        if value is None:
            return ALIASES[name][0], self._default(name, default)
        if not isinstance(value, str):
            raise ConfigError(self._where, f"{key} is {brief(value)}", "write a word")
        return key, value

    def flag(self, key: str, default: bool) -> bool:
        """True or false under a key that has one name only."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ConfigError(self._where, f"{key} is {brief(value)}", "write true or false")
        return value

    def table(self, key: str) -> JsonObject:
        """A nested object; empty where it is absent."""
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(
                self._where, f"{key} is {brief(value)}", "write an object of keys and values"
            )
        return value

    def nested(self, key: str) -> Fields:
        """The fields of a nested object, with its remarks added to ours."""
        inner = Fields(self.table(key), f"{self._where}: {key}")
        inner.assumptions, inner.ignored = self.assumptions, self.ignored
        return inner

    def has(self, name: str) -> bool:
        """Whether a field is given, under any of its names, and not null."""
        return self._take(name)[1] is not None

    def require(self, key: str, value: Json) -> None:
        """Refuse a configuration in which a switch differs from the one value understood.

        Raises:
            ConfigError: it differs.
        """
        given = self._values.get(key, value)
        if given != value:
            raise ConfigError(
                self._where,
                f"{key} is {brief(given)}",
                f"write {value!r}, the only one understood at present",
            )

    def refuse(self, name: str, value: Json, remedy: str) -> ConfigError:
        """The error for a value that is understood and cannot be used."""
        key, _ = self._take(name)
        return ConfigError(self._where, f"{key} is {brief(value)}", remedy)

    def _take(self, name: str) -> tuple[str, Json]:
        names = ALIASES.get(name, (name,))
        for key in names:
            if self._values.get(key) is not None:
                return key, self._values[key]
        return names[0], None

    def _default(self, name: str, default: T | None) -> T:
        names = ALIASES.get(name, (name,))
        if default is None:
            raise ConfigError(self._where, f"missing field {' or '.join(names)}", "give it a value")
        self.assumptions.append(f"{names[0]} is absent: {default}, the family's default")
        return default
