"""The files of a run name no code: what may be loaded is what the user typed or installed."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest

from translimit.cli import main
from translimit.cli.arguments import COMMANDS
from translimit.cli.options import OwnCode

ONE = "fake_experiments:EXPERIMENT"
EVIL = "evil_code:EXPERIMENT"
#: Code that says that it was run, and would pass for the experiment.
PLANTED = "open('it-ran', 'a').close()\nfrom fake_experiments import EXPERIMENT\n"
#: How each command that opens a run is called.
CALLS = {
    "run": "--out RUN castin2025/digits --plan",
    "status": "RUN",
    "merge": "RUN COPY --out new",
    "export": "RUN --out run.nc",
    "claims": "RUN",
    "report": "RUN",
    "cite": "RUN",
    "gallery": "--out gallery --only-page castin2025/digits",
}


@pytest.fixture(scope="module")
def made(finished_run):
    """A finished run."""
    return finished_run(ONE)


@pytest.fixture
def here(made, tmp_path, fakes, monkeypatch):
    """The current folder, with a run whose files name a module that lies beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "evil_code.py").write_text(PLANTED)
    shutil.copytree(made, "RUN")
    yield tmp_path
    sys.modules.pop("evil_code", None)


def document():
    with open("RUN/run.json", encoding="utf-8") as file:
        return json.load(file)


def store(data):
    with open("RUN/run.json", "w", encoding="utf-8") as file:
        json.dump(data, file)


def texts(data, place=()):
    """Every place of a document at which there is a text."""
    if isinstance(data, str):
        yield place
    elif isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from texts(value, (*place, key))


def at(data, place, value):
    data = copy.deepcopy(data)
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return data


def test_every_command_that_opens_a_run_is_looked_at():
    assert set(CALLS) == {name for name, kind in COMMANDS.items() if issubclass(kind, OwnCode)}


@pytest.mark.parametrize("command", CALLS)
def test_no_command_runs_what_a_file_names(here, capsys, command):
    info = document()
    for entry in info["experiments"]:
        entry["source"] = EVIL
    store(info)
    shutil.copytree("RUN", "COPY")
    if command == "gallery":
        shutil.copytree("RUN", "gallery/castin2025-digits")
    status = main([command, *CALLS[command].split()])
    said = capsys.readouterr()
    assert status == (2 if command == "run" else 0), said.err  # a folder of another experiment
    assert not os.path.exists("it-ran")
    assert "evil_code" not in sys.modules
    assert str(here) not in sys.path


def test_no_text_of_a_run_is_taken_for_code(here, capsys):
    whole = document()
    found = list(texts(whole))
    assert len(found) > 20
    for place in found:
        store(at(whole, place, EVIL))
        assert main(["status", "RUN"]) in (0, 2)
    assert not os.path.exists("it-ran")
    assert "evil_code" not in sys.modules


def test_what_is_stored_is_shown_and_the_flag_is_named(here, capsys):
    flag = "to allow it add --from module:OBJECT"
    assert main(["status", "RUN"]) == 0
    out = capsys.readouterr().out
    assert "complete: 3 of 3 cells are whole" in out
    assert flag in out
    assert main(["status", "RUN", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_loaded"] == ["fake/means"]
    assert main(["claims", "RUN"]) == 0
    assert "The mean is ten." in capsys.readouterr().out
    assert main(["report", "RUN"]) == 0
    assert flag in capsys.readouterr().out
    page = (here / "RUN" / "report.html").read_text()
    assert "The mean is ten." in page
    assert "--from module:OBJECT" in page
    assert "<figure" not in page
    shutil.copytree("RUN", "COPY")
    assert main(["merge", "RUN", "COPY", "--out", "new"]) == 0
    out = capsys.readouterr().out
    assert flag in out
    assert f"finish it with: translimit run {ONE}" in out


def test_what_the_user_names_is_loaded_also_from_the_current_folder(here, capsys):
    own = ["--from", EVIL]
    assert main(["report", "RUN", *own]) == 0
    assert capsys.readouterr().out == f"report: {os.path.join('RUN', 'report.html')}\n"
    assert "<figure" in (here / "RUN" / "report.html").read_text()
    assert os.path.exists("it-ran")
    for command in ("status", "claims", "cite"):
        assert main([command, *own, "RUN"]) == 0
        assert "note:" not in capsys.readouterr().out
    # Without the flag the page has no figures; those that are stored stay.
    assert main(["report", "RUN"]) == 0
    index = json.loads((here / "RUN" / "figures" / "index.json").read_text())
    assert [figure["title"] for figure in index["fake/means"]] == ["Means"]
    # By its own name, where the flag brings it.
    assert main(["run", "fake/means", "--out", "RUN", *own]) == 0
    assert "cells: 0 computed, 3 kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("status RUN --from evil_code", "--from: got 'evil_code'; write module:OBJECT"),
        ("status RUN --from evil_code:OTHER", "cannot load 'evil_code:OTHER'"),
        ("claims RUN --from fake_experiments:OTHER", "is 'fake/other', which is not in the run"),
        ("report RUN --frm evil_code:X", "--frm: is not an option of `translimit report`; did you"),
    ],
)
def test_what_cannot_be_named(here, capsys, words, message):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("translimit run x; rm -rf y", "translimit run 'x;' rm -rf y"),
        ("translimit run $(touch y)", "translimit run '$(touch' 'y)'"),
        ("rm -rf y", None),
        ("translimit run 'x", None),
    ],
)
def test_the_command_of_a_file_is_quoted_before_it_is_shown(here, capsys, command, shown):
    """People paste it into a shell."""
    store({**document(), "command": command, "status": "interrupted"})
    status = main(["status", "RUN"])
    said = capsys.readouterr()
    if shown is None:
        assert (status, said.out) == (2, "")
        assert "gives no command of `translimit run`" in said.err
    else:
        assert f"finish it with: {shown}\n" in said.out


def test_a_module_beside_a_run_hides_none_of_ours(here, fakes):
    """Not for `python -m` either, which puts the current folder first on the path."""
    for name in ("filelock", "rich", "translimit_planted"):
        (here / f"{name}.py").write_text("open('it-ran', 'a').close()\n")
    done = subprocess.run(
        [sys.executable, "-m", "translimit", "status", "RUN"],
        env=fakes,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete: 3 of 3 cells are whole" in done.stdout
    assert not os.path.exists("it-ran")
