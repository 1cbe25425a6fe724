"""The verdict rule, at its edges."""

import json
import math
from dataclasses import replace

import pytest

from translimit.core import Claim, Estimate, Rival, Verdict

#: So far off that any estimate excludes it.
FAR = Rival("far", 1e6)


def verdict(
    value: float,
    *,
    stderr: float = 0.0,
    discretisation: float = 0.0,
    tol: float = 1.0,
    prediction: float = 0.0,
    one_sided: bool = False,
) -> Verdict:
    estimate = Estimate(value, stderr, 10, discretisation)
    return Claim("c", "s", prediction, estimate, tol, one_sided=one_sided, rivals=(FAR,)).verdict


# All numbers of these cases are exact in binary, so that the edges are met exactly.
@pytest.mark.parametrize(
    ("gap", "stderr", "expected"),
    [
        (0.5, 0.25, Verdict.supported),  # g + 2 s = tol
        (0.5 + 2**-40, 0.25, Verdict.underpowered),
        (1.0, 0.0, Verdict.supported),
        (1.0 + 2**-40, 0.0, Verdict.refuted),
        (2.125, 0.25, Verdict.underpowered),  # g - 4.5 s = tol
        (2.125 + 2**-40, 0.25, Verdict.refuted),
        (0.0, 0.5, Verdict.supported),
        (0.0, 0.5 + 2**-40, Verdict.underpowered),  # a floor above tol / 2 never supports
    ],
)
def test_the_rule_at_its_edges(gap: float, stderr: float, expected: Verdict) -> None:
    assert verdict(gap, stderr=stderr) is expected
    assert verdict(-gap, stderr=stderr) is expected


def test_sampling_and_discretisation_errors_combine_in_quadrature() -> None:
    # s = 0.5: supported up to g = 0; by sampling error alone (0.3) up to g = 0.4.
    assert verdict(0.0, stderr=0.3, discretisation=0.4) is Verdict.supported
    assert verdict(0.1, stderr=0.3, discretisation=0.4) is Verdict.underpowered
    assert verdict(0.1, stderr=0.3) is Verdict.supported


def test_a_one_sided_claim_is_about_what_lies_above() -> None:
    assert verdict(-100.0, one_sided=True) is Verdict.supported
    assert verdict(-100.0, stderr=0.6, one_sided=True) is Verdict.supported
    assert verdict(-0.5, stderr=0.8, one_sided=True) is Verdict.underpowered
    assert verdict(2.0, one_sided=True) is Verdict.refuted
    assert verdict(1.0, one_sided=True) is Verdict.supported


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["value", "stderr", "discretisation", "tol", "prediction"])
def test_nan_and_infinity_decide_nothing(where: str, bad: float, one_sided: bool) -> None:
    arguments = {"value": 0.0} | {where: bad}
    assert verdict(**arguments, one_sided=one_sided) is Verdict.underpowered  # pyright: ignore[reportArgumentType]


def test_a_claim_writes_out_what_it_decided() -> None:
    claim = Claim(
        *("rate", "falls like 1/n", -1.0, Estimate(-1.25, 0.125, 8), 0.5),
        reference="here",
        rivals=(Rival("no decay", 0.0), Rival("1/n^3", -3.0, printed=True)),
    )
    written = json.loads(json.dumps(claim.to_json()))
    assert written["gap"] == 0.25
    assert written["floor"] == 0.125
    assert written["verdict"] == "supported"
    assert written["estimate"] == {
        "value": -1.25,
        "stderr": 0.125,
        "count": 8,
        "discretisation": 0.0,
    }
    assert written["printed"] == "unavailable"
    assert written["tol"] == 0.5
    assert [one["name"] for one in written["rivals"]] == ["no decay", "1/n^3"]
    assert written["rivals"][0]["excluded_by"] == (1.25 - 0.5) / 0.125
    assert written["nearest"] == "no decay"


def of(estimate: Estimate, *rivals: Rival, tol: float = 0.25, one_sided: bool = False) -> Claim:
    return Claim("c", "s", 1.0, estimate, tol, rivals=rivals, one_sided=one_sided)


def test_a_claim_without_rivals_is_never_supported() -> None:
    claim = of(Estimate(1.0, 0.0625, 10))
    assert claim.verdict is Verdict.underpowered
    assert claim.remark == "names no rival"
    assert of(Estimate(3.0, 0.0625, 10)).verdict is Verdict.refuted


# The gap of the rival less the tolerance, over s: (1 + x) - 1 - 0.25 = 4.5 * 0.125 at x = 0.8125.
@pytest.mark.parametrize(("prediction", "supported"), [(1.8125, False), (1.8125 + 2**-40, True)])
def test_every_rival_must_be_refuted_at_the_tolerance(prediction: float, supported: bool) -> None:
    claim = of(Estimate(1.0, 0.125, 10), FAR, Rival("near", prediction))
    assert (claim.verdict is Verdict.supported) is supported
    assert claim.nearest is not None
    assert claim.nearest.name == "near"
    assert claim.remark == ("" if supported else "not told from: near")


def test_the_error_of_a_rival_counts() -> None:
    estimate = Estimate(1.0, 0.03, 10)
    assert of(estimate, Rival("wide", 1.6, stderr=0.04)).verdict is Verdict.supported
    assert of(estimate, Rival("wider", 1.6, stderr=0.4)).verdict is Verdict.underpowered


def test_a_rival_may_enter_the_measurement() -> None:
    distance = Estimate(0.01, 0.002, 100)
    for measured, verdict in ((0.02, Verdict.underpowered), (0.09, Verdict.supported)):
        rival = Rival("without attention", 0.0, Estimate(measured, 0.002, 100))
        claim = Claim("law", "s", 0.0, distance, 0.03, one_sided=True, rivals=(rival,))
        assert claim.verdict is verdict


def test_the_rival_of_a_bound_lies_on_its_other_side() -> None:
    estimate = Estimate(0.5, 0.01, 10)
    assert of(estimate, Rival("larger", 1.5), one_sided=True).verdict is Verdict.supported
    assert of(estimate, Rival("below", -5.0), one_sided=True).verdict is Verdict.underpowered


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_rival_that_is_no_number_is_not_refuted(bad: float) -> None:
    assert of(Estimate(1.0), FAR, Rival("none", bad)).verdict is Verdict.underpowered


def test_a_significant_gap_within_the_tolerance_is_said() -> None:
    claim = of(Estimate(1.14, 0.02, 10), FAR)
    assert claim.verdict is Verdict.supported
    assert claim.remark == "within 0.25, but off by 7 standard errors"


def test_so_is_one_of_a_claim_whose_rivals_are_left() -> None:
    near = Rival("near", 1.2)
    claim = of(Estimate(1.14, 0.02, 10), near)
    assert claim.verdict is Verdict.underpowered
    off = "within 0.25, but off by 7 standard errors"
    assert claim.remark == f"{off}; not told from: near"
    decided = replace(claim, decided_by="standard")
    assert decided.remark == f"{claim.remark}; sized to be decided at standard"
    assert replace(claim, rivals=()).remark == f"{off}; names no rival"
    # 4.5 standard errors are not more than 4.5.
    assert of(Estimate(1.0 + 4.5 * 2**-6, 2**-6, 10), near).remark == "not told from: near"


def test_a_wrong_prediction_is_off_by_a_tenth_of_itself_also_where_it_is_an_exponent() -> None:
    rate = Claim("rate", "s", -0.5, Estimate(-0.5, 0.01, 9), 0.1, rivals=(FAR,))
    wrong = rate.disturbed()
    assert wrong is not None
    assert wrong.prediction == pytest.approx(-0.55)
    zero = replace(rate, prediction=0.0, rivals=(FAR, Rival("nearest", 0.3)))
    assert (stood_in := zero.disturbed()) is not None
    assert stood_in.prediction == 0.3
    assert replace(zero, rivals=()).disturbed() is None


def test_printed_forms_are_errata_once_the_claim_is_supported() -> None:
    printed = Rival("as printed", 3.0, printed=True)
    assert of(Estimate(1.0, 0.01, 10), printed, FAR).errata == (printed,)
    assert of(Estimate(2.0, 0.01, 10), printed, FAR).errata == ()


@pytest.mark.parametrize("value", [0.9, 1.0, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_no_rival_is_supported_where_the_claim_is(value: float, one_sided: bool) -> None:
    rivals = (Rival("double", 2.0), Rival("triple", 3.0, stderr=0.1))
    claim = of(Estimate(value, 0.02, 10), *rivals, one_sided=one_sided)
    for rival in rivals:
        assert claim.swapped(rival).verdict is not Verdict.supported or value == 2.0


def test_without_any_error_a_gap_at_the_tolerance_excludes_nothing() -> None:
    claim = of(Estimate(1.0), Rival("at the tolerance", 1.25))
    assert claim.verdict is Verdict.underpowered
    assert of(Estimate(1.0), Rival("beyond", 1.25 + 2**-40)).verdict is Verdict.supported
