"""Modules form no circle, imports inside functions included: each can be read after what it uses.

A name that is imported from a room or a package counts as an import of the file that defines it,
as the stub says. What only type checkers import is left out.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import translimit

SOURCE = Path(translimit.__file__).parent


def module_of(path: Path, root: Path) -> str:
    """`a.b` of a/b.py and of a/b/__init__.py."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def exported(stub: Path) -> dict[str, str]:
    """Name to submodule, of a package that loads lazily."""
    froms = [one for one in ast.parse(stub.read_text()).body if isinstance(one, ast.ImportFrom)]
    return {alias.name: one.module or alias.name for one in froms for alias in one.names}


def defining(module: str, name: str, root: Path) -> str:
    """The module that a name comes from."""
    folder = root.parent.joinpath(*module.split("."))
    if not folder.is_dir():
        return module
    stub = folder / "__init__.pyi"
    inner = exported(stub).get(name, name) if stub.exists() else name
    below = f"{module}.{inner}"
    here = folder.joinpath(*inner.split("."))
    if here.is_dir() and inner != name:
        return defining(below, name, root)
    return below if here.is_dir() or here.with_suffix(".py").exists() else module


def run_time(node: ast.AST) -> Iterator[ast.ImportFrom | ast.Import]:
    """All imports below a node but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from run_time(other)
        elif isinstance(child, ast.ImportFrom | ast.Import):
            yield child
        else:
            yield from run_time(child)


def graph_of(root: Path) -> dict[str, set[str]]:
    """Module to the modules that it uses, within the package."""
    made: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        here = module_of(path, root)
        used = made.setdefault(here, set())
        for node in run_time(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                told = [alias.name for alias in node.names]
            else:
                told = [defining(node.module or "", alias.name, root) for alias in node.names]
            used |= {one for one in told if one.split(".")[0] == root.name and one != here}
    return made


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_form_no_circle():
    graph = graph_of(SOURCE)
    assert len(graph) > 500
    assert "translimit.describe.stack" in graph["translimit.describe.families.reading"]
    assert "translimit.core.precision" in graph["translimit.observe.overlaps"]  # by the stub
    assert not circle(graph)


def test_a_circle_through_a_function_and_a_package_is_found(tmp_path):
    root = tmp_path / "house"
    (root / "inner").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "inner/__init__.py": "",
        "inner/__init__.pyi": "from .reader import read as read\n",
        "inner/reader.py": "from house.stack import Stack\n",
        "stack.py": "def made():\n    from house.inner import read\n",
        "other.py": "if TYPE_CHECKING:\n    from house.third import x\n",
        "third.py": "from house.other import y\n",
    }.items():
        (root / name).write_text(text)
    assert set(circle(graph_of(root))) == {"house.stack", "house.inner.reader"}
    (root / "stack.py").write_text("")
    assert not circle(graph_of(root))
