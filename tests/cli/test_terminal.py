"""Text from runs and configurations on terminals of any encoding: shown, never obeyed."""

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from translimit.cli import tables
from translimit.cli.terminal import plain, printable
from translimit.core import Verdict
from translimit.experiments import Audit

#: Brackets, markup that closes nothing, a colour, a title, a bell, a turn of direction, a new line
#: without a line break, letters of one half.
HOSTILE = "A[i, j] [/x] [red]no[/red] \x1b[31mred \x1b]0;title\x07 \u202eabc \x9b31m \r over \ud800"
SHOWN = (
    r"A[i, j] [/x] [red]no[/red] \x1b[31mred \x1b]0;title\x07 "
    r"\u202eabc \x9b31m \r over \ud800"
)


def claim(text):
    return {
        "name": text,
        "statement": text,
        "one_sided": True,
        "prediction": 1.0,
        "estimate": {"value": 1.0},
        "floor": 0.1,
        "gap": 0.0,
        "tol": 0.1,
        "verdict": text,
        "rivals": [{"name": text, "excluded_by": 5.0, "refuted": True}],
        "nearest": text,
        "remark": text,
    }


def documents(text):
    """Every table with the text wherever a run, a model or a configuration could have put it."""
    cell = {"name": text, "state": "whole", "seconds": 1.0, "memory_bytes": 1e9}
    kept = {"experiment": text, "cell": text, "state": text, "seconds": 1.0}
    row = {
        "coordinate": text,
        "updates": 0,
        "exponent": 0.0,
        "stderr": 0.1,
        "interval": (0.0, 1.0),
        "bends": False,
        "expected": 0.0,
        "verdict": text,
    }
    best = dict.fromkeys(
        ("log10_optimum", "stderr", "loss_at_optimum", "loss_at_optimum_stderr"), 0.1
    ) | {
        "loss_at_base_rate": 0.1,
        "loss_at_base_rate_stderr": 0.1,
        "bound": "at most",
        "size": text,
    }
    one = {
        "name": text,
        "title": text,
        "presets": {
            text: {
                "seconds": 1.0,
                "memory_bytes": 1.0,
                "claims": [text],
                "left_out": [{"cell": text, "reason": text}],
            }
        },
    }
    plan = {"name": text, "cells": [cell], "seconds": 1.0, "memory_bytes": 1.0}
    return {
        "experiments": (tables.experiments_table([one]), 3),
        "of presets": (tables.claims_of_presets(one), 4),
        "claims": (tables.claims_table({text: [claim(text)]}), 6),
        "audit": (tables.audit_table({text: Audit(1, (text,), 1, ())}), 2),
        "plan": (tables.plan_table({"experiments": [plan]}), 2),
        "status": (tables.status_table({"cells": [{**kept, "problem": text, "error": None}]}), 4),
        "many": (
            tables.status_table({"cells": [{**kept, "problem": None, "error": text}] * 100}),
            400,
        ),
        "coordinates": (tables.coordinates_table([{"axis": text, "steps": [1], "rows": [row]}]), 3),
        "transfer": (
            tables.transfer_table(
                [{"axis": text, "parameterization": text, "steps": 1, "sizes": [best]}]
            ),
            3,
        ),
    }


def drawn(table):
    """What a terminal of any width and with colours would be sent."""
    out = io.StringIO()
    Console(file=out, width=4000, force_terminal=True, color_system="truecolor").print(table)
    return out.getvalue()


@pytest.mark.parametrize("name", documents("x"))
def test_a_table_shows_its_text_and_obeys_none_of_it(name):
    table, times = documents(HOSTILE)[name]
    sent = drawn(table)
    assert sent.count(SHOWN) == times
    tame, _ = documents("x" * len(SHOWN))[name]
    # Not one colour or movement more than with letters in its place.
    assert sent.replace(SHOWN, "x" * len(SHOWN)) == drawn(tame)


def test_every_table_is_looked_at():
    made = {name for name in vars(tables) if name.endswith("_table") and name != "_table"}
    looked_at = {f"{name}_table" for name in documents("x")} - {"many_table"}
    assert made - looked_at == {"rules_table"}  # roles and numbers only


def test_verdicts_have_their_colours():
    word = Verdict.supported.value
    assert "\x1b[32m" in drawn(tables.claims_table({"a": [{**claim("a"), "verdict": word}]}))


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "± ≤ é 漢 🙂"])
def test_ordinary_text_stays(text):
    assert printable(text) == text
    assert plain(text).plain == text


@pytest.fixture(scope="module")
def run(finished_run):
    """A finished run with a hostile name in its ledger."""
    path = finished_run("fake_experiments:EXPERIMENT")
    ledger = json.loads((path / "claims.json").read_text())
    for claims in ledger["experiments"].values():
        claims[0]["statement"] = f"{HOSTILE[:-1]} ± ≤ “é” 漢"
        claims[0]["one_sided"] = True
    (path / "claims.json").write_text(json.dumps(ledger))
    return path


def told(*words, encoding="utf-8"):
    """Status, standard output and standard error of a command, as bytes."""
    search = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": search}
    environment.pop("PYTHONUTF8", None)
    done = subprocess.run(
        [sys.executable, "-m", "translimit", *map(str, words)],
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "encoding",
    ["cp1252", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ascii", "latin-1"))],
)
def test_every_command_prints_on_terminals_that_are_not_utf_8(run, tmp_path, encoding):
    missing = tmp_path / "± ≤ 漢.json"
    for words in (
        ("claims", run),
        ("status", run),
        ("list",),
        ("--help",),
        ("run", "--help"),
        ("predict", missing),
        ("cite", "noci2023"),
    ):
        status, out, err = told(*words, encoding=encoding)
        expected, wide_out, wide_err = told(*words)
        assert status == expected
        assert b"Traceback" not in err
        assert (bool(out), bool(err)) == (bool(wide_out), bool(wide_err))
        (out + err).decode(encoding)
        if words[0] == "claims":
            assert b"+-" in out or encoding != "ascii"
            assert b"\x1b" not in out
            assert len({len(line) for line in out.decode(encoding).splitlines()}) == 1
            assert b"<= " in out
            assert b"A[i, j] [/x]" in b" ".join(out.split())
        if words[0] == "predict":
            assert err.count(b"\n") == 1


def test_a_document_is_the_same_on_every_terminal(run):
    documents = [
        json.loads(told("claims", run, "--json", encoding=encoding)[1].decode(encoding))
        for encoding in ("utf-8", "ascii", "cp1252")
    ]
    assert documents[0] == documents[1] == documents[2]
