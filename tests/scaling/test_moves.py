"""Styles are one training: what a move leaves unchanged, and what goes from style to style."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.core import ArgumentError
from translimit.describe import WITHOUT_RULE
from translimit.scaling import OPTIMIZERS, STYLES, Role, RoleRule, Size, Update, moved, rules

numbers = st.floats(1e-3, 1e3)
rule_numbers = st.builds(RoleRule, numbers, numbers, numbers, numbers, numbers)
sizes = st.builds(
    Size, head_dim=st.integers(1, 64), heads=st.integers(1, 64), layers=st.integers(1, 64)
)


def invariants(rule, update, forward=1.0):
    """What W = m w sees of a rule: its start, its step, its epsilon and its decay a step."""
    mult = rule.mult * forward
    return {
        "start": mult * rule.init,
        "step": mult**update.power * rule.lr,
        "epsilon": None if rule.eps is None else rule.eps / mult,
        "decay": None if rule.wd is None else rule.lr * rule.wd,
    }


def agree(one, other):
    return one.keys() == other.keys() and all(
        (one[k] is None and other[k] is None) or math.isclose(one[k], other[k], rel_tol=1e-9)
        for k in one
    )


@given(rule_numbers, numbers, numbers, st.sampled_from(Update))
def test_moves_keep_the_invariants_and_are_a_group(rule, theta, second, update):
    after = moved(rule, theta, update)
    assert after.mult == rule.mult * theta
    assert agree(invariants(after, update), invariants(rule, update))
    twice, once = moved(after, second, update), moved(rule, theta * second, update)
    back = moved(after, 1 / theta, update)
    for name in ("mult", "init", "lr", "eps", "wd"):
        assert math.isclose(getattr(twice, name), getattr(once, name), rel_tol=1e-9)
        assert math.isclose(getattr(back, name), getattr(rule, name), rel_tol=1e-9)


def test_a_move_by_hand():
    rule = RoleRule(mult=1.0, init=1.0, lr=1.0, eps=1.0, wd=1.0)
    assert moved(rule, 2.0, Update.GRADIENT) == RoleRule(2.0, 0.5, 0.25, 2.0, 4.0)
    assert moved(rule, 2.0, Update.ADAM) == RoleRule(2.0, 0.5, 0.5, 2.0, 2.0)
    assert moved(rule, 2.0, Update.SIGN, independent_decay=True).wd == 1.0
    with pytest.raises(ArgumentError, match="theta: got 0"):
        moved(rule, 0.0, Update.ADAM)


def forward(made, role):
    """The multiplier of a role that stands elsewhere: of its branch, of the scores."""
    return made.residual if role.ends_branch else 1.0


@given(sizes, sizes, st.floats(0.5, 1), st.floats(0.5, 1), st.sampled_from(list(OPTIMIZERS)))
@settings(max_examples=25)
def test_all_styles_train_the_same_effective_weights(base, target, aA, aL, optimizer):
    made = {
        style: rules(base, target, optimizer=optimizer, alpha_A=aA, alpha_L=aL, style=style)
        for style in STYLES
    }
    for one, other in itertools.combinations(made.values(), 2):
        assert one.score_scale == other.score_scale
        for role in sorted(set(Role) - WITHOUT_RULE):
            update = one.update(role)
            seen = [invariants(r.role(role), update, forward(r, role)) for r in (one, other)]
            assert agree(*seen), role


def test_a_factor_in_any_column_breaks_the_invariants():
    base, target = Size(head_dim=8, heads=2, layers=2), Size(head_dim=24, heads=4, layers=6)
    made = rules(base, target, optimizer="adamw", style="folded")
    for role in sorted(set(Role) - WITHOUT_RULE):
        rule = made.role(role)
        for column, value in rule.to_json().items():
            wrong = dataclasses.replace(rule, **{column: 2 * value})
            assert not agree(invariants(wrong, Update.ADAM), invariants(rule, Update.ADAM))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_tied_styles_train_the_same_products(optimizer):
    """The readout reads gain x through the final norm: in folded style the gain has its factor."""
    base, target = Size(head_dim=8, heads=2, layers=2), Size(head_dim=24, heads=4, layers=6)
    made = {
        style: rules(base, target, optimizer=optimizer, style=style, tied=True, alpha_L=0.7)
        for style in STYLES
    }
    free = {
        r: rules(base, target, optimizer=optimizer, alpha_L=0.7).role(r)
        for r in set(Role) - WITHOUT_RULE
    }
    gain = Role.FINAL_NORM_GAIN
    for style, one in made.items():
        # f = m_out W (m g x): both factors together are those of the untied canonical form.
        lent = free[Role.READOUT].mult if style == "folded" else 1.0
        for role, factor in [(Role.READOUT, lent), (gain, 1 / lent)]:
            update = one.update(role)
            seen = invariants(one.role(role), update, factor)
            assert agree(seen, invariants(free[role], update)), (style, role)
        assert math.isclose(
            one.readout * one.role(gain).mult * one.role(gain).init * one.role(Role.READOUT).init,
            free[Role.READOUT].mult,
            rel_tol=1e-9,
        )


def test_conversions_go_round_exactly():
    base, target = Size(head_dim=7, heads=3, layers=5), Size(head_dim=11, heads=9, layers=13)
    made = rules(base, target, optimizer="adamw", alpha_A=0.7, alpha_L=0.6)
    for path in itertools.permutations(STYLES):
        there = made
        for style in path:
            there = there.to_style(style)
            assert there.question.style == style
        assert there.to_style("canonical") == made
        assert there.to_style("canonical").table() == made.table()
