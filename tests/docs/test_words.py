"""Words that readers stumbled over stay out of pages and messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCE = CHECKOUT / "src" / "translimit"
#: A phrase, and what to write instead.
BANNED = {
    "held against": "compared with",
    "error bars between": "with error bars",
    "the same bits": "bit-identical",
    "when are they one": "in which layer do they collapse",
    "of today": "modern",
    "told under": "listed under",
    "told beside": "printed beside",
    "told by name": "listed by name",
    "as one likes": "arbitrarily",
}
_PHRASE = re.compile("|".join(re.sub(" ", r"\\s+", phrase) for phrase in BANNED), re.IGNORECASE)
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "CITATION.cff",
    CHECKOUT / "pyproject.toml",
    CHECKOUT / "mkdocs.yml",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted((CHECKOUT / "docs" / "tutorials").glob("*.py")),
]


def found(text: str) -> list[str]:
    """The banned phrases of a text, with their lines and what to write instead."""
    return [
        f"line {text[: match.start()].count(chr(10)) + 1}: {match[0]!r}, write "
        f"{BANNED[' '.join(match[0].lower().split())]!r}"
        for match in _PHRASE.finditer(text.replace("\n# ", "\n  "))
    ]


def messages(text: str) -> Iterator[str]:
    """The strings of a module that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[ast.AST] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr):
            docstrings.add(node.body[0].value)
        if node not in docstrings and isinstance(node, ast.Constant):
            yield str(node.value)


def test_a_phrase_is_found_over_the_end_of_a_line_and_in_messages_only() -> None:
    assert found("It is\nheld\nagainst that.") == [
        "line 2: 'held\\nagainst', write 'compared with'"
    ]
    assert found("# ends in the same\n# bits") != []
    module = '"""It is held against it."""\nsays = "held against"  # held against\n'
    assert [text for text in messages(module) if found(text)] == ["held against"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_a_page_has_none_of_them(page: Path) -> None:
    assert found(page.read_text(encoding="utf-8")) == []


def test_no_message_has_one_of_them() -> None:
    told = {}
    for path in SOURCE.rglob("*"):
        if path.suffix not in (".py", ".j2", ".toml"):
            continue
        text = path.read_text(encoding="utf-8")
        parts = messages(text) if path.suffix == ".py" else (text,)
        if here := [one for part in parts for one in found(part)]:
            told[path.relative_to(SOURCE).as_posix()] = here
    assert told == {}
