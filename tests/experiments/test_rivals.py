"""Wrong theories against the data of the experiments: none of them may be supported.

Each experiment is computed at its demo, and every rival is put in the place of its claim's theory.
One experiment of every theory is in the quick run, at a smaller size where no demo is short. What
data do not tell apart is listed in the documentation, "Statements and claims", and is read from
there: an exception that is none any more fails as well.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.experiments.checks import skip_without_checkpoint

import translimit.experiments as ex
from translimit.core import Claim

STATEMENTS = Path(__file__).parents[2] / "docs" / "statements.md"
QUICK = (
    "bordelon2024/dmft-rich-and-lazy",
    "castin2025/finite-depth",
    "koubbi2026/high-temperature",
    "noci2023/weak-error",
)
#: In the table of exceptions: no claim is refuted by a wrong prediction.
NONE_REFUTED = "no wrong prediction is refuted"


class Exceptions(NamedTuple):
    """What the documentation says of an experiment: rivals that are supported, and the rest."""

    supported: tuple[str, ...] = ()
    none_refuted: bool = False


def exceptions(preset: str) -> dict[str, Exceptions]:
    """The rows `| preset | experiment | exception |` of the documentation, by experiment."""
    rows = re.findall(
        rf"^\| {preset} \| `(\S+)` \| (.+) \|$", STATEMENTS.read_text(encoding="utf-8"), re.M
    )
    told: dict[str, Exceptions] = {}
    for name, said in rows:
        one = told.get(name, Exceptions())
        if said == NONE_REFUTED:
            told[name] = one._replace(none_refuted=True)
        else:
            row = re.fullmatch(r"`(\S+)`: \"(.+)\" is supported", said)
            assert row is not None, f"not understood: {said}"
            claim, rival = row.groups()
            told[name] = one._replace(supported=(*one.supported, f"{claim}: {rival}"))
    return told


def claims_at_demo(name: str, **smaller: object) -> list[Claim]:
    experiment = ex.get_experiment(name)
    config = replace(experiment.presets["demo"], **smaller)
    cells = experiment.cells(config)
    results = {cell.name: experiment.compute_cell(config, cell, 0) for cell in cells}
    return experiment.check(config, results)


def check_at_demo(name: str, **smaller: object) -> None:
    found = ex.audit(claims_at_demo(name, **smaller))
    assert found.swaps > 0
    told = exceptions("demo").get(name, Exceptions())
    assert found.supported == told.supported
    said = "no claim notices a prediction that is wrong by a tenth"
    assert (not found.refuted) == told.none_refuted, f"{said}: {found.refuted}"


@pytest.mark.parametrize("preset", ["demo", "standard"])
def test_exceptions_are_those_of_claims_that_there_are(preset: str) -> None:
    shipped = ex.all_experiments()
    for name, one in exceptions(preset).items():
        experiment = shipped[name]
        claims = [claims.names(experiment.presets[preset]) for claims in experiment.claims]
        rivals = [[rival.name for rival in claims.rivals] for claims in experiment.claims]
        known = {
            f"{claim}: {rival}"
            for names, others in zip(claims, rivals, strict=True)
            for claim in names
            for rival in others
        }
        assert set(one.supported) <= known


@pytest.mark.parametrize("name", QUICK)
def test_no_rival_is_supported(name: str) -> None:
    check_at_demo(name)


def test_no_rival_of_signal_propagation_is_supported() -> None:
    check_at_demo("signal/random-energy", keys=(512, 4096), scores=20_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ex.all_experiments()) - set(QUICK)))
def test_no_rival_of_any_experiment_is_supported(name: str) -> None:
    skip_without_checkpoint(name)
    check_at_demo(name)
