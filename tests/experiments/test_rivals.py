"""Wrong theories against the data of the experiments: none of them may be supported.

Each experiment is computed at its demo, and every rival is put in the place of its claim's theory.
One experiment of every theory is in the quick run.
"""

from __future__ import annotations

import pytest

import translimit.experiments as ex
from translimit.core import Claim

QUICK = (
    "bordelon2024/dmft-rich-and-lazy",
    "castin2025/finite-depth",
    "koubbi2026/high-temperature",
    "noci2023/weak-error",
)


def claims_at_demo(name: str) -> list[Claim]:
    experiment = ex.get_experiment(name)
    config = experiment.presets["demo"]
    cells = experiment.cells(config)
    results = {cell.name: experiment.compute_cell(config, cell, 0) for cell in cells}
    return experiment.check(config, results)


def audit_at_demo(name: str) -> ex.Audit:
    found = ex.audit(claims_at_demo(name))
    assert found.swaps > 0
    return found


@pytest.mark.parametrize("name", QUICK)
def test_no_rival_is_supported(name: str) -> None:
    found = audit_at_demo(name)
    assert found.supported == ()
    assert found.refuted, "no claim notices a prediction that is wrong by a tenth"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ex.all_experiments()) - set(QUICK)))
def test_no_rival_of_any_experiment_is_supported(name: str) -> None:
    found = audit_at_demo(name)
    assert found.supported == ()
    assert found.refuted, "no claim notices a prediction that is wrong by a tenth"
