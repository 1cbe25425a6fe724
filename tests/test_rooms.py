"""Who may know whom: the import table of the house, checked on the source.

(a) Limits and models do not know each other, so that their agreement is evidence. (b) An
experiment knows neither where it runs nor where it is stored. (c) A report cannot start a
computation. (d) The scaling rules need no network.
"""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp
import pytest

import translimit

SOURCE = Path(translimit.__file__).parent

LIMIT_MAY = {"core", "describe", "attention", "integrate", "observe", "figures"}
EVERYTHING = {
    "core",
    "describe",
    "attention",
    "integrate",
    "observe",
    "figures",
    "data",
    "models",
    "limits",
    "scaling",
    "checks",
    "predict",
    "diagnose",
    "extrapolate",
    "train",
    "experiments",
    "store",
    "execute",
    "study",
    "report",
    "explore",
}

#: Room -> the rooms that it may import (`limits` stands for every limit).
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "describe": {"core"},
    "integrate": {"core"},
    "data": {"core"},
    "observe": {"core"},
    "store": {"core"},
    "execute": {"core"},
    "attention": {"core", "describe"},
    "figures": {"core", "observe"},
    "models": {"core", "describe", "attention", "observe", "figures"},
    "limits": {"core", "describe"},  # re-exports; a limit itself follows LIMIT_MAY
    "scaling": {"core", "describe"},
    "scaling.adapters": {"core", "describe", "scaling"},
    "predict": {"core", "describe", "limits", "observe", "figures", "scaling"},
    "checks": {"core", "describe", "scaling", "scaling.adapters"},
    "diagnose": {"core", "describe", "limits", "observe", "figures", "data"},
    "extrapolate": {"core", "describe", "observe", "figures"},
    "train": {"core", "describe", "models", "scaling", "checks", "data", "observe"},
    "experiments": {
        "core",
        "describe",
        "attention",
        "models",
        "limits",
        "scaling",
        "checks",
        "predict",
        "diagnose",
        "extrapolate",
        "train",
        "data",
        "observe",
        "figures",
    },
    "study": {"core", "experiments", "store", "execute"},
    "report": {"core", "observe", "figures", "store", "experiments"},
    "explore": EVERYTHING - {"explore"},
    "cli": EVERYTHING,
}


def room_of(module: str) -> str:
    """`core` of translimit.core.psd, `limits.meanfield` of translimit.limits.meanfield.gaussian.

    `scaling.adapters` is a room in a room.
    """
    parts = module.split(".")[1:]
    inner = parts[:1] == ["limits"] or parts[:2] == ["scaling", "adapters"]
    return ".".join(parts[:2] if inner else parts[:1])


def allowed(importer: str, imported: str) -> bool:
    """Whether one room may import another."""
    if importer.startswith("limits."):
        return imported in LIMIT_MAY
    if importer == "limits" and imported.startswith("limits."):
        return True
    if importer == "scaling" and imported == "scaling.adapters":
        return False
    return imported.split(".")[0] in MAY_IMPORT[importer]


@cache
def public_names(room: str) -> frozenset[str]:
    """What the stub of a room exports."""
    stub = SOURCE.joinpath(*room.split("."), "__init__.pyi")
    tree = ast.parse(stub.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return frozenset(alias.asname or alias.name for node in imports for alias in node.names)


def is_public(module: str) -> bool:
    """Whether a module is a room, or a module that its room exports by name (`core.config`)."""
    room = room_of(module)
    inner = module.removeprefix(f"translimit.{room}").lstrip(".")
    return not inner or inner in public_names(room)


def violations(imports: Iterable[tuple[str, str]]) -> list[str]:
    """What the pairs (importing module, imported module) do against the house rules.

    A room in a room may read the files around it.
    """
    found = []
    for importer, imported in imports:
        here, there = room_of(importer), room_of(imported)
        # `_version` is a plain fact that every room may read; `__main__` is the command line.
        if here == there or there == "_version" or here in {"", "_version", "__main__"}:
            continue
        if there == "":
            found.append(f"{importer} imports the package itself: import the room instead")
        elif here not in MAY_IMPORT and not here.startswith("limits."):
            found.append(f"{importer} is in no room of the table")
        elif not allowed(here, there):
            found.append(f"{importer} imports {imported}: {here} may not know {there}")
        elif not is_public(imported) and not here.startswith(f"{there}."):
            found.append(f"{importer} imports {imported}: an inner file of another room")
    return sorted(found)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("translimit", cache_dir=None)


def imports_of(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    return {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }


def test_every_import_keeps_to_the_table(graph: grimp.ImportGraph) -> None:
    found = imports_of(graph)
    assert len(found) > 50  # the graph was built
    assert not violations(found)


def test_every_room_of_the_source_is_in_the_table() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= set(MAY_IMPORT)
    assert "core" in rooms


def test_every_room_is_lazy_and_exports_only_its_own_names() -> None:
    # A paper's folder of experiments is found by the registry and exports nothing.
    rooms = [p.parent for p in SOURCE.rglob("__init__.py") if p.parent.parent.name != "experiments"]
    for room in rooms:
        init, stub = (room / "__init__.py").read_text(), room / "__init__.pyi"
        assert "room(__name__, __file__)" in init, room
        froms = [n for n in ast.walk(ast.parse(stub.read_text())) if isinstance(n, ast.ImportFrom)]
        assert froms, stub
        for node in froms:
            assert node.level == 1, f"{stub}: {ast.unparse(node)}"
            for alias in node.names:  # `X as X` is what type checkers read as an export
                assert alias.asname == alias.name, f"{stub}: {ast.unparse(node)}"


def test_no_module_outside_the_package_is_told_by_a_string(graph: grimp.ImportGraph) -> None:
    # importlib and __import__ would go around the table; these modules look experiments, jobs or
    # installed packages up by a name that they are given.
    by_name = {
        "translimit.experiments.registry",
        "translimit.experiments.statements",
        "translimit.execute.base",
        "translimit.checks.factory",
        "translimit.describe.stack",  # its own room's readers, which make stacks
    }
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"importlib.import_module", "import_module", "__import__"}:
                module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
                found.add(module)
    assert found <= by_name


@pytest.mark.parametrize(
    ("importer", "imported", "message"),
    [
        ("limits.meanfield.particles", "models", "may not know models"),
        ("limits.meanfield.gaussian", "limits.dmft", "may not know limits.dmft"),
        ("models.residual_attention", "limits.meanfield", "may not know limits.meanfield"),
        ("experiments.castin2025.digits", "store", "may not know store"),
        ("report.build", "study", "may not know study"),
        ("scaling.rules", "models", "may not know models"),
        ("scaling.rules", "scaling.adapters", "may not know scaling.adapters"),
        ("scaling.adapters.torch", "train", "may not know train"),
        ("core.psd", "describe", "may not know describe"),
        ("explore.page", "cli", "may not know cli"),
        ("attention.softmax", "core.psd", "an inner file of another room"),
        ("experiments.x", "limits.meanfield.gaussian", "an inner file of another room"),
        ("cellar.wine", "core", "is in no room of the table"),
    ],
)
def test_a_planted_violation_is_found(importer: str, imported: str, message: str) -> None:
    (found,) = violations([(f"translimit.{importer}", f"translimit.{imported}")])
    assert message in found


def test_importing_the_package_itself_is_found() -> None:
    (found,) = violations([("translimit.store.cells", "translimit")])
    assert "import the room instead" in found


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("limits.meanfield.gaussian", "core"),
        ("limits.meanfield.gaussian", "limits.meanfield.horizon"),
        ("study.run", "core.config"),
        ("cli.commands", "report"),
        ("store.folder", "_version"),
    ],
)
def test_what_the_table_allows_passes(importer: str, imported: str) -> None:
    assert not violations([(f"translimit.{importer}", f"translimit.{imported}")])
