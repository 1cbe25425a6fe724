"""What a reader moves, chooses and writes: the sliders, the choices and the texts of the page."""

from __future__ import annotations

from dataclasses import dataclass

from translimit.explore.maps import MAPS, VARIANTS
from translimit.scaling import OPTIMIZERS


@dataclass(frozen=True)
class Slider:
    """One slider.

    Attributes:
        label: what the page calls it.
        values: the values at which it stops, increasing.
        low: the least value that a view may have.
        high: the largest.
    """

    label: str
    values: tuple[float | int, ...]
    low: float | int
    high: float | int

    @property
    def kind(self) -> type[int] | type[float]:
        """Whether it stops at whole numbers alone, as int, or at others."""
        return int if all(isinstance(one, int) for one in self.values) else float

    def stops(self, value: float | int) -> list[float | int]:
        """The values with this one among them."""
        return sorted({*self.values, value})


_ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SLIDERS: dict[str, Slider] = {
    "heads": Slider("heads H", (1, 2, 4, 8, 12, 16, 32, 64), 1, 512),
    "head_dim": Slider("key/query dimension", (8, 16, 32, 64, 128, 256), 1, 1024),
    "layers": Slider("depth L", (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192), 1, 1000),
    "tokens": Slider("tokens n", (4, 8, 16, 32, 64, 128, 256, 512, 1024), 2, 1024),
    "step": Slider(
        "step η", (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0), 1e-3, 1000.0
    ),
    "score_temperature": Slider(
        "score temperature",
        (0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
        0.15,
        1e4,
    ),
    "alpha_a": Slider("exponent α_A", _ALPHAS, 0.5, 1.0),
    "alpha_l": Slider("exponent α_L", _ALPHAS, 0.5, 1.0),
    "gamma0": Slider("richness γ₀", (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0), 0.01, 10.0),
    "rate": Slider("learning rate η₀", (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8), 1e-3, 10.0),
    "time": Slider("part of the way", tuple(i / 50 for i in range(51)), 0.0, 1.0),
}


@dataclass(frozen=True)
class Choice:
    """One of a few names.

    Attributes:
        label: what the page calls it.
        names: what may be chosen, the default first.
    """

    label: str
    names: tuple[str, ...]


CHOICES: dict[str, Choice] = {
    "optimizer": Choice("optimizer", ("adamw", *(one for one in OPTIMIZERS if one != "adamw"))),
    "variant": Choice("attention", tuple(VARIANTS)),
    "maps": Choice("Q, K and V", tuple(MAPS)),
}


@dataclass(frozen=True)
class Text:
    """A text that a reader may write.

    Attributes:
        label: what the page calls it.
        example: shown while it is empty.
    """

    label: str
    example: str


TEXTS: dict[str, Text] = {
    "moved": Text("starts moved by hand", "3:0,0,1;5:1,0,0"),
    "maps_text": Text("other Q / K / V", "1,0,0,1 / 1,0,0,1 / -1,0,0,-1"),
}
