"""What the documentation says of claims is what the code registers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from tests.docs.test_hooks import hook

from translimit import store
from translimit.core import Claim, Estimate, Rival
from translimit.experiments import all_experiments
from translimit.experiments.registered import COLUMNS, registered_claims
from translimit.experiments.statements import Statement, statements_of

PAPERS = ("bordelon2024", "castin2025", "koubbi2026", "noci2023")


def test_the_registered_claims_are_those_of_the_code() -> None:
    ledger = hook("ledger")
    stored = ledger.REGISTERED.read_text(encoding="utf-8")
    assert stored == ledger.registered(), "run `make ledger`"


def test_runs_take_the_place_of_what_stood_of_their_experiments(monkeypatch) -> None:
    ledger = hook("ledger")
    stood = json.loads(ledger.LEDGER.read_text(encoding="utf-8"))
    rerun, kept = "koubbi2026/moebius", "koubbi2026/laplace"
    gone = {"castin2025/no-such-experiment": stood[kept]}
    before = {rerun: stood[rerun], kept: stood[kept], **gone}
    before[kept]["claims"]["no-such-claim"] = {}
    claim = Claim("new", "", 1.0, Estimate(1.0, 0.1), 0.5, rivals=(Rival("twice", 2.0),))
    run = SimpleNamespace(
        info={"translimit": "0.2", "preset": "standard", "seed": 3},
        claims=lambda: {rerun: [claim.to_json()]},
    )
    monkeypatch.setattr(store, "RunFolder", SimpleNamespace(open=lambda path: run))
    told = ledger.ledger_of([Path("run")], before)
    assert list(told) == [kept, rerun]
    assert told[rerun]["preset"] == "standard"
    assert told[rerun]["claims"]["new"]["verdict"] == "supported"
    assert list(told[rerun]["claims"]) == ["new"]
    del before[kept]["claims"]["no-such-claim"]
    assert told[kept] == before[kept]


def test_every_claim_names_a_rival_and_a_tolerance() -> None:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in registered_claims()]
    assert [row["claim"] for row in rows if not row["rivals"]] == []
    assert [row["claim"] for row in rows if "nan" in row["tolerance"]] == []


def test_statements_name_claims_that_exist_or_say_why_not() -> None:
    for paper in PAPERS:
        names = [
            f"{name.partition('/')[2]}/{claim}"
            for name, one in all_experiments().items()
            if name.startswith(f"{paper}/")
            for claim in one.claim_names(one.presets["standard"])
        ]
        told: set[str] = set()
        for statement in statements_of(paper):
            assert statement.claims or statement.missing, statement.says
            for pattern in statement.claims:
                found = Statement("", (pattern,)).tested_by(names)
                assert found, (paper, pattern)
                told.update(found)
        assert sorted(set(names) - told) == [], "a claim of the paper is in no line"


def test_a_note_quotes_what_a_stored_run_measured() -> None:
    ledger = hook("ledger")
    stored = {"preset": "demo", "claims": {"a-1": {"value": -0.0874, "error": 0.012}}}
    one = Statement("", ("a/*",), note="It is {one-run/a-1}, of $N^{1/2}$; {one-run/b} is left.")
    told = one.filled(lambda name: ledger._estimate("p", name, {"p/one-run": stored}))
    assert told == "It is −0.087 ± 0.012 (demo), of $N^{1/2}$; not run is left."
    for paper in PAPERS:
        assert "not run" not in ledger.statements(paper).replace("not run:", "")


def test_the_coverage_of_a_paper_is_a_table() -> None:
    rows = hook("ledger").statements("noci2023").splitlines()
    assert len(rows) == 2 + len(statements_of("noci2023"))
    assert all(row.count("|") >= 5 for row in rows)
