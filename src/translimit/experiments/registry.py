"""Finding experiments by the names that somebody typed.

A new experiment of translimit is one new file `experiments/<paper>/<name>.py` that holds an
`EXPERIMENT`; nothing else changes. An installed package offers experiments as entry points of the
group `translimit.experiments`, each under the name of the experiment. Any other is named
`module:OBJECT`.

The files of a run name no code: for a stored run `trusted_source` finds only what ships, what is
installed, and what the user named.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from translimit.core import ConfigError, nearest
from translimit.experiments.experiment import Experiment

#: The entry points with which an installed package offers experiments.
ENTRY_POINTS = "translimit.experiments"
#: The papers in the order of pages and lists: the first half of names, and what it is about.
PAPERS = {
    "castin2025": "The Transformer PDE: tokens as a measure",
    "noci2023": "The shaped Transformer: depth and width together",
    "koubbi2026": "Homogenized Transformers: random heads on the sphere",
    "bordelon2024": "Training dynamics: infinitely many heads",
    "signal": "Signal propagation: any block at initialisation",
    "checkpoints": "Trained checkpoints: beside drawn networks and the limits",
    "extrapolate": "From small runs: what a larger network will come to",
    "horizons": "Horizons: for how many updates a tuned rate transfers",
    "roles": "Roles beyond the dense block: experts, adapters, norms of queries",
    "transfer": "Transfer: what is asked of single rates",
}


def all_experiments() -> dict[str, Experiment[Any]]:
    """Every experiment that ships with translimit, by name, in alphabetical order."""
    package = importlib.import_module("translimit.experiments")
    found = {}
    for paper in pkgutil.iter_modules(package.__path__):
        if not paper.ispkg:
            continue
        folder = importlib.import_module(f"{package.__name__}.{paper.name}")
        for module in pkgutil.iter_modules(folder.__path__):
            loaded = importlib.import_module(f"{folder.__name__}.{module.name}")
            experiment = getattr(loaded, "EXPERIMENT", None)
            if experiment is not None:
                found[experiment.name] = experiment
    return dict(sorted(found.items()))


def offered_experiments() -> dict[str, str]:
    """What installed packages offer: `module:OBJECT` by the name of the experiment; loads none.

    A package in the current folder is not installed there, whatever `sys.path` says.
    """
    here = os.path.realpath(os.curdir)
    path = (place for place in sys.path if place and os.path.realpath(place) != here)
    return dict(_offered(tuple(path)))


@functools.lru_cache(maxsize=4)
def _offered(path: tuple[str, ...]) -> dict[str, str]:
    """What packages on a path offer; reading what all of them say takes a while."""
    found: dict[str, str] = {}
    for package in metadata.distributions(path=list(path)):
        for point in package.entry_points:
            if point.group == ENTRY_POINTS:
                found.setdefault(point.name, f"{point.module}:{point.attr}")
    return dict(sorted(found.items()))


def get_experiment(name: str) -> Experiment[Any]:
    """The experiment called `name`, or loaded from `module:OBJECT`.

    Its code is run, so the name must be one that the user gave, never one that a file holds.

    Raises:
        ConfigError: no such experiment (with the nearest known one), a module that does not hold
            one, or an installed package that offers another one under this name.
    """
    if ":" in name:
        return _loaded(name)
    known = all_experiments()
    if name in known:
        return known[name]
    offered = offered_experiments()
    if name not in offered:
        raise ConfigError(
            "experiment", f"unknown experiment {name!r}", nearest(name, {*known, *offered})
        )
    experiment = _loaded(offered[name])
    if experiment.name != name:
        raise ConfigError(
            "experiment",
            f"an installed package offers {experiment.name!r} under the name {name!r}",
            "give its entry point the name of the experiment",
        )
    return experiment


def trusted_source(name: str, named: Sequence[str] = ()) -> str | None:
    """What `get_experiment` may be asked for an experiment of a stored run, or None.

    Args:
        name: of the experiment, as the run's files have it.
        named: what the user allows beside translimit and installed packages, as `module:OBJECT`.

    Raises:
        ConfigError: something of `named` cannot be loaded.
    """
    for source in named:
        if get_experiment(source).name == name:
            return source
    return name if name in all_experiments() or name in offered_experiments() else None


def stored_experiment(name: str, named: Sequence[str] = ()) -> Experiment[Any] | None:
    """The experiment of a stored run, if its code may be loaded (see `trusted_source`).

    Raises:
        ConfigError: something of `named`, or what an installed package offers, cannot be loaded.
    """
    source = trusted_source(name, named)
    return None if source is None else get_experiment(source)


def _loaded(name: str) -> Experiment[Any]:
    module, _, attribute = name.partition(":")
    try:
        experiment = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a module of somebody else does when it is imported
        kind = "" if isinstance(error, (ImportError, AttributeError)) else type(error).__name__
        raise ConfigError(
            "experiment",
            f"cannot load {name!r} ({f'{kind}: ' if kind else ''}{error})",
            "write module:OBJECT, and run from its folder or install it",
        ) from error
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            "experiment", f"{name!r} is not an experiment", "name an instance of Experiment"
        )
    return experiment
