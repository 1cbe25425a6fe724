"""The block under the limit's own name, and which blocks have a limit."""

from __future__ import annotations

from translimit.core import ArgumentTypeError, NoSuchLimitError
from translimit.describe import CRITICAL_TOLERANCE
from translimit.describe import Block as Block
from translimit.describe import ShapedGains as ShapedGains
from translimit.describe import ShapedMLP as ShapedMLP


def require_limit(block: Block | ShapedMLP) -> None:
    """Let a block without a covariance SDE say so.

    Raises:
        ArgumentTypeError: neither a `Block` nor a `ShapedMLP`.
        NoSuchLimitError: centring that differs from attention, an identity gain off criticality,
            an unnormalised MLP whose slopes do not cancel.
    """
    if isinstance(block, ShapedMLP):
        _require_mlp(block)
        return
    if not isinstance(block, Block):
        raise ArgumentTypeError("block", f"got {type(block).__name__}", "pass a Block or ShapedMLP")
    gains = block.shaped_gains
    if gains.attention != gains.centring:
        raise NoSuchLimitError(
            "block",
            f"attention gain {gains.attention:g} with centring gain {gains.centring:g} changes the "
            "covariance by a factor in every layer: no limit in layers / dim",
            "take equal gains, or run the network itself (models.ShapedTransformer)",
        )
    off = block.lam**2 + (gains.identity * block.gamma) ** 2 - 1
    if abs(off) > CRITICAL_TOLERANCE and block.growth_rate == 0:
        raise NoSuchLimitError(
            "block",
            f"has lam^2 + identity^2 gamma^2 = {1 + off:g}: the covariance changes by that factor "
            "in every layer, no limit in layers / dim",
            "take lam = sqrt(1 - identity^2 gamma^2)",
        )
    if block.mlp is not None:
        _require_mlp(block.mlp)


def _require_mlp(mlp: ShapedMLP) -> None:
    if not mlp.normalised and mlp.c_plus + mlp.c_minus != 0:
        raise NoSuchLimitError(
            "mlp",
            f"has no limit: its drift is of order sqrt(dim), since c_plus + c_minus = "
            f"{mlp.c_plus + mlp.c_minus:g} without normalisation",
            "take normalised=True, or slopes that cancel",
        )
