"""The examples of the pages: each is shown with what it printed, and prints it again."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.docs.test_hooks import hook

PAGES = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))
#: The example that costs least.
CHEAP = "refused"
#: Files whose keys are tried one by one.
FOUR = ("bert-base.json", "eagle-mixtral-draft.json", "ipex-t5.json", "llama3.1-8b.json")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
#: What ends the name of a folder of runs: a digest of the code that they ran.
DIGEST = re.compile(r"(?<=-)[0-9a-f]{8}\b")


@pytest.fixture(scope="module")
def answers():
    return hook("answers")


@pytest.fixture(scope="module")
def configurations(tmp_path_factory):
    """Four of the files; the pages are made of all."""
    made = hook("configurations")
    folder = tmp_path_factory.mktemp("configurations")
    for name in (*FOUR, "ORIGINS.tsv"):
        shutil.copy(made.FILES / name, folder)
    made.FILES = folder
    return made


def test_every_example_is_on_a_page_with_what_it_prints(answers) -> None:
    shown = [name for page in PAGES for name in answers.shown(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(set(shown)) == sorted(answers.examples())
    for name in shown:
        told = answers.examples()[name].with_suffix(".txt").read_text(encoding="utf-8")
        assert told.strip(), f"run `make answers` for {name}"
        assert told.strip() in answers.on_page_markdown(f"a\n\n:::: answer {name}\n\nb\n")


def test_the_readme_quotes_what_examples_print(answers) -> None:
    readme = (answers.ROOT / "README.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w+)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    quotes = [
        (before, block)
        for (_, before), (language, block) in itertools.pairwise(fences)
        if language == "text"
    ]
    assert len(quotes) == 5
    for commands, quoted in quotes:
        last = commands.splitlines()[-1].partition("#")[0].strip()
        texts = [
            path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
            for path in answers.examples().values()
            if last in path.read_text(encoding="utf-8")
        ]
        assert any(_quoted(quoted.splitlines(), text) for text in texts), f"copy what {last} prints"


def _quoted(lines: list[str], text: list[str]) -> bool:
    """Whether these are lines of a text, in its order."""
    rest = iter(text)
    return all(line in rest for line in lines)


def test_every_link_of_the_readme_leads_somewhere(answers) -> None:
    readme = (answers.ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(#[\w-]+)?\)", readme)
    links += [(one, "") for one in re.findall(r'(?:src|srcset)="([^"]+)"', readme)]
    assert len(links) > 20
    for path, anchor in links:
        assert "://" not in path
        text = (answers.ROOT / path).read_bytes() if path else b""
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text.decode(), re.MULTILINE)
            slugs = {
                re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings
            }
            assert anchor[1:] in slugs, f"{path}{anchor}"


def test_nothing_is_left_of_an_example_that_is_gone(answers) -> None:
    left = {path.stem for path in answers.ANSWERS.glob("*.txt")}
    assert left == set(answers.examples())


def test_the_commands_of_the_examples_are_understood(answers) -> None:
    from translimit.cli.parse import parse

    found = 0
    for path in answers.ANSWERS.glob("*.sh"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("translimit "):
                words = shlex.split(re.split(r" (?:2?>|\|)", line)[0], comments=True)[1:]
                assert parse(words), f"{path.name}: {line}"
                found += 1
    assert found > 4


def check(answers, name: str) -> None:
    """The same words, and numbers within 2 % or one of the last printed digit."""
    path = answers.examples()[name]
    texts = path.with_suffix(".txt").read_text(encoding="utf-8"), answers.output_of(path)
    told, again = (DIGEST.sub("", one) for one in texts)
    assert NUMBER.sub("#", again).split() == NUMBER.sub("#", told).split()
    old, new = (np.array([float(one) for one in NUMBER.findall(s)]) for s in (told, again))
    digit = np.array([10.0 ** -len(one.partition(".")[2]) for one in NUMBER.findall(told)])
    assert np.all(np.abs(new - old) <= 0.02 * np.abs(old) + 1.01 * digit)


def test_the_cheapest_example_prints_what_stands_there(answers) -> None:
    check(answers, CHEAP)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(hook("answers").examples()) - {CHEAP}))
def test_every_example_prints_what_stands_there(answers, name: str) -> None:
    if "transformers" in answers.examples()[name].read_text(encoding="utf-8"):
        pytest.importorskip("transformers")
    check(answers, name)


def test_every_key_of_a_public_configuration_is_in_the_tables(configurations) -> None:
    assert configurations.counts()[:2] == (3, 1)
    files, keys = configurations.files_table(), configurations.keys_table()
    for one in configurations.read_all():
        assert f"`{one.name}`" in files
        assert all(f"`{key}`" in keys for key in one.keys)
    deeds = configurations.counts()[2]
    assert deeds.total() == sum(len(one.keys) for one in configurations.read_all())
    page = configurations.on_page_markdown(":::: counts\n\n:::: others\n")
    assert page.startswith("3 of 4 files are read")
    assert ":::: others" in page


def test_what_a_key_did_is_what_happens_without_it(configurations) -> None:
    found = {one.name: one for one in configurations.read_all()}
    llama = found["llama3.1-8b.json"].keys
    assert llama["hidden_size"] == "needed"
    assert llama["rope_scaling"] == llama["num_key_value_heads"] == "acts"
    assert llama["use_cache"] == "same"
    ignored = [key for key, deed in llama.items() if deed == "ignored"]
    assert all(
        any(s.startswith(key) for s in found["llama3.1-8b.json"].reading.ignored) for key in ignored
    )
    assert found["bert-base.json"].keys["initializer_range"] == "default"
