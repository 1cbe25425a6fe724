"""What each command does: ask a room, print the answer."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

from translimit.cli.arguments import (
    CacheCommand,
    CiteCommand,
    ClaimsCommand,
    Command,
    CoordCheckCommand,
    DmftCommand,
    ExampleCommand,
    ExploreCommand,
    ExportCommand,
    GalleryCommand,
    ListCommand,
    MergeCommand,
    PredictCommand,
    ReportCommand,
    RunCommand,
    ScaleCommand,
    StatusCommand,
    TransferCommand,
)
from translimit.cli.executors import ProgramOptions
from translimit.cli.terminal import say, write_json
from translimit.core import PROGRAMS_SWITCH, ConfigError, resolve_device, whole_file


@functools.singledispatch
def execute(command: Command) -> None:
    """Do what a command says and print the result on standard output."""
    raise TypeError(f"no such command: {command!r}")


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
        _print_json({"experiments": listed})
        return
    from translimit.cli.tables import experiments_table

    _print_rich(experiments_table(listed))


@execute.register
def _run(command: RunCommand) -> None:
    if command.json and not command.plan:
        raise ConfigError(
            "--json", "goes with --plan", "add --plan, or look at a run with `translimit status`"
        )
    if command.plan:
        _plan(command)
    else:
        _compute(command)


def _plan(command: RunCommand) -> None:
    """Print what a run needs; nothing starts."""
    from translimit.cli.executors import make_executor
    from translimit.study import forecast, plan_run

    names, overrides = _settings(command)
    device = resolve_device(command.device)
    executor = make_executor(command, device)
    plan = plan_run(
        names,
        preset=command.preset,
        seed=command.seed,
        overrides=overrides,
        config_file=command.config,
        threads=command.threads,
        device=device,
    )
    made = forecast(
        plan, executor, out=command.out, fresh=command.fresh, store=command.store or None
    )
    made.require_fits()
    answer = made.to_json()
    if command.json:
        _print_json(answer)
        return
    from translimit.cli.tables import plan_summary, plan_table

    _print_rich(plan_table(answer))
    say("\n".join(plan_summary(answer)))


def _settings(command: RunCommand) -> tuple[list[str], dict[str, str]]:
    """The experiments as whoever loads them finds them, and the overrides."""
    from translimit.cli.own_code import by_own_names

    names, overrides = command.settings()
    return by_own_names(names, command.own), overrides


def _compute(command: RunCommand) -> Path:
    """Run experiments, say what was done, build the report; the folder of the run."""
    from translimit.cli.executors import make_executor
    from translimit.execute import job_environment

    names, overrides = _settings(command)
    device = resolve_device(command.device)
    executor = make_executor(command, device)
    # Before anything numerical loads, so that claims get the same bits in every run; only the
    # serial executor computes cells in this process.
    own = device if command.executor == "serial" else "cpu"
    os.environ.update(job_environment(command.threads, own))
    _keep_programs(command)

    from translimit.report import build_report
    from translimit.study import plan_run, run_experiments

    what: dict[str, Any] = {
        "preset": command.preset,
        "seed": command.seed,
        "overrides": overrides,
        "config_file": command.config,
        "threads": command.threads,
        "device": device,
    }
    if sys.stdout.isatty():
        for one in plan_run(names, **what).experiments:
            seconds = one.experiment.cost(one.config).seconds
            note = f"{one.name}: {len(one.cells)} cells, about {seconds:.0f} s on one core"
            say(note, error=True)
    run = run_experiments(
        names,
        out=command.out,
        executor=executor,
        fresh=command.fresh,
        retries=command.retries,
        store=command.store or None,
        **what,
    )
    for state in run.damaged:
        say(f"damaged, computed again: {state.experiment}: {state.cell} ({state.problem})")
    for cell in run.retried:
        say(f"failed at first: {cell['cell']} ({'; '.join(cell['errors'])})")
    again = f" ({len(run.retried)} at another attempt)" if run.retried else ""
    say(f"cells: {len(run.computed)} computed{again}, {len(run.kept)} kept")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts().items())
    report = build_report(run.path, names)
    say(f"claims: {counts}")
    say(f"report: {report}")
    return run.path


@execute.register
def _dmft(command: DmftCommand) -> None:
    from translimit.cli.executors import execution_of
    from translimit.cli.tables import claims_table
    from translimit.store import RunFolder

    folder = _compute(
        RunCommand(
            experiments=("bordelon2024/dmft-networks",),
            out=command.out,
            **execution_of(command),
            seed=command.seed,
            config=command.config,
            fresh=command.fresh,
        )
    )
    _print_rich(claims_table(RunFolder.open(folder).claims()))


@execute.register
def _status(command: StatusCommand) -> None:
    from translimit.cli.own_code import own_experiments, say_not_loaded
    from translimit.store import RunFolder
    from translimit.study import run_status

    own = own_experiments(command.own, [RunFolder.open(command.run)])
    answer = run_status(command.run, own)
    if command.json:
        _print_json(answer)
        return
    from translimit.cli.tables import status_summary, status_table

    _print_rich(status_table(answer))
    say("\n".join(status_summary(answer)))
    say_not_loaded(answer["not_loaded"], "the time left is told without its cost model")


@execute.register
def _merge(command: MergeCommand) -> None:
    from translimit.cli.own_code import own_experiments, say_not_loaded
    from translimit.execute import job_environment
    from translimit.store import RunFolder

    if command.out is None:
        raise ConfigError("--out", "is missing", "name the folder of the joined run")
    runs = [RunFolder.open(path) for path in command.runs]
    own = own_experiments(command.own, runs)
    # Before anything numerical loads, so that claims get the same bits as in the runs.
    threads = runs[0].info.get("threads", 1) if runs else 1
    os.environ.update(job_environment(threads, "cpu"))

    from translimit.report import build_report
    from translimit.study import merge_runs

    merged = merge_runs(command.runs, command.out, own)
    for note in merged.notes:
        say(f"note: {note}")
    say(f"cells: {merged.whole} of {merged.cells} whole in {command.out}")
    say_not_loaded(merged.not_loaded, "no claim is checked")
    if merged.claims is None:
        say(f"finish it with: {merged.command}")
        return
    counts = ", ".join(f"{count} {verdict}" for verdict, count in merged.verdicts().items())
    report = build_report(command.out, own)
    say(f"claims: {counts}")
    say(f"report: {report}")


@execute.register
def _export(command: ExportCommand) -> None:
    from translimit.cli.own_code import own_experiments
    from translimit.store import RunFolder, export_run

    if command.out is None:
        raise ConfigError("--out", "is missing", "name a file ending in .nc")
    run = RunFolder.open(command.run)
    own_experiments(command.own, [run])
    written = export_run(run, command.out, partial=command.partial)
    say(f"exported: {written}")


@execute.register
def _claims(command: ClaimsCommand) -> None:
    from translimit.cli.own_code import own_experiments
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)
    own_experiments(command.own, [run])
    ledger = run.claims()
    if command.json:
        _print_json({"path": str(run.path), "experiments": ledger})
        return
    from translimit.cli.tables import claims_table

    _print_rich(claims_table(ledger))


@execute.register
def _report(command: ReportCommand) -> None:
    from translimit.cli.own_code import own_experiments, say_not_loaded
    from translimit.experiments import trusted_source
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)
    own = own_experiments(command.own, [run])

    from translimit.report import build_report

    say(f"report: {build_report(run.path, own)}")
    unknown = [name for name in run.experiments if trusted_source(name, own) is None]
    say_not_loaded(unknown, "its figures are not drawn")


@execute.register
def _gallery(command: GalleryCommand) -> None:
    from translimit.cli.executors import execution_of
    from translimit.cli.gallery import make_gallery
    from translimit.cli.own_code import by_own_names

    names = tuple(by_own_names(command.experiments, command.own))

    def compute(name: str, out: Path) -> None:
        say(name)
        settings = execution_of(command)
        _compute(RunCommand(experiments=(name,), preset=command.preset, out=out, **settings))

    folder = command.out or Path("runs", f"gallery-{command.preset}")
    say(f"gallery: {make_gallery(folder, names, command.only_page, compute)}")


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
def _predict(command: PredictCommand) -> None:
    if command.plot is not None and command.plot.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError("--plot", f"got {str(command.plot)!r}", "name a .png, .pdf or .svg file")

    from translimit.core import progress_bar
    from translimit.execute import lightly_optimised

    with progress_bar(f"predict {command.config.name}") as progress, lightly_optimised():
        _keep_programs(command)

        from translimit.predict import predict

        prediction = predict(
            command.config,
            tokens=command.tokens,
            threshold=command.threshold,
            seed=command.seed,
            progress=progress,
        )
    if command.plot is not None:
        _save(prediction.plot().figure, command.plot)
    if command.json:
        _print_json(prediction.to_json())
    else:
        say(prediction)


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
        fold_scores=command.fold_scores,
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
    say(f"scores: {made.score_scale:.6g} q . k (absolute); branches: {made.residual:.6g}")
    say("all else is target over base; rates multiply the schedule of the base")
    for sentence in made.warnings:
        say(f"note: {sentence}")


@execute.register
def _coord_check(command: CoordCheckCommand) -> None:
    from translimit.cli import user_checks
    from translimit.cli.own_code import search_here

    search_here([command.factory])
    _keep_programs(command)
    answer = user_checks.coordinate_checks(command)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import coordinates_table

    _print_rich(coordinates_table(answer.document["checks"]))
    for check in answer.document["checks"]:
        say(f"{check['axis']}: {check['verdict']}")
        for sentence in check["lint"]:
            say(f"  {sentence}")
        for sentence in check["notes"]:
            say(f"  note: {sentence}")
    say(f"kept in {answer.folder}")


@execute.register
def _transfer(command: TransferCommand) -> None:
    from translimit.cli import user_checks
    from translimit.cli.own_code import search_here

    search_here([command.factory])
    _keep_programs(command)
    answer = user_checks.transfer_sweeps(command)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import transfer_table

    _print_rich(transfer_table(answer.document["sweeps"]))
    for sweep in answer.document["sweeps"]:
        say(
            f"{sweep['axis']}, {sweep['parameterization']}: drift {sweep['optimum_drift_in_words']}"
        )
        for sentence in sweep["warnings"]:
            say(f"  note: {sentence}")
    say(f"kept in {answer.folder}")


@execute.register
def _explore(command: ExploreCommand) -> None:
    from translimit.explore import serve

    _keep_programs(command)

    def announce(address: str) -> None:
        say(f"translimit explore: {address}")
        say("stop it with Ctrl-C", error=True)
        sys.stdout.flush()

    serve(
        command.config,
        port=command.port,
        browser=not command.no_browser,
        announce=announce,
    )
    # An open page leaves a thread of marimo that nothing ends; the interpreter would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


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
        _print_json({**asdict(kept), "folder": str(kept.folder), "root": str(kept.root)})
        return
    amount = f"{kept.programs} files, {kept.size / 2**20:.1f} MiB"
    if command.clear:
        say(f"removed: {amount} in {kept.root}")
        return
    say(f"folder: {kept.folder}")
    say(f"status: {kept.status}")
    say(f"kept: {amount} in {kept.root}")
    say(f"switch it off with --no-cache or {PROGRAMS_SWITCH}=off; empty it with --clear")


def _keep_programs(options: ProgramOptions) -> None:
    """Use and keep compiled programs, unless the command says otherwise; loads JAX."""
    from translimit.core import keep_programs

    if options.no_cache:
        os.environ[PROGRAMS_SWITCH] = "off"
    keep_programs()


def _drawn_and_told(command: CoordCheckCommand | TransferCommand, answer: Any) -> bool:
    """Save the figures; whether the answer was to be, and is, printed as one document."""
    from translimit.cli.user_checks import plot_path

    for axis, figure in answer.figures.items():
        _save(figure, plot_path(command, axis))
    if command.json:
        _print_json(answer.document)
    return command.json


def _save(figure: Any, path: Path) -> None:
    with whole_file(path, remedy="name another file", again="draw it again") as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix.removeprefix("."))


def _print_json(data: Any) -> None:
    from translimit.store import dump_json

    write_json(dump_json(data))


def _print_rich(table: Any) -> None:
    """Print a table as wide as the terminal, or wide enough for a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)
