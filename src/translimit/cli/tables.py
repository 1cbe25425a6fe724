"""Tables for people: what `--json` gives to programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_COLOURS = {
    "supported": "green",
    "refuted": "red",
    "underpowered": "yellow",
    "whole": "green",
    "missing": "yellow",
    "damaged": "red",
}


def experiments_table(experiments: Iterable[Mapping[str, Any]]) -> Table:
    """The experiments, as `translimit list --json` describes them."""
    table = _table("experiment", "what", "claims", "presets, on one core")
    for one in experiments:
        presets = [f"{name}: {_duration(c['seconds'])}" for name, c in one["presets"].items()]
        table.add_row(one["name"], one["title"], "\n".join(one["claims"]), "\n".join(presets))
    return table


def claims_table(ledger: Mapping[str, Iterable[Mapping[str, Any]]]) -> Table:
    """The ledger of a run by experiment."""
    table = _table("experiment", "claim", "prediction", "estimate", "gap", "tol", "verdict")
    for experiment, claims in ledger.items():
        for claim in claims:
            estimate = claim["estimate"]
            table.add_row(
                experiment,
                f"{claim['name']}: {claim['statement']}",
                f"{'≤ ' if claim.get('one_sided') else ''}{claim['prediction']:.4g}",
                f"{estimate['value']:.4g} ± {claim['floor']:.2g}",
                f"{claim['gap']:.2g}",
                f"{claim['tol']:.2g}",
                _coloured(claim["verdict"]),
            )
    return table


def status_table(status: Mapping[str, Any]) -> Table:
    """The cells of a run, as `translimit status --json` describes them."""
    errors = {failure["cell"]: failure["error"] for failure in status["failed"]}
    table = _table("experiment", "cell", "state", "seconds", "")
    for cell in status["cells"]:
        seconds = "" if cell["seconds"] is None else f"{cell['seconds']:.1f}"
        why = cell["problem"] or errors.get(f"{cell['experiment']}: {cell['cell']}", "")
        row = cell["experiment"], cell["cell"], _coloured(cell["state"]), seconds, why
        table.add_row(*row)
    return table


def coordinates_table(checks: Iterable[Mapping[str, Any]]) -> Table:
    """Exponents of coordinate checks: after the last update, and whatever is not supported."""
    table = _table("axis", "coordinate", "updates", "exponent", "95 % interval", "rules", "verdict")
    for check in checks:
        last = check["steps"][-1]
        for row in check["rows"]:
            told = row["verdict"] in ("refuted", "underpowered")
            if row["verdict"] == "still" or not (told or row["updates"] in (0, last)):
                continue
            low, high = row["interval"]
            table.add_row(
                check["axis"],
                row["coordinate"].replace("_", " "),
                str(row["updates"]),
                f"{row['exponent']:+.2f} ± {row['stderr']:.2f}",
                f"[{low:+.2f}, {high:+.2f}]",
                f"{row['expected']:+.2f}",
                _coloured(row["verdict"]),
            )
    return table


def transfer_table(sweeps: Iterable[Mapping[str, Any]]) -> Table:
    """Optima of transfer sweeps, and losses at them and at the base's."""
    table = _table(
        "axis", "parameterization", "size", "log10 of best rate", "lowest loss", "at base's rate"
    )
    for sweep in sweeps:
        for row in sweep["sizes"]:
            edge = " (edge)" if row["edge"] else ""
            table.add_row(
                sweep["axis"],
                sweep["parameterization"],
                str(row["size"]),
                f"{row['log10_optimum']:.2f} ± {row['stderr']:.2f}{edge}",
                f"{row['loss_at_optimum']:.3f} ± {row['loss_at_optimum_stderr']:.3f}",
                f"{row['loss_at_base_rate']:.3f} ± {row['loss_at_base_rate_stderr']:.3f}",
            )
    return table


def rules_table(groups: Mapping[Any, Iterable[Any]]) -> Table:
    """Rules of `translimit scale`: what equal rules have in common is one row."""
    columns = {
        "mult": "multiplier",
        "init": "start",
        "lr": "learning rate",
        "eps": "epsilon",
        "wd": "weight decay",
    }
    table = _table("parameters", *columns.values())
    for rule, roles in groups.items():
        names = ", ".join(role.value.replace("_", " ") for role in roles)
        values = (getattr(rule, name) for name in columns)
        table.add_row(names, *("" if value is None else f"{value:.6g}" for value in values))
    return table


def _table(*columns: str) -> Table:
    table = Table(show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _coloured(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, ""))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
