"""What `translimit extrapolate` does: read, fit, tell, draw; no JAX unless it trains its demo."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from translimit.cli.executors import use_programs
from translimit.cli.extrapolate_arguments import ExtrapolateCommand
from translimit.cli.output import print_json, save_figure
from translimit.cli.terminal import say
from translimit.core import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translimit.core import Json, JsonObject
    from translimit.extrapolate import Comparison, Curves, Extrapolation, Predicted


def do_extrapolate(command: ExtrapolateCommand) -> None:
    """Tell the loss of a larger network from runs of small ones."""
    from translimit.extrapolate import fit, read_runs

    if command.plot is not None and command.plot.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError("--plot", f"got {str(command.plot)!r}", "name a .png, .pdf or .svg file")
    if command.demo:
        curves = _demo(command)
    elif command.runs is None:
        raise ConfigError("RUNS", "is missing", "pass a CSV file, or --demo")
    else:
        curves = read_runs(command.runs, paired=not command.unpaired)

    def fitted(runs: Curves) -> Extrapolation:
        return fit(
            runs,
            _names(command.axis),
            together=_names(command.together) or (),
            lr=_rate(command.lr),
            at_step=command.at_step,
            rate=command.rate,
        )

    found = fitted(curves)
    target = _target(command, found)
    against = None
    if command.against is not None:
        from translimit.extrapolate import compare

        if target is None:
            raise ConfigError("--target", "is missing", "name the size at which to compare")
        other = fitted(read_runs(command.against, paired=not command.unpaired))
        against = compare(found, other, paired=not command.unpaired, rate=command.rate, **target)
    told = []
    if found.backtest.passes:
        told = [found.infinite] if target is None else [found.at(target), found.infinite]
    more = _more(command, found, target)
    if command.plot is not None and told:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 4.4), layout="constrained")
        found.plot(figure.add_subplot(), **(target or {}))
        save_figure(figure, command.plot)
    elif command.plot is not None:
        say(f"no value is given: {command.plot} is not drawn", error=True)
    if command.json:
        print_json(_document(found, told, more, against))
        return
    say(found.text(told))
    for _, said in more.values():
        say(said)
    if against is not None:
        say(f"{command.runs or 'demo'} against {command.against}")
        say(against)


def _more(
    command: ExtrapolateCommand, found: Extrapolation, target: dict[str, float] | None
) -> dict[str, tuple[Json, str]]:
    """What else the runs tell, as data and in words."""
    more: dict[str, tuple[Json, str]] = {}
    if len(found.axes) == 1 and len(found.runs.rates) > 2:
        try:
            best = found.optimum(**(target or {}))
        except DataError as error:
            more["optimum"] = (None, f"note: best rate: {error}")
        else:
            plain: JsonObject = {
                "log10_lr_infinite": best.infinite.value,
                "error": best.infinite.stderr,
                "log10_lr_target": best.at_target.value,
                "regret_of_base": best.regret_of_base,
                "regret_of_extrapolated": best.regret_of_extrapolated,
                "lr": best.lr,
                "fast": best.fast,
            }
            more["optimum"] = (plain, str(best))
    if len(found.axes) == 1 and (found.steps > 0).sum() > 2:
        collapse = found.collapse(command.floor)
        rows = ("parts", "ratio", "trend", "trend_error")
        told: JsonObject = {name: getattr(collapse, name).tolist() for name in rows}
        more["collapse"] = (told, str(collapse))
    if command.parameters is not None:
        shapes = found.shape(
            parameters=command.parameters, mlp_ratio=command.mlp_ratio, gated=command.gated
        )
        rows = [
            {
                "head_dim": one.head_dim,
                "heads": one.heads,
                "layers": one.layers,
                "parameters": one.parameters,
                "log_loss": one.log_loss.value,
                "error": one.log_loss.floor,
            }
            for one in shapes.best
        ]
        more["shapes"] = (rows, str(shapes))
    return more


def _document(
    found: Extrapolation,
    told: Sequence[Predicted],
    more: dict[str, tuple[Json, str]],
    against: Comparison | None,
) -> JsonObject:
    """Everything as one document."""
    document = dict(found.to_json(told))
    document |= {name: plain for name, (plain, _) in more.items()}
    if against is not None:
        document["against"] = {
            "decision": str(against.decision),
            "difference": float(against.difference[0]),
            "range": list(against.range),
            "seeds_to_decide": against.seeds_to_decide,
        }
    return document


def _target(command: ExtrapolateCommand, found: Extrapolation) -> dict[str, float] | None:
    """The size that is asked for, by axis."""
    if command.target is None:
        return None
    try:
        sizes = [float(one) for one in command.target.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != len(found.axes) or not all(size > 0 for size in sizes):
        raise ConfigError(
            "--target", f"got {command.target!r}", f"pass a size for {', '.join(found.axes)}"
        )
    return dict(zip(found.axes, sizes, strict=True))


def _names(told: str | None) -> tuple[str, ...] | None:
    return None if told is None else tuple(filter(None, map(str.strip, told.split(","))))


def _rate(told: str) -> float | Literal["best"]:
    if told == "best":
        return "best"
    try:
        rate = float(told)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ConfigError("--lr", f"got {told!r}", "pass a learning rate of the runs, or best")
    return rate


def _demo(command: ExtrapolateCommand) -> Curves:
    """Train the demo, and write its runs where a file is named."""
    from translimit.cli.extrapolate_demo import SIZES, demo_losses, write_losses
    from translimit.core import progress_bar

    if command.runs is not None and command.runs.exists():
        raise ConfigError("RUNS", f"{command.runs} is there already", "name another file")
    from translimit.execute import lightly_optimised

    with progress_bar("extrapolate: train the demo") as progress, lightly_optimised():
        use_programs(command)
        curves = demo_losses(progress)
    if command.runs is not None:
        write_losses(curves, command.runs)
        say(f"{len(SIZES)} sizes trained; runs: {command.runs}", error=True)
    return curves
