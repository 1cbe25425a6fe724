"""The sentences with which commands end say what was found, and how sure it is."""

import math
from typing import Any, cast

import pytest

from translimit.cli import main
from translimit.cli.verdicts import found_in, in_letters, scale_verdict, sweep_verdict
from translimit.core import Claim, Estimate, Rival
from translimit.scaling import rules_for
from translimit.store import ClaimRecord


def sweep(drift: float, error: float, words: str = "") -> Any:
    rows = [{"size": size} for size in (8, 16, 32)]
    return {
        "parameterization": "rules",
        "axis": "head_dim",
        "rates": [2.0**-4, 2.0**-3, 2.0**-2],
        "optimum_drift": drift,
        "optimum_drift_stderr": error,
        "optimum_drift_in_words": words or f"{drift:+.2f}",
        "sizes": rows,
    }


@pytest.mark.parametrize(
    ("drift", "error", "words", "verdict"),
    [
        (0.1, 0.05, "", "supported"),
        (-0.1, 0.05, "", "supported"),
        (0.25, 0.05, "", "underpowered"),  # within the tolerance, but by less than two errors
        (0.9, 0.1, "", "refuted"),
        (0.6, 0.1, "", "underpowered"),
        (0.1, math.inf, "", "underpowered"),  # one seed
        (0.9, math.nan, "at least +0.90 decades", "refuted"),
        (0.9, math.nan, "at most +0.90 decades", "underpowered"),
        (-0.9, math.nan, "at most -0.90 decades", "refuted"),
        (0.0, math.nan, "unknown: both optima at one edge", "underpowered"),
    ],
)
def test_a_sweep_ends_with_the_verdict_rule(drift, error, words, verdict):
    said = sweep_verdict(sweep(drift, error, words))
    assert said.startswith("under the rules ")
    assert "along head_dim 8 to 32" in said
    assert "tolerance 0.30 decades" in said
    assert said.endswith(f": {verdict}")


def test_scale_says_the_span_of_the_rates_and_points_at_its_notes():
    made = rules_for("layers=4", "layers=24", optimizer="adamw")
    assert "the base's rate times 0.1667 to 1" in scale_verdict(made)
    assert "rates of 5e-05 to 0.0003" in scale_verdict(made, 3e-4)
    noted = rules_for("layers=24", "layers=4", optimizer="adamw")
    assert len(noted.warnings) == 1
    assert "one note above says where that is less sure" in scale_verdict(noted)


def test_rates_are_told_in_absolute_numbers(capsys):
    words = "scale --base layers=4 --target layers=24 --optimizer adamw --lr 3e-4"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "rate at 0.0003" in out
    assert "5e-05" in out
    assert "scores: as in the base" in out
    assert out.splitlines()[-1].startswith("verdict: ")


def test_a_run_tells_what_each_experiment_found():
    claim = Claim("mean", "The mean is $p$.", 0.5, Estimate(0.9, 0.01, 9), 0.1,
                  rivals=(Rival("ten", 10.0),)).to_json()  # fmt: skip
    said = found_in({"somebody/else": [cast("ClaimRecord", claim)]}, [])
    assert said["somebody/else"].startswith("The mean is p: 0.900")
    assert "refuted" in said["somebody/else"]


def test_formulas_are_letters_of_a_terminal():
    said = r"rank $\lceil d/2\rceil$, $E\,u^2$, $\Sigma_{11}$ and $\log\gamma_0$; \unknownword"
    assert in_letters(said) == r"rank ⌈d/2⌉, E u^2, Σ_11 and log γ_0; \unknownword"
