"""Pages of the interface: `:::: translimit.ROOM` lists every public name of a room, from its stub.

A name that a room's `__init__.pyi` exports appears on its page without anybody listing it again.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

SOURCE = Path(__file__).parents[2] / "src"


def public_names(room: str) -> dict[str, list[str]]:
    """The names that a room exports, by the file that holds them, in the stub's order."""
    stub = SOURCE.joinpath(*room.split("."), "__init__.pyi")
    if not stub.exists():
        raise PluginError(f"{room} has no stub {stub.name}")
    names: dict[str, list[str]] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names.setdefault(node.module, []).extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.setdefault(alias.name, [])
    return names


def expand(room: str) -> str:
    """The directives of mkdocstrings for every public name of a room, a section a file."""
    sections = []
    for file, names in public_names(room).items():
        module = f"{room}.{file}"
        sections.append(f"## {file.replace('_', ' ')}\n")
        if names:
            options = "    options:\n      members: []\n      show_root_heading: false\n"
            sections.append(f"::: {module}\n{options}      show_root_toc_entry: false\n")
        else:  # a module that is itself the public name, like `core.config`
            sections.append(f"::: {module}\n")
        sections.extend(f"::: {module}.{name}\n" for name in names)
    return "\n".join(sections)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the directives of a page (an event of MkDocs)."""
    return re.sub(
        r"^:::: (translimit\.[\w.]+)$", lambda match: expand(match[1]), markdown, flags=re.MULTILINE
    )
