"""Finding experiments by name: every module of a paper's folder that holds an `EXPERIMENT`.

A new experiment is one new file `experiments/<paper>/<name>.py`; nothing else changes. An
experiment of somebody else's package is named `package.module:OBJECT`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from translimit.core import ConfigError, nearest
from translimit.experiments.base import AbstractExperiment


def all_experiments() -> dict[str, AbstractExperiment[Any]]:
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


def get_experiment(name: str) -> AbstractExperiment[Any]:
    """The experiment called `name`, or loaded from `module:OBJECT`.

    Raises:
        ConfigError: no such experiment (with the nearest known one), or the module does not hold
            one.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            experiment = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                "experiment",
                f"cannot load {name!r} ({error})",
                "write module:OBJECT, and run from its folder or install it",
            ) from error
        if not isinstance(experiment, AbstractExperiment):
            raise ConfigError(
                "experiment",
                f"{name!r} is not an experiment",
                "name an instance of a subclass of AbstractExperiment",
            )
        return experiment
    known = all_experiments()
    if name not in known:
        raise ConfigError("experiment", f"unknown experiment {name!r}", nearest(name, known))
    return known[name]
