"""Wrong theories in the place of right ones: what an audit of a ledger says."""

from __future__ import annotations

import json

import translimit.experiments as ex
from translimit.core import Claim, Estimate, Rival


def claim(name: str, value: float, stderr: float, *rivals: Rival, tol: float = 0.1) -> Claim:
    return Claim(name, "s", 1.0, Estimate(value, stderr, 10), tol, rivals=rivals)


def test_an_audit_names_the_rivals_that_the_data_support() -> None:
    good = claim("good", 1.0, 0.01, Rival("double", 2.0))
    wrong = claim("wrong", 2.0, 0.01, Rival("double", 2.0))  # the data say double
    found = ex.audit([good, wrong])
    assert found.supported == ("wrong: double",)
    assert found.swaps == 2


def test_an_audit_counts_what_a_factor_refutes() -> None:
    sharp, blunt = claim("sharp", 1.0, 0.001, tol=0.01), claim("blunt", 1.0, 0.1)
    zero = Claim("zero", "s", 0.0, Estimate(0.0, 0.01, 9), 0.1, rivals=(Rival("one", 1.0),))
    found = ex.audit([sharp, blunt, zero])
    assert found.refuted == ("sharp", "zero")
    assert found.disturbed == 3


def test_a_claim_survives_its_file() -> None:
    law = Rival("law", 0.0, Estimate(0.5, 0.01, 3), printed=True)
    one = claim("one", 1.02, 0.01, law, Rival("double", 2.0, stderr=0.1))
    assert Claim.from_json(json.loads(json.dumps(one.to_json()))) == one
