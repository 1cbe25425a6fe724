"""Layers with experts as most families tell them: which layers, how many experts, what beside them.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from translimit.describe.families.decoders import Parts, experts
from translimit.describe.families.keys import Keys
from translimit.describe.mixers import FeedForward, Routing


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """The experts of a family, as far as a configuration does not tell; called, it adds them.

    Attributes:
        count: of experts where not told.
        active: of chosen ones where not told.
        routing: how logits become weights.
        unnormalised: the same where `norm_topk_prob` is false; None where that is refused.
        normalised: whether `norm_topk_prob` is true where not told.
        width: the key of an expert's width and what it is where not told; None for that of a dense
            block.
        shared: the key of the number of shared experts, each of an expert's width, and its default.
        shared_width: the key of the width of one shared block, and its default.
        factor: the key of what weights are multiplied with, and its default.
        groups: of experts, and those of them that are open, where not told; None without groups.
        dense: layers before the first with experts where not told.
    """

    count: int
    active: int
    routing: Routing
    unnormalised: Routing | None = None
    normalised: bool = True
    width: tuple[str, int] | None = None
    shared: tuple[str, int] | None = None
    shared_width: tuple[str, int] | None = None
    factor: tuple[str, float] | None = None
    groups: tuple[int, int] | None = None
    dense: int = 0

    def __call__(self, k: Keys, parts: Parts) -> Parts:
        """The layers of a decoder with experts where they are told.

        Args:
            k: the configuration.
            parts: the decoder.

        Raises:
            ConfigError: an unusable value.
        """
        plain = parts.units[0]
        assert isinstance(plain, FeedForward)
        unit = plain if self.width is None else replace(plain, width=k.count(*self.width))
        mixed = experts(
            k, parts.std, unit, routing=self._routing(k), count=self.count, active=self.active
        )
        beside = 0
        if self.shared is not None:
            beside = int(k.number(*self.shared)) * unit.width
        if self.shared_width is not None:
            beside = int(k.number(*self.shared_width))
        if beside:
            mixed = replace(mixed, shared=replace(unit, width=beside))
        if self.factor is not None and k.number(*self.factor) > 0:
            mixed = replace(mixed, factor=k.number(*self.factor))
        if self.groups is not None:
            groups = k.count("n_group", self.groups[0])
            opened = k.count("topk_group", self.groups[1])
            if opened > groups:
                raise k.refuse("topk_group", f"write at most {groups}")
            mixed = replace(mixed, groups=groups, open_groups=opened)
        told = self._dense(k, parts.layers)
        parts.units = [plain if dense else mixed for dense in told]
        k.inert("num_nextn_predict_layers", "num_mtp_layers", "mtp_layer_types")
        k.inert("mtp_mlp_layer_types", "n_group", "topk_group", "enable_moe_fp32_combine")
        return parts

    def _routing(self, k: Keys) -> Routing:
        if self.unnormalised is None:
            k.require("norm_topk_prob", True)
            return self.routing
        return self.routing if k.flag("norm_topk_prob", self.normalised) else self.unnormalised

    def _dense(self, k: Keys, layers: int) -> list[bool]:
        """Which layers have no experts."""
        first = self.dense
        if k.given("first_k_dense_replace"):
            first = int(k.number("first_k_dense_replace"))
        kinds = k.words("mlp_layer_types")
        if kinds is None:
            return [index < first for index in range(layers)]
        if len(kinds) < layers or set(kinds) - {"sparse", "dense"}:
            raise k.refuse("mlp_layer_types", f"write sparse or dense for each of {layers} layers")
        return [kind == "dense" for kind in kinds[:layers]]


def both(
    first: Callable[[Keys, Parts], Parts], second: Callable[[Keys, Parts], Parts]
) -> Callable[[Keys, Parts], Parts]:
    """One change after the other.

    Args:
        first: change of a decoder.
        second: the next.
    """
    return lambda k, parts: second(k, first(k, parts))
