"""One question: what do the limits say about this architecture at initialisation?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from translimit.core import (
    Bounds,
    JsonObject,
    named_key,
    part_of,
    require_count,
    require_real,
)
from translimit.describe import PreNormArchitecture, read_architecture
from translimit.predict import remarks
from translimit.predict.curves import overlap_curve
from translimit.predict.prediction import Prediction
from translimit.predict.variants import variants

#: Tokens that enter where neither the caller nor the architecture (an image) says.
TOKENS = 48


def predict(
    config: str | Path | JsonObject | PreNormArchitecture,
    *,
    tokens: int | None = None,
    threshold: float = 0.5,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """What the limits say about an architecture.

    Args:
        config: a file or its content, in our own format or as Hugging Face's `config.json`; or a
            description.
        tokens: how many enter; those of an image, else 48 (or the context where that is shorter).
        threshold: mean overlap of different tokens that counts as collapse, in (0, 1).
        seed: of the Monte Carlo.
        progress: called with the fraction done.

    Raises:
        ConfigError: a configuration that is not understood; the message says what is missing, or
            lists what is understood.
        NoSuchLimitError: a family that normalises after the sum (post-LN), like BERT.
        ArgumentError: a threshold outside (0, 1), tokens below 2 or beyond the context.
        ArgumentTypeError: a threshold that is no number, tokens that are no integer.
        MemoryLimitError: the pairs of so many tokens do not fit into memory.

    Examples:
        >>> small = {"kind": "pre-norm", "layers": 4, "dim": 64, "heads": 4, "init_std": 0.1}
        >>> prediction = predict(small, tokens=8)
        >>> print(prediction.headline)
        covers: causal attention, layer norm; ignores: nothing that acts at initialisation
    """
    threshold = require_real(threshold, "threshold", Bounds(0.0, 1.0, "()"))
    given = isinstance(config, PreNormArchitecture)
    architecture = config if given else read_architecture(config)
    if tokens is None:
        bound = architecture.context or TOKENS
        tokens = architecture.image_tokens or min(TOKENS, bound)
    require_count(tokens, "tokens", 2)
    key = named_key(seed, "predict")
    # The parts by their cost: two curves, then the variants.
    own, other = (
        overlap_curve(
            architecture,
            tokens,
            threshold,
            causal=causal,
            key=key,
            progress=part_of(progress, start, start + 0.45),
        )
        for causal, start in ((architecture.causal, 0.0), (not architecture.causal, 0.45))
    )
    where = remarks.step_sizes(architecture, own)
    return Prediction(
        architecture=architecture,
        tokens=tokens,
        covered=remarks.covered_blocks(architecture),
        ignored=architecture.ignored,
        mapping=remarks.mapping(architecture),
        curves=(own, other),
        regime=where,
        variants=variants(
            architecture,
            tokens,
            threshold,
            named_key(key, "variants"),
            progress=part_of(progress, 0.9, 1.0),
        ),
        inapplicable=remarks.inapplicable(architecture, where),
        assumptions=remarks.assumptions(architecture),
        warnings=remarks.warnings(architecture, tokens, own),
    )
