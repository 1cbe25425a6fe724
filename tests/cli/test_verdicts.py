"""The sentences with which commands end say what was found, and how sure it is."""

import re
from typing import Any, cast

import numpy as np
import pytest

from translimit.checks import TransferSweep
from translimit.cli import main
from translimit.cli.verdicts import costs, found_in, in_letters, scale_verdict, sweep_verdict
from translimit.core import Claim, Estimate, Rival
from translimit.scaling import rules_for
from translimit.store import ClaimRecord

GRID = np.arange(-3.0, -0.4, 0.3)


def sweep(drift: float, curvature: float = 4.0, *, seeds: int = 8, kind: str = "rules") -> Any:
    """Two sizes with parabolic valleys, as a command tells them."""
    rng = np.random.default_rng(0)
    own = rng.normal(0, 0.02, (2, seeds, 1))
    places = np.array([-1.7, -1.7 + drift])[:, None, None] + own
    losses = np.exp(0.5 * curvature * (GRID - places) ** 2)
    made = TransferSweep("layers", (2, 8), tuple(10**GRID), losses, 10.0, 240, "cosine")
    return {"parameterization": kind, **made.to_json()}


@pytest.mark.parametrize(
    ("drift", "curvature", "said", "verdict"),
    [
        (0.05, 4.0, "the base's best rate serves", "supported"),
        (-0.5, 0.2, "the base's best rate serves", "supported"),  # a flat valley: it costs .025
        (-0.5, 4.0, "does not serve", "refuted"),
        (-2.0, 4.0, "does not serve", "refuted"),  # beyond the grid
        (-1.28, 0.05, "widen --log2-rates", "underpowered"),  # at its end, and cheap
    ],
)
def test_a_sweep_ends_with_the_verdict_rule(drift, curvature, said, verdict):
    told = sweep_verdict(sweep(drift, curvature))
    assert told.startswith("under the rules ")
    assert "along layers 2 to 8 after 240 updates under cosine decay" in told
    assert "tolerance 0.15 decades" in told
    assert said in told
    assert told.endswith(f": {verdict}")


def test_few_seeds_are_inconclusive():
    one = sweep_verdict(sweep(0.0, seeds=1))
    assert "inconclusive with one seed (pass --seeds 6 or more)" in one
    assert "inconclusive with 3 seeds" in sweep_verdict(sweep(0.0, seeds=3, kind="standard"))


def test_what_the_tuned_rate_costs_is_one_sentence():
    (said,) = costs([sweep(-0.1), sweep(-0.4, kind="standard")])
    number = r"0\.\d\d ± 0\.\d\d nats"
    assert re.fullmatch(
        rf"at 8 layers your tuned rate costs {number}, the standard one {number} "
        r"\(240 updates under cosine decay\)",
        said,
    )
    (alone,) = costs([sweep(-0.1, seeds=1)])
    assert "(one seed: no error)" in alone


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
