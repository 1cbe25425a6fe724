"""The rule engine: from a base and a target to what every role takes, in four styles.

Bordelon, Chaudhry and Pehlevan (2024), arXiv 2405.15712, Table 1 and section 2.1, extended by
epsilon, decay, gains, biases, Muon and grouped queries. `translimit.scaling.counts` has the
formulas of plain modules, `translimit.scaling.styles` the move to each style.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from translimit.core import ConfigError, Json, JsonObject, NoSuchLimitError, brief, config
from translimit.describe import (
    BESIDE_BLOCKS,
    OPTIMIZERS,
    OptimizerKind,
    OptimizerName,
    Parameterization,
    Role,
    RoleRule,
    Size,
    Update,
    unknown_role,
)
from translimit.scaling.counts import base_rule, update_of
from translimit.scaling.errors import (
    ConversionError,
    ShapeMismatchError,
    UnsupportedModuleError,
)
from translimit.scaling.question import (
    Decay,
    MuonAdjust,
    MuonHeads,
    Question,
    Style,
)
from translimit.scaling.styles import global_lr, score_scale, styled_rule

#: Of the JSON form; a change of any rule is a new version.
SCHEMA = 3
KIND = "translimit.scaling.rules"
_LATENT_SIZES = "pass kv_rank and query_rank to Size"
_UNSCALED = "name its parameters 'unscaled', which keeps the numbers of the base"


@dataclass(frozen=True)
class Rules:
    """What a target takes, relative to a base; made by `rules`.

    Two rules are equal, and have the same hash and `digest`, if they answer the same question.

    Attributes:
        question: base, target, optimiser, exponents, style and facts of the module.

    Raises:
        UnsupportedModuleError: query, key and value are one tensor and need different rules.
    """

    question: Question

    def __post_init__(self) -> None:
        if not self.question.packed_qkv:
            return
        query, key, value = (self.role(r).to_json() for r in (Role.QUERY, Role.KEY, Role.VALUE))
        if not (_same(query, key) and _same(query, value)):
            raise UnsupportedModuleError(
                "packed_qkv",
                "one tensor has one start, one rate and one epsilon, and query, key and value need "
                "different ones here (alpha_A < 1, folded scores, or grouped queries that change)",
                "split the projection, or set the scale of the module and alpha_A=1",
            )

    # The forward pass.

    @property
    def score_scale(self) -> float:
        """What multiplies k . q, absolute: c = c_0 m_N^{-alpha_A}.

        With `fold_scores` it is the N^{-1/2} of a plain module, and the rest is in W_Q.
        """
        one = self.question
        return one.target.head_dim**-0.5 if one.fold_scores else score_scale(one)

    @property
    def residual(self) -> float:
        """b, the factor of every branch over that of the base; 1 where it is folded."""
        one = self.question
        return 1.0 if one.style == "folded" else one.m_L**-one.alpha_L

    @property
    def readout(self) -> float:
        """The multiplier of the readout weight over that of the base: `mult` of its role."""
        return self.role(Role.READOUT).mult

    def update(self, role: Role) -> Update:
        """How the optimiser's step on a role depends on the gradient."""
        return update_of(self.question, role)

    def role(self, role: Role | str) -> RoleRule:
        """What the parameters of a role take.

        Raises:
            ArgumentError: no such role.
            NoSuchLimitError: no rule was verified, or the sizes have no such latent.
        """
        try:
            known = Role(role)
        except ValueError:
            raise unknown_role(role) from None
        if known is Role.UNSCALED:
            return base_rule(self.question)
        if known in BESIDE_BLOCKS:
            return styled_rule(self.question, known)
        if known in self.question.without_rule:
            name, of = known.value.replace("_", " "), known.is_of_latent
            said = (
                f"the sizes have no {name}" if of else f"no scaling rule of a {name} was verified"
            )
            raise NoSuchLimitError("role", said, _LATENT_SIZES if of else _UNSCALED)
        return self._roles[known]

    def table(self) -> dict[str, dict[str, float | None]]:
        """Role to `mult`, `init`, `lr`, `eps` and `wd`, ratios target / base."""
        return {role.value: rule.to_json() for role, rule in self._roles.items()}

    def groups(self) -> dict[RoleRule, tuple[Role, ...]]:
        """The roles that take the same, together."""
        found: dict[RoleRule, tuple[Role, ...]] = {}
        for role, rule in self._roles.items():
            found[rule] = (*found.get(rule, ()), role)
        return found

    @cached_property
    def _roles(self) -> Mapping[Role, RoleRule]:
        verified = [role for role in Role if role not in self.question.without_rule]
        made = {role: styled_rule(self.question, role) for role in verified}
        if self.question.tied:  # one tensor: the same to the last bit, a multiplier at each end
            embedding, mult = made[Role.TOKEN_EMBEDDING], made[Role.READOUT].mult
            made[Role.READOUT] = replace(embedding, mult=mult)
        return made

    @property
    def global_lr(self) -> float:
        """The rate of every role in style `single_lr`, over that of the base."""
        return global_lr(self.question)

    # Other styles, other places.

    @property
    def needs_multipliers(self) -> tuple[str, ...]:
        """The roles that need a forward multiplier, and `residual` where a branch needs one."""
        named = [role.value for role, rule in self._roles.items() if rule.mult != 1]
        return (*named, "residual") if self.residual != 1 else tuple(named)

    def applied(self, start: Parameterization) -> Parameterization:
        """The numbers of the target, from those of the base.

        Args:
            start: absolute numbers of the base.

        Raises:
            ShapeMismatchError: of another size, or with another score scale than the rules' base.
        """
        question = self.question
        if question.base != start.size:
            raise ShapeMismatchError(
                "start", f"is of {start.size}, not {question.base}", "pass that of the base"
            )
        if not math.isclose(question.c_0, start.score_scale, rel_tol=1e-12):
            raise ShapeMismatchError(
                "start",
                f"has the score scale {start.score_scale:g}, and the rules have {question.c_0:g}",
                f"pass base_score_scale={start.score_scale!r} to the rules",
            )
        return Parameterization(
            size=question.target,
            roles={
                role: rule if role in question.without_rule else rule.times(self.role(role))
                for role, rule in start.roles.items()
            },
            score_scale=self.score_scale,
            residual=start.residual * self.residual,
            skip=start.skip,
        )

    def to_style(self, style: Style) -> Rules:
        """The same training in another style, exactly.

        Raises:
            ConversionError: the gradient norm is clipped, which no move leaves unchanged.
            UnsupportedModuleError: the style has no place for a factor of this module.
        """
        made = Rules(replace(self.question, style=style))
        if self.question.clipping and style != self.question.style:
            raise ConversionError(
                "style",
                f"{self.question.style!r} to {style!r} with a clipped global gradient norm trains "
                "another network: the gradient of a parameter scales with its multiplier",
                "keep the style in which the clip was tuned, or train without clipping",
            )
        return made

    def require_plain_module(self) -> None:
        """Refuse rules that need multipliers which unmodified modules do not have.

        Raises:
            UnsupportedModuleError: with the roles.
        """
        if needed := self.needs_multipliers:
            raise UnsupportedModuleError(
                "style",
                f"{self.question.style!r} needs forward multipliers at {', '.join(needed)}",
                'use style="folded"',
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences: where the rules leave what was measured, or what they assume."""
        return self.question.warnings

    @cached_property
    def digest(self) -> str:
        """A stable hexadecimal digest of the question, the same on every machine."""
        return config.digest({"schema": SCHEMA, **self.question.to_json()})

    def to_json(self) -> dict[str, Json]:
        """The question and the answer as plain data; `from_json` reads it back."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "question": self.question.to_json(),
            "score_scale": self.score_scale,
            "residual": self.residual,
            "roles": self.table(),
            "warnings": list(self.warnings),
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, data: JsonObject, *, optimizers: Iterable[OptimizerKind] = ()) -> Rules:
        """Rules from what `to_json` gave.

        Args:
            data: plain data.
            optimizers: records of one's own, which the data call by name.

        Raises:
            ConfigError: of another kind or schema, malformed, of an optimiser without a record, or
                with a table that these rules do not give.
        """
        for key, wanted in (("kind", KIND), ("schema", SCHEMA)):
            if data.get(key) != wanted:
                raise ConfigError(
                    "rules",
                    f"{key} is {brief(data.get(key))}, not {wanted!r}",
                    "ask the question again with this version, or pass what its to_json gave",
                )
        question = data.get("question")
        if not isinstance(question, Mapping):
            raise ConfigError("rules", f"question is {brief(question)}", "pass what to_json gave")
        own, name = {one.name: one for one in optimizers}, question.get("optimizer")
        if isinstance(name, str) and name not in own and name not in OPTIMIZERS:
            raise ConfigError(
                "rules",
                f"optimizer is {brief(name)}, of which no record is here",
                "pass optimizers=(its record,)",
            )
        if isinstance(name, str) and name in own:
            question = {**question, "optimizer": own[name]}
        made = cls(config.from_json(Question, question, where="rules"))
        if not _same(data.get("roles"), made.table()):
            raise ConfigError(
                "rules",
                "the table is not the one that its question has as answer",
                "ask the question again: its table was edited, or written by another version",
            )
        return made


def rules(
    base: Size,
    target: Size,
    *,
    optimizer: OptimizerName | OptimizerKind,
    alpha_A: float | int = 1.0,
    alpha_L: float | int = 1.0,
    style: Style = "canonical",
    tied: bool = False,
    base_score_scale: float | int | None = None,
    final_norm_gain: bool = True,
    qk_norm: bool = False,
    packed_qkv: bool = False,
    fold_scores: bool = False,
    decay: Decay = "constant",
    clipping: bool = False,
    muon_adjust: MuonAdjust = "original",
    muon_heads: MuonHeads = "stacked",
    change_mlp_ratio: bool = False,
    branch_gain: bool = False,
    scaled_embedding: bool = False,
    normalised_gates: bool = True,
    unsafe: bool = False,
) -> Rules:
    """What a target must change for the values tuned at a base to carry over.

    Transfer is claimed at fixed batch size, sequence length, number of steps, schedule, momenta
    and data: none of them is scaled.

    Args:
        base: the tuned transformer.
        target: the one to train.
        optimizer: `sgd`, `momentum` (heavy ball or Nesterov), `adam` (no decay), `adamw`
            (decoupled decay), `sign` (signSGD, Lion) or `muon` (hidden matrices by Muon, all
            else by AdamW).
        alpha_A: of the scores, N^{-alpha_A}. At 1 there is a limit N to infinity; at 1/2 there is
            none beyond the first steps, and scores are the usual scaled dot product. With a norm
            of queries and keys, cosines times a fixed number are 1, those times N^{1/2} are 1/2.
        alpha_L: of the branches, L^{-alpha_L}. At 1 blocks are not lazy; at 1/2 each is
            asymptotically linear in its own weights.
        style: `canonical` (multipliers of branches, scores and readout explicit), `folded` (none
            but that of the scores: for plain modules), `single_lr` (one rate, the paper's form)
            or `unit_init` (the base's standard deviations everywhere).
        tied: one tensor is token embedding and readout.
        base_score_scale: c_0, absolute; N_0^{-1/2} by default, the ordinary transformer.
        final_norm_gain: whether the final norm has a trained gain, which tied embeddings in
            folded style need.
        qk_norm: whether queries and keys are normalised.
        packed_qkv: query, key and value are one tensor with one rate.
        fold_scores: the module's scale is fixed at N^{-1/2}: put the rest into W_Q (folded style).
        decay: `constant` keeps eta lambda; `timescale` the same, and with the number of steps
            the share of the run, 1 / (eta lambda T), that weights remember (`batch_rule`);
            `independent` is for w <- w - lambda w without the rate; `inverse_width` lets
            eta lambda of hidden matrices fall like 1 / d, as AdamW with an unscaled lambda does;
            `sqrt_width` lets lambda of hidden matrices grow like d^{1/2} under AdamW (Fan et al.,
            arXiv 2510.15262, for the steady state of long training).
        clipping: the global gradient norm is clipped, so that styles are not equivalent.
        muon_adjust: the shape factor that the implementation has: `none`, `original`
            max(1, n_out / n_in)^{1/2} (Megatron's `shape_scaling`), `match_rms_adamw`
            0.2 max(n_out, n_in)^{1/2} (dion's `rms_norm`, Megatron's `spectral`), or
            `unit_rms_norm` (n_out / n_in)^{1/2} (dion's `spectral_norm`), which alone is right
            whatever the aspect of a matrix.
        muon_heads: whether Q, K and V are orthogonalised `stacked`, or head by head, `separate`.
        change_mlp_ratio: let base and target have different MLP ratios.
        branch_gain: every branch ends in a trained gain, of a norm or LayerScale: the folded style
            puts b there, for in front of a norm it does nothing.
        scaled_embedding: the module multiplies its token embedding by d^{1/2}, like Gemma.
        normalised_gates: the gates of the active experts sum to a constant.
        unsafe: allow exponents outside [1/2, 1], and experts that change under SGD.

    Raises:
        ArgumentError: an exponent outside of its range, an unknown choice, or choices that
            contradict each other.
        ShapeMismatchError: different MLP ratios.
        UnsupportedModuleError: the module has no place for a factor (tied and folded without a
            final gain; one packed tensor with two rates; folded scores behind a norm); a mixture
            without a flat choice (gates that do not sum to a constant, one active expert with a
            renormalised gate, SGD with another number of experts).

    >>> small, large = Size(head_dim=16, heads=4, layers=2), Size(head_dim=32, heads=8, layers=8)
    >>> made = rules(small, large, optimizer="adamw", style="folded")
    >>> made.role("attention_out")
    RoleRule(mult=1.0, init=0.125, lr=0.0625, eps=0.25, wd=16.0)
    """
    question = Question(
        base=base,
        target=target,
        optimizer=optimizer,
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        style=style,
        tied=tied,
        base_score_scale=base_score_scale,
        final_norm_gain=final_norm_gain,
        qk_norm=qk_norm,
        packed_qkv=packed_qkv,
        fold_scores=fold_scores,
        decay=decay,
        clipping=clipping,
        muon_adjust=muon_adjust,
        muon_heads=muon_heads,
        change_mlp_ratio=change_mlp_ratio,
        branch_gain=branch_gain,
        scaled_embedding=scaled_embedding,
        normalised_gates=normalised_gates,
        unsafe=unsafe,
    )
    return Rules(question)


def _same(one: Json, other: Json) -> bool:
    """Whether two trees of plain data agree up to rounding."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other
