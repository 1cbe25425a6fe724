"""The sentence with which a command ends: what it found, in the words of the verdict rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from translimit.checks import CENSORED, DRIFT_TOLERANCE, ENOUGH_SEEDS, REGRET_TOLERANCE
from translimit.core import Verdict, with_error

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
    return "look out for " + "; ".join(f"{label.name}: {label.says}" for label in held)


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


#: How a parameterization is called in a sentence.
_KINDS = {"rules": "under the rules", "standard": "in the standard parameterization"}


def swept(sweep: ToldSweep) -> str:
    """Which sweep: axis, parameterization, updates and schedule.

    Args:
        sweep: as `TransferSweep.to_json` tells it, with its parameterization.
    """
    run = _run(sweep)
    return f"{sweep['axis']}, {sweep['parameterization']}, {run}"


def costs(sweeps: Sequence[ToldSweep]) -> list[str]:
    """What the base's best rate costs the largest size, a sentence for each axis and horizon.

    Args:
        sweeps: of any axes, horizons and parameterizations.
    """
    said: dict[tuple[str, str], list[str]] = {}
    for sweep in sweeps:
        row = sweep["sizes"][-1]
        bound = "at least" if row["bound"] else ""
        error = math.nan if bound else row["regret_stderr"]
        paid = with_error(max(row["regret"], 0.0), error, bound=bound, unit="nats")
        if sweep["parameterization"] == "standard":
            paid = f"the standard one {paid}" if _key(sweep) in said else f"costs {paid}"
        else:
            paid = f"costs {paid}"
        said.setdefault(_key(sweep), []).append(paid)
    sizes = {_key(sweep): (sweep["axis"], sweep["sizes"][-1]["size"]) for sweep in sweeps}
    return [
        f"at {_sized(*sizes[key])} your tuned rate {', '.join(told)} ({key[1]})"
        for key, told in said.items()
    ]


def _key(sweep: ToldSweep) -> tuple[str, str]:
    return sweep["axis"], _run(sweep)


def _run(sweep: ToldSweep) -> str:
    schedule = {
        "constant": "at a constant rate",
        "cosine": "under cosine decay",
        "linear": "under linear decay",
        "wsd": "under a stable rate with linear decay",
        "own": "under the factory's schedule",
    }[sweep["schedule"]]
    updates = sweep["steps"]
    return f"{updates} update{'' if updates == 1 else 's'} {schedule}"


def _sized(axis: str, size: int) -> str:
    return f"head dimension {size}" if axis == "head_dim" else f"{size} {axis}"


def sweep_verdict(sweep: ToldSweep) -> str:
    """Whether the best rate of the base serves the largest size, in the words of the verdict rule.

    Args:
        sweep: as `TransferSweep.to_json` tells it, with its parameterization.
    """
    verdict, last, seeds = sweep["verdict"], sweep["sizes"][-1], sweep["seeds"]
    kind = _KINDS.get(sweep["parameterization"], sweep["parameterization"])
    sizes = [row["size"] for row in sweep["sizes"]]
    along = f"along {sweep['axis']} {sizes[0]} to {sizes[-1]} after {_run(sweep)}"
    if seeds < ENOUGH_SEEDS:
        few = "one seed" if seeds == 1 else f"{seeds} seeds"
        asked = f"pass --seeds {ENOUGH_SEEDS} or more"
        return f"{kind} {along}: inconclusive with {few} ({asked}): {verdict}"
    said = {
        Verdict.supported.value: "the base's best rate serves the largest size",
        Verdict.refuted.value: "the base's best rate does not serve the largest size",
        Verdict.underpowered.value: "these runs do not tell whether the base's best rate serves",
    }[verdict]
    bound = "at least" if last["bound"] else ""
    regret = with_error(last["regret"], last["regret_stderr"], bound=bound, unit="nats")
    return (
        f"{kind} {said} {along} (drift {sweep['optimum_drift_in_words']}, tolerance "
        f"{DRIFT_TOLERANCE} decades; regret {regret}, tolerance {REGRET_TOLERANCE}"
        f"{_why(sweep)}): {verdict}"
    )


def _why(sweep: ToldSweep) -> str:
    """What keeps a sweep from a verdict."""
    last = sweep["sizes"][-1]
    if sweep["verdict"] != Verdict.underpowered.value:
        return ""
    if last["bound"] or sweep["sizes"][0]["bound"]:
        return "; the grid ends before the optimum: widen --log2-rates"
    if last["censored"] > CENSORED:
        part = f"{last['censored']:.0%}"
        return f"; in {part} of the resamples an optimum is at an end: widen --log2-rates"
    return "; add seeds"
