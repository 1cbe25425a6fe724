"""The verdict rule, at its edges."""

import json
import math

import pytest

from translimit.core import Claim, Estimate, Verdict


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
    return Claim("c", "s", prediction, estimate, tol, one_sided=one_sided).verdict


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
    claim = Claim("rate", "falls like 1/n", -1.0, Estimate(-1.25, 0.125, 8), 0.5, reference="here")
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
