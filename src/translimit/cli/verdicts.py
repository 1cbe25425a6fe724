"""The sentence with which a command ends: what it found, in the words of the verdict rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from translimit.core import REFUTED, SUPPORTED, Verdict

if TYPE_CHECKING:
    from translimit.cli.user_checks import ToldSweep
    from translimit.predict import Prediction
    from translimit.scaling import Rules
    from translimit.store import ClaimRecord


#: Functions that are written as they are called.
_NAMES = ("log", "exp", "max", "min", "det")


def found_in(ledger: Mapping[str, Sequence[ClaimRecord]], own: Sequence[str]) -> dict[str, str]:
    """What each experiment of a run found, in a sentence without markup.

    Args:
        ledger: claims by the name of their experiment.
        own: experiments of other code that may be loaded, as `module:OBJECT`.
    """
    from translimit.experiments import found_sentence, stored_experiment

    named = [name for name in own if ":" in name]
    found = {}
    for name, claims in ledger.items():
        experiment = stored_experiment(name, named)
        said = experiment.found(claims) if experiment else found_sentence(claims)
        found[name] = in_letters(said)
    return found


def in_letters(text: str) -> str:
    r"""Prose with formulas as letters of a terminal: `$\gamma_0$` is γ_0.

    Args:
        text: with formulas between dollars.
    """
    from latex2mathml.symbols_parser import convert_symbol

    def letter(match: re.Match[str]) -> str:
        name = match[0].strip()
        if name[1:] in _NAMES:
            return f"{name[1:]} "
        code = convert_symbol(name)
        return chr(int(code, 16)) if code else match[0]

    spaced = re.sub(r"\\[,;:! ]", " ", text.replace("$", ""))
    return re.sub(r"\\[A-Za-z]+ ?", letter, spaced).replace("{", "").replace("}", "")


def prediction_verdict(prediction: Prediction) -> str:
    """What of an architecture asks for attention at initialisation."""
    held = [label for label in prediction.labels if label.holds]
    if not held:
        return f"nothing to look out for at initialisation; {prediction.collapse}"
    told = "; ".join(f"{label.name} ({label.says})" for label in held)
    return f"look out for {told}"


def scale_verdict(made: Rules, lr: float | None = None) -> str:
    """What the rules ask of a target, and how far they are known to hold.

    Args:
        made: the rules.
        lr: the rate tuned at the base, or None.
    """
    rates = [rule.lr for rule in made.groups() if rule.lr is not None]
    low, high = min(rates), max(rates)
    unit = 1.0 if lr is None else lr
    span = f"{unit * low:.4g}" if low == high else f"{unit * low:.4g} to {unit * high:.4g}"
    told = f"the base's rate times {span}" if lr is None else f"rates of {span}"
    notes = len(made.warnings)
    if not notes:
        return f"values tuned at the base carry over with {told}, by role as above"
    noted = "one note above says" if notes == 1 else f"the {notes} notes above say"
    carried = f"values tuned at the base carry over with {told}, by role as above"
    return f"{carried}; {noted} where that is less sure"


def sweep_verdict(sweep: ToldSweep) -> str:
    """Whether the best rate stays within one step of the grid, in the words of the verdict rule.

    Args:
        sweep: as `TransferSweep.to_json` tells it, with its parameterization.
    """
    step = math.log10(sweep["rates"][1] / sweep["rates"][0])
    drift, error = sweep["optimum_drift"], sweep["optimum_drift_stderr"]
    verdict = _stays(drift, error, step, sweep["optimum_drift_in_words"])
    said = {
        Verdict.supported: "the best rate stays",
        Verdict.refuted: "the best rate does not stay",
        Verdict.underpowered: "these runs do not tell whether the best rate stays",
    }[verdict]
    sizes = [row["size"] for row in sweep["sizes"]]
    kind = {"rules": "under the rules", "standard": "in the standard parameterization"}
    return (
        f"{kind.get(sweep['parameterization'], sweep['parameterization'])} {said} along "
        f"{sweep['axis']} {sizes[0]} to {sizes[-1]} (drift {sweep['optimum_drift_in_words']}, "
        f"tolerance {step:.2f} decades, one step of the grid): {verdict.value}"
    )


def _stays(drift: float, error: float, tol: float, words: str) -> Verdict:
    """The verdict on a drift; of a bound only that it is too large can be known."""
    if math.isnan(error):
        above = words.startswith("at least") and drift > tol
        below = words.startswith("at most") and drift < -tol
        return Verdict.refuted if above or below else Verdict.underpowered
    if abs(drift) - REFUTED * error > tol:
        return Verdict.refuted
    return Verdict.supported if abs(drift) + SUPPORTED * error <= tol else Verdict.underpowered
