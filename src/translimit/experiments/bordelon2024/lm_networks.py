"""Causal language models of one size, at two exponents that see the same text in the same order.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

import translimit.experiments as ex
from translimit import data, train
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.bordelon2024.vit_and_lm import At
from translimit.experiments.checked import Count, Four, Positive, Within
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from translimit.data import TokenStream

#: Ids from which the floors are computed.
_SAMPLE = 10_000_000


@dataclass(frozen=True)
class Config(common.Study):
    """Sizes and training.

    Attributes: those of `vit_and_lm.Study` (the axes at the first exponent, Adam's base rate), and
        tokens: length of a window.
        text: binary file of uint16 ids; or "bytes", the shipped ones.
        vocabulary: number of ids.
    """

    compared = ("N", "H")

    gamma0: Positive = 0.25
    eta0: Positive = 0.02
    batch: Count = 16
    probe: Four = 16
    tokens: Annotated[int, Within(6)] = 16
    text: str = "bytes"
    vocabulary: Annotated[int, Within(2, networks.LARGEST_VOCABULARY)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        networks.require_vocabulary(self.text, self.vocabulary)

    def source(self) -> TokenStream:
        """The windows of text.

        Raises:
            ConfigError: no file is named.
            StoreError: the file cannot be read.
        """
        return networks.windows(self.text, self.tokens)


@dataclass(frozen=True)
class LanguageModels(common.Trained):
    """One size before and after training, and entropies of the text."""

    unigram: Annotated[float, "entropy of a token alone"]
    bigram: Annotated[float, "entropy of a token given the one before"]


def compute(config: Config, at: At, keys: ex.Keys) -> LanguageModels:
    """Train all seeds of one size at one exponent."""
    source = config.source()
    shape = common.bare_shape(
        at.size,
        tokens=config.tokens,
        outputs=config.vocabulary,
        vocabulary=config.vocabulary,
        causal=True,
        pooled=False,
    )
    numbers = common.numbers(
        at.size, "adam", at.alpha_A, config.alpha_L, config.beta0, config.gamma0
    )
    training = config.training(train.Optimizer("adam", eps=1e-12))
    # One key for all exponents: the same text in the same order.
    key = keys.shared(common.label(at.size))
    ids = np.asarray(source.ids[:_SAMPLE])
    return LanguageModels(
        **common.train_size(shape, numbers, source, training, key, config.probe),
        parameters=shape.parameter_count,
        tokens=config.batch * config.tokens,
        unigram=float(data.unigram_entropy(ids)),
        bigram=float(data.bigram_entropy(ids)),
    )


def _cost(config: Config, at: At) -> ex.Cost:
    """Compilation, and floating-point operations at 10 a nanosecond."""
    N, H, L = at.size
    weights = 6 * L * (N * H) ** 2 + N * H * config.vocabulary
    tokens = config.seeds * config.steps * config.batch * config.tokens
    memory = ensemble_bytes(
        at.size,
        members=config.seeds,
        batch=config.batch,
        tokens=config.tokens,
        outputs=config.vocabulary,
        vocabulary=config.vocabulary,
    )
    return ex.Cost(8 + 6 * weights * tokens / 1e10, memory)


NETWORKS = ex.Part(
    "alpha={alpha_A:g}/{size[0]}-{size[1]}-{size[2]}",
    LanguageModels,
    compute,
    grid=lambda c: c.points(),
    cost=_cost,
)


def along(found: ex.Found[Config], axis: str, alpha_A: float | None = None) -> list[LanguageModels]:
    """Networks of an axis, at the first exponent by default."""
    exponent = found.config.first if alpha_A is None else alpha_A
    return [found(NETWORKS, At(exponent, size)) for size in found.config.sizes.along(axis)]
