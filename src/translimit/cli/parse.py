"""Parsing the command line: tyro reads it, and every refusal becomes one line.

tyro prints its refusals as boxes. They are caught and told in the form of every other error here:
what is wrong with which argument, and the nearest thing that would be right.
"""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import re
import typing
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from translimit.cli.arguments import COMMANDS, Command
from translimit.core import ConfigError, nearest

_DESCRIPTION = (
    "Solve the infinite limits of transformer dynamics beside the finite networks.\n\n"
    "Example: translimit run castin2025/digits --preset demo"
)


def parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments ask for.

    Raises:
        ConfigError: they are not understood; one line names the argument and the nearest.
        SystemExit: help was asked for and printed.
    """
    if not arguments:
        raise ConfigError("command", "none is given", f"known: {', '.join(COMMANDS)}")
    first = arguments[0]
    if not first.startswith("-") and first not in COMMANDS:
        raise ConfigError("command", f"unknown command {first!r}", nearest(first, COMMANDS))
    for argument in arguments:
        word = argument.partition("=")[0]
        if re.match(r"-\D", word) and word not in ("-h", *_options(first)):
            place = f"`translimit {first}`" if first in COMMANDS else "`translimit`"
            raise ConfigError(word, f"is not an option of {place}", nearest(word, _options(first)))
    kinds: Any = functools.reduce(
        operator.or_,
        (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items()),  # pyright: ignore
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kinds,
                prog="translimit",
                description=_DESCRIPTION,
                args=list(arguments),
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
    raise _refusal(first, said.getvalue())


def _refusal(command: str, box: str) -> ConfigError:
    """One line from a box of tyro's."""
    # A title, then paragraphs between rules; drawn in ASCII where the output is not UTF-8.
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    paragraphs: list[list[str]] = [[]]
    for line in filter(None, lines[1:]):
        if set(line) <= {"─", "-"} or line == "Got errors:":
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    body = next(filter(None, paragraphs), [])
    problem = re.sub(r"\s+", " ", " ".join(body)).rstrip(".")
    place = f"translimit {command}" if command in COMMANDS else "translimit"
    advice = f"see `{place} --help`"

    if extra := re.match(r"Unrecognized .*?options: ([^\s,]+)", problem):
        return ConfigError(extra[1], "one argument too many", advice)
    if choice := re.match(r"invalid choice '(.*)' for argument '(.*)'.*\((.*)\)", problem):
        known = re.findall(r"'([^']*)'", choice[3])
        known = [one for one in known if one != "None"]
        return ConfigError(choice[2], f"got {choice[1]!r}", nearest(choice[1], known))
    if absent := re.match(r"Missing from translimit \w[\w-]*: (--[\w-]+)", problem):
        return ConfigError(absent[1], "is missing", _choices(command, absent[1]) or advice)
    if missing := re.match(r"Missing value for argument '(--.*?)'", problem):
        several = re.search(r"Expected ([2-9]) values", problem)
        problem = f"has fewer than {several[1]} values" if several else "has no value"
        return ConfigError(missing[1], problem, advice)
    if number := re.match(r"Error parsing (--[\w-]+): invalid literal for int.*?: '(.*)'", problem):
        return ConfigError(number[1], f"got {number[2]!r}", "pass a whole number")
    if number := re.match(r"Error parsing (--[\w-]+): could not convert .* float: '(.*)'", problem):
        return ConfigError(number[1], f"got {number[2]!r}", "pass a number")
    if words := re.match(r"Error parsing (--[\w-]+): .*\[('.*')\]", problem):
        given = " ".join(re.findall(r"'([^']*)'", words[2]))
        return ConfigError(words[1], f"got {given!r}", advice)
    if value := re.match(r"Error parsing (--[\w-]+): (.*)", problem):
        return ConfigError(value[1], value[2], advice)
    if "RUN" in problem or "'run'" in problem:
        return ConfigError("RUN", "is missing", "pass the folder that `translimit run` printed")
    if "FACTORY" in problem:
        return ConfigError("FACTORY", "is missing", "write module:function")
    if "CONFIG" in problem:
        remedy = "pass a config.json, a name as gpt2, or sizes as heads=12,head_dim=64,layers=12"
        if command == "dmft":
            remedy = "pass a .toml or .json file; `translimit example dmft.toml` writes one"
        return ConfigError("CONFIG", "is missing", remedy)
    return ConfigError(command, problem, advice)


def _options(command: str) -> list[str]:
    """The options of a command, as typed."""
    if command not in COMMANDS:
        return ["--help", "--version"]
    kind = COMMANDS[command]
    hints = typing.get_type_hints(kind, include_extras=True)
    named = (_typed(name, hint) for name, hint in hints.items() if not _positional(hint))
    return ["--help", *(f"--{name.replace('_', '-')}" for name in named)]


def _choices(command: str, option: str) -> str:
    """What an option takes, where that is a few words; else nothing."""
    hints = typing.get_type_hints(COMMANDS[command])
    own = (hint for name, hint in hints.items() if f"--{name.replace('_', '-')}" == option)
    told = next((typing.get_args(hint) for hint in own if _is_literal(hint)), ())
    return f"pass one of {', '.join(told)}" if told else ""


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal


def _typed(name: str, hint: Any) -> str:
    """The name of an option as it is typed: that of its field, if it is given no other."""
    given = (getattr(part, "name", None) for part in getattr(hint, "__metadata__", ()))
    return next((one for one in given if isinstance(one, str)), name)


def _positional(hint: Any) -> bool:
    """Whether an argument is told by its place."""
    return tyro.conf.Positional in getattr(hint, "__metadata__", ())
