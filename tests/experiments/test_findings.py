"""The sentence that says what an experiment found: its numbers, and what it may not hide."""

import pytest

from translimit.core import Claim, Estimate, Rival
from translimit.experiments import Finding, all_experiments, found_sentence


def checked(name: str, value: float, *, prediction=1.0, stderr=0.01, tol=0.1, one_sided=False):
    """A claim as a ledger keeps it, with a rival that is far away."""
    return Claim(
        name=name,
        statement=f"The number {name} tends to $p$ (largest size).",
        prediction=prediction,
        estimate=Estimate(value, stderr, 10),
        tol=tol,
        one_sided=one_sided,
        rivals=(Rival("far", 99.0),),
    ).to_json()


NUMBER = Finding("the first is {0} and the last {1} of $x^{{2}}$", ("a", "H=*"))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_sentence_holds_numbers_errors_and_predictions():
    claims = [checked("a", 1.02), checked("H=8", 2.0, prediction=2.0), checked("H=16", 3.0)]
    assert plain(found_sentence(claims, NUMBER)) == (
        "the first is 1.020 ± 0.010 (predicted 1) and the last 3.000 ± 0.010 (predicted 1; "
        "refuted) of $x^{2}$."
    )


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (checked("a", 1.02), "1.020 ± 0.010 (predicted 1)"),
        (checked("a", 1.9), "1.900 ± 0.010 (predicted 1; refuted)"),
        (checked("a", 1.0, stderr=0.5), "1.0 ± 0.5 (predicted 1; underpowered)"),
        (checked("a", 0.5, one_sided=True), "0.500 ± 0.010 (predicted at most 1)"),
        (checked("a", 0.0, prediction=0.0), "0.000 ± 0.010 (predicted 0 to within 0.1)"),
    ],
)
def test_without_a_sentence_of_its_own_the_first_claim_is_told(claim, said):
    assert plain(found_sentence([claim])) == f"The number a tends to $p$: {said}."


def test_a_lower_bound_is_told_as_one():
    """It is claimed as the upper bound of the negative."""
    lower = [checked("a", -0.5, prediction=-0.4, one_sided=True)]
    assert plain(found_sentence(lower, Finding("it gains {0:negated}", ("a",)))) == (
        "it gains 0.500 ± 0.010 (predicted at least 0.4)."
    )
    assert "gains −0.500 ± 0.010 (predicted at most −0.4)" in plain(
        found_sentence(lower, Finding("it gains {0}", ("a",)))
    )
    with pytest.raises(ValueError, match="'upside' is no way to tell a number"):
        found_sentence(lower, Finding("it gains {0:upside}", ("a",)))


def test_where_all_other_claims_fail_that_is_told():
    claims = [checked("a", 1.0), checked("b", 1.0, stderr=0.5)]
    assert found_sentence(claims).endswith("; the other claim is underpowered (b).")
    claims.append(checked("c", 1.0, stderr=0.5))
    assert found_sentence(claims).endswith("; all 2 other claims are underpowered (b, c).")


def test_a_refuted_claim_leads_and_the_others_are_counted():
    claims = [checked("a", 1.0), checked("b", 5.0), checked("c", 1.0, stderr=0.5)]
    assert plain(found_sentence(claims)) == (
        "The number b tends to $p$: 5.000 ± 0.010 (predicted 1; refuted); of 2 further claims 1 is "
        "underpowered (c)."
    )
    more = [*claims, checked("d", 5.0), checked("e", 5.0)]
    said = found_sentence([*more, checked("H=2", 1.0)], NUMBER)
    assert said.endswith("; of 4 further claims 3 are refuted (b, d and 1 more) and 1 is "
                         "underpowered (c).")  # fmt: skip


def test_a_configuration_without_a_cited_claim_gets_the_usual_sentence():
    assert found_sentence([checked("a", 1.0)], NUMBER).startswith("The number a")
    assert found_sentence([], NUMBER) == ""


def test_a_name_with_brackets_is_no_pattern():
    claims = [checked("[x]", 1.0), checked("x", 2.0)]
    assert Finding("{0}", ("[x]",)).cited([one["name"] for one in claims]) == ["x"]
    assert Finding("{0}", ("a[1]",)).cited(["a[1]"]) == ["a[1]"]


class Place(str):
    """Stands for a number, with whichever sign."""

    def __format__(self, spec: str) -> str:
        assert spec in ("", "negated")
        return str(self)


def test_every_declared_sentence_finds_its_claims_and_its_places():
    for name, one in all_experiments().items():
        finding = one.finding
        assert finding is not None, name
        numbers = [Place(f"<{i}>") for i in range(len(finding.claims))]
        said = finding.says.format(*numbers)
        assert " minus " not in f" {said.lower()}", f"{name}: {{0:negated}} has the other sign"
        assert all(number in said for number in numbers), name
        assert not said.endswith("."), name
        for preset, settings in one.presets.items():
            assert finding.cited(one.claim_names(settings)) is not None, (name, preset)
