"""Architectures as a person describes them, and where they put the sliders.

A description is a name in `describe.PUBLIC_MODELS`, a config.json, our own format as JSON or TOML,
or sizes alone, `heads=8,head_dim=64,layers=12`, for attention blocks of these sizes.
"""

from __future__ import annotations

import json
import math
import tomllib
from functools import lru_cache

from translimit.core import ConfigError, Json
from translimit.core import config as configurations
from translimit.describe import PUBLIC_MODELS, StackReading, attentions, read_stack, score_std
from translimit.explore.controls import SLIDERS
from translimit.explore.resizing import first_step
from translimit.predict import default_tokens
from translimit.scaling import read_size

#: Tables of a config.json that say nothing about the architecture and may be long.
_DROPPED = ("id2label", "label2id", "task_specific_params", "quantization_config")


def is_size(text: str) -> bool:
    """Whether a text has the form of sizes alone."""
    return not text.startswith("{") and "\n" not in text and "=" in text


def sizes_of(text: str) -> dict[str, str | int]:
    """Where sizes alone put the sliders.

    Args:
        text: as `heads=8,head_dim=64,layers=12`.

    Raises:
        ConfigError: text of another form, or a width of its own.
        ArgumentError: a size below 1.
    """
    size = read_size(text).size
    if size.dim is not None:
        problem = f"got {size.dim} with {size.heads} heads of {size.head_dim}"
        raise ConfigError("width", problem, "write our own format, or a config.json")
    return {"config": "", "heads": size.heads, "head_dim": size.head_dim, "layers": size.layers}


def sliders_of(config: str) -> dict[str, str | float]:
    """Where a described architecture puts the sliders: its sizes, scores and first step.

    Args:
        config: JSON, TOML, or a name in `describe.PUBLIC_MODELS`.

    Raises:
        ConfigError: a configuration that is not understood.
    """
    found = reading_of(config)
    assert found is not None
    first = next(attentions(found.stack))
    step, score_temperature = step_and_score_temperature(config)
    return {
        "config": config,
        "heads": first.heads,
        "head_dim": first.head_dim,
        "layers": len(found.stack.layers),
        "tokens": min(default_tokens(found), int(SLIDERS["tokens"].high)),
        "step": _within("step", step),
        "score_temperature": _within("score_temperature", score_temperature),
    }


def step_and_score_temperature(config: str) -> tuple[float, float]:
    """The step and the score temperature of a description, before the sliders round and bound them.

    Args:
        config: JSON, TOML, or a name in `describe.PUBLIC_MODELS`.
    """
    found = reading_of(config)
    assert found is not None
    first = next(attentions(found.stack))
    scores = score_std(first, found.stack.dim)
    step = math.sqrt(first.heads * first_step(found.stack))
    return step, 1.0 / scores if scores > 0 else math.inf


def context_of(config: str) -> int | None:
    """The largest number of tokens of a description, or None where it is not told."""
    found = reading_of(config)
    return None if found is None else found.context


def short(text: str) -> str:
    """A description as an address carries it: a name, or JSON without what says nothing.

    Args:
        text: a name in `describe.PUBLIC_MODELS`, JSON or TOML.
    """
    if text in PUBLIC_MODELS:
        return text
    return as_text({key: one for key, one in parsed(text).items() if key not in _DROPPED})


def as_text(values: Json) -> str:
    """Plain data as JSON without spaces, sorted."""
    return json.dumps(values, separators=(",", ":"), sort_keys=True)


def parsed(text: str) -> dict[str, Json]:
    """The table that a text holds as JSON or TOML.

    Args:
        text: JSON if it begins with a brace.

    Raises:
        ConfigError: it is neither.
    """
    try:
        values = json.loads(text) if text.startswith("{") else tomllib.loads(text)
        if configurations.too_deep(values):
            raise RecursionError("it is nested too deeply")
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "architecture",
            f"is neither JSON, TOML nor key=value,key=value ({error})",
            "write one of them",
        ) from None
    return values


@lru_cache(maxsize=32)
def reading_of(config: str) -> StackReading | None:
    """What a description was read as, if it has attention whose sizes the sliders show.

    Args:
        config: JSON, TOML, or a name in `describe.PUBLIC_MODELS`; "" for none.

    Raises:
        ConfigError: a configuration that is not understood, or without attention.
    """
    if not config:
        return None
    reading = read_stack(PUBLIC_MODELS[config] if config in PUBLIC_MODELS else parsed(config))
    if next(attentions(reading.stack), None) is None:
        raise ConfigError("config", "has no attention", "describe a stack with attention")
    return reading


def _within(name: str, value: float) -> float:
    """A value of a slider: three digits, within its bounds."""
    slider = SLIDERS[name]
    return min(max(float(f"{value:.3g}"), slider.low), slider.high)
