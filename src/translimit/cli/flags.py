"""Errors of a command in the words of its options: `--tied`, not `tied=True`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from translimit.core import ArgumentError

#: Arguments of Python that an option spells otherwise.
_OTHERWISE = {"alpha_A": "alpha_a", "alpha_L": "alpha_l"}
#: Arguments that are a word of `--facts`, and whether the word says that they are True.
_FACTS = {name: True for name in ("branch_gain", "packed_qkv", "qk_norm", "scaled_embedding")}
_FACTS |= {"normalised_gates": False}
_WORDS = {"normalised_gates": "plain_gates"}


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
        if "facts" in options and error.argument in _FACTS:
            argument = f"{options['facts']} {_WORDS.get(error.argument, error.argument)}"
        remedy = in_options(error.remedy, options)
        if (argument, remedy) == (error.argument, error.remedy):
            raise
        raise type(error)(argument, error.problem, remedy) from error


def facts_of(words: Iterable[str]) -> dict[str, Any]:
    """The arguments of `scaling.rules` that the words of `--facts` stand for.

    >>> facts_of(("packed_qkv", "plain_gates"))
    {'packed_qkv': True, 'normalised_gates': False}
    """
    told = {_WORDS.get(name, name): (name, says) for name, says in _FACTS.items()}
    return dict(told[word] for word in words)


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A remedy in which `name=value` is an option with its value.

    >>> in_options("pass tied=True, style='folded'", {"tied": "--tied", "style": "--style"})
    'pass --tied, --style folded'
    >>> in_options("pass normalised_gates=False", {"facts": "--facts"})
    'pass --facts plain_gates'
    """
    facts = options.get("facts")
    for name, says in _FACTS.items() if facts is not None else ():
        word = _WORDS.get(name, name)
        text = re.sub(rf"\b{name}={says}\b", f"{facts} {word}", text)
        text = re.sub(rf"\b{name}={not says}\b", f"no {facts} {word}", text)
    for name, option in options.items():
        text = re.sub(rf"\b{name}=True\b", option, text)
        text = re.sub(rf"\b{name}=False\b", f"no {option}", text)
        text = re.sub(rf"\b{name}=\([\'\"]([\w-]+)[\'\"],\)", rf"{option} \1", text)
        text = re.sub(rf"\b{name}=(-?[\d.]*\d)", rf"{option} \1", text)
        text = re.sub(rf"\b{name}=[\'\"]([\w-]+)[\'\"]", rf"{option} \1", text)
    return text
