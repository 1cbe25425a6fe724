"""Training problems whose best learning rate is predicted and swept: seven cells, and digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.experiments.checked import Count

#: Three sentences of four words out of four, and the words that follow.
SENTENCES = ((3, 1, 1, 2), (2, 3, 1, 1), (1, 3, 1, 1))
FOLLOWING = ((1, 1, 2, 3), (3, 1, 1, 1), (3, 1, 1, 2))


@dataclass(frozen=True)
class ScatteredProblem(OwnProblem):
    """Inputs around three random means; real targets, or the classes of the means.

    Attributes:
        noise: distance of inputs from their mean, in units of the means' own size.
    """

    task: str = "synthetic"
    inputs: Count = 6
    tokens: Count = 2
    dim: Count = 8
    noise: float = 0.7

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [P, S, D] and targets [P]."""
        rng = np.random.default_rng(0)
        classes = np.arange(self.inputs) * 3 // self.inputs
        means = rng.standard_normal((3, self.tokens, self.dim))
        x = means[classes] + self.noise * rng.standard_normal((self.inputs, self.tokens, self.dim))
        y = rng.standard_normal(self.inputs)
        return x, classes if self.loss == "cross_entropy" else y


@dataclass(frozen=True)
class SentenceProblem(OwnProblem):
    """The three sentences."""

    task: str = "bytes"
    inputs: Count = 3
    tokens: Count = 4

    def sentences(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Token ids, the words that follow, and the size of the vocabulary."""
        return np.array(SENTENCES), np.array(FOLLOWING), 4


_SMALL = {"beta0": 1.5, "gamma0": 1.0, "sizes": (32, 64)}
_BLOCKS = {"mlp": "tanh", "norm": "rms"}
_CLASSES = {"loss": "cross_entropy", "smoothing": 0.1}
_LANGUAGE = {
    "norm": "rms",
    "causal": True,
    "final_norm": True,
    "smoothing": 0.1,
    "mlp": "tanh",
}

#: By name.
CELLS: dict[str, OwnProblem] = {
    "squared": ScatteredProblem(**{**_SMALL, "steps": 10}),
    "deep": ScatteredProblem(
        **{**_SMALL, **_BLOCKS, "head_dim": 4, "layers": 2, "gamma0": 0.5, "steps": 10}
    ),
    "momentum": ScatteredProblem(**{**_SMALL, "gamma0": 2.0, "momentum": 0.5, "steps": 10}),
    "classes": ScatteredProblem(**{**_SMALL, **_BLOCKS, **_CLASSES, "steps": 8}),
    "rich-classes": ScatteredProblem(
        **{**_SMALL, **_BLOCKS, **_CLASSES, "head_dim": 4, "layers": 2, "gamma0": 2.0, "steps": 8}
    ),
    "sentences": SentenceProblem(**{**_SMALL, **_LANGUAGE, "steps": 8}),
    "copy": OwnProblem(
        **{**_SMALL, **_LANGUAGE, "head_dim": 4, "layers": 2, "gamma0": 0.5, "steps": 8},
        task="copy",
        inputs=4,
        tokens=6,
        vocabulary=4,
    ),
    "digits": OwnProblem(**{**_SMALL, "steps": 10}, task="digits", inputs=4),
}
