"""What the commands about a model do: predict, check, sweep, and serve the sliders."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from translimit.cli.executors import use_programs
from translimit.cli.garbage import rarely_collected
from translimit.cli.model_arguments import (
    CoordCheckCommand,
    ExploreCommand,
    PredictCommand,
    TransferCommand,
)
from translimit.cli.output import print_json, print_table, save_figure
from translimit.cli.terminal import say
from translimit.cli.verdicts import costs, prediction_verdict, sweep_verdict, swept
from translimit.core import ConfigError

if TYPE_CHECKING:
    from translimit.cli.user_checks import Answer, CheckDocument, SweepDocument
    from translimit.predict import Cost

#: Operations from which what they cost is told before: some seconds on any machine.
MANY = 2e11


def do_predict(command: PredictCommand) -> None:
    """Say what the limits predict for an architecture."""
    if command.plot is not None and command.plot.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError("--plot", f"got {str(command.plot)!r}", "name a .png, .pdf or .svg file")

    from translimit.core import progress_bar
    from translimit.execute import lightly_optimised

    bar = progress_bar(f"predict {Path(command.config).name}")
    with bar as progress, lightly_optimised(), rarely_collected():
        use_programs(command)

        from translimit.core import traces_kept
        from translimit.predict import predict

        with traces_kept():
            prediction = predict(
                command.config,
                text=command.text,
                ids=command.ids,
                image=command.image,
                gram=command.gram,
                tokens=command.tokens,
                tokenizer=command.tokenizer,
                threshold=command.threshold,
                networks=command.networks,
                others=command.variants,
                fix=command.fix,
                forward=command.forward,
                whole=command.whole,
                seed=command.seed,
                progress=progress,
                announce=_announce,
            )
    if command.plot is not None:
        save_figure(prediction.plot(), command.plot)
    if command.json:
        print_json(prediction.to_json())
    else:
        say(prediction)
        say(f"\nverdict: {prediction_verdict(prediction)}")


def _announce(cost: Cost) -> None:
    """Tell what a prediction will cost, where that is no moment."""
    if cost.operations > MANY:
        say(f"translimit: {cost}", error=True)


def do_coord_check(command: CoordCheckCommand) -> None:
    """Check a factory's model against the rules."""
    from translimit.cli import user_checks
    from translimit.cli.own_code import search_here

    search_here([command.factory])
    use_programs(command)
    answer = user_checks.coordinate_checks(command, _beforehand)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import coordinates_table

    print_table(coordinates_table(answer.document["checks"]))
    for check in answer.document["checks"]:
        said = check["lint"][1:] if check["findings"] else check["lint"]
        for sentence in (*said, *(f"note: {note}" for note in check["notes"])):
            say(f"{check['axis']}: {sentence}")
    say(f"kept in {answer.folder}\n")
    for sentence in answer.document["in_words"]:
        say(sentence)


def do_transfer(command: TransferCommand) -> None:
    """Sweep the learning rate at several sizes."""
    from translimit.cli import user_checks
    from translimit.cli.own_code import search_here

    search_here([command.factory])
    use_programs(command)
    answer = user_checks.transfer_sweeps(command, _beforehand)
    if _drawn_and_told(command, answer):
        return
    from translimit.cli.tables import transfer_table

    sweeps = answer.document["sweeps"]
    print_table(transfer_table(sweeps))
    for sweep in sweeps:
        say(f"{swept(sweep)}: drift {sweep['optimum_drift_in_words']}")
        for sentence in sweep["warnings"]:
            say(f"  note: {sentence}")
    for sentence in costs(sweeps):
        say(sentence)
    for sweep in sweeps:
        say(f"verdict: {sweep_verdict(sweep)}")
    say(f"kept in {answer.folder}")


def _beforehand(sentence: str) -> None:
    """Tell what a check will take, before most of it is done."""
    say(f"translimit: {sentence}", error=True)


def _drawn_and_told(
    command: CoordCheckCommand | TransferCommand,
    answer: Answer[CheckDocument] | Answer[SweepDocument],
) -> bool:
    """Save the figures; whether the answer was to be, and is, printed as one document."""
    from translimit.cli.user_checks import plot_path

    for axis, figure in answer.figures.items():
        save_figure(figure, plot_path(command, axis))
    if command.json:
        print_json(answer.document)
    return command.json


def do_explore(command: ExploreCommand) -> None:
    """Serve the page of sliders until it is stopped."""
    from translimit.explore import serve

    use_programs(command)

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
