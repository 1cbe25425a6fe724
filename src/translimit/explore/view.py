"""What the page shows, as one frozen value: the sliders, the architecture, the open panel.

A view goes into the address of the page and comes back from it, so that a link reproduces it.

| slider | meaning | in the limits |
|---|---|---|
| `heads`, `head_dim` | H, d_k; the width is D = H d_k | heads of a layer; scaling rules |
| `layers` | L | depth; L / D is the time of the covariance SDE |
| `tokens` | n | tokens that enter |
| `step` | eta: a branch over the stream | residual step; gamma / lambda of the shaped block |
| `temperature` | scores are divided by it | 1 / score_std, tau_0, 1 / beta |
| `alpha_a`, `alpha_l` | exponents of scores and branches | scaling rules |
| `gamma0`, `rate` | richness, learning rate eta_0 | training dynamics |
| `time` | part of the depth or of training that has passed | which ellipse, clusters, kernel |

A described architecture sets the sliders: the deviation beta_s of its scores is 1 / temperature,
and what its first attention layer adds, gamma_A / q_0, is step^2 / heads.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from translimit.core import (
    Bounds,
    ConfigError,
    brief,
    nearest,
    require_count,
    require_real,
)
from translimit.core import config as configurations
from translimit.describe import (
    PUBLIC_MODELS,
    StackReading,
    attentions,
    read_stack,
    score_std,
)
from translimit.explore import starts
from translimit.explore.controls import CHOICES, SLIDERS
from translimit.explore.maps import maps_of
from translimit.explore.resizing import first_step, plain_stack, resized, with_scores, with_step
from translimit.scaling import read_size

#: The panels, in the order of the page.
PANEL_NAMES = (
    "overlaps",
    "covariance",
    "ellipses",
    "clusters",
    "regimes",
    "rates",
    "training",
    "stack",
    "all",
)
#: The largest seed.
MOST_SEEDS = 10**6
#: Characters of a configuration that an address still carries.
LONGEST = 4000
#: What a second architecture may have of its own.
COMPARED = (
    "config",
    "heads",
    "head_dim",
    "layers",
    "tokens",
    "step",
    "temperature",
    "alpha_a",
    "alpha_l",
    "gamma0",
    "rate",
    "optimizer",
)
#: Tables of a config.json that say nothing about the architecture and may be long.
_DROPPED = ("id2label", "label2id", "task_specific_params", "quantization_config")


@dataclass(frozen=True)
class View:
    """What the page shows; see the module's docstring.

    Attributes:
        panel: the open panel, by name.
        config: the described architecture as JSON or by its name in `describe.PUBLIC_MODELS`, or
            "" for attention blocks alone.
        heads: heads of a layer.
        head_dim: key and query dimension of a head.
        layers: depth.
        tokens: how many enter.
        step: residual step.
        temperature: of the scores.
        alpha_a: exponent of the scores in the scaling rules.
        alpha_l: exponent of the branches.
        gamma0: richness of training.
        rate: learning rate of training.
        time: part of the depth, or of training, that has passed, in [0, 1].
        optimizer: of the scaling rules.
        seed: of the tokens that start on the circle and on the sphere.
        moved: tokens that start elsewhere on the sphere; see `explore.starts`.
        variant: of attention, where tokens have a Gaussian law.
        maps: Q, K and V there, by name.
        maps_text: the same written out, in place of the named ones; see `explore.maps`.
        other: what a second architecture has instead, as a JSON object of `COMPARED`, or "".

    Raises:
        ArgumentError: a value outside of its range.
        ArgumentTypeError: a size that is no integer, or no number.
        ConfigError: a configuration that is not understood, or too long.

    Examples:
        >>> view = View(heads=4)
        >>> view.to_query(), View.from_query({"heads": "4"}) == view
        ('heads=4', True)
    """

    panel: str = "overlaps"
    config: str = ""
    heads: int = 8
    head_dim: int = 64
    layers: int = 96
    tokens: int = 16
    step: float | int = 0.5
    temperature: float | int = 1.0
    alpha_a: float | int = 1.0
    alpha_l: float | int = 1.0
    gamma0: float | int = 1.0
    rate: float | int = 0.2
    time: float | int = 0.5
    optimizer: str = "adamw"
    seed: int = 0
    moved: str = ""
    variant: str = "softmax"
    maps: str = "turn and stretch"
    maps_text: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        for name, slider in SLIDERS.items():
            value = getattr(self, name)
            if slider.kind is int:
                require_count(value, name, int(slider.low), int(slider.high))
            else:
                require_real(value, name, Bounds(slider.low, slider.high))
        known = {name: choice.names for name, choice in CHOICES.items()} | {"panel": PANEL_NAMES}
        for name, names in known.items():
            value = getattr(self, name)
            if value not in names:
                raise ConfigError(name, f"got {brief(value)}", nearest(value, names))
        require_count(self.seed, "seed", 0, MOST_SEEDS)
        starts.moved_of(self.moved)
        maps_of(self.maps, self.maps_text)
        for name in ("config", "other"):
            if len(getattr(self, name)) > LONGEST:
                raise ConfigError(
                    name,
                    f"has {len(getattr(self, name))} characters, and an address carries {LONGEST}",
                    "leave out what says nothing about the architecture",
                )
        _described(self.config)
        _ = self.second  # refuses what is not understood

    @property
    def width(self) -> int:
        """D: heads times head_dim, or that of a description whose heads do not fill the stream."""
        described = _described(self.config)
        if described is None:
            return self.heads * self.head_dim
        first = next(attentions(described.stack))
        filled = described.stack.dim == first.heads * first.head_dim
        return self.heads * self.head_dim if filled else described.stack.dim

    @property
    def second(self) -> View | None:
        """The view of the second architecture, if there is one.

        Raises:
            ConfigError: a JSON object of another form.
            ArgumentError: a value outside of its range.
        """
        if not self.other:
            return None
        values = _parsed(self.other)
        for name in values:
            if name not in COMPARED:
                raise ConfigError(f"other.{name}", "is not compared", nearest(name, COMPARED))
        config = values.get("config", "")
        values["config"] = config if isinstance(config, str) else _as_text(config)
        plain = {name: getattr(View(), name) for name in COMPARED}
        return replace(self, other="", **(plain | values))

    def compared_with(self, second: View | None) -> View:
        """The view with another view's architecture as its second; with None alone.

        Args:
            second: from which what `COMPARED` names is taken.
        """
        if second is None:
            return replace(self, other="")
        plain = View()
        values = {
            name: getattr(second, name)
            for name in COMPARED
            if getattr(second, name) != getattr(plain, name)
        }
        config = values.get("config", "")
        if config and config not in PUBLIC_MODELS:
            values["config"] = json.loads(config)
        return replace(self, other=_as_text(values))

    @property
    def named_other(self) -> str:
        """The second architecture in a few words."""
        found = self.second or self
        name = f"{found.config}, " if found.config in PUBLIC_MODELS else ""
        name = name or ("a described one, " if found.config else "")
        return f"{name}heads={found.heads}, head_dim={found.head_dim}, layers={found.layers}"

    @property
    def other_query(self) -> dict[str, str]:
        """The query of the second architecture alone."""
        return dict(parse_qsl((self.second or self).to_query()))

    @property
    def score_std(self) -> float:
        """Standard deviation of the score of two unit tokens."""
        return 1.0 / self.temperature

    def reading(self) -> StackReading:
        """The described architecture at the sizes, temperature and step of the sliders.

        Without a description: attention alone, with a root mean square norm.
        """
        found = _described(self.config)
        if found is None:
            stack = plain_stack(self.heads, self.head_dim, self.layers)
            found = StackReading(family="attention alone", stack=stack)
        stack = resized(found.stack, self.heads, self.head_dim, self.layers, self.width)
        stack = with_step(with_scores(stack, self.score_std), self.step**2 / self.heads)
        return replace(found, stack=stack)

    def to_query(self) -> str:
        """What differs from the default view, as the query of an address."""
        plain = View()
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(plain, field.name)
        }
        return urlencode({name: _text(value) for name, value in changed.items()})

    @classmethod
    def from_query(cls, query: Mapping[str, object]) -> View:
        """The view of an address.

        Raises:
            ConfigError: an unknown name, or text that is no number where one belongs.
            ArgumentError: a value outside of its range.
        """
        kinds = {field.name: type(getattr(cls(), field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in query.items():
            if name not in kinds:
                raise ConfigError(name, "is not part of a view", nearest(name, kinds))
            text = str(text[-1]) if isinstance(text, list | tuple) else str(text)
            try:
                values[name] = kinds[name](text)
            except ValueError:
                kind = "a whole number" if kinds[name] is int else "a number"
                raise ConfigError(name, f"got {brief(text)}", f"write {kind}") from None
        return cls(**values)

    def described_by(self, text: str) -> View:
        """The view of an architecture that a person typed or loaded.

        Args:
            text: a name in `describe.PUBLIC_MODELS`, a config.json, our own format as JSON or TOML,
                or `heads=8,head_dim=64,layers=12`; empty for attention blocks alone.

        Raises:
            ConfigError: text that is none of these, or a configuration that is not understood.
            ArgumentError: sizes outside of what the page shows.
        """
        text = text.strip()
        if not text:
            return replace(self, config="")
        if not text.startswith("{") and "\n" not in text and "=" in text:
            size = read_size(text).size
            if size.dim is not None:
                problem = f"got {size.dim} with {size.heads} heads of {size.head_dim}"
                raise ConfigError("width", problem, "write our own format, or a config.json")
            return replace(
                self, config="", heads=size.heads, head_dim=size.head_dim, layers=size.layers
            )
        if text not in PUBLIC_MODELS:
            values = {key: one for key, one in _parsed(text).items() if key not in _DROPPED}
            text = _as_text(values)
        found = _described(text)
        assert found is not None
        first = next(attentions(found.stack))
        step = math.sqrt(first.heads * first_step(found.stack))
        scores = score_std(first, found.stack.dim)
        temperature = 1.0 / scores if scores > 0 else math.inf
        slider = SLIDERS["temperature"]
        return replace(
            self,
            # Its own panel: the steps of a described stack change along depth, a slider's do not.
            panel="stack" if self.panel == View().panel else self.panel,
            config=text,
            heads=first.heads,
            head_dim=first.head_dim,
            layers=len(found.stack.layers),
            tokens=min(self.tokens, found.context or self.tokens),
            step=min(max(_three_digits(step), SLIDERS["step"].low), SLIDERS["step"].high),
            temperature=min(max(_three_digits(temperature), slider.low), slider.high),
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _as_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _parsed(text: str) -> dict[str, Any]:
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
def _described(config: str) -> StackReading | None:
    """What a description was read as, if it has attention whose sizes the sliders show."""
    if not config:
        return None
    reading = read_stack(PUBLIC_MODELS[config] if config in PUBLIC_MODELS else _parsed(config))
    if next(attentions(reading.stack), None) is None:
        raise ConfigError("config", "has no attention", "describe a stack with attention")
    return reading
