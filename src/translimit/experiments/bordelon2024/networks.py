r"""What the experiments on trained encoders share: from a configuration to networks and data.

The networks are the reference model of the documentation ("Scaling rules"): pre-norm encoders of
image patches with a GELU MLP. Demo and standard presets train on the shipped digits, the paper's
own sizes on CIFAR-5M, a file that the configuration names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from translimit import data, describe, scaling, train
from translimit.core import ConfigError
from translimit.experiments.checked import CheckedConfig, Count, Positive, Within

if TYPE_CHECKING:
    from translimit.data import Examples, TokenStream
    from translimit.describe import Parameterization, Size, TransformerShape
    from translimit.train import Optimizer


AxisName = Literal["head_dim", "heads", "layers"]
OptimizerName = Literal["sgd", "momentum", "adamw", "muon"]
#: How figures call the axes.
AXIS_LABELS = {"head_dim": "head dimension $N$", "heads": "heads $H$", "layers": "layers $L$"}
#: How figures call the optimisers.
OPTIMIZER_LABELS = {"sgd": "SGD", "momentum": "SGD with momentum", "adamw": "AdamW", "muon": "Muon"}


@dataclass(frozen=True)
class Networks(CheckedConfig):
    """What the networks of one experiment have in common.

    Attributes:
        base: (N, H, L), the sizes at which rates are tuned.
        mlp_ratio: hidden width over d.
        start: "standard", where the rules carry the ordinary transformer of the base to other
            sizes, or "paper", the paper's own parameterization.
        beta0: weight of the branches in the paper's parameterization.
        gamma0: richness in the paper's parameterization.
        images: "digits", "synthetic", or the path of an `.npz` with CIFAR-10 or CIFAR-5M.
        batch: examples of an update.
        seeds: independent starts.
    """

    base: tuple[Count, Count, Count] = (8, 4, 2)
    mlp_ratio: Annotated[float, Within(0, 1000, above=True)] = 2.0
    start: Literal["standard", "paper"] = "standard"
    beta0: Positive = 4.0
    gamma0: Positive = 0.1
    images: str = "digits"
    batch: Count = 32
    seeds: Count = 3


class PaperSizes(TypedDict):
    """Fields of `Networks` at the paper's sizes."""

    base: tuple[int, int, int]
    mlp_ratio: float
    start: Literal["standard", "paper"]
    beta0: float
    gamma0: float
    images: str
    batch: int


#: Token ids of a file are stored in 16 bits.
LARGEST_VOCABULARY = 2**16
#: The sizes of the paper's vision transformers; what no source at hand quotes (patches of 4 x 4
#: pixels, batches, steps) is ours.
PAPER: PaperSizes = {
    "base": (16, 16, 4),
    "mlp_ratio": 1.0,
    "start": "paper",
    "beta0": 4.0,
    "gamma0": 0.1,
    "images": "",
    "batch": 256,
}


def images(name: str, patch: tuple[int, int] | None = None) -> Examples:
    """Labelled images as patches.

    Args:
        name: "digits", "synthetic" (drawn, of the size of CIFAR's), or the path of an `.npz`.
        patch: height and width of a patch; (2, 4) for digits and (4, 4) otherwise by default.

    Raises:
        ConfigError: no file is named.
        StoreError: the file cannot be read, or has another format.
    """
    if name == "digits":
        return data.digit_patches(patch or (2, 4))
    if name == "synthetic":
        return data.synthetic_images(patch=patch or (4, 4))
    if not name:
        raise ConfigError(
            "images",
            "no file is named, and CIFAR-5M does not ship with translimit",
            "pass --set images=PATH, one uncompressed .npz (numpy.savez) with X "
            "[examples, 32, 32, 3] and Y [examples], or --set images=digits",
        )
    return data.open_images(name, patch or (4, 4))


def windows(text: str, tokens: int) -> TokenStream:
    """Windows of text: the shipped bytes, or token ids from a file.

    Args:
        text: "bytes", or the path of a binary file of uint16 ids.
        tokens: length of a window.

    Raises:
        ConfigError: no file is named.
        StoreError: the file cannot be read.
    """
    if text == "bytes":
        return data.byte_text(tokens)
    if not text:
        raise ConfigError(
            "text",
            "no file is named, and C4 does not ship with translimit",
            "pass --set text=PATH, one binary file of uint16 token ids one after the other "
            "(the nanoGPT convention), or --set text=bytes",
        )
    return data.open_tokens(text, tokens)


def require_vocabulary(text: str, vocabulary: int) -> None:
    """Refuse a vocabulary that lacks ids of the shipped text.

    Raises:
        ConfigError: bytes with fewer than 256 ids.
    """
    if text == "bytes" and vocabulary < 256:
        raise ConfigError("vocabulary", f"got {vocabulary}", "bytes need at least 256")


def patches(images: str) -> tuple[int, int]:
    """Patches of an image and numbers of a patch, told without reading images.

    Args:
        images: which, as configurations name them.
    """
    return (8, 8) if images == "digits" else (64, 48)


def base_shape(config: Networks) -> TransformerShape:
    """The shape of the base."""
    tokens, pixels = images(config.images).probe(1)[0].shape[1:]
    head_dim, heads, layers = config.base
    return describe.TransformerShape(
        head_dim=head_dim,
        heads=heads,
        layers=layers,
        tokens=tokens,
        outputs=10,
        patch_dim=pixels,
        mlp_ratio=config.mlp_ratio,
    )


def shape_at(config: Networks, axis: AxisName, size: int) -> TransformerShape:
    """The shape of the base with one size replaced."""
    return train.resized_shape(base_shape(config), axis, size)


def ruled(
    config: Networks,
    shape: TransformerShape,
    optimizer: OptimizerName,
    alpha_A: float = 1.0,
    alpha_L: float = 1.0,
) -> Parameterization:
    """The numbers of a shape by the rules, or the paper's; the rate of the base multiplies them.

    Args:
        config: the base and where its numbers come from.
        shape: of the network.
        optimizer: whose rules.
        alpha_A: exponent of the scores.
        alpha_L: exponent of the branches.
    """
    pixels = shape.patch_dim or 1
    if config.start == "paper":
        if optimizer == "muon":
            raise ConfigError("start", "the paper has no Muon", 'pass start="standard"')
        return scaling.paper_parameterization(
            shape.size,
            optimizer=optimizer,
            alpha_A=alpha_A,
            alpha_L=alpha_L,
            beta0=config.beta0,
            gamma0=config.gamma0,
            pixels=pixels,
        )
    return carried(base_shape(config).size, shape, optimizer, alpha_A, alpha_L)


def carried(
    base: Size,
    shape: TransformerShape,
    optimizer: OptimizerName,
    alpha_A: float = 1.0,
    alpha_L: float = 1.0,
) -> Parameterization:
    """The standard parameterization of a base, carried to a shape by the rules."""
    made = scaling.rules(base, shape.size, optimizer=optimizer, alpha_A=alpha_A, alpha_L=alpha_L)
    start = describe.standard_parameterization(base, pixels=shape.patch_dim or 1)
    return made.applied(start)


def standard(shape: TransformerShape) -> Parameterization:
    """The ordinary transformer of a shape: one rate, no multipliers."""
    return describe.standard_parameterization(shape.size, pixels=shape.patch_dim or 1)


def optimizer(name: OptimizerName) -> Optimizer:
    """The optimiser at the base; epsilon so small that Adam's update has no scale."""
    return train.Optimizer(name, eps=1e-12)


def linear_floor(config: Networks) -> float:
    """Cross-entropy of the linear model of all pixels, on at most 10,000 of the examples."""
    return _linear_floor(config.images)


@lru_cache
def _linear_floor(path: str) -> float:
    source = images(path)
    inputs, labels = source.probe(min(len(source), 10_000))
    return data.linear_cross_entropy(inputs, labels)
