"""The shipped ledger of horizons, from runs of `horizons/ledger` and `horizons/ledger-text`.

`:::: horizons` on a page becomes its table.

`python docs/hooks/horizons.py RUN...` writes `src/translimit/scaling/horizons.json`: the records of
all cells that are whole, and of every run its digest, version and command. Records of the same cell
in an older file are replaced, all else is kept.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "src" / "translimit" / "scaling" / "horizons.json"
#: What tells a record from others.
CELL = ("data", "optimizer", "axis", "schedule", "steps", "multiple")


def ledger_of(runs: list[Path], before: dict[str, Any]) -> dict[str, Any]:
    """The document of some runs, added to one that stands.

    Args:
        runs: folders of runs, whole or not.
        before: the document that stands.
    """
    from translimit.core import StoreError, config
    from translimit.experiments import Found, get_experiment
    from translimit.experiments.horizons import results
    from translimit.scaling.horizons import FORMAT
    from translimit.store import RunFolder

    told = {tuple(one[key] for key in CELL): one for one in before.get("horizons", [])}
    origins = {one["digest"]: one for one in before.get("runs", [])}
    for path in runs:
        run = RunFolder.open(path)
        for name in run.experiments:
            entry = run.experiment(name)
            experiment = get_experiment(name)
            kind = type(experiment.presets["standard"])
            cells = {}
            for cell in entry["cells"]:
                try:
                    cells[cell["name"]] = run.read_cell(name, cell["name"])
                except StoreError:
                    continue  # not computed
            found = Found(config.from_json(kind, entry["config"]), cells)
            digest = run.info["digest"][:12]
            for one in results.horizons(found, digest):
                row = asdict(one)
                told[tuple(row[key] for key in CELL)] = row
            origins[digest] = {
                "digest": digest,
                "translimit": run.info["translimit"],
                "started": run.info["started"][:10],
                "command": re.sub(r" --(out|workers) \S+", "", run.info["command"]),
                "whole": len(cells) == len(entry["cells"]),
            }
    used = {one["digest"] for one in told.values()}
    return {
        "format": FORMAT,
        "runs": [origins[digest] for digest in sorted(used)],
        "horizons": [told[key] for key in sorted(told)],
    }


def table() -> str:
    """The records that ship, with the commands of their runs."""
    document = json.loads(SHIPPED.read_text(encoding="utf-8"))
    rows = [
        "| data | optimiser | axis | schedule | steps | epochs | seeds | drift (decades) | "
        "regret (nats) | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in document["horizons"]:
        drift = f"{one['optimum_drift']:+.2f} ± {one['optimum_drift_error']:.2f}"
        regret = f"{one['regret']:+.2f} ± {one['regret_error']:.2f}"
        told = (
            *(one["data"], one["optimizer"], f"{one['axis']} x{one['multiple']:g}"),
            *(one["schedule"], str(one["steps"]), f"{one['epochs']:.2g}", str(one["seeds"])),
            *(drift.replace("-", "\N{MINUS SIGN}"), regret.replace("-", "\N{MINUS SIGN}")),
            one["verdict"],
        )
        rows.append(f"| {' | '.join(told)} |")
    commands = [one["command"] for one in document["runs"]]
    return "\n".join([*rows, "", "```sh", *commands, "```"])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the tables of a page (an event of MkDocs)."""
    return re.sub(r"^:::: horizons$", lambda _: table(), markdown, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    stood = json.loads(SHIPPED.read_text(encoding="utf-8")) if SHIPPED.exists() else {}
    document = ledger_of(list(map(Path, sys.argv[1:])), stood)
    SHIPPED.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
