r"""Layers with weights.

A layer is a layer of `describe` (its sub-blocks say where norms stand, how scores are scaled and
which keys are seen) with its parameters. Matrices map from their first axis to their second, x W.

| parameter | name here | shape |
|---|---|---|
| W_Q, W_K, W_V, W_O | `W_Q`, ...; `b_Q` | [D, H d], [D, H_kv d], [D, H_kv d_v], [H d_v, D] |
| W_1, W_gate, W_2 and biases | `W_1`, `W_up`, `W_2`, `b_1`, ... | [D, d_m], [D, d_m], [d_m, D] |
| gain, bias of a norm | `attention_in.gain`, `mlp_post.bias`, ... | [D] |
| gains of queries and keys | `q.gain`, `k.gain` | [d], or [H d] over all heads |

Of a gated MLP `W_1` is the matrix whose units pass the activation. Rotary positions turn entries p
and p + d / 2 of a head: files that pair neighbours are put into this order when they are read.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from translimit.core import AnyArray, ArgumentError, NoSuchLimitError
from translimit.describe import Attention, FeedForward
from translimit.describe import Layer as Blocks

#: Parameters by name; see the module's docstring.
Parameters = Mapping[str, AnyArray]
#: Matrices of a layer, in the order in which tokens meet them.
MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_1", "W_up", "W_2")
#: The bias of each of them.
BIASES = {name: f"b{name[1:]}" for name in MATRICES}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with its weights.

    Attributes:
        blocks: attention and, after it or beside it, an MLP.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name; see the module's docstring.

    Raises:
        NoSuchLimitError: latent attention, experts, or sub-blocks in another order.
        ArgumentError: a matrix that is missing or has another shape, or is not finite.
    """

    blocks: Blocks
    causal: bool
    parameters: Parameters = field(repr=False)

    def __post_init__(self) -> None:
        require_plain(self.blocks)
        for name, shape in shapes(self.blocks, self.dim).items():
            found = self.parameters.get(name)
            if found is None or tuple(found.shape) != shape:
                told = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise ArgumentError(name, told, f"pass an array of shape {shape}")
        for name, value in self.parameters.items():
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                bad = int(np.size(value) - np.count_nonzero(np.isfinite(value)))
                raise ArgumentError(name, f"has {bad} entries that are not finite", "pass others")

    @property
    def dim(self) -> int:
        """D, width of the stream."""
        return int(self.parameters["W_Q"].shape[0])

    @property
    def attention(self) -> Attention:
        """The attention of its first sub-block."""
        return attention_of(self.blocks)

    @property
    def units(self) -> FeedForward | None:
        """The MLP, or None."""
        return units_of(self.blocks)

    def with_parameters(self, **changed: AnyArray) -> Layer:
        """The layer with some parameters replaced.

        Args:
            changed: by name.
        """
        return replace(self, parameters={**self.parameters, **changed})


def require_plain(blocks: Blocks) -> None:
    """Refuse what is not attention followed by, or beside, an MLP.

    Args:
        blocks: of a layer.

    Raises:
        NoSuchLimitError: another order, latent attention, experts.
    """
    kinds = [[type(one) for one in block.branches] for block in blocks]
    if kinds not in ([[Attention], [FeedForward]], [[Attention, FeedForward]], [[Attention]]):
        told = " then ".join(" beside ".join(kind.__name__ for kind in row) for row in kinds)
        raise NoSuchLimitError(
            "blocks", f"are {told}", "only attention and an MLP are read; use hooks for observables"
        )
    scores = attention_of(blocks).scores
    if scores.slopes or scores.bias_std or scores.sink:
        raise NoSuchLimitError(
            "scores",
            "have biases by distance or a sink of their own",
            "use hooks, which give the observables",
        )


def attention_of(blocks: Blocks) -> Attention:
    """The attention of a layer.

    Args:
        blocks: its sub-blocks.
    """
    every = (one for block in blocks for one in block.branches)
    return next(one for one in every if isinstance(one, Attention))


def units_of(blocks: Blocks) -> FeedForward | None:
    """The MLP of a layer, or None.

    Args:
        blocks: its sub-blocks.
    """
    every = (one for block in blocks for one in block.branches)
    return next((one for one in every if isinstance(one, FeedForward)), None)


def shapes(blocks: Blocks, dim: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the matrices of a layer, by name.

    Args:
        blocks: its sub-blocks.
        dim: D.
    """
    of, units = attention_of(blocks), units_of(blocks)
    told: dict[str, tuple[int, ...]] = {
        "W_Q": (dim, of.heads * of.head_dim),
        "W_K": (dim, of.key_heads * of.head_dim),
        "W_V": (dim, of.key_heads * of.values),
        "W_O": (of.heads * of.values, dim),
    }
    if units is not None:
        told |= {"W_1": (dim, units.width), "W_2": (units.width, dim)}
        told |= {"W_up": (dim, units.width)} if units.gated else {}
    return told
