"""The function of each command: ask a room, print the answer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit.cli.arguments import (
    CacheCommand,
    CiteCommand,
    Command,
    ExampleCommand,
    ListCommand,
)
from translimit.cli.diagnose_command import do_diagnose
from translimit.cli.extrapolate_command import do_extrapolate
from translimit.cli.model_commands import (
    do_coord_check,
    do_explore,
    do_predict,
    do_transfer,
)
from translimit.cli.output import print_json, print_table
from translimit.cli.run_commands import (
    do_claims,
    do_dmft,
    do_export,
    do_gallery,
    do_merge,
    do_report,
    do_run,
    do_status,
)
from translimit.cli.scale_commands import do_recipes, do_scale
from translimit.cli.terminal import say
from translimit.core import PROGRAMS_SWITCH, ConfigError

if TYPE_CHECKING:
    from translimit.core import JsonObject
    from translimit.experiments import Experiment


@functools.singledispatch
def execute(command: Command) -> None:
    """Do what a command says and print the result on standard output."""
    raise TypeError(f"no such command: {command!r}")


execute.register(do_run)
execute.register(do_dmft)
execute.register(do_status)
execute.register(do_merge)
execute.register(do_export)
execute.register(do_claims)
execute.register(do_report)
execute.register(do_gallery)
execute.register(do_predict)
execute.register(do_diagnose)
execute.register(do_extrapolate)
execute.register(do_scale)
execute.register(do_recipes)
execute.register(do_coord_check)
execute.register(do_transfer)
execute.register(do_explore)


@execute.register
def _list(command: ListCommand) -> None:
    from translimit.cli.listing import chosen, listed_by_paper
    from translimit.cli.tables import claims_of_presets, experiments_table
    from translimit.experiments import all_experiments, get_experiment, offered_experiments

    if command.experiments:
        known = {name: get_experiment(name) for name in command.experiments}
    else:
        known = all_experiments()
        for name in offered_experiments():
            try:
                known.setdefault(name, get_experiment(name))
            except ConfigError as error:  # one package that is broken hides no other
                say(f"translimit: {error}", error=True)
    listed = [_described(one) for one in known.values()]
    listed = chosen(listed, command.paper, command.question)
    if command.json:
        print_json({"experiments": listed})
        return
    if not command.experiments:
        say("\n".join(listed_by_paper(listed)))
        return
    print_table(experiments_table(listed))
    for one in listed:
        say(f"\n{one['name']}: {' '.join(filter(None, (one['question'], one['summary'])))}")
        print_table(claims_of_presets(one))


def _described(experiment: Experiment[Any]) -> JsonObject:
    """An experiment in plain data."""
    presets: JsonObject = {}
    for name, settings in experiment.presets.items():
        cost = experiment.cost(settings)
        presets[name] = {
            "cells": len(experiment.cells(settings)),
            "seconds": cost.seconds,
            "memory_bytes": cost.memory_bytes,
            "claims": list(experiment.claim_names(settings)),
            "left_out": [
                {"cell": hole.cell, "reason": hole.reason} for hole in experiment.holes(settings)
            ],
        }
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "summary": experiment.summary,
        "presets": presets,
        "citations": list(experiment.citations),
    }


@execute.register
def _cite(command: CiteCommand) -> None:
    from translimit.core import bibtex
    from translimit.store import RunFolder

    if command.run is None:
        keys = {"bordelon2024", "castin2025", "koubbi2026", "noci2023"}
    else:
        from translimit.cli.own_code import own_experiments

        run = RunFolder.open(command.run)
        own_experiments(command.own, [run])
        entries = run.info["experiments"]
        keys = {key for entry in entries for key in entry["citations"]}
    say(bibtex({*keys, "jax", "diffrax"}))


@execute.register
def _example(command: ExampleCommand) -> None:
    from translimit.cli.examples import EXAMPLES, write_example

    for name in command.names:
        say(write_example(name, command.out or Path()))
    if not command.names:
        width = max(map(len, EXAMPLES))
        say("\n".join(f"{name:{width}}  {what}" for name, what in EXAMPLES.items()))


@execute.register
def _cache(command: CacheCommand) -> None:
    from dataclasses import asdict

    from translimit.core import clear_programs, kept_programs

    kept = clear_programs() if command.clear else kept_programs()
    if command.json:
        print_json({**asdict(kept), "folder": str(kept.folder), "root": str(kept.root)})
        return
    amount = f"{kept.programs} files, {kept.size / 2**20:.1f} MiB"
    if command.clear:
        say(f"removed: {amount} in {kept.root}")
        return
    say(f"folder: {kept.folder}")
    say(f"status: {kept.status}")
    say(f"kept: {amount} in {kept.root}")
    say(f"switch it off with --no-cache or {PROGRAMS_SWITCH}=off; empty it with --clear")
