"""`translimit example`: files to copy and change, one copy of each, never written over."""

import ast
from pathlib import Path

import pytest

import translimit
from translimit.cli import main
from translimit.cli.examples import EXAMPLES, write_example
from translimit.core import ConfigError, StoreError

FOLDER = Path(translimit.__file__).parent / "examples"


def test_every_file_of_the_folder_is_listed_with_what_it_is_for(capsys):
    assert main(["example"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == list(EXAMPLES)
    # Besides files to copy there are modules that pages import.
    imported = {"clients.py"}
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == set(EXAMPLES) | imported


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_written_as_it_ships_and_says_how_to_run_it(name, tmp_path, capsys):
    assert main(["example", name, "--out", str(tmp_path / "new")]) == 0
    path = tmp_path / "new" / name
    assert capsys.readouterr().out == f"{path}\n"
    words = path.read_text(encoding="utf-8")
    assert words == (FOLDER / name).read_text(encoding="utf-8")
    if path.suffix == ".py":
        ast.parse(words)
    if path.suffix not in (".json", ".csv"):  # they have no comments
        assert name.partition(".")[0] in words


def test_examples_go_into_the_current_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["example", "gpt2.json", "dmft.toml"]) == 0
    assert capsys.readouterr().out == "gpt2.json\ndmft.toml\n"
    assert {path.name for path in tmp_path.iterdir()} == {"gpt2.json", "dmft.toml"}


def test_a_file_with_other_words_is_never_written_over(tmp_path):
    path = write_example("gpt2.json", tmp_path)
    assert write_example("gpt2.json", tmp_path) == path  # the same words: nothing to do
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"gpt2\.json is there already; move it or choose"):
        write_example("gpt2.json", tmp_path)
    assert path.read_text() == "{}"


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match=r"NAME: got 'gpt3\.json'; did you mean 'gpt2\.json'"):
        write_example("gpt3.json", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written .*; choose another --out"):
        write_example("gpt2.json", tmp_path / "file")
