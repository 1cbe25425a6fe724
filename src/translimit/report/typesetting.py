"""Templates of the installed package, with the filters that set values in type."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

from translimit.core import format_count
from translimit.report.mathematics import plain, typeset
from translimit.report.tables import data_uri

#: The font of formulas: a cut of TeX Gyre Termes Math, with its licence beside it.
FONT = "mathematics.woff"
FAMILY = "translimit mathematics"

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def template(name: str) -> Template:
    """A template by its file name."""
    return _environment().get_template(name)


def source(name: str) -> str:
    """The text of a file beside the templates: a style sheet, a script."""
    return (resources.files("translimit.report") / "templates" / name).read_text(encoding="utf-8")


def resource(name: str) -> bytes:
    """The bytes of a file beside the templates: a font."""
    return (resources.files("translimit.report") / "templates" / name).read_bytes()


@functools.cache
def style() -> str:
    """The style sheet of a page, with the font of its formulas inside."""
    address = data_uri(resource(FONT), "font/woff")
    face = f'@font-face {{ font-family: "{FAMILY}"; src: url({address}); }}'
    return f"{face}\n{source('report.css')}"


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
