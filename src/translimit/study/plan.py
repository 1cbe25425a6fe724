"""What a run will compute, resolved before anything starts: configurations, cells, digests."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from translimit._version import __version__
from translimit.core import ConfigError, Json, JsonObject, config, nearest, resolve_device
from translimit.experiments import KEYS, Cell, Experiment, get_experiment
from translimit.store import ExperimentEntry, run_name


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment of a run with its resolved configuration.

    Attributes:
        source: the name under which it is found: its own, or `module:OBJECT`.
        experiment: the experiment.
        config: its configuration.
        cells: what it computes.
    """

    source: str
    experiment: Experiment[Any]
    config: object
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment.name


@dataclass(frozen=True)
class Plan:
    """A run before it starts.

    Attributes:
        experiments: in the order in which they were named.
        preset: the preset's name.
        seed: of every random stream.
        threads: per cell; another number may give other bits.
        overrides: `--set` values by key.
        config_file: the file that was read, or None.
        device: "cpu" or "gpu"; the other one gives other bits.
    """

    experiments: tuple[PlannedExperiment, ...]
    preset: str
    seed: int
    threads: int
    overrides: Mapping[str, str]
    config_file: Path | None
    device: str = "cpu"

    @property
    def digest(self) -> str:
        """Of everything that fixes the results but the version."""
        configurations = {one.name: config.to_json(one.config) for one in self.experiments}
        return run_digest(configurations, self.seed, self.threads, self.device)

    @property
    def _fixed(self) -> dict[str, Json]:
        """What fixes the bits beside configurations."""
        return _fixed(self.seed, self.threads, self.device)

    def cell_digest(self, one: PlannedExperiment, cell: Cell) -> str:
        """Of everything that fixes the results of one cell, with the version."""
        return config.digest(
            {
                "experiment": one.name,
                "config": config.to_json(one.config),
                "cell": cell.name,
                "parameters": dict(cell.parameters),
                "translimit": __version__,
                **self._fixed,
            }
        )

    def path(self, out: Path | None) -> Path:
        """The run folder: the chosen one, or `runs/<experiments>-<preset>-<digest>`."""
        names = [one.name for one in self.experiments]
        return out or Path("runs", run_name(names, self.preset, self.digest))

    def command(self, out: Path | None) -> str:
        """The command line that makes, finishes or remakes this run."""
        words = ["translimit", "run", *(one.source for one in self.experiments)]
        words += ["--preset", self.preset]
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--threads", str(self.threads)] if self.threads != 1 else []
        words += ["--device", self.device] if self.device != "cpu" else []
        for key, value in self.overrides.items():
            words += ["--set", f"{key}={value}"]
        words += ["--config", str(self.config_file)] if self.config_file else []
        words += ["--out", str(out)] if out else []
        return shlex.join(words)

    def entries(self) -> list[ExperimentEntry]:
        """The experiments as plain data for `run.json`."""
        return [
            {
                "name": one.name,
                "source": one.source,
                "title": one.experiment.title,
                "citations": list(one.experiment.citations),
                "config": config.to_json(one.config),
                "cells": [
                    {
                        "name": cell.name,
                        "parameters": dict(cell.parameters),
                        "digest": self.cell_digest(one, cell),
                    }
                    for cell in one.cells
                ],
            }
            for one in self.experiments
        ]


def run_digest(
    configurations: Mapping[str, JsonObject], seed: int, threads: int, device: str
) -> str:
    """Of everything that fixes the results of a run but the version.

    Args:
        configurations: by the name of the experiment, as plain data.
        seed: of every random stream.
        threads: per cell.
        device: of every cell.
    """
    return config.digest({"configurations": configurations, **_fixed(seed, threads, device)})


def _fixed(seed: int, threads: int, device: str) -> dict[str, Json]:
    """What fixes the bits beside configurations; runs on the CPU need not say so."""
    fixed: dict[str, Json] = {"seed": seed, "threads": threads, "keys": KEYS}
    return fixed if device == "cpu" else {**fixed, "device": device}


def plan_run(
    names: Sequence[str],
    *,
    preset: str = "demo",
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    config_file: str | Path | None = None,
    threads: int = 1,
    device: str = "auto",
) -> Plan:
    """Resolve names, preset, file and overrides, in this order, into configurations and cells.

    Args:
        names: experiments, or `module:OBJECT`.
        preset: the sizes to start from.
        seed: a non-negative integer.
        overrides: key to text, as `--set` gives them; each applies to every experiment that has
            the key.
        config_file: TOML or JSON. A table named after an experiment applies to it alone, other
            keys to every experiment that has them.
        threads: per cell.
        device: of every cell, "cpu" or "gpu"; "auto" looks at this machine (see
            `core.resolve_device`).

    Raises:
        ConfigError: an unknown experiment, preset or key (with the nearest known one), a value of
            the wrong type, a file that cannot be read, an experiment named twice.
    """
    if not names:
        raise ConfigError("experiment", "none is named", "`translimit list` shows them")
    if seed < 0:
        raise ConfigError("seed", f"got {seed}", "pass at least 0")
    if threads < 1:
        raise ConfigError("threads", f"got {threads}", "pass at least 1")
    found = {name: get_experiment(name) for name in names}
    if len({one.name for one in found.values()}) < len(names):
        raise ConfigError("experiment", "one is named twice", "name each once")

    configs = {}
    for experiment in found.values():
        if preset not in experiment.presets:
            raise ConfigError(
                "preset",
                f"{experiment.name} has no preset {preset!r}",
                nearest(preset, experiment.presets),
            )
        configs[experiment.name] = experiment.presets[preset]
    if config_file is not None:
        configs = _with_file(configs, Path(config_file))
    configs = _with_overrides(configs, overrides or {})
    planned = tuple(
        PlannedExperiment(source, one, configs[one.name], _cells(one, configs[one.name]))
        for source, one in found.items()
    )
    path = None if config_file is None else Path(config_file)
    return Plan(planned, preset, seed, threads, dict(overrides or {}), path, resolve_device(device))


def _with_file(configs: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The configurations with the values of a file."""
    values = config.read_file(path)
    _require_known(values, {*configs, *_keys(configs)}, str(path))
    changed = {}
    for name, current in configs.items():
        own = values.get(name, {})
        if not isinstance(own, dict):
            raise ConfigError(
                str(path), f"{name!r} is not a table", "write [its name] and key = value"
            )
        known = config.to_json(current)
        shared = {key: value for key, value in values.items() if key in known}
        changed[name] = config.from_json(type(current), known | shared | own, where=str(path))
    return changed


def _with_overrides(configs: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """The configurations with `--set` applied to each that has the key."""
    _require_known(overrides, _keys(configs), "--set")
    return {
        name: config.replace(
            current,
            {k: v for k, v in overrides.items() if k in config.to_json(current)},
        )
        for name, current in configs.items()
    }


def _keys(configs: Mapping[str, Any]) -> set[str]:
    return {key for current in configs.values() for key in config.to_json(current)}


def _require_known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(where, f"unknown key {key!r}", nearest(key, known))


def _cells(experiment: Experiment[Any], configuration: Any) -> tuple[Cell, ...]:
    """The cells, checked: unique names, parameters of plain data."""
    cells = experiment.cells(configuration)
    if not cells or len({cell.name for cell in cells}) < len(cells):
        raise ConfigError(
            experiment.name, "has no cells, or two of one name", "give each cell a name of its own"
        )
    for cell in cells:
        try:
            json.dumps(dict(cell.parameters))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                experiment.name,
                f"the parameters of cell {cell.name!r} are not plain data ({error})",
                "use numbers, strings, lists and dictionaries",
            ) from error
    return tuple(cells)
