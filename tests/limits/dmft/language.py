"""The acceptance cases of losses, tokens and architecture, as problems of the library."""

import math
from typing import Any

import numpy as np

from translimit.limits.dmft import Architecture, CrossEntropy, TrainingDynamics

_a, _c = np.arange(6)[:, None], np.arange(4)[None]
#: Three inputs of two tokens and four features, in three classes.
SIN6 = 2 * np.sqrt(0.5) * np.sin(1.7 * _a + 2.9 * _c**2 + 0.3).reshape(3, 2, 4)
#: Three sentences of four tokens out of four words, and the words that follow each of them.
LM12 = np.array([[3, 1, 1, 2], [2, 3, 1, 1], [1, 3, 1, 1]])
LM12_NEXT = np.array([[1, 1, 2, 3], [3, 1, 1, 1], [3, 1, 1, 2]])
#: Blocks of four tokens out of eight words, twice; what follows is known from the fourth on.
BLOCKS = np.array(
    [
        [6, 5, 4, 2],
        [2, 0, 0, 0],
        [1, 6, 5, 7],
        [4, 4, 7, 5],
        [5, 4, 4, 7],
        [2, 6, 5, 0],
        [3, 6, 4, 0],
        [6, 5, 6, 1],
    ]
)


def sin6(*, eta0: float, **options: Any) -> TrainingDynamics:
    """Pooled classes; options of both the architecture and the training."""
    return _problem({"inputs": SIN6, "targets": [0, 1, 2], "eta0": eta0}, options)


def lm12(*, eta0: float, **options: Any) -> TrainingDynamics:
    """A language model: causal, with a final norm."""
    data = {"token_ids": LM12, "vocabulary": 4, "targets": LM12_NEXT, "eta0": eta0}
    return _problem(data, {"norm": "rms", "causal": True, "final_norm": True, **options})


def copy_task(**options: Any) -> TrainingDynamics:
    """Eight sentences that say a block of four tokens twice."""
    ids = np.tile(BLOCKS, 2)
    targets = np.concatenate([np.full((8, 3), -1), ids[:, 4:8], ids[:, :1]], axis=1)
    data = {"token_ids": ids, "vocabulary": 8, "targets": targets}
    return _problem(data, {"norm": "rms", "causal": True, "final_norm": True, **options})


def _problem(data: dict[str, Any], options: dict[str, Any]) -> TrainingDynamics:
    options = {"head_dim": math.inf, "beta0": 1.5, "steps": 8, "loss": CrossEntropy(), **options}
    own = {name: options.pop(name) for name in list(options) if _of_architecture(name)}
    return TrainingDynamics(architecture=Architecture(**own), **{**data, **options})


def _of_architecture(name: str) -> bool:
    return name in Architecture.__dataclass_fields__
