"""Which code a name stands for: ours, an installed package's, or what somebody typed."""

import json
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.core import ConfigError
from translimit.experiments import (
    ENTRY_POINTS,
    all_experiments,
    get_experiment,
    offered_experiments,
    stored_experiment,
    trusted_source,
)


def install(folder: Path, name: str, target: str) -> None:
    """A package that offers an experiment, as an installer leaves it in a folder."""
    about = folder / "coins-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: coins\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {target}\n")


@pytest.mark.usefixtures("fakes")
def test_an_installed_package_offers_experiments(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown experiment 'fake/means'"):
        get_experiment("fake/means")
    install(tmp_path, "fake/means", "fake_experiments:EXPERIMENT")
    monkeypatch.syspath_prepend(tmp_path)
    assert offered_experiments()["fake/means"] == "fake_experiments:EXPERIMENT"
    assert get_experiment("fake/means").title == "Means of normal samples"
    assert trusted_source("fake/means") == "fake/means"
    # What lies in the current folder is not installed, on the path or not.
    monkeypatch.chdir(tmp_path)
    assert "fake/means" not in offered_experiments()
    assert trusted_source("fake/means") is None


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("fake_experiments:OTHER", "offers 'fake/other' under the name 'fake/means'; give its"),
        ("fake_experiments:double", "'fake_experiments:double' is not an experiment"),
        ("fake_experiments:NONE", "cannot load 'fake_experiments:NONE'"),
        ("no_such_module:X", "cannot load 'no_such_module:X'"),
    ],
)
def test_what_a_package_offers_wrongly_is_told(tmp_path, monkeypatch, target, message):
    install(tmp_path, "fake/means", target)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message):
        get_experiment("fake/means")


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("target", "shown", "told"),
    [
        ("fake_experiments:EXPERIMENT", True, ""),
        ("no_such_module:X", False, "translimit: experiment: cannot load 'no_such_module:X'"),
    ],
)
def test_what_packages_offer_is_listed(tmp_path, monkeypatch, capsys, target, shown, told):
    """One that is broken hides no other."""
    install(tmp_path, "fake/means", target)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["list", "--json"]) == 0
    said = capsys.readouterr()
    listed = {one["name"] for one in json.loads(said.out)["experiments"]}
    assert listed - {"fake/means"} == set(all_experiments())
    assert ("fake/means" in listed) == shown
    assert said.err.startswith(told)


@pytest.mark.usefixtures("fakes")
def test_a_package_does_not_take_one_of_our_names(tmp_path, monkeypatch):
    name = "koubbi2026/simplex"
    install(tmp_path, name, "fake_experiments:EXPERIMENT")
    monkeypatch.syspath_prepend(tmp_path)
    assert get_experiment(name) is all_experiments()[name]


def test_a_module_that_fails_to_import_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot load .* \(ZeroDivisionError: division by zero"):
        get_experiment("broken_module:EXPERIMENT")


@pytest.mark.usefixtures("fakes")
def test_a_stored_name_is_never_imported():
    assert stored_experiment("fake_experiments:EXPERIMENT") is None
    assert stored_experiment("fake/means") is None
    named = ["fake_experiments:OTHER", "fake_experiments:EXPERIMENT"]
    assert trusted_source("fake/means", named) == named[1]
    assert stored_experiment("fake/means", named) is get_experiment(named[1])
    for name in all_experiments():
        assert trusted_source(name) == name


def test_every_experiment_asks_a_question_of_its_own():
    questions = [one.question for one in all_experiments().values()]
    assert [one for one in questions if not one.endswith("?") or len(one) > 90] == []
    assert len(set(questions)) == len(questions)
