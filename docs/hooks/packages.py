"""The packages of translimit: who imports whom, and their sizes, read from the source.

- `:::: imports` on a page becomes a picture: a row and a column for every package, each after all
  that it imports, and a square where the package of the row imports that of the column.
- `:::: packages` becomes the table: what each is, what it imports, its lines and its tests.

Both are written when the docs are built, so that they cannot fall behind the source.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "translimit"
TESTS = ROOT / "tests"
#: Packages that stand in another one and are told apart.
INNER = ("limits.", "scaling.adapters")
#: Sizes in the picture: of a cell, and of the names beside the cells.
_CELL, _LABEL = 16, 130


class Package(NamedTuple):
    """One package.

    Attributes:
        purpose: the first sentence of its docstring.
        imports: the packages that its files import.
        lines: of its Python files.
        tests: functions in its folder of tests, before they are parametrised.
    """

    purpose: str
    imports: frozenset[str]
    lines: int
    tests: int


def package_of(module: str) -> str:
    """`core` of `core.psd`, `limits.dmft` of `limits.dmft.state`.

    Args:
        module: without the leading `translimit.`.
    """
    first, *rest = module.split(".")
    inner = ".".join([first, *rest[:1]])
    apart = inner.startswith(INNER) and SOURCE.joinpath(first, *rest[:1], "__init__.py").exists()
    return inner if apart else first


@cache
def packages() -> Mapping[str, Package]:
    """All packages by name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.glob("*/**/*.py")):
        module = ".".join(path.parent.relative_to(SOURCE).parts)
        if path.stem != "__init__":
            module += f".{path.stem}"
        files.setdefault(package_of(module), []).append(path)
    found = {}
    for name, paths in files.items():
        folder = SOURCE.joinpath(*name.split("."))
        if not (folder / "__init__.py").exists():
            continue  # example files, which are no code
        texts = [path.read_text(encoding="utf-8") for path in paths]
        told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
        found[name] = Package(
            purpose=" ".join(told.split("\n\n")[0].split()),
            imports=frozenset(set().union(*map(_imported, texts)) - {name}),
            lines=sum(text.count("\n") for text in texts),
            tests=_tests(name, files),
        )
    return found


def in_order() -> list[str]:
    """The packages, each after all that it imports."""
    graph = {name: sorted(one.imports) for name, one in packages().items()}
    return list(TopologicalSorter(graph).static_order())


def picture() -> str:
    """A square where the package of a row imports that of a column, as SVG."""
    order, found = in_order(), packages()
    place = {name: _LABEL + at * _CELL for at, name in enumerate(order)}
    parts, size = [], _LABEL + len(order) * _CELL
    for name, at in place.items():
        text, end = f'font-size="11" fill="currentColor">{name}</text>', at + _CELL - 4
        parts += [
            f'<text x="{_LABEL - 6}" y="{end}" text-anchor="end" {text}',
            f'<text transform="translate({end},{_LABEL - 6}) rotate(-90)" {text}',
            f'<path d="M{_LABEL} {at}H{size}M{at} {_LABEL}V{size}" stroke="currentColor" '
            'stroke-opacity="0.12"/>',
            f'<rect x="{at}" y="{at}" width="{_CELL}" height="{_CELL}" fill="currentColor" '
            'fill-opacity="0.12"/>',
        ]
        parts += [
            f'<rect x="{place[other] + 2}" y="{at + 2}" width="{_CELL - 4}" height="{_CELL - 4}" '
            f'rx="2" fill="currentColor"><title>{name} imports {other}</title></rect>'
            for other in sorted(found[name].imports)
        ]
    told = f"Which of {len(order)} packages imports which; every square is below the diagonal."
    return (
        f'<svg viewBox="0 0 {size + 1} {size + 1}" role="img" aria-label="{told}" '
        f'style="max-width: {size}px">{"".join(parts)}</svg>'
    )


def table() -> str:
    """The packages, each after all that it imports."""
    found = packages()
    rows = ["| package | what it is | imports | lines | tests |", "|---|---|---|--:|--:|"]
    for name in in_order():
        one = found[name]
        used = ", ".join(f"`{other}`" for other in sorted(one.imports)) or "nothing"
        purpose = one.purpose.replace("|", "\\|")
        rows.append(f"| `{name}` | {purpose} | {used} | {one.lines:,} | {one.tests:,} |")
    lines, tests = (
        sum(getattr(one, what) for one in found.values()) for what in ("lines", "tests")
    )
    return "\n".join([*rows, f"| all | | | {lines:,} | {tests:,} |"])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the picture and the table of a page (an event of MkDocs)."""
    for mark, made in (("imports", picture), ("packages", table)):
        line = re.compile(rf"^:::: {mark}$", re.MULTILINE)
        if line.search(markdown):
            text = made()
            markdown = line.sub(lambda _, text=text: text, markdown)
    return markdown


def _imported(text: str) -> set[str]:
    """The packages that a file imports."""
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):  # `from translimit import core` imports a package
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    inner = [m.removeprefix("translimit.") for m in modules if m.startswith("translimit.")]
    known = [m for m in inner if SOURCE.joinpath(m.split(".")[0], "__init__.py").exists()]
    return {package_of(module) for module in known}


def _tests(name: str, known: Iterable[str]) -> int:
    """Test functions in the folder of a package, without those of packages inside it."""
    inside = [TESTS.joinpath(*k.split(".")) for k in known if k.startswith(f"{name}.")]
    texts = (
        path.read_text(encoding="utf-8")
        for path in TESTS.joinpath(*name.split(".")).rglob("test_*.py")
        if not any(path.is_relative_to(folder) for folder in inside)
    )
    return sum(len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE)) for text in texts)
