"""The function of each command: ask a room, print the answer."""

from __future__ import annotations

import functools
from pathlib import Path

from translimit.cli.arguments import (
    CacheCommand,
    CiteCommand,
    Command,
    ExampleCommand,
    ListCommand,
)
from translimit.cli.model_commands import (
    do_coord_check,
    do_explore,
    do_predict,
    do_scale,
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
from translimit.cli.terminal import say
from translimit.core import PROGRAMS_SWITCH, ConfigError


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
execute.register(do_scale)
execute.register(do_coord_check)
execute.register(do_transfer)
execute.register(do_explore)


@execute.register
def _list(command: ListCommand) -> None:
    from translimit.experiments import all_experiments, get_experiment, offered_experiments

    known = all_experiments()
    for name in offered_experiments():
        try:
            known.setdefault(name, get_experiment(name))
        except ConfigError as error:  # one package that is broken hides no other
            say(f"translimit: {error}", error=True)
    listed = [
        {
            "name": one.name,
            "title": one.title,
            "summary": one.summary,
            "claims": list(one.claim_names(one.presets["standard"])),
            "presets": {
                name: {
                    "cells": len(one.cells(config)),
                    "seconds": one.cost(config).seconds,
                    "memory_bytes": one.cost(config).memory_bytes,
                }
                for name, config in one.presets.items()
            },
            "citations": list(one.citations),
        }
        for one in known.values()
    ]
    if command.json:
        print_json({"experiments": listed})
        return
    from translimit.cli.tables import experiments_table

    print_table(experiments_table(listed))


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
