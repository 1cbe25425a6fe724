"""What each command does: ask a room, print the answer."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from translimit.cli.arguments import (
    CiteCommand,
    ClaimsCommand,
    Command,
    CoordCheckCommand,
    DmftCommand,
    ExploreCommand,
    ListCommand,
    PredictCommand,
    ReportCommand,
    RunCommand,
    ScaleCommand,
    StatusCommand,
    TransferCommand,
)
from translimit.core import ConfigError, StoreError


@functools.singledispatch
def execute(command: Command) -> None:
    """Do what a command says and print the result on standard output."""
    raise TypeError(f"no such command: {command!r}")


@execute.register
def _list(command: ListCommand) -> None:
    from translimit.experiments import all_experiments

    listed = [
        {
            "name": one.name,
            "title": one.title,
            "summary": one.summary,
            "claims": list(one.claim_names()),
            "presets": {
                name: {
                    "seconds": one.cost(config).seconds,
                    "memory_bytes": one.cost(config).memory_bytes,
                }
                for name, config in one.presets.items()
            },
            "citations": list(one.citations),
        }
        for one in all_experiments().values()
    ]
    if command.json:
        _print_json({"experiments": listed})
        return
    from translimit.cli.tables import experiments_table

    _print_rich(experiments_table(listed))


@execute.register
def _run(command: RunCommand) -> None:
    _compute(command)


def _compute(command: RunCommand) -> Path:
    """Run experiments, say what was done, build the report; the folder of the run."""
    from translimit.execute import ProcessPool, Serial, limit_threads

    names, overrides = command.settings()
    if command.executor == "serial" and command.workers:
        raise ConfigError("--workers", "the serial executor has none", "leave it out")
    # Before anything numerical loads, so that claims get the same bits in every run.
    limit_threads(command.threads)
    executor = Serial() if command.executor == "serial" else ProcessPool(command.workers or None)

    from translimit.report import build_report
    from translimit.study import plan_run, run_experiments

    what: dict[str, Any] = {
        "preset": command.preset,
        "seed": command.seed,
        "overrides": overrides,
        "config_file": command.config,
        "threads": command.threads,
    }
    if sys.stdout.isatty():
        for one in plan_run(names, **what).experiments:
            seconds = one.experiment.cost(one.config).seconds
            note = f"{one.name}: {len(one.cells)} cells, about {seconds:.0f} s on one core"
            print(note, file=sys.stderr)
    run = run_experiments(names, out=command.out, executor=executor, fresh=command.fresh, **what)
    for state in run.damaged:
        print(f"damaged, computed again: {state.experiment}: {state.cell} ({state.problem})")
    print(f"cells: {len(run.computed)} computed, {len(run.kept)} kept")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts().items())
    report = build_report(run.path)
    print(f"claims: {counts}")
    print(f"report: {report}")
    return run.path


@execute.register
def _dmft(command: DmftCommand) -> None:
    from translimit.cli.tables import claims_table
    from translimit.store import RunFolder

    folder = _compute(
        RunCommand(
            experiments=("bordelon2024/dmft-networks",),
            out=command.out,
            executor=command.executor,
            workers=command.workers,
            threads=command.threads,
            seed=command.seed,
            config=command.config,
            fresh=command.fresh,
        )
    )
    _print_rich(claims_table(RunFolder.open(folder).claims()))


@execute.register
def _status(command: StatusCommand) -> None:
    from translimit.store import RunFolder, being_written

    run = RunFolder.open(command.run)
    states = run.states()
    status = run.info["status"]
    if status == "running" and not being_written(run.path):
        status = "interrupted"
    if status == "complete" and not all(state.whole for state in states):
        status = "damaged"
    answer = {
        "path": str(run.path),
        "status": status,
        "whole": sum(state.whole for state in states),
        "cells": [
            {
                "experiment": state.experiment,
                "cell": state.cell,
                "state": state.state,
                "problem": state.problem,
                "seconds": (state.manifest or {}).get("seconds"),
            }
            for state in states
        ],
        "failed": run.info["failed"],
        "command": run.command,
    }
    if command.json:
        _print_json(answer)
        return
    from translimit.cli.tables import status_table

    _print_rich(status_table(answer))
    print(f"{status}: {answer['whole']} of {len(states)} cells are whole")
    if status not in ("complete", "running"):
        print(f"finish it with: {run.command}")


@execute.register
def _claims(command: ClaimsCommand) -> None:
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)
    ledger = run.claims()
    if command.json:
        _print_json({"path": str(run.path), "experiments": ledger})
        return
    from translimit.cli.tables import claims_table

    _print_rich(claims_table(ledger))


@execute.register
def _report(command: ReportCommand) -> None:
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)

    from translimit.report import build_report

    print(f"report: {build_report(run.path)}")


@execute.register
def _cite(command: CiteCommand) -> None:
    from translimit.core import bibtex
    from translimit.store import RunFolder

    entries = RunFolder.open(command.run).info["experiments"]
    keys = {key for entry in entries for key in entry["citations"]}
    print(bibtex({*keys, "jax", "diffrax"}))


@execute.register
def _predict(command: PredictCommand) -> None:
    if command.plot is not None and command.plot.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError("--plot", f"got {str(command.plot)!r}", "name a .png, .pdf or .svg file")

    from translimit.predict import predict

    prediction = predict(
        command.config,
        tokens=command.tokens,
        threshold=command.threshold,
        seed=command.seed,
    )
    if command.plot is not None:
        _save(prediction.plot().figure, command.plot)
    if command.json:
        _print_json(prediction.to_json())
    else:
        print(prediction)


@execute.register
def _scale(command: ScaleCommand) -> None:
    from translimit.scaling import rules_for

    made = rules_for(
        command.base,
        command.target,
        optimizer=command.optimizer,
        alpha_A=command.alpha_a,
        alpha_L=command.alpha_l,
        style=command.style,
        decay=command.decay,
        tied=True if command.tied else None,
        fold_logits=command.fold_logits,
        change_mlp_ratio=command.change_mlp_ratio,
    )
    if command.export is not None:
        from translimit.scaling.adapters import overrides, to_yaml

        if command.lr is None:
            raise ConfigError("--lr", "is missing", "give the rate tuned at the base")
        table = overrides(
            made,
            command.export,
            lr=command.lr,
            min_lr=command.min_lr,
            eps=command.eps,
            weight_decay=command.weight_decay,
        )
        if command.json:
            _print_json(table)
        else:
            sys.stdout.write(to_yaml(table))
        return
    answer = made.to_json()
    if command.json:
        _print_json(answer)
        return
    from translimit.cli.tables import rules_table

    _print_rich(rules_table(made.groups()))
    print(f"logits: {made.logit_scale:.6g} k.q (absolute); branches: {made.residual:.6g}")
    print("all else is target over base; rates multiply the schedule of the base")
    for sentence in made.warnings:
        print(f"note: {sentence}")


@execute.register
def _coord_check(command: CoordCheckCommand) -> None:
    from translimit.cli import user_checks

    answer = user_checks.coordinate_checks(command)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import coordinates_table

    _print_rich(coordinates_table(answer.document["checks"]))
    for check in answer.document["checks"]:
        print(f"{check['axis']}: {check['verdict']}")
        for sentence in check["lint"]:
            print(f"  {sentence}")
        for sentence in check["notes"]:
            print(f"  note: {sentence}")
    print(f"kept in {answer.folder}")


@execute.register
def _transfer(command: TransferCommand) -> None:
    from translimit.cli import user_checks

    answer = user_checks.transfer_sweeps(command)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import transfer_table

    _print_rich(transfer_table(answer.document["sweeps"]))
    for sweep in answer.document["sweeps"]:
        drift = f"{sweep['drift']:+.2f} ± {sweep['drift_stderr']:.2f}"
        print(f"{sweep['axis']}, {sweep['parameterization']}: drift {drift} decades")
        for sentence in sweep["warnings"]:
            print(f"  note: {sentence}")
    print(f"kept in {answer.folder}")


@execute.register
def _explore(command: ExploreCommand) -> None:
    from translimit.explore import serve

    def announce(address: str) -> None:
        print(f"translimit explore: {address}", flush=True)
        print("stop it with Ctrl-C", file=sys.stderr, flush=True)

    serve(
        command.config,
        port=command.port,
        browser=not command.no_browser,
        announce=announce,
    )


def _drawn_and_told(command: CoordCheckCommand | TransferCommand, answer: Any) -> bool:
    """Save the figures; whether the answer was to be, and is, printed as one document."""
    from translimit.cli.user_checks import plot_path

    for axis, figure in answer.figures.items():
        _save(figure, plot_path(command, axis))
    if command.json:
        _print_json(answer.document)
    return command.json


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StoreError(path, f"cannot be written ({error.strerror})", "name another") from error


def _print_json(data: Any) -> None:
    from translimit.store import dump_json

    sys.stdout.write(dump_json(data))


def _print_rich(table: Any) -> None:
    """Print a table as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)
