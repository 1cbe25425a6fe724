"""What the page shows, as one frozen value: the sliders, the architecture, the open panel.

A view goes into the address of the page and comes back from it, so that a link reproduces it.

| slider | meaning | in the limits |
|---|---|---|
| `heads`, `head_dim` | H, d_k; the width is D = H d_k | heads of a layer; scaling rules |
| `layers` | L | depth; L / D is the time of the covariance SDE |
| `tokens` | n | tokens that enter |
| `step` | eta: a branch over the stream | residual step; gamma / lambda of the shaped block |
| `score_temperature` | scores are divided by it | 1 / score_std, tau_0, 1 / beta |
| `alpha_a`, `alpha_l` | exponents of scores and branches | scaling rules |
| `gamma0`, `rate` | richness, learning rate eta_0 | training dynamics |
| `time` | part of the depth or of training that has passed | which ellipse, clusters, kernel |

A described architecture sets the sliders: the deviation beta_s of its scores is
1 / score_temperature, and what its first attention layer adds, gamma_A / q_0, is step^2 / heads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from translimit.core import (
    Bounds,
    ConfigError,
    brief,
    nearest,
    require_count,
    require_real,
)
from translimit.describe import PUBLIC_MODELS, StackReading, attentions
from translimit.explore import described, starts
from translimit.explore.controls import CHOICES, SLIDERS
from translimit.explore.maps import maps_of
from translimit.explore.resizing import plain_stack, resized, with_scores, with_step

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
    "score_temperature",
    "alpha_a",
    "alpha_l",
    "gamma0",
    "rate",
    "optimizer",
)


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
        score_temperature: what the scores are divided by.
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
        other: what a second architecture has instead: a JSON object of `COMPARED`, a name in
            `describe.PUBLIC_MODELS`, sizes as `heads=8,head_dim=64,layers=12`, or "".

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
    score_temperature: float | int = 1.0
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
            _require_short(name, getattr(self, name))
        described.reading_of(self.config)
        _ = self.second  # refuses what is not understood

    @property
    def width(self) -> int:
        """D: heads times head_dim, or that of a description whose heads do not fill the stream."""
        found = described.reading_of(self.config)
        if found is None:
            return self.heads * self.head_dim
        first = next(attentions(found.stack))
        filled = found.stack.dim == first.heads * first.head_dim
        return self.heads * self.head_dim if filled else found.stack.dim

    @property
    def second(self) -> View | None:
        """The view of the second architecture, if there is one.

        Raises:
            ConfigError: a JSON object of another form.
            ArgumentError: a value outside of its range.
        """
        if not self.other:
            return None
        plain = {name: getattr(View(), name) for name in COMPARED}
        text = self.other.strip()
        if text in PUBLIC_MODELS:
            return replace(self, other="", **(plain | described.sliders_of(text)))
        if described.is_size(text):
            return replace(self, other="", **(plain | described.sizes_of(text)))
        values = described.parsed(text)
        for name in values:
            if name not in COMPARED:
                raise ConfigError(f"other.{name}", "is not compared", nearest(name, COMPARED))
        config = values.get("config", "")
        values["config"] = config if isinstance(config, str) else described.as_text(config)
        _require_short("config", values["config"])
        if values["config"]:
            plain |= described.sliders_of(values["config"])
        return replace(self, other="", **(plain | values))

    def compared_with(self, second: View | None) -> View:
        """The view with another view's architecture as its second; with None alone.

        Args:
            second: from which what `COMPARED` names is taken.
        """
        if second is None:
            return replace(self, other="")
        values = {name: one for name, one in second._changed().items() if name in COMPARED}
        config = values.get("config", "")
        if config and config not in PUBLIC_MODELS:
            values["config"] = json.loads(config)
        return replace(self, other=described.as_text(values))

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
        return (self.second or self).query

    @property
    def score_std(self) -> float:
        """Standard deviation of the score of two unit tokens."""
        return 1.0 / self.score_temperature

    def reading(self) -> StackReading:
        """The described architecture at the sizes, score temperature and step of the sliders.

        Where these are its own they are not rounded. Without a description: attention alone, with
        a root mean square norm.
        """
        found = described.reading_of(self.config)
        step, scores = self.step, self.score_std
        if found is None:
            stack = plain_stack(self.heads, self.head_dim, self.layers)
            found = StackReading(family="attention alone", stack=stack)
        elif not self.moved_sliders:
            return found
        else:
            own, cold = described.step_and_score_temperature(self.config)
            step = step if "step" in self.moved_sliders else own
            scores = scores if "score_temperature" in self.moved_sliders else 1.0 / cold
        stack = resized(found.stack, self.heads, self.head_dim, self.layers, self.width)
        stack = with_step(with_scores(stack, scores), step**2 / self.heads)
        return replace(found, stack=stack)

    @property
    def moved_sliders(self) -> tuple[str, ...]:
        """The sliders that make another architecture of the described one."""
        if not self.config:
            return ()
        own = described.sliders_of(self.config)
        return tuple(n for n in own if n != "tokens" and getattr(self, n) != own[n])

    def _changed(self) -> dict[str, Any]:
        """What an address says: all that is neither default nor where a description puts it."""
        plain = View()
        if self.config:
            plain = replace(plain, **(described.sliders_of(self.config) | {"config": ""}))
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(plain, field.name)
        }

    @property
    def query(self) -> dict[str, str]:
        """The query of the view by name: `View.from_query(view.query) == view`."""
        return {name: _text(value) for name, value in self._changed().items()}

    def to_query(self) -> str:
        """What differs from the default view and from the description, as an address's query."""
        return urlencode(self.query)

    @classmethod
    def from_query(cls, query: Mapping[str, object]) -> View:
        """The view of an address; a description sets the sliders that the address leaves out.

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
        config = values.get("config", "")
        if config:
            _require_short("config", config)
            values = described.sliders_of(config) | values
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
        if described.is_size(text):
            return replace(self, **described.sizes_of(text))
        text = described.short(text)
        values = described.sliders_of(text)
        if self.tokens != View().tokens:  # a reader chose them
            values["tokens"] = min(self.tokens, described.context_of(text) or self.tokens)
        # Its own panel: the steps of a described stack change along depth, a slider's do not.
        panel = "stack" if self.panel == View().panel else self.panel
        return replace(self, panel=panel, **values)


def _require_short(name: str, text: str) -> None:
    if len(text) > LONGEST:
        raise ConfigError(
            name,
            f"has {len(text)} characters, and an address carries {LONGEST}",
            "leave out what says nothing about the architecture",
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
