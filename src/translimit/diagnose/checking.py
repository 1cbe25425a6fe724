"""A reader compared with the model's own class, where it is installed.

Hidden states of a few drawn inputs, layer by layer, in float64: equal to 1e-10, or to 1e-6 where
the class computes its norm or its softmax in float32 whatever its type (Llama's and those after it,
OPT's and the image encoders').

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from translimit.core import ConfigError, TorchModule, require_package
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.measuring import stream_of
from translimit.diagnose.reading import record_of

#: Accepted relative errors.
EXACT_TOLERANCE, SINGLE_TOLERANCE = 1e-10, 1e-6


@dataclass(frozen=True)
class ReaderCheck:
    """How well a reader reproduces the class.

    Attributes:
        errors: the largest difference of a hidden state over its largest entry, from the entry on.
        tolerance: what is accepted.
    """

    errors: tuple[float, ...]
    tolerance: float

    @property
    def largest(self) -> float:
        """The largest of the errors."""
        return max(self.errors)


def check_reader(checkpoint: Checkpoint, module: TorchModule, *, tokens: int = 12) -> ReaderCheck:
    """Compare a reader with a model class.

    Args:
        checkpoint: what was read of it.
        module: a module of transformers without a head, with eager attention; it is turned to
            float64 and back.
        tokens: of the drawn input.

    Raises:
        ConfigError: a hidden state differs by more than is accepted.
        MissingExtraError: torch is not installed.
    """
    require_package("torch", "huggingface")
    import torch

    rng, dtype = np.random.default_rng(0), next(module.parameters()).dtype
    module = module.double().eval()
    try:
        with torch.no_grad():
            if checkpoint.patches:
                config: Any = module.config
                side, channels = config.image_size, config.num_channels
                pixels = rng.standard_normal((channels, side, side))
                given = patches_of(pixels, config.patch_size)
                out = module(pixel_values=torch.tensor(pixels)[None], output_hidden_states=True)
            else:
                words = checkpoint.vocabulary or 2
                tokens = min(tokens, checkpoint.context or tokens)
                given = rng.integers(min(5, words - 1), words, tokens)
                out = module(input_ids=torch.tensor(given)[None], output_hidden_states=True)
    finally:
        module.to(dtype)
    theirs = [one[0].numpy() for one in out.hidden_states]
    ours = stream_of(checkpoint, given)
    errors = [_apart(mine, yours) for mine, yours in zip(ours[:-1], theirs[:-1], strict=True)]
    last = [_apart(ours[-1], theirs[-1])]
    if checkpoint.norm_final is not None:
        last.append(_apart(checkpoint.final(ours[-1]), theirs[-1]))
    errors.append(min(last))
    record = record_of(checkpoint.family)
    exact = record is not None and record.float64
    tolerance = EXACT_TOLERANCE if exact else SINGLE_TOLERANCE
    for place, error in enumerate(errors):
        if not error <= tolerance:
            told = f"the reader of {checkpoint.family} does not reproduce this checkpoint:"
            problem = f"{told} the hidden state after layer {place} differs by {error:.2g}"
            raise ConfigError(checkpoint.source, problem, "use hooks, and report the family")
    return ReaderCheck(tuple(errors), tolerance)


def patches_of(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Patches of an image row by row, each its channels one after the other.

    Args:
        pixels: [channels, height, width].
        patch: pixels along a side.

    Returns:
        [patches, channels patch^2], what `Checkpoint.embed` takes.
    """
    channels, height, width = pixels.shape
    cut = pixels.reshape(channels, height // patch, patch, width // patch, patch)
    return cut.transpose(1, 3, 0, 2, 4).reshape(-1, channels * patch * patch)


def _apart(mine: np.ndarray, yours: np.ndarray) -> float:
    return float(np.max(np.abs(mine - yours)) / max(np.max(np.abs(yours)), 1e-300))
