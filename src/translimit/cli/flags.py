"""Errors of a command in the words of its options: `--tied`, not `tied=True`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from translimit.core import ArgumentError

#: Arguments of Python that an option spells otherwise.
_OTHERWISE = {"alpha_A": "alpha_a", "alpha_L": "alpha_l"}
#: Remedies that need Python.
_ONLY_PYTHON = re.compile(
    r" \((?:unsafe=True|pass unsafe=True)[^)]*\)|,? or pass unsafe=True[^;,]*"
)


@contextmanager
def told_as_options(command: object) -> Iterator[None]:
    """Raise errors about arguments that are options of a command by the names of the options.

    Args:
        command: a command, a dataclass whose fields are its options.

    Raises:
        ArgumentError: of the same type, in the words of the command line.
    """
    options = {one.name: f"--{one.name.replace('_', '-')}" for one in fields(command)}  # pyright: ignore
    options |= {name: options[field] for name, field in _OTHERWISE.items() if field in options}
    try:
        yield
    except ArgumentError as error:
        argument = options.get(error.argument, error.argument)
        remedy = in_options(error.remedy, options)
        if (argument, remedy) == (error.argument, error.remedy):
            raise
        raise type(error)(argument, error.problem, remedy) from error


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A remedy in which `name=value` is an option with its value.

    >>> in_options("pass tied=True, style='folded'", {"tied": "--tied", "style": "--style"})
    'pass --tied, --style folded'
    """
    text = _ONLY_PYTHON.sub("", text)
    for name, option in options.items():
        text = re.sub(rf"\b{name}=True\b", option, text)
        text = re.sub(rf"\b{name}=\(?[\'\"]([\w-]+)[\'\"],?\)?", rf"{option} \1", text)
    return text
