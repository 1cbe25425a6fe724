"""CONTRIBUTING.md, CI's workflow and the hooks of pre-commit say what is there."""

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def read_yaml(path: str):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: no workflow is read")
    return yaml.safe_load((CHECKOUT / path).read_text(encoding="utf-8"))


def test_every_path_that_the_page_names_is_there():
    names = set(re.findall(r"[ `]((?:src|tests|docs|benchmarks|\.github)/[\w./-]*\w/?)", PAGE))
    assert len(names) > 15
    assert {name for name in names if not (CHECKOUT / name).exists()} == set()


def test_every_target_of_make_that_the_page_names_is_there():
    named = set(re.findall(r"`make ([a-z-]+)", PAGE))
    assert {"test", "check", "test-lowest"} <= named <= TARGETS


def test_the_workflow_runs_what_is_run_here_on_every_python():
    job = read_yaml(".github/workflows/test.yml")["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    assert matrix["command"] == [".ci/run"]
    assert [one["command"] for one in matrix["include"]] == ["make test-lowest"]
    assert job["steps"][-1] == {"run": "${{ matrix.command }}"}
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"][0] == matrix["include"][0]["python"] == lowest
    classifiers = [f"Programming Language :: Python :: {one}" for one in matrix["python"]]
    assert set(classifiers) <= set(PROJECT["classifiers"])
    assert all(one in PAGE for one in matrix["python"])


def test_the_hooks_are_the_parts_of_make_check():
    (local,) = read_yaml(".pre-commit-config.yaml")["repos"]
    calls = [hook["entry"].removeprefix("make ") for hook in local["hooks"]]
    (parts,) = re.findall(r"^check: ([a-z ]+?) *##", MAKEFILE, re.MULTILINE)
    assert calls == parts.split()


def test_the_readme_names_every_extra():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| extra | for |") :].split("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()))
    assert sorted(named) == sorted(PROJECT["optional-dependencies"])
