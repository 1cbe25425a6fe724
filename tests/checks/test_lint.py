"""The linter on planted numbers: what follows the rules passes, what does not is named."""

from dataclasses import replace

import pytest

from translimit.checks import ParameterNumbers, compare
from translimit.describe import Role, Size
from translimit.scaling import rules

BASE = Size(head_dim=8, heads=4, layers=2)
ROLES = {
    "wte": (Role.TOKEN_EMBEDDING,),
    "h.0.qkv": (Role.QUERY, Role.KEY, Role.VALUE),
    "h.1.qkv": (Role.QUERY, Role.KEY, Role.VALUE),
    "h.0.norm": (Role.BLOCK_NORM_GAIN,),
    "h.1.norm": (Role.BLOCK_NORM_GAIN,),
    "head": (Role.READOUT,),
}
SIZES = [replace(BASE, head_dim=n) for n in (8, 16, 32)]
RULES = [rules(BASE, size, optimizer="adamw", style="folded") for size in SIZES]


def numbers(change=lambda name, size, one: one):
    """What the rules have, times constants of the base, with changes."""
    table = []
    for size, made in zip(SIZES, RULES, strict=True):
        row = []
        for name, roles in ROLES.items():
            rule = made.role(roles[0])
            assert rule.eps is not None
            assert rule.wd is not None
            one = ParameterNumbers(
                name, roles, 3 * rule.lr, 1e-8 * rule.eps, 0.1 * rule.wd, 0.02 * rule.init, 10_000
            )
            row.append(change(name, size, one))
        table.append(row)
    return table


def lint(change=lambda name, size, one: one, scales=()):
    return compare("head_dim", SIZES, numbers(change), RULES, scales)


def test_constants_of_the_base_are_its_own():
    assert lint() == ()
    assert lint(scales=[5 * made.score_scale for made in RULES]) == ()
    assert lint(scales=[None, None, None]) == ()


@pytest.mark.parametrize(
    ("number", "power", "sentence"),
    [
        ("lr", 1.0, "the readout's learning rate does not change with head_dim, where the rules"),
        ("lr", 1.5, "the readout's learning rate grows with head_dim^0.50, where the rules have"),
        ("wd", -1.0, "the readout's weight decay does not change with head_dim"),
        ("eps", 0.5, "the readout's epsilon grows with head_dim^0.50, where the rules have head_"),
        ("init", 0.5, "the readout's start grows with head_dim^-0.50, where the rules have head_"),
    ],
)
def test_a_wrong_power_is_named(number, power, sentence):
    def change(name, size, one):
        factor = (size.head_dim / BASE.head_dim) ** power
        return replace(one, **{number: getattr(one, number) * factor}) if name == "head" else one

    (found,) = lint(change)
    assert found.sentence.startswith(sentence)
    assert found.sentence.endswith("(head)")
    assert found.found - found.expected == pytest.approx(power)


def test_one_block_that_differs_and_one_parameter_without_a_role():
    (found,) = lint(lambda n, s, one: replace(one, lr=one.lr * 2) if n == "h.1.norm" else one)
    assert "h.1.norm" in found.sentence
    (found,) = lint(lambda n, s, one: replace(one, roles=()) if n == "wte" else one)
    assert found.sentence == "wte has no role: name it in the table of roles"


def test_what_is_not_compared():
    assert lint(lambda n, s, one: replace(one, wd=0.0)) == ()  # no decay
    assert lint(lambda n, s, one: replace(one, lr=None)) == ()  # not told
    assert lint(lambda n, s, one: replace(one, eps=1e-12)) == ()  # too small to matter
    zero = lint(lambda n, s, one: replace(one, init=0.0) if n == "head" else one)
    assert zero == ()
    one_epsilon = lint(lambda n, s, one: replace(one, eps=1e-8))
    assert [one.parameter for one in one_epsilon] == [
        "wte",
        "h.*.qkv",
        "h.*.norm",
    ]  # folded: not head


def test_the_score_scale():
    (found,) = lint(scales=[size.head_dim**-0.5 for size in SIZES])
    assert found.sentence.startswith("the score scale grows with head_dim^-0.50")


def test_plain_data_and_back():
    one = numbers()[0][1]
    assert ParameterNumbers.from_json(one.to_json()) == one
