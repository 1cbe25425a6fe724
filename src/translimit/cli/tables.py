"""Tables for people: what `--json` gives to programs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from translimit.cli.terminal import plain
from translimit.core import format_count, with_error

if TYPE_CHECKING:
    from translimit.checks import CheckRecord, ExponentRow, SizeRow
    from translimit.cli.user_checks import ToldSweep
    from translimit.describe import Role, RoleRule
    from translimit.experiments import Audit
    from translimit.store import ClaimRecord
    from translimit.study import CellNeeds, ForecastRecord, RunStatus

#: Cells above which a table of a run shows no longer every one.
_MANY = 60
_COLOURS = {
    "supported": "green",
    "refuted": "red",
    "underpowered": "yellow",
    "whole": "green",
    "missing": "yellow",
    "damaged": "red",
    "failed": "red",
    "running": "cyan",
}


def experiments_table(experiments: Iterable[Mapping[str, Any]]) -> Table:
    """The experiments, as `translimit list --json` describes them."""
    table = _table("experiment", "what", "claims", "presets, on one core")
    for one in experiments:
        presets = [
            f"{name}: {duration(c['seconds'])}, {_bytes(c['memory_bytes'])}"
            for name, c in one["presets"].items()
        ]
        counts = {name: len(c["claims"]) for name, c in one["presets"].items()}
        alike = len(set(counts.values())) == 1
        claims = [f"{name}: {count}" for name, count in counts.items()]
        said = str(next(iter(counts.values()))) if alike else "\n".join(claims)
        _add_row(table, one["name"], one["title"], said, "\n".join(presets))
    return table


def claims_of_presets(experiment: Mapping[str, Any]) -> Table:
    """The claims of an experiment, with the presets that check them, and what is left out."""
    presets = experiment["presets"]
    table = _table("claim", *map(plain, presets))
    names = dict.fromkeys(name for one in presets.values() for name in one["claims"])
    for name in names:
        marks = ("checked" if name in one["claims"] else "" for one in presets.values())
        _add_row(table, name, *marks)
    holes = {h["cell"]: h["reason"] for one in presets.values() for h in one["left_out"]}
    for cell, reason in holes.items():
        left = ([h["cell"] for h in one["left_out"]] for one in presets.values())
        _add_row(table, f"{cell}: {reason}", *("left out" if cell in c else "" for c in left))
    return table


def claims_table(ledger: Mapping[str, Iterable[ClaimRecord]]) -> Table:
    """The ledger of a run by experiment."""
    columns = ("prediction", "estimate", "gap", "tol", "nearest rival", "verdict")
    table = _table("experiment", "claim", *columns)
    for experiment, claims in ledger.items():
        for claim in claims:
            estimate = claim["estimate"]
            _add_row(
                table,
                experiment,
                f"{claim['name']}: {claim['statement']}",
                f"{'≤ ' if claim.get('one_sided') else ''}{claim['prediction']:.4g}",
                with_error(estimate["value"], claim["floor"], ".4g", ".2g"),
                with_error(claim["gap"], 0.0, ".2g"),
                f"{claim['tol']:.2g}",
                _nearest(claim),
                _coloured(claim["verdict"]).append_text(plain(_remark(claim))),
            )
    return table


def audit_table(audits: Mapping[str, Audit]) -> Table:
    """What wrong theories came to, by experiment."""
    table = _table("experiment", "rivals swapped in", "supported", "times 1.1", "refuted")
    for name, one in audits.items():
        supported = "\n".join(one.supported) or "none"
        refuted = f"{len(one.refuted)}" if one.refuted else "none"
        _add_row(table, name, str(one.swaps), supported, str(one.disturbed), refuted)
    return table


def _nearest(claim: ClaimRecord) -> str:
    """The rival that came nearest, and by how many standard errors it is excluded."""
    for rival in claim.get("rivals", []):
        if rival["name"] == claim.get("nearest"):
            by = rival["excluded_by"]
            word = "excluded" if rival["refuted"] else "not excluded"
            return f"{rival['name']}: {word}" + (f" ({by:.3g} s.e.)" if math.isfinite(by) else "")
    return ""


def _remark(claim: ClaimRecord) -> str:
    said = claim.get("remark", "")
    return f"\n{said}" if said else ""


#: States of cells that a run does not compute: in its folder, or in the store it fetches from.
_THERE = ("whole", "stored")


def plan_table(plan: ForecastRecord) -> Table:
    """The cells of a run before it starts, as `translimit run --plan --json` describes them."""
    table = _table("experiment", "cells", "whole", "memory", "on one core")
    for one in plan["experiments"]:
        cells = one["cells"]
        whole = sum(cell["state"] in _THERE for cell in cells)
        seconds = duration(one["seconds"])
        memory = _bytes(one["memory_bytes"])
        count = format_count(len(cells), "cell")
        _add_row(table, one["name"], count, str(whole), memory, f"left: {seconds}")
        for name, group in _groups(cells).items():
            whole = sum(cell["state"] in _THERE for cell in group)
            each = _span([cell["seconds"] for cell in group], duration)
            memory = _span([cell["memory_bytes"] for cell in group], _bytes)
            many = f" ({len(group)})" if len(group) > 1 else ""
            _add_row(table, "", f"{name}{many}", str(whole), memory, each, style="dim")
    return table


def plan_summary(plan: ForecastRecord) -> list[str]:
    """What a run needs, in sentences."""
    left = plan["cells"] - plan["whole"]
    if not left:
        stored = sum(c["state"] == "stored" for one in plan["experiments"] for c in one["cells"])
        where = plan["path"] + (f" or in the store ({stored})" if stored else "")
        return [f"all {plan['cells']} cells are whole in {where}: only claims are checked"]
    lines = [
        f"{left} of {plan['cells']} cells are to be computed: "
        f"about {duration(plan['seconds'])} on one core"
    ]
    if plan["workers"] is not None and plan["wall_seconds"] is not None:
        at_once = min(plan["workers"], left)
        largest = max(one["memory_bytes"] for one in plan["experiments"])
        lines[0] += f", {duration(plan['wall_seconds'])} with {_count(at_once, 'worker')}"
        lines.append(
            f"memory: up to {_bytes(largest)} a worker; "
            f"{_bytes(plan['available_memory_bytes'])} are free here"
        )
    return [*lines, f"folder: {plan['path']}", f"start it with: {plan['command']}"]


def status_table(status: RunStatus) -> Table:
    """The cells of a run, as `translimit status --json` describes them.

    Of many cells, those that are running or went wrong; the others are counted.
    """
    table = _table("experiment", "cell", "state", "seconds", "")
    cells = status["cells"]
    if len(cells) > _MANY:
        calm = Counter(
            (cell["experiment"], cell["state"])
            for cell in cells
            if cell["state"] in ("whole", "missing")
        )
        for (experiment, state), number in calm.items():
            _add_row(table, experiment, _count(number, "cell"), _coloured(state), "", "")
        cells = [cell for cell in cells if cell["state"] not in ("whole", "missing")]
    for cell in cells:
        seconds = "" if cell["seconds"] is None else f"{cell['seconds']:.1f}"
        why = cell["problem"] or cell["error"] or ""
        row = cell["experiment"], cell["cell"], _coloured(cell["state"]), seconds, why
        _add_row(table, *row)
    return table


def status_summary(status: RunStatus) -> list[str]:
    """How a run stands, in sentences."""
    words = [f"{status['whole']} of {len(status['cells'])} cells are whole"]
    words += [f"{status[key]} {key}" for key in ("running", "failing", "damaged") if status[key]]
    lines = [f"{status['status']}: {', '.join(words)}"]
    if status["slowest"]:
        slow = (f"{one['cell']} ({duration(one['seconds'])})" for one in status["slowest"])
        lines.append(f"slowest: {', '.join(slow)}")
    if status["seconds_left"] is not None and status["whole"] < len(status["cells"]):
        left = f"left: about {duration(status['seconds_left'])} on one core"
        if status["workers"] and status["wall_seconds_left"] is not None:
            wall = duration(status["wall_seconds_left"])
            left += f", {wall} with {_count(status['workers'], 'worker')}"
        lines.append(left)
    if status["status"] not in ("complete", "running"):
        lines.append(f"finish it with: {status['command']}")
    return lines


def coordinates_table(checks: Iterable[CheckRecord]) -> Table:
    """Exponents of coordinate checks: after the last update, and whatever is not supported."""
    table = _table("axis", "coordinate", "updates", "exponent", "95 % interval", "rules", "verdict")
    for check in checks:
        last = check["steps"][-1]
        for row in check["rows"]:
            told = row["verdict"] in ("refuted", "underpowered")
            if row["verdict"] == "still" or not (told or row["updates"] in (0, last)):
                continue
            low, high = row["interval"]
            _add_row(
                table,
                check["axis"],
                row["coordinate"].replace("_", " "),
                str(row["updates"]),
                _exponent_cell(row),
                f"[{low:+.2f}, {high:+.2f}]" if math.isfinite(high - low) else "none",
                f"{row['expected']:+.2f}",
                _coloured(row["verdict"]),
            )
    return table


def _exponent_cell(row: ExponentRow) -> str:
    """An exponent with its error; with its finite-size term where that is seen."""
    plain = with_error(row["exponent"], row["stderr"], "+.2f")
    if not row["bends"]:
        return plain
    settled = with_error(row["settled"], row["settled_stderr"], "+.2f")
    return f"{plain}, bends: {settled}"


def transfer_table(sweeps: Iterable[ToldSweep]) -> Table:
    """Optima of transfer sweeps, and losses at them and at the base's."""
    told = list(sweeps)
    several = len({one["steps"] for one in told}) > 1
    updates = ("updates",) if several else ()
    table = _table(
        *("axis", *updates, "parameterization", "size", "log10 of best rate"),
        *("lowest loss", "at base's rate", "regret"),
    )
    for sweep in told:
        for row in sweep["sizes"]:
            best = with_error(row["log10_optimum"], row["stderr"], bound=row["bound"])
            _add_row(
                table,
                sweep["axis"],
                *((str(sweep["steps"]),) if several else ()),
                sweep["parameterization"],
                str(row["size"]),
                f"{best} (edge)" if row["bound"] else best,
                with_error(row["loss_at_optimum"], row["loss_at_optimum_stderr"], ".3f"),
                with_error(row["loss_at_base_rate"], row["loss_at_base_rate_stderr"], ".3f"),
                "" if row is sweep["sizes"][0] else _regret(row),
            )
    return table


def _regret(row: SizeRow) -> str:
    bound = "at least" if row["bound"] else ""
    return with_error(row["regret"], row["regret_stderr"], bound=bound)


def rules_table(groups: Mapping[RoleRule, Iterable[Role]], lr: float | None = None) -> Table:
    """Rules of `translimit scale`: what equal rules have in common is one row.

    Args:
        groups: roles by rule.
        lr: the rate tuned at the base, where rates are told in absolute numbers as well.
    """
    columns = {
        "mult": "multiplier",
        "init": "start",
        "lr": "learning rate",
        "eps": "epsilon",
        "wd": "weight decay",
    }
    absolute = () if lr is None else (f"rate at {lr:g}",)
    table = _table("parameters", *columns.values(), *absolute)
    for rule, roles in groups.items():
        names = ", ".join(role.value.replace("_", " ") for role in roles)
        values = [getattr(rule, name) for name in columns]
        values += [] if lr is None else [None if rule.lr is None else lr * rule.lr]
        _add_row(table, names, *("" if value is None else f"{value:.6g}" for value in values))
    return table


def rows_of(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table of plain text."""
    table = _table(*columns)
    for row in rows:
        _add_row(table, *row)
    return table


def _table(*columns: str | Text) -> Table:
    table = Table(show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add_row(table: Table, *cells: str | Text, style: str | None = None) -> None:
    """A row whose text is shown as it is."""
    table.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in cells), style=style)


def _coloured(word: str) -> Text:
    return plain(word, _COLOURS.get(word, ""))


def _groups(cells: Iterable[CellNeeds], most: int = 12) -> dict[str, list[CellNeeds]]:
    """Cells by name; where there are many, by the name without its numbers, then by its start."""
    cells = list(cells)
    names = (
        lambda name: name,
        lambda name: re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "*", name),
        lambda name: f"{re.split('[/=]', name)[0]}...",
    )
    groups: dict[str, list[CellNeeds]] = {}
    for shorten in names:
        groups = {}
        for cell in cells:
            groups.setdefault(shorten(cell["name"]), []).append(cell)
        if len(groups) <= most:
            break
    return groups


def _span(values: Iterable[float], written: Callable[[float], str]) -> str:
    """The smallest and the largest value, or one where they read the same."""
    values = list(values)
    low, high = written(min(values)), written(max(values))
    return low if low == high else f"{low} to {high}"


def _bytes(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB" if math.isfinite(amount) else "unknown"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def duration(seconds: float) -> str:
    """A duration, roughly.

    Args:
        seconds: of it.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 3 * 86400 else f"{seconds / 86400:.0f} days"
