"""Published recipes against the rules, number by number, and the recipe of a user's own code."""

from fractions import Fraction

import pytest

from translimit.core import ArgumentError
from translimit.scaling import STYLES, Size, UnsupportedModuleError, recipes, rules
from translimit.scaling.recipes import Monomial

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=16, heads=4, layers=2)
WIDE = Size(head_dim=32, heads=8, layers=2)
DEEP = Size(head_dim=32, heads=12, layers=10)

MATRICES = ("query", "key", "value", "mlp_in")
ENDS = ("attention_out", "mlp_out")
VECTORS = ("block_gain", "block_bias")
#: Rows that recipes by shape alone have beside those of the table of the documentation.
READERS = ("block_norm_bias", "query_bias", "key_bias", "value_bias", "mlp_gate_bias")
TABLES = ("position_embedding", "patch_embedding")


def differences(a, b, target=DEEP, optimizer="adamw"):
    found = recipes.diff(a, b, BASE, target, optimizer, force=True)
    return {one.number: str(one.ratio) for one in found}


def rows(names, **numbers):
    return {f"{name}.{number}": ratio for name in names for number, ratio in numbers.items()}


def test_completep_is_the_rules():
    assert differences("completep", "translimit") == {}


@pytest.mark.parametrize("alphas", [(1, 1), (0.5, 0.5), (0.75, 0.6)])
@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "muon"])
def test_the_styles_have_the_same_invariants(alphas, optimizer):
    made = {
        style: recipes.of_rules(
            rules(
                BASE, DEEP, optimizer=optimizer, alpha_A=alphas[0], alpha_L=alphas[1], style=style
            )
        )
        for style in STYLES
    }
    first = made["canonical"]
    assert -Fraction(alphas[1]).limit_denominator(20) == first.exponents["attention_out.start"].L
    assert all(one.exponents == first.exponents for one in made.values())


def test_mup_differs_in_epsilons_and_has_no_depth():
    wide = differences("mup", "translimit", WIDE)
    assert {name.partition(".")[2] for name in wide} == {"epsilon"}
    # At equal depth every epsilon is off by m_d.
    values = {one.value for one in recipes.diff("mup", "translimit", BASE, WIDE, "adamw")}
    assert values == {4.0}
    assert differences("mup", "translimit") == {
        **rows(("embedding", "final_gain", "final_norm_bias", "readout", *TABLES), epsilon="m_d"),
        **rows(ENDS, start="m_L", rate="m_L", epsilon="m_d"),
        **rows((*MATRICES, "mlp_gate", *VECTORS, *READERS), epsilon="m_d m_L"),
        **rows(("end_bias", "attention_out_bias"), rate="m_L", epsilon="m_d"),
    }


def test_nanogpt_mup_over_the_half_power_of_depth():
    found = differences("nanogpt-mup", "translimit-half")
    assert all(f"{end}.start" not in found for end in ENDS)
    assert {found[f"{end}.rate"] for end in ENDS} == {"m_L"}
    assert {found[f"{name}.rate"] for name in (*MATRICES, *VECTORS)} == {"m_L^(1/2)"}
    assert {found[f"{name}.decay"] for name in (*MATRICES, *ENDS)} == {"m_d^-1"}
    moe = differences("nanogpt-mup-moe", "translimit-half", WIDE)
    assert (moe["router.rate"], moe["router.start"]) == ("m_d m_L^(1/2)", "m_d^(1/2)")


def test_nanogpt_completep_has_one_epsilon_for_all():
    outside = ("embedding", "final_gain", "readout")
    assert differences("nanogpt-completep", "translimit") == rows(outside, epsilon="m_L^-1")
    assert differences("nanogpt-completep-half", "translimit-half") == {
        **rows(outside, epsilon="m_L^(-1/2)"),
        **rows((*MATRICES, *ENDS), decay="m_L^(-1/2)"),
    }


def test_megatron():
    assert differences("megatron", "translimit", WIDE, "sgd") == {}
    found = differences("megatron", "translimit")
    assert found == {
        **rows(("embedding", "final_gain", "readout"), epsilon="m_d"),
        **rows((*MATRICES, "mlp_gate"), epsilon="m_L", decay="m_d^-1"),
        **rows(ENDS, start="m_L^(1/2)", rate="m_L", decay="m_d^-1"),
        **rows(VECTORS, epsilon="m_d m_L"),
        **rows(("end_bias",), rate="m_L", epsilon="m_d"),
    }


def test_archscale_scales_the_router_twice_and_what_stands_outside():
    found = differences("archscale-mup++-moe", "translimit-half")
    assert found["router.rate"] == "m_d^-1"
    outside = ("embedding", "final_gain", "readout")
    assert {found[f"{name}.rate"] for name in outside} == {"m_L^(-1/2)"}
    assert all(f"{name}.rate" not in found for name in (*MATRICES, *ENDS, *VECTORS))


def test_standard_practice_misses_the_width():
    found = differences("standard", "translimit", WIDE)
    assert {found[f"{name}.rate"] for name in (*MATRICES, "mlp_gate")} == {"m_d"}
    assert (found["scores"], found["readout.start"]) == ("m_N^(1/2)", "m_d^(1/2)")


def test_a_recipe_tells_its_numbers():
    made = recipes.get("megatron").at(BASE, WIDE, "adamw")
    assert made["query.rate"] == 0.25
    assert made.table()["query"]["start"] == "m_d^(-1/2)"
    with pytest.raises(ArgumentError, match=r"query.speed: is no number of 'megatron'"):
        made["query.speed"]


@pytest.mark.parametrize(
    ("name", "optimizer", "target", "kind", "message"),
    [
        ("mup", "muon", WIDE, UnsupportedModuleError, "'mup' does not define 'muon'"),
        ("mup", "adamw", DEEP, UnsupportedModuleError, "has no rule of depth"),
        ("mup-2", "adamw", WIDE, ArgumentError, "did you mean 'mup'?"),
    ],
)
def test_what_is_refused(name, optimizer, target, kind, message):
    with pytest.raises(kind) as refused:
        recipes.diff(name, "translimit", BASE, target, optimizer)
    assert message in str(refused.value)


def test_monomials():
    one = Monomial.of("d-1/2 L-1")
    assert one.at(BASE, DEEP) == pytest.approx(6**-0.5 / 5)
    assert str(one**2 / one) == "m_d^(-1/2) m_L^-1"
    assert str(Monomial()) == "1"
