"""The four styles: one move a role, from the rule of a plain module.

| style | move theta of a role | multipliers left |
|---|---|---|
| canonical | readout: 1 / m_d | branches b, scores c, readout 1 / m_d |
| folded | end of a branch, its last map or the gain behind that: 1 / b | scores c |
| single_lr | what makes the rate `global_lr` | everywhere |
| unit_init | what makes the start that of the base | everywhere |

Tied embeddings in folded style keep the readout's theta = 1 / m_d, which makes it equal to the
embedding, and put the factor 1 / m_d into gain and bias of the final norm (theta = m_d). A module
that multiplies its embedding by d^{1/2} has a multiplier which the rules do not: theta = m_d^{1/2}
of the embedding, and m_d^{-1/2} less to put at the end where it is tied. Where a
module's score scale is fixed at N^{-1/2}, the factor kappa = c N^{1/2} goes into W_Q and its bias
(theta = 1 / kappa).
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from translimit.describe import Role, RoleRule, Update, WeightDecay
from translimit.scaling.counts import plain_rule, update_of
from translimit.scaling.moves import moved
from translimit.scaling.question import Question


def styled_rule(question: Question, role: Role) -> RoleRule:
    """The rule of a role in the style of the question."""
    plain, update = plain_rule(question, role), update_of(question, role)
    rule = moved(plain, _theta(question, role, plain), update)
    own = question.scaled_embedding and role is Role.TOKEN_EMBEDDING
    if question.style == "folded" or own:  # it cancels a multiplier that stands elsewhere
        rule = replace(rule, mult=1.0)
    if question.style == "single_lr":  # one rate to the last bit
        rule = replace(rule, lr=global_lr(question))
    return replace(rule, wd=_decay(question, role, rule.lr))


def _theta(question: Question, role: Role, plain: RoleRule) -> float:
    """The move from a plain module to the style."""
    m_d = question.m_d
    own = m_d**0.5 if question.scaled_embedding else 1.0
    if role is Role.TOKEN_EMBEDDING and question.scaled_embedding:
        return own
    end = own / m_d if question.tied else 1 / m_d
    match question.style:
        case "unit_init":
            return plain.init
        case "single_lr":
            return (plain.lr / global_lr(question)) ** (1 / update_of(question, role).power)
        case "canonical":
            return end if role is Role.READOUT else 1.0
        case "folded" if role is Role.BRANCH_GAIN and question.branch_gain:
            return question.m_L**question.alpha_L
        case "folded" if role.ends_branch and not question.branch_gain:
            return question.m_L**question.alpha_L
        case "folded" if question.tied and role is Role.READOUT:
            return end
        case "folded" if question.tied and role in (Role.FINAL_NORM_GAIN, Role.FINAL_NORM_BIAS):
            return 1 / end
        case "folded" if question.fold_scores and role in (Role.QUERY, Role.QUERY_BIAS):
            return 1 / (score_scale(question) * question.target.head_dim**0.5)
        case "folded":
            return 1.0
        case _:
            assert_never(question.style)


def score_scale(question: Question) -> float:
    """c_0 m_N^{-alpha_A}, absolute."""
    return question.c_0 * question.m_N**-question.alpha_A


def global_lr(question: Question) -> float:
    """The rate of every role in style `single_lr`, over that of the base.

    SGD m_d m_L^{2 alpha_L - 1}; Adam and sign m_d^{-1/2} m_L^{alpha_L - 1}; Muon and the Adam
    beside it m_L^{alpha_L - 1} (our choice: the paper has no Muon).
    """
    m_d, m_L, alpha_L = question.m_d, question.m_L, question.alpha_L
    match question.kind.update:
        case Update.GRADIENT:
            return m_d * m_L ** (2 * alpha_L - 1)
        case Update.ORTHOGONAL:
            return m_L ** (alpha_L - 1)
        case Update.ADAM | Update.SIGN:
            return m_d**-0.5 * m_L ** (alpha_L - 1)
        case _:
            assert_never(question.kind.update)


def _decay(question: Question, role: Role, lr: float) -> float | None:
    """lambda: eta lambda is what the base has, unless another rule is named."""
    if question.kind.weight_decay is WeightDecay.NONE:
        return None
    match question.decay:
        case "independent":
            return 1.0
        case "sqrt_width" if role.is_hidden_matrix:
            return question.ratio(role.fan_in) ** -0.5 / lr
        case "inverse_width" if role.is_hidden_matrix:
            return 1 / (question.m_d * lr)
        case "constant" | "timescale" | "sqrt_width" | "inverse_width":
            return 1 / lr
        case _:
            assert_never(question.decay)
