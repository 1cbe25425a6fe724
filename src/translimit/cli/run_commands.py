"""What the commands about runs do: compute cells, join, show and publish what is stored."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit.cli.executors import use_programs
from translimit.cli.output import print_json, print_table
from translimit.cli.run_arguments import (
    ClaimsCommand,
    DmftCommand,
    ExportCommand,
    GalleryCommand,
    MergeCommand,
    ReportCommand,
    RunCommand,
    StatusCommand,
)
from translimit.cli.terminal import say
from translimit.cli.verdicts import found_in
from translimit.core import ConfigError, format_count, progress_bar, resolve_device

if TYPE_CHECKING:
    from translimit.store import ClaimRecord
    from translimit.study import Merged, Run


def do_run(command: RunCommand) -> None:
    """Run experiments, or tell what a run needs."""
    if command.json and not command.plan:
        raise ConfigError(
            "--json", "goes with --plan", "add --plan, or look at a run with `translimit status`"
        )
    if command.plan:
        _plan(command)
    else:
        _compute(command)


def _counts(run: Run | Merged) -> str:
    """Claims by verdict, and the printed forms that they correct, counted by themselves."""
    told = ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts().items())
    errata = run.errata()
    return told + (f"; printed forms corrected: {errata}" if errata else "")


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
        print_json(answer)
        return
    from translimit.cli.tables import plan_summary, plan_table

    print_table(plan_table(answer))
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
    use_programs(command)

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
    if sys.stderr.isatty():
        for one in plan_run(names, **what).experiments:
            seconds = one.experiment.cost(one.config).seconds
            cells = format_count(len(one.cells), "cell")
            note = f"{one.name}: {cells}, about {seconds:.0f} s on one core"
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
    with progress_bar("report") as progress:
        report = build_report(run.path, names, progress=progress)
    for name, sentence in found_in(run.claims, names).items():
        say(f"verdict: {name}: {sentence}")
    say(f"claims: {_counts(run)}")
    say(f"report: {report}")
    return run.path


def do_dmft(command: DmftCommand) -> None:
    """Solve the training dynamics of a configuration beside networks, and print the claims."""
    from translimit.store import RunFolder

    name = f"bordelon2024/dmft-{'own-best-rate' if command.best_rate else 'networks'}"
    asked = RunCommand.executed_as(command, (name,), out=command.out)
    asked = replace(asked, seed=command.seed, config=command.config, fresh=command.fresh)
    if not command.json:
        _print_claims(RunFolder.open(_compute(asked)).claims())
        return
    with contextlib.redirect_stdout(sys.stderr):  # what is said on the way is no JSON
        folder = RunFolder.open(_compute(asked))
    answer: dict[str, Any] = {"run": str(folder.path), "claims": folder.claims()[name]}
    if command.best_rate:
        curves = folder.read_cells(name)["curves"]
        answer["curves"] = {
            str(key): _finite(value.values.tolist()) for key, value in curves.variables.items()
        }
    print_json(answer)


def _finite(values: Any) -> Any:
    """Numbers as JSON knows them: None in the place of what is not finite."""
    if isinstance(values, list):
        return [_finite(one) for one in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def do_status(command: StatusCommand) -> None:
    """Show how a run stands."""
    from translimit.cli.own_code import own_experiments, say_not_loaded
    from translimit.store import RunFolder
    from translimit.study import run_status

    own = own_experiments(command.own, [RunFolder.open(command.run)])
    answer = run_status(command.run, own)
    if command.json:
        print_json(answer)
        return
    from translimit.cli.tables import status_summary, status_table

    print_table(status_table(answer))
    say("\n".join(status_summary(answer)))
    say_not_loaded(answer["not_loaded"], "the time left is told without its cost model")


def do_merge(command: MergeCommand) -> None:
    """Join runs into one folder."""
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
    with progress_bar("report") as progress:
        report = build_report(command.out, own, progress=progress)
    say(f"claims: {_counts(merged)}")
    say(f"report: {report}")


def do_export(command: ExportCommand) -> None:
    """Write a run into one netCDF file."""
    from translimit.cli.own_code import own_experiments
    from translimit.store import RunFolder, export_run

    if command.out is None:
        raise ConfigError("--out", "is missing", "name a file ending in .nc")
    run = RunFolder.open(command.run)
    own_experiments(command.own, [run])
    with progress_bar("export") as progress:
        written = export_run(run, command.out, partial=command.partial, progress=progress)
    say(f"exported: {written}")


def do_claims(command: ClaimsCommand) -> None:
    """Show the ledger of a run."""
    from translimit.cli.own_code import own_experiments
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)
    own_experiments(command.own, [run])
    ledger = run.claims()
    if command.audit:
        _audit(command, ledger)
        return
    if command.json:
        print_json({"path": str(run.path), "experiments": ledger})
        return
    _print_claims(ledger)


def _print_claims(ledger: Mapping[str, Sequence[ClaimRecord]]) -> None:
    """The ledger of a run as a table, or that there is nothing in it."""
    from translimit.cli.tables import claims_table

    if any(ledger.values()):
        print_table(claims_table(ledger))
    else:
        say("no claims: nothing was compared")


def _audit(command: ClaimsCommand, ledger: Mapping[str, Sequence[ClaimRecord]]) -> None:
    """Put wrong theories in the place of the right ones."""
    from dataclasses import asdict

    from translimit.cli.tables import audit_table
    from translimit.core import Claim
    from translimit.experiments import audit

    audits = {}
    with progress_bar("audit") as progress:
        for name, claims in ledger.items():
            audits[name] = audit(map(Claim.from_json, claims))
            progress(len(audits) / len(ledger))
    if command.json:
        print_json({name: asdict(one) for name, one in audits.items()})
    else:
        print_table(audit_table(audits))


def do_report(command: ReportCommand) -> None:
    """Build the report of a run."""
    from translimit.cli.own_code import own_experiments, say_not_loaded
    from translimit.experiments import trusted_source
    from translimit.store import RunFolder

    run = RunFolder.open(command.run)
    own = own_experiments(command.own, [run])

    from translimit.report import build_report

    with progress_bar("report") as progress:
        built = build_report(run.path, own, progress=progress)
    say(f"report: {built}")
    unknown = [name for name in run.experiments if trusted_source(name, own) is None]
    say_not_loaded(unknown, "its figures are not drawn")


def do_gallery(command: GalleryCommand) -> None:
    """Run experiments, and show all their figures on one page."""
    from translimit.cli.gallery import make_gallery
    from translimit.cli.own_code import by_own_names

    names = tuple(by_own_names(command.experiments, command.own))

    def compute(name: str, out: Path) -> None:
        say(name)
        asked = RunCommand.executed_as(command, (name,), out=out)
        _compute(replace(asked, preset=command.preset))

    folder = command.out or Path("runs", f"gallery-{command.preset}")
    say(f"gallery: {make_gallery(folder, names, command.only_page, compute)}")
