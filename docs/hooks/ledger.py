"""Coverage of the papers, and what is registered: tables from the package and from stored runs.

- `:::: statements PAPER` on a page becomes the table of a paper's statements, each with the claims
  that test it, their rivals and their verdicts, and what is not done.
- `assets/registered-claims.csv` has tolerances and rivals of all claims; a test compares it.
- `assets/ledger.json` has the verdicts of stored runs, which these tables quote.

`python docs/hooks/ledger.py` writes the first, `python docs/hooks/ledger.py RUN...` both; what runs
say takes the place of what stood there of their experiments, all else is kept.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
REGISTERED = ROOT / "docs" / "assets" / "registered-claims.csv"
LEDGER = ROOT / "docs" / "assets" / "ledger.json"


def registered() -> str:
    """The table of all claims with their tolerances and rivals."""
    _package()
    from translimit.experiments.registered import COLUMNS, registered_claims

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *registered_claims()])
    return text.getvalue()


def ledger_of(runs: Iterable[Path], before: Mapping[str, Any]) -> dict[str, Any]:
    """The verdicts of runs by experiment, with the command that made each.

    Of two runs of an experiment the later in the list counts.

    Args:
        runs: folders of runs.
        before: the verdicts that stand already; those of other experiments are kept, as far as
            there still are such claims.
    """
    _package()
    from translimit.core import Claim
    from translimit.experiments import all_experiments
    from translimit.store import RunFolder

    told: dict[str, Any] = {}
    for name, experiment in all_experiments().items():
        if stood := before.get(name):
            names = set(experiment.claim_names(experiment.presets[stood["preset"]]))
            kept = {claim: one for claim, one in stood["claims"].items() if claim in names}
            told[name] = {**stood, "claims": kept}
    for path in runs:
        run = RunFolder.open(path)
        for name, claims in run.claims().items():
            told[name] = {
                "version": run.info["translimit"],
                "preset": run.info["preset"],
                "seed": run.info["seed"],
                "claims": {one["name"]: _short(Claim.from_json(one)) for one in claims},
            }
    return dict(sorted(told.items()))


def _short(claim: Any) -> dict[str, Any]:
    nearest = claim.nearest
    by = None if nearest is None else claim.excluded_by(nearest)
    finite = by is not None and by == by and abs(by) != float("inf")
    return {
        "verdict": claim.verdict.value,
        "value": float(f"{claim.estimate.value:.6g}"),
        "error": float(f"{claim.floor:.2g}"),
        "prediction": float(f"{claim.prediction:.6g}"),
        "tol": claim.tol,
        "nearest": None if nearest is None else nearest.name,
        "excluded_by": float(f"{by:.3g}") if finite else None,
        "errata": len(claim.errata),
        "remark": claim.remark,
    }


def statements(paper: str) -> str:
    """The table of a paper's statements."""
    _package()
    from translimit.experiments import all_experiments
    from translimit.experiments.statements import statements_of

    found = {n: one for n, one in all_experiments().items() if n.startswith(f"{paper}/")}
    rivals = {
        f"{name.partition('/')[2]}/{claim}": [rival.name for rival in claims.rivals]
        for name, one in found.items()
        for claims in one.claims
        for claim in claims.names(one.presets["standard"])
    }
    ledger = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
    rows = ["| statement | tested by | rivals | verdicts |", "|---|---|---|---|"]
    for one in statements_of(paper):
        names = one.tested_by(list(rivals))
        against = dict.fromkeys(rival for name in names for rival in rivals[name])
        tested = "<br>".join(f"`{pattern}`" for pattern in one.claims) or "not done"
        verdicts = _verdicts(paper, names, ledger)
        note = one.filled(lambda name: _estimate(paper, name, ledger))
        said = one.says + (f" *{note}*" if note else "")
        said += f" *Not done: {one.missing}*" if one.missing else ""
        rows.append(
            "| " + " | ".join(map(_cell, (said, tested, "; ".join(against), verdicts))) + " |"
        )
    return "\n".join(rows)


def _verdicts(paper: str, names: list[str], ledger: dict[str, Any]) -> str:
    """Verdicts of claims by preset."""
    counts: dict[str, Counter[str]] = {}
    for name in names:
        experiment, _, claim = name.partition("/")
        stored = ledger.get(f"{paper}/{experiment}", {})
        one = stored.get("claims", {}).get(claim)
        preset = stored["preset"] if one else "not run"
        counts.setdefault(preset, Counter())[one["verdict"] if one else "claims"] += 1
    told = (
        f"{preset}: " + ", ".join(f"{n} {word}" for word, n in sorted(found.items(), reverse=True))
        for preset, found in counts.items()
    )
    return "<br>".join(told)


def _estimate(paper: str, name: str, ledger: dict[str, Any]) -> str:
    """What a stored run measured, with its error and its preset."""
    experiment, _, claim = name.partition("/")
    stored = ledger.get(f"{paper}/{experiment}", {})
    if claim not in stored.get("claims", {}):
        return "not run"
    one = stored["claims"][claim]
    places = max(0, 1 - math.floor(math.log10(one["error"]))) if one["error"] else 6
    value = f"{one['value']:.{places}f}".replace("-", "−")
    return f"{value} ± {one['error']:.{places}f} ({stored['preset']})"


def _cell(text: str) -> str:
    """Text in a cell: a bar ends it, but within formulas, which are taken out before."""
    return re.sub(r"(\$[^$]+\$)|\|", lambda match: match[1] or r"\|", text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the tables of a page (an event of MkDocs)."""
    pattern = re.compile(r"^:::: statements (\w+)$", re.MULTILINE)
    return pattern.sub(lambda match: statements(match[1]), markdown)


def _package() -> None:
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


if __name__ == "__main__":
    REGISTERED.write_text(registered(), encoding="utf-8")
    if runs := sys.argv[1:]:
        stood = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
        told = ledger_of(map(Path, runs), stood)
        text = json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True)
        LEDGER.write_text(text + "\n", encoding="utf-8")
