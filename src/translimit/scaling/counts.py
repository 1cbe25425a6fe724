r"""The two counts behind every rule: how far an entry may move, and how large its gradient is.

| symbol | name here |
|---|---|
| N, H, L, G, d | `Size`; m_N, m_H, m_L, m_d are ratios target / base |
| alpha_A, alpha_L | `alpha_A`, `alpha_L` in [1/2, 1] |
| b = m_L^{-alpha_L} | `Rules.residual`, the factor of every branch over that of the base |
| c = c_0 m_N^{-alpha_A} | `Rules.score_scale`, absolute; c_0 = N_0^{-1/2} by default |

Take a role whose weight maps n_in to n_out entries (ratios target / base; an axis that is never
scaled counts as 1). With q = m_N^{alpha_A - 1} for what makes keys or queries and 1 else, and with
the depth factors 1 outside of blocks,

    D = q m_L^{alpha_L - 1} / n_in         movement of an entry that moves scores and stream by O(1)
    g = share m_L^{-alpha_L} / (q n_out)   size of an entry of the gradient

    SGD: rate D / g;  Adam: rate D, epsilon g;  sign: rate D;  Muon: rate D (n_in n_out)^{1/2}

The share is 1, but for what a router feeds: the share k / E of the tokens reaches an expert, each
with a gate of 1 / k, which makes 1 / m_E. What writes to hidden units counts (m_d m_M)^{1/2} for
n_out, M hidden units wide: its gradient returns through an output map that starts at M^{-1/2} at
random. At a fixed ratio of M to d that is n_out. Values are the hidden units of attention: where
heads together are not as wide as the stream, N H / d, and that ratio changes, what returns to them
through a random output map is (m_N m_H / m_d)^{1/2} larger. The scores get what the output map has
learned, coherently, and need no factor. A map down to a latent reads its gradient through a random
map up: under SGD its rate takes (m_d m_r)^{1/2} for n_out as well, its epsilon was measured to take
m_r (`translimit.scaling.low_rank`).

A number that multiplies a whole vector sums its gradient over all entries: n_out is 1. Those of a
branch have the gradient m_L^{-alpha_L}. Those of the stream itself have no factor of a branch in
their gradient, which is 1, and L of them act on one stream: D = 1 / m_L. A factor of an earlier
stream starts at 1 / m_L times that of the base too, for L of them add up.

D is 1 / n_in because an update is coherent with the activations that made it, and so sums over
them; weights at random sum incoherently, and start at n_in^{-1/2}. The readout starts at 1 / n_in,
to vanish beside what it learns. These are the rules of modules without multipliers, but for that
of the branch.

Reference: arXiv 2405.15712, Table 1, whose hidden, embedding and readout rows these are.
"""

from __future__ import annotations

from typing import assert_never

from translimit.describe import Axis, Role, RoleRule, Size, Update, WeightDecay
from translimit.scaling.question import MuonAdjust, Question


def update_of(question: Question, role: Role) -> Update:
    """How the optimiser's step on a role depends on the gradient; beside Muon runs AdamW."""
    return question.kind.of(role).update


def base_rule(question: Question) -> RoleRule:
    """What keeps all numbers of the base."""
    adam = update_of(question, Role.UNSCALED) is Update.ADAM
    decays = question.kind.weight_decay is not WeightDecay.NONE
    return RoleRule(1.0, 1.0, 1.0, 1.0 if adam else None, 1.0 if decays else None)


def plain_rule(question: Question, role: Role) -> RoleRule:
    """The rule of a plain module, decay aside; the formulas are those of the module."""
    n_in, n_out = question.ratio(role.fan_in), question.ratio(role.fan_out)
    q = question.m_N ** (question.alpha_A - 1) if role.moves_scores else 1.0
    m_L = question.m_L if role.in_block else 1.0
    movement = q * m_L ** (question.alpha_L - 1) / n_in
    share = 1 / question.m_E if role.is_routed else 1.0
    back = n_out
    if role.fan_out is Axis.HIDDEN:
        back = (question.m_d * n_out) ** 0.5
    elif role in (Role.VALUE, Role.VALUE_BIAS, Role.VALUE_EMBEDDING):
        back = n_out * (question.m_d / question.ratio(Axis.VALUES)) ** 0.5
    gradient = share * m_L**-question.alpha_L / (q * back)
    if role.is_on_stream:  # L of them multiply one stream, and no factor of a branch is between
        movement, gradient = 1 / m_L, 1.0
    update = update_of(question, role)
    match update:
        case Update.GRADIENT if role in (Role.QUERY_DOWN, Role.KEY_VALUE_DOWN):
            lr = movement / gradient * (question.m_d / n_out) ** 0.5
        case Update.GRADIENT:
            lr = movement / gradient
        case Update.ORTHOGONAL:
            lr = movement * _orthogonal(question, role)
        case Update.ADAM | Update.SIGN:
            lr = movement
        case _:
            assert_never(update)
    init = 1 / n_in if role is Role.READOUT else n_in**-0.5
    if role is Role.SKIP_FACTOR:  # L of them add to one stream at the start as well
        init = 1 / m_L
    return RoleRule(1.0, init, lr, gradient if update is Update.ADAM else None)


def _orthogonal(question: Question, role: Role) -> float:
    """(n_in n_out)^{1/2}, target over base, with the implementation's own factor divided out."""

    def factor(size: Size) -> float:
        n_in, n_out = role.fan_in.length(size), role.fan_out.length(size)
        if question.muon_heads == "separate" and role in (Role.QUERY, Role.KEY, Role.VALUE):
            n_out = float(size.head_dim)
        return (n_in * n_out) ** 0.5 / shape_factor(question.muon_adjust, n_in, n_out)

    return factor(question.target) / factor(question.base)


def shape_factor(adjust: MuonAdjust, n_in: float, n_out: float) -> float:
    """What an implementation of Muon multiplies the update of a matrix by, but for constants.

    Args:
        adjust: its name.
        n_in: entries that the matrix reads.
        n_out: entries that it writes.
    """
    match adjust:
        case "none":
            return 1.0
        case "original":
            return max(1.0, n_out / n_in) ** 0.5
        case "match_rms_adamw":
            return max(n_in, n_out) ** 0.5
        case "unit_rms_norm":
            return (n_out / n_in) ** 0.5
        case _:
            assert_never(adjust)
