"""What the rules are asked: base, target, optimiser, exponents, style, and facts of the module."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    Json,
    Record,
    brief,
    config,
    nearest,
    require_real,
)
from translimit.describe import (
    OPTIMIZERS,
    WITHOUT_RULE,
    Axis,
    OptimizerKind,
    OptimizerName,
    Role,
    Size,
    Update,
    optimizer_kind,
)
from translimit.scaling.errors import ShapeMismatchError, UnsupportedModuleError
from translimit.scaling.latents import require_latents

Style = Literal["canonical", "folded", "single_lr", "unit_init"]
Decay = Literal["constant", "timescale", "independent", "inverse_width", "sqrt_width"]
MuonAdjust = Literal["none", "original", "match_rms_adamw", "unit_rms_norm"]
MuonHeads = Literal["stacked", "separate"]

STYLES: tuple[str, ...] = get_args(Style)
DECAYS: tuple[str, ...] = get_args(Decay)

_CHOICES: dict[str, tuple[str, ...]] = {
    "style": STYLES,
    "decay": DECAYS,
    "muon_adjust": get_args(MuonAdjust),
    "muon_heads": get_args(MuonHeads),
}

#: Sizes that are left out of plain data where nobody told them, so that digests stay.
_LATER = ("dim", "kv_rank", "query_rank", "rope_dim", "value_dim")

#: The smallest base of SGD whose optimum was seen to stay in place.
LEAST_SGD_WIDTH = 32
#: The smallest head dimension at which exponents are seen.
LEAST_HEAD_DIM = 4


@dataclass(frozen=True, kw_only=True)
class Question(Record):
    """The arguments of `rules`, which documents them, validated; equal questions hash alike."""

    base: Size
    target: Size
    optimizer: OptimizerName | OptimizerKind
    alpha_A: float | int = 1.0
    alpha_L: float | int = 1.0
    style: Style = "canonical"
    tied: bool = False
    base_score_scale: float | int | None = None
    final_norm_gain: bool = True
    qk_norm: bool = False
    packed_qkv: bool = False
    fold_scores: bool = False
    decay: Decay = "constant"
    clipping: bool = False
    muon_adjust: MuonAdjust = "original"
    muon_heads: MuonHeads = "stacked"
    change_mlp_ratio: bool = False
    branch_gain: bool = False
    scaled_embedding: bool = False
    normalised_gates: bool = True
    unsafe: bool = False

    def __post_init__(self) -> None:
        for name in ("base", "target"):
            if not isinstance(getattr(self, name), Size):
                raise ArgumentTypeError(name, f"got {brief(getattr(self, name))}", "pass a Size")
        optimizer_kind(self.optimizer)
        for name, known in _CHOICES.items():
            _require_choice(getattr(self, name), name, known)
        for name in ("alpha_A", "alpha_L"):
            object.__setattr__(self, name, self._exponent(name))
        if self.base_score_scale is not None:
            value = require_real(self.base_score_scale, "base_score_scale", POSITIVE)
            object.__setattr__(self, "base_score_scale", value)
        if self.decay == "sqrt_width" and self.kind != OPTIMIZERS["adamw"]:
            raise ArgumentError(
                "decay",
                f"got 'sqrt_width' with {self.kind.name!r}",
                "pass it with 'adamw', for which alone it is proposed",
            )
        if self.base.mlp_ratio != self.target.mlp_ratio and not self.change_mlp_ratio:
            raise ShapeMismatchError(
                "mlp_ratio",
                f"is {self.base.mlp_ratio:g} in the base and {self.target.mlp_ratio:g} in the "
                "target",
                "keep it, or pass change_mlp_ratio=True for the rules of another one",
            )
        self._require_places()
        self._require_experts()
        require_latents(self)

    def _exponent(self, name: str) -> float:
        value = require_real(getattr(self, name), name)
        if not (0.5 <= value <= 1 or self.unsafe):
            raise ArgumentError(
                name, f"got {value}", "pass a number in [1/2, 1] (unsafe=True allows any finite)"
            )
        return value

    def _require_places(self) -> None:
        """Refuse a module that has no place for a factor of the style."""
        if self.style == "folded" and self.tied and not self.final_norm_gain:
            raise UnsupportedModuleError(
                "tied",
                "with tied embeddings and no gain in the final norm, the folded style has no place "
                "for the multiplier of the readout",
                "train a final gain, or use style='canonical' with an explicit multiplier",
            )
        if self.scaled_embedding and self.style not in ("canonical", "folded"):
            raise UnsupportedModuleError(
                "scaled_embedding",
                f"style {self.style!r} gives every tensor a multiplier of its own",
                "use style='folded' or 'canonical'",
            )
        if self.fold_scores and self.style != "folded":
            raise UnsupportedModuleError(
                "fold_scores",
                f"style {self.style!r} has the score scale as a multiplier",
                "use style='folded', or set the scale of the module",
            )
        if self.fold_scores and self.qk_norm:
            raise UnsupportedModuleError(
                "fold_scores",
                "a norm of queries and keys undoes what is folded into W_Q",
                "set the scale of the module",
            )

    def _require_experts(self) -> None:
        """Refuse mixtures for which there is no flat choice."""
        base, target = self.base, self.target
        if (base.experts is None) != (target.experts is None):
            raise ShapeMismatchError(
                "experts",
                f"are {base.experts} in the base and {target.experts} in the target",
                "mix experts in both, or in neither",
            )
        if base.experts is None:
            return
        changed = (base.experts, base.active_experts) != (target.experts, target.active_experts)
        if not self.normalised_gates and changed:
            raise UnsupportedModuleError(
                "normalised_gates",
                "gates that do not sum to a constant shrink as experts are added: no rule keeps "
                "what the branch adds",
                "divide the gates of the active experts by their sum, or keep the experts",
            )
        if self.normalised_gates and 1 in (base.active_experts, target.active_experts):
            raise UnsupportedModuleError(
                "active_experts",
                "one expert with a renormalised gate has the gate 1, and its router no gradient",
                "send every token to two experts at least, or pass normalised_gates=False and "
                "keep the experts",
            )
        if (
            self.kind.update is Update.GRADIENT
            and base.experts != target.experts
            and not self.unsafe
        ):
            raise UnsupportedModuleError(
                "experts",
                f"go from {base.experts} to {target.experts} under {self.kind.name!r}, where the "
                "counted rate overshoots: it was measured to grow like E^0.4",
                "keep the experts, use Adam or Muon, or pass unsafe=True for the count",
            )

    @property
    def kind(self) -> OptimizerKind:
        """The record of the optimiser."""
        return optimizer_kind(self.optimizer)

    def to_json(self) -> dict[str, Json]:
        """The arguments as plain data; of the optimiser its name."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        sizes: dict[str, dict[str, Json]] = {}
        for name in ("base", "target"):
            size = config.to_json(told[name])
            sizes[name] = {k: v for k, v in size.items() if k not in _LATER or v is not None}
        return {**told, **sizes, "optimizer": self.kind.name}

    @property
    def without_rule(self) -> frozenset[Role]:
        """Roles that have no rule, or none at sizes without their latent."""
        size, queries = self.target, {Role.QUERY_DOWN, Role.QUERY_LATENT_GAIN, Role.QUERY_UP}
        if size.kv_rank is None:
            return WITHOUT_RULE
        given = {role for role in Role if role.is_of_latent}
        return WITHOUT_RULE - (given if size.query_rank is not None else given - queries)

    # The ratios target / base.

    def ratio(self, axis: Axis) -> float:
        """Entries of an axis."""
        return axis.length(self.target) / axis.length(self.base)

    @property
    def m_N(self) -> float:
        """Of the head dimension."""
        return self.target.head_dim / self.base.head_dim

    @property
    def m_d(self) -> float:
        """Of the width."""
        return self.target.width / self.base.width

    @property
    def m_L(self) -> float:
        """Of the depth."""
        return self.target.layers / self.base.layers

    @property
    def m_E(self) -> float:
        """Of the experts; 1 where there are none."""
        return (self.target.experts or 1) / (self.base.experts or 1)

    @property
    def c_0(self) -> float:
        """The score scale of the base, absolute: N_0^{-1/2} unless it is given."""
        given = self.base_score_scale
        return self.base.head_dim**-0.5 if given is None else given

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences: where the rules leave what was measured, or what they assume."""
        base, target, said = self.base, self.target, []
        for name in ("head_dim", "heads", "layers"):
            small, large = getattr(base, name), getattr(target, name)
            if large < small:
                said.append(
                    f"{name} shrinks from {small} to {large}: rules are for growing sizes, and "
                    "what was tuned at the larger one may be limited by its own finite size"
                )
        if min(base.head_dim, target.head_dim) < LEAST_HEAD_DIM:
            said.append(f"a head dimension below {LEAST_HEAD_DIM} has large finite-size effects")
        if self.kind.update is Update.GRADIENT and base.width < LEAST_SGD_WIDTH:
            said.append(
                f"the optimum of SGD drifts from bases narrower than {LEAST_SGD_WIDTH} (this one "
                f"is {base.width} wide)"
            )
        if base.heads * target.groups != target.heads * base.groups:
            said.append(
                "query heads per key/value head change: the rules for keys and values are derived, "
                "not measured"
            )
        if base.attention_ratio != target.attention_ratio:
            said.append(
                f"heads together are {base.attention_ratio:g} times as wide as the stream in the "
                f"base and {target.attention_ratio:g} times in the target: the rules for values "
                "and what reads them follow the count of hidden units"
            )
        if base.mlp_ratio != target.mlp_ratio:
            m_r = target.mlp_ratio / base.mlp_ratio
            wide = "" if 0.5 <= m_r <= 2 else f", and {m_r:g} is a large change"
            said.append(
                "the MLP ratio changes: what the hidden units receive stays, and what the branch "
                f"adds through its input map grows{wide}"
            )
        if base.active_experts != target.active_experts:
            said.append(
                f"active experts go from {base.active_experts} to {target.active_experts}: what "
                "the branch adds at the start falls like their number^(-1/2)"
            )
        if base.experts is not None and self.kind.update is Update.ORTHOGONAL:
            said.append("the rows of experts under Muon are derived, not measured")
        if base.kv_rank is not None:
            said.append(
                "rows of latents were measured along the rank, in one branch; the rotary rows of "
                "keys in the tensor of the map down skip the norm and take its row (derived)"
            )
        if self.clipping and self.style != "canonical":
            said.append(
                "clipping of the global gradient norm acts differently in every style: tune the "
                "clip in this one"
            )
        return tuple(said)


def _require_choice(value: object, name: str, known: tuple[str, ...]) -> None:
    if name == "decay" and value == "coupled":
        raise ArgumentError(
            "decay",
            "coupled L2 inside Adam is not covered: lambda w would have to scale like the gradient",
            "use adamw, whose decay is decoupled",
        )
    if value not in known:
        raise ArgumentError(name, f"unknown {name} {value!r}", nearest(str(value), known))
