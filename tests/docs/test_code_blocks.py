"""The Python that the README, CONTRIBUTING and the pages show runs as it stands."""

import re
import shlex
import sys
import types
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
]
#: Pages whose blocks the build of the documentation runs, to draw what they compute.
RUN_BY_THE_BUILD = ("four-theories",)
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


#: Optional packages that a page may show.
OPTIONAL = ("torch", "transformers", "accelerate", "flax")


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a page with the lines on which they start."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start(1)].count("\n"), m[1]) for m in FENCE.finditer(text)]


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page) and page.stem not in RUN_BY_THE_BUILD],
    ids=lambda page: page.stem,
)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    imported = {
        line.split()[1].split(".")[0]
        for _, code in blocks(page)
        for line in code.split("\n")
        if line.startswith(("import ", "from "))
    }
    imported |= {"accelerate"} if "transformers" in imported else set()  # its Trainer needs it
    for package in sorted(imported & set(OPTIONAL)):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page_of_the_documentation")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    for line, code in blocks(page):
        padded = "\n" * line + code  # so that a traceback names the line of the page
        exec(compile(padded, str(page), "exec"), module.__dict__)
    assert len(module.__dict__) > len(types.ModuleType("empty").__dict__)


def commands() -> list[tuple[str, str]]:
    """Every call of translimit that a page shows in a shell block, with the page."""
    shell = re.compile(r"^```sh[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = []
    for page in PAGES:
        for block in shell.findall(page.read_text(encoding="utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.stem, line) for line in lines if line.startswith("translimit ")]
    return found


def test_the_commands_of_the_pages_are_understood() -> None:
    from translimit.cli.parse import parse

    found = commands()
    assert len(found) > 20
    for page, line in found:
        words = shlex.split(re.split(r" [>|] ", line)[0], comments=True)[1:]
        assert parse(words), f"{page}: {line}"


def test_a_page_that_runs_an_example_file_says_how_to_get_it() -> None:
    from translimit.cli.examples import EXAMPLES

    written: set[tuple[str, str]] = set()
    ran = 0
    for page, line in commands():
        words = shlex.split(line, comments=True)
        # `small_models:gpt2` is a function of small_models.py.
        files = {f"{w.partition(':')[0]}.py" if ":" in w else w for w in words} & set(EXAMPLES)
        if words[1] == "example":
            written |= {(page, name) for name in files}
        else:
            ran += len(files)
            assert {(page, name) for name in files} <= written, f"{page}: {line}"
    assert ran > 5


def test_the_pages_were_found() -> None:
    assert sum(len(blocks(page)) for page in PAGES) >= 5
