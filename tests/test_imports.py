"""What importing costs and touches: no JAX before it is needed, no setting ever, no extra."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import translimit

SOURCE = Path(translimit.__file__).parent
HEAVY = ("jax", "equinox", "diffrax", "scipy", "matplotlib", "xarray", "zarr", "pandas", "torch")
#: Packages of the extras: no module of translimit may need one to be imported.
OPTIONAL = ("torch", "transformers", "ray", "submitit", "marimo", "plotly", "ot", "beartype")


def python(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    import os

    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def modules_of(*rooms: str) -> list[str]:
    """Every module of the rooms that somebody without JAX may need.

    Left out are `__main__`, marimo's notebook, the example files, and the adapter of optax, which
    speaks of JAX's trees.
    """
    found = []
    for room in rooms:
        for path in sorted((SOURCE / room).rglob("*.py")):
            parts = path.relative_to(SOURCE.parent).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            left_out = name.endswith(("__main__", "explore.notebook", "adapters.optax"))
            if not left_out and not name.startswith("translimit.examples."):
                found.append(name)
    return found


def heavy_after(code: str) -> str:
    """Which heavy packages were loaded; a lazy module that nobody touched was not."""
    loaded = "m in sys.modules and type(sys.modules[m]).__name__ != '_LazyModule'"
    return python(f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if {loaded}])")


def test_importing_translimit_loads_nothing_heavy() -> None:
    assert heavy_after("import translimit; translimit.__version__; dir(translimit)") == "[]"


#: What `translimit --help`, `list`, `claims`, `cite`, `scale` and `extrapolate` go through.
LIGHT = ["cli", "store", "execute", "study", "report", "experiments", "scaling", "extrapolate"]


@pytest.mark.parametrize("room", [room for room in LIGHT if (SOURCE / room).is_dir()])
def test_the_rooms_behind_the_command_line_import_without_jax(room: str) -> None:
    imports = "\n".join(f"import {module}" for module in modules_of(room))
    assert imports
    assert heavy_after(imports) == "[]"


def test_the_plain_names_of_core_load_without_jax() -> None:
    names = "Claim, Estimate, ConfigError, StoreError, bibtex, config, nearest, progress_bar"
    assert heavy_after(f"from translimit.core import {names}") == "[]"


def test_touching_every_room_changes_no_setting() -> None:
    code = """
import os, sys
os.environ.pop("KMP_DUPLICATE_LIB_OK", None)  # as pytest's own process may have it
import jax, numpy, matplotlib, warnings, logging
before = dict(os.environ)
jax_settings, numpy_settings = dict(jax.config.values), numpy.geterr()
print_options, filters = numpy.get_printoptions(), list(warnings.filters)
drawing, level = dict(matplotlib.rcParams), logging.getLogger().level
import translimit
for room in translimit.__all__:
    module = getattr(translimit, room)
    for name in getattr(module, "__all__", ()):
        getattr(module, name)
assert "translimit.core.problem" in sys.modules
translimit.core.in_float64(lambda matrix: matrix, numpy.eye(2))  # looks for the BLAS libraries
assert dict(jax.config.values) == jax_settings, "jax"
assert numpy.geterr() == numpy_settings and numpy.get_printoptions() == print_options, "numpy"
assert dict(matplotlib.rcParams) == drawing, "matplotlib"
assert [f for f in warnings.filters if f not in filters and f[1] is None] == [], "warnings"
assert logging.getLogger().level == level, "logging"
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
print("unchanged")
"""
    assert python(code) == "unchanged"


def test_every_module_imports_with_the_optional_packages_blocked() -> None:
    imports = "\n".join(f"import {module}" for module in modules_of("."))
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Blocked())
{imports}
print("imported")
"""
    assert python(code) == "imported"


def test_every_name_that_a_stub_promises_exists() -> None:
    # EAGER_IMPORT makes lazy_loader resolve every name of a stub when its room is imported.
    rooms = [p.parent.relative_to(SOURCE.parent) for p in SOURCE.rglob("__init__.pyi")]
    imports = "\n".join("import " + ".".join(room.parts) for room in sorted(rooms))
    assert python(f"{imports}\nprint('resolved')", EAGER_IMPORT="1") == "resolved"


def test_dir_lists_what_the_stub_promises() -> None:
    from translimit import core

    stub = ast.parse((SOURCE / "core" / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    promised = {alias.name for node in imports for alias in node.names}
    assert promised == set(core.__all__)
    assert promised <= set(dir(core))
