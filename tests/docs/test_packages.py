"""The page of packages says what the source says, here read by grimp."""

import re
from collections import Counter

import grimp
import pytest
from tests.docs.test_hooks import CHECKOUT, hook
from tests.test_rooms import SOURCE, room_of

packages = hook("packages")


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    graph = grimp.build_graph("translimit", cache_dir=None)
    pairs = {
        (room_of(module), room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    beside = {"", "_version", "__main__"}
    return {(a, b) for a, b in pairs if a != b and not beside & {a, b}}


def test_imports_are_those_that_grimp_finds(arrows: set[tuple[str, str]]) -> None:
    told = {(name, other) for name, one in packages.packages().items() for other in one.imports}
    assert told == arrows


def test_a_package_stands_after_all_that_it_imports(arrows: set[tuple[str, str]]) -> None:
    place = {name: at for at, name in enumerate(packages.in_order())}
    assert all(place[b] < place[a] for a, b in arrows)
    drawn = re.findall(r"<title>(\S+) imports (\S+)</title>", packages.picture())
    assert set(drawn) == arrows
    assert len(drawn) == len(arrows)


def test_every_file_of_a_package_is_counted_once() -> None:
    lines = Counter[str]()
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).parts
        name = room_of(".".join(("translimit", *parts[:-1], path.stem)))
        if len(parts) > 1:
            # `limits/__init__.py` is of `limits` itself.
            name = parts[0] if name.endswith("__init__") else name
            lines[name] += len(path.read_text(encoding="utf-8").splitlines())
    told = {name: one.lines for name, one in packages.packages().items()}
    assert told == {name: lines[name] for name in told}
    assert set(lines) - set(told) == {"examples"}
    assert all(one.tests > 0 for one in packages.packages().values())


def test_both_stand_on_the_page() -> None:
    page = (CHECKOUT / "docs" / "packages.md").read_text(encoding="utf-8")
    made = packages.on_page_markdown(page)
    assert "::::" not in made
    assert made.count("<svg") == 1
    for name, one in packages.packages().items():
        assert f"| `{name}` | {one.purpose}" in made
