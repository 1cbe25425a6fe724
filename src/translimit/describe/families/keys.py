"""The keys of a configuration, each taken under any of its names; what was taken is remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from translimit.core import ConfigError, Json, JsonObject, brief, nearest
from translimit.describe.activation import Activation
from translimit.describe.families.inert import INERT

T = TypeVar("T")

#: The names under which families call one thing: keys of `config.json` by what they tell.
ALIASES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers"),
    "dim": ("hidden_size", "n_embd", "d_model", "dim", "emb_dim"),
    "heads": (
        *("num_attention_heads", "n_head", "num_heads", "n_heads"),
        *("encoder_attention_heads", "attention_heads"),
    ),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "mlp_dim": (
        *("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim", "encoder_ffn_dim"),
        *("ffn_hidden_size", "dff"),
    ),
    "norm_eps": (
        "rms_norm_eps",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "norm_eps",
        "norm_epsilon",
        "layernorm_epsilon",
    ),
    "activation": (
        *("hidden_act", "hidden_activation", "activation_function", "activation"),
        "dense_act_fn",
    ),
    "std": ("initializer_range", "init_std", "init_method_std"),
    "theta": ("rope_theta", "rotary_emb_base"),
    "partial": ("partial_rotary_factor", "rotary_pct"),
    "window": ("sliding_window", "window_size"),
    "head_dim": ("head_dim", "kv_channels"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "active": ("num_experts_per_tok", "num_selected_experts", "moe_k", "moe_topk"),
    "pad": ("pad_token_id",),
    "vocabulary": ("vocab_size",),
}

#: Activations by the names that configurations use.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_tanh": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "relu2": Activation.RELU_SQUARED,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "swiglu": Activation.SILU,
    "xielu": Activation.XIELU,
    "tanh": Activation.TANH,
    "linear": Activation.LINEAR,
}

_LARGEST = 2**31 - 1


class Keys:
    """A configuration from which keys are taken.

    Args:
        values: its content.
        where: how errors call it.
    """

    def __init__(self, values: JsonObject, where: str):
        self.values, self.where = values, where
        self.taken: set[str] = set()
        self.assumptions: list[str] = []
        self.ignored: list[str] = []

    def given(self, name: str) -> bool:
        """Whether a key is there and not null.

        Args:
            name: of the key, or of several that mean one thing.
        """
        return self._take(name)[1] is not None

    def count(self, name: str, default: int | None = None) -> int:
        """A positive integer.

        Args:
            name: of the key.
            default: of the family.

        Raises:
            ConfigError: absent without a default, or of another kind.
        """
        remedy = f"write a positive integer of at most {_LARGEST}"
        return self._checked(name, default, _is_count, remedy)

    def number(self, name: str, default: float | int | None = None) -> float:
        """A number that is not negative.

        Args:
            name: of the key.
            default: of the family.

        Raises:
            ConfigError: absent without a default, or of another kind.
        """
        remedy = "write a number of at least 0 and below 1e12"
        return float(self._checked(name, default, _is_number, remedy))

    def positive(self, name: str, default: float | int | None = None) -> float:
        """A number above zero, by which something is divided.

        Args:
            name: of the key.
            default: of the family.

        Raises:
            ConfigError: zero, or see `number`.
        """
        value = self.number(name, default)
        if value == 0:
            raise self.refuse(name, "write a number above 0")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false; a default is not told, since a switch that is absent is off or usual.

        Args:
            name: of the key.
            default: of the family.

        Raises:
            ConfigError: of another kind.
        """
        if not self.given(name):
            return default
        return self._checked(
            name, default, lambda one: isinstance(one, bool), "write true or false"
        )

    def word(self, name: str, default: str) -> str:
        """A word.

        Args:
            name: of the key.
            default: of the family.

        Raises:
            ConfigError: of another kind.
        """
        if not self.given(name):
            return default
        return self._checked(name, default, lambda one: isinstance(one, str), "write a word")

    def words(self, name: str) -> list[str] | None:
        """A list of words, or None.

        Args:
            name: of the key.

        Raises:
            ConfigError: of another kind.
        """
        return self._list_of(name, lambda one: isinstance(one, str), "write a list of words")

    def numbers(self, name: str) -> list[int] | None:
        """A list of whole numbers, or None.

        Args:
            name: of the key.

        Raises:
            ConfigError: of another kind.
        """
        remedy = "write a list of whole numbers"
        return self._list_of(
            name, lambda one: isinstance(one, int) and not isinstance(one, bool), remedy
        )

    def padding(self, default: int | None, key: str = "pad_token_id") -> int | None:
        """The id of padding, whose row is zero; null and negative numbers mean none.

        Args:
            default: of the family.
            key: of the configuration.

        Raises:
            ConfigError: no whole number.
        """
        self.taken.add(key)
        row = self.values.get(key, default)
        if row is not None and (not isinstance(row, int) or isinstance(row, bool)):
            raise self.refuse(key, "write an id of the vocabulary, or null")
        return row if row is not None and row >= 0 else None

    def table(self, name: str) -> Keys | None:
        """A nested object, or None; what is taken from it counts as accounted for.

        Args:
            name: of the key.

        Raises:
            ConfigError: of another kind.
        """
        value = self._take(name)[1]
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(name, "write an object of keys and values")
        inner = Keys(value, f"{self.where}: {name}")
        inner.assumptions, inner.ignored = self.assumptions, self.ignored
        return inner

    def activation(self, default: str, name: str = "activation") -> Activation:
        """The activation of hidden units.

        Args:
            default: of the family.
            name: of the key.

        Raises:
            ConfigError: it is not known.
        """
        word = self.word(name, default)
        if word not in ACTIVATIONS:
            raise self.refuse(name, nearest(word, ACTIVATIONS))
        return ACTIVATIONS[word]

    def require(self, name: str, *understood: Json) -> None:
        """Refuse a switch that differs from what is understood.

        Args:
            name: of the key.
            understood: its values; the first is the default.

        Raises:
            ConfigError: it differs.
        """
        value = self._take(name)[1]
        if value is not None and value not in understood:
            told = " or ".join(repr(one) for one in understood)
            raise self.refuse(name, f"write {told}: nothing else is understood")

    def inert(self, *names: str) -> None:
        """Take keys that do not act in this family at initialisation.

        Args:
            names: of the keys.
        """
        for name in names:
            self._take(name)

    def pass_over(self, name: str, why: str) -> None:
        """Tell a key that acts and is left out.

        Args:
            name: of the key.
            why: it is left out, or what is done instead.
        """
        if self.given(name):
            self.ignored.append(f"{name}: {why}")

    def told(self, name: str) -> tuple[str, Json]:
        """The key under which something stands, and its value, None where it is absent.

        Args:
            name: of the key, or of several that mean one thing.
        """
        return self._take(name)

    def refuse(self, name: str, remedy: str) -> ConfigError:
        """The error for the value of a key.

        Args:
            name: of the key.
            remedy: what to write.
        """
        key, value = self._take(name)
        said = f"{key} is {brief(value)}"
        if value is None:  # the family's default is what does not do
            said = f"{' or '.join(ALIASES.get(name, (name,)))} is not given"
        return ConfigError(self.where, said, remedy)

    def left(self) -> list[str]:
        """The keys that no one took and that are not known to be inert."""
        return sorted(key for key in self.values if key not in self.taken and not _inert(key))

    def _take(self, name: str) -> tuple[str, Json]:
        names = ALIASES.get(name, (name,))
        self.taken.update(names)
        for key in names:
            if self.values.get(key) is not None:
                return key, self.values[key]
        return names[0], None

    def _checked(
        self, name: str, default: T | None, holds: Callable[[Json], bool], remedy: str
    ) -> T:
        """The value of a key, of the kind of its default, or the family's default for it."""
        value = self._take(name)[1]
        if value is None:
            return self._default(name, default)
        if not holds(value):
            raise self.refuse(name, remedy)
        return cast("T", value)

    def _list_of(self, name: str, holds: Callable[[Json], bool], remedy: str) -> list[Any] | None:
        """A list of values of one kind, or None."""
        value = self._take(name)[1]
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(holds, value)):
            raise self.refuse(name, remedy)
        return list(value)

    def _default(self, name: str, default: T | None) -> T:
        names = ALIASES.get(name, (name,))
        if default is None:
            raise ConfigError(self.where, f"missing field {' or '.join(names)}", "give it a value")
        said = f"none of {', '.join(names)} is given" if len(names) > 1 else f"{name} is absent"
        self.assumptions.append(f"{said}: {default}, the family's default")
        return default


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _inert(key: str) -> bool:
    return key in INERT or key.endswith(("_token_id", "_dropout", "_pdrop", "_drop"))
