"""Rotary positions, windows and biases as configurations tell them."""

from __future__ import annotations

import math
from collections.abc import Callable

from translimit.describe.families.keys import Keys
from translimit.describe.frequencies import Frequencies

#: The names of layers' kinds of attention.
FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
#: A kind in which each query sees a number of keys at most.
INDEXED = "indexed_attention"


def frequencies(
    k: Keys, head_dim: int, *, theta: float = 1e4, partial: float = 1.0, kind: str = FULL
) -> Frequencies | None:
    """Rotary positions of a head, or None where nothing turns.

    Args:
        k: the configuration.
        head_dim: entries of a head.
        theta: base of the frequencies by default.
        partial: share of the entries that turn by default.
        kind: of the layer, where frequencies differ by kind.

    Raises:
        ConfigError: a scaling that is not known.
    """
    newer, older = k.table("rope_parameters"), k.table("rope_scaling")
    if newer is not None and any(isinstance(one, dict) for one in newer.values.values()):
        if newer.values.get(kind, {}) is None:
            return None
        newer = newer.table(kind)
    tables = [one for one in (newer, older) if one is not None]

    def number(name: str, default: float) -> float:
        for table in tables:
            if table.given(name):
                return table.number(name)
        return k.number(name) if k.given(name) else default

    k.inert("original_max_position_embeddings")
    base, share = number("theta", theta), number("partial", partial)
    k.inert("theta", "partial")
    turning = k.count("rotary_dim") if k.given("rotary_dim") else int(head_dim * share)
    turning -= turning % 2
    if turning < 2:
        return None
    plain = Frequencies.geometric(turning, max(base, 1.0))
    for table in tables:
        word = table.word("rope_type", table.word("type", "default"))
        if word in _SCALED:
            return _SCALED[word](plain, table, k, base)
        if word in ("dynamic", "longrope", "su"):
            k.ignored.append(
                f"rope_scaling of type {word!r}: frequencies are unscaled up to the old length"
            )
        elif word not in ("default", "mrope", "proportional"):
            raise table.refuse("rope_type", f"write one of default, {', '.join(_SCALED)}")
    return plain


def _linear(plain: Frequencies, table: Keys, k: Keys, base: float) -> Frequencies:
    del k, base
    return plain.linear(table.number("factor"))


def _llama3(plain: Frequencies, table: Keys, k: Keys, base: float) -> Frequencies:
    del base
    return plain.llama3(
        table.number("factor"),
        table.number("low_freq_factor", 1.0),
        table.number("high_freq_factor", 4.0),
        _old_length(table, k),
    )


def _yarn(plain: Frequencies, table: Keys, k: Keys, base: float) -> Frequencies:
    factor = table.number("factor")
    grown = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    if table.given("attention_factor"):
        grown = table.number("attention_factor")
    elif table.given("mscale") and table.given("mscale_all_dim"):
        grown = yarn_scale(factor, table.number("mscale")) / yarn_scale(
            factor, table.number("mscale_all_dim")
        )
    return plain.yarn(
        factor,
        _old_length(table, k),
        base=base,
        fast=table.number("beta_fast") if table.given("beta_fast") else 32.0,
        slow=table.number("beta_slow") if table.given("beta_slow") else 1.0,
        truncate=table.flag("truncate", True),
        attention_factor=grown,
    )


def yarn_scale(factor: float, mscale: float) -> float:
    """0.1 mscale log(factor) + 1.

    Args:
        factor: of the longer context.
        mscale: of the configuration.
    """
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _old_length(table: Keys, k: Keys) -> int:
    if table.given("original_max_position_embeddings"):
        return table.count("original_max_position_embeddings")
    if k.given("original_max_position_embeddings"):
        return k.count("original_max_position_embeddings")
    return k.count("context", 2048)


_SCALED: dict[str, Callable[[Frequencies, Keys, Keys, float], Frequencies]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}


def layer_kinds(k: Keys, layers: int, default: Callable[[int], str]) -> list[str]:
    """The kind of attention of every layer.

    Args:
        k: the configuration.
        layers: how many.
        default: of the family, by the number of the layer from 0.

    Raises:
        ConfigError: kinds of another number, or one that is not known.
    """
    told = k.words("layer_types")
    if told is None:
        return [default(index) for index in range(layers)]
    if len(told) < layers:
        raise k.refuse("layer_types", f"write one for each of {layers} layers")
    if k.given("index_topk"):  # keys are chosen, from a longer text than that on
        told = [FULL if one == INDEXED else one for one in told]
    odd = [one for one in told if one not in (FULL, SLIDING, CHUNKED)]
    if odd:
        raise k.refuse(
            "layer_types", f"write {FULL}, {SLIDING} or {CHUNKED}: {odd[0]!r} is no softmax"
        )
    return told[:layers]


def alternating(every: int, *, first: str = SLIDING) -> Callable[[int], str]:
    """Every n-th layer is of the other kind.

    Args:
        every: the period.
        first: the kind of the others.
    """
    other = FULL if first == SLIDING else SLIDING
    return lambda index: other if (index + 1) % every == 0 else first


def alibi_slopes(heads: int, most: float = 8.0) -> tuple[float, ...]:
    """Slopes of ALiBi: a geometric series where heads are a power of two, else two of them.

    Args:
        heads: how many.
        most: the largest exponent of two.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-most * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-most * (h + 1) / (2 * power)) for h in range(2 * power)]
    return (*slopes, *between[0 : 2 * (heads - power) : 2])


def mpt_slopes(heads: int, most: float = 8.0) -> tuple[float, ...]:
    """Slopes of MPT: of the next power of two, those of odd places first, cut off.

    Args:
        heads: how many.
        most: the largest exponent of two.
    """
    power = 2 ** math.ceil(math.log2(heads))
    slopes = [2.0 ** (-most * (h + 1) / power) for h in range(power)]
    if power != heads:
        slopes = [*slopes[1::2], *slopes[::2]]
    return tuple(slopes[:heads])
