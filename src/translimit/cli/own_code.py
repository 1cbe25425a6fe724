"""Code that a command line names, as `module:OBJECT`: the user's word, and the only one.

The current folder is searched for such a name alone, behind everything that is installed; what the
files of a run say is never imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from translimit.cli.terminal import say
from translimit.core import ConfigError
from translimit.store import RunFolder


def search_here(words: Iterable[str]) -> None:
    """Let modules of the current folder be imported, if a word that was typed names a module."""
    if any(":" in word for word in words) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def own_experiments(words: Sequence[str], runs: Iterable[RunFolder]) -> tuple[str, ...]:
    """What `--from` gives: experiments of the runs whose code may be loaded.

    Raises:
        ConfigError: a word that is not `module:OBJECT`, a module that holds no experiment, or one
            that belongs to none of the runs.
    """
    present = sorted({name for run in runs for name in run.experiments}) if words else []
    for name, word in _sources(words).items():
        if name not in present:
            raise ConfigError(
                "--from",
                f"{word!r} is {name!r}, which is not in the run",
                f"name one of {', '.join(present) or 'none'}",
            )
    return tuple(words)


def by_own_names(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """The names of experiments, those of `--from` as the `module:OBJECT` that brings them.

    Raises:
        ConfigError: a word that is not `module:OBJECT`, or a module that holds no experiment.
    """
    search_here(names)
    sources = _sources(words)
    return [sources.get(name, name) for name in names]


def _sources(words: Sequence[str]) -> dict[str, str]:
    """The words of `--from` by the names of their experiments."""
    from translimit.experiments import get_experiment

    search_here(words)
    for word in words:
        if ":" not in word:
            raise ConfigError("--from", f"got {word!r}", "write module:OBJECT")
    return {get_experiment(word).name: word for word in words}


def say_not_loaded(names: Iterable[str], what: str) -> None:
    """Tell which experiments were not loaded, what is missing for that, and the flag.

    Args:
        names: of the experiments.
        what: is missing, as in "figures are not drawn".
    """
    for name in names:
        say(
            f"note: {name} belongs neither to translimit nor to an installed package, so its code "
            f"was not loaded and {what}; to allow it add --from module:OBJECT"
        )
