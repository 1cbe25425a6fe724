"""Templates of the installed package, with the filters that set values in type."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

from translimit.core import format_count
from translimit.report.mathematics import plain, typeset

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def template(name: str) -> Template:
    """A template by its file name."""
    return _environment().get_template(name)


def source(name: str) -> str:
    """The text of a file beside the templates: a style sheet, a script."""
    return (resources.files("translimit.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    """Escaping is on, and a name that is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["typeset"] = typeset
    environment.filters["plain"] = plain
    environment.filters["count"] = format_count
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment
