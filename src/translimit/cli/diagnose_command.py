"""What `translimit diagnose` does: read, hold against the null, say, write a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translimit.cli.diagnose_arguments import DiagnoseCommand
from translimit.cli.executors import use_programs
from translimit.cli.output import print_json
from translimit.cli.terminal import say
from translimit.core import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from translimit.core import Json, JsonObject, Progress
    from translimit.diagnose import Checkpoint, Diagnosis, DiagnosisCost, Inputs, Section

#: Seconds above which the cost is told, and above which it must be confirmed.
TOLD, LONG = 20.0, 3600.0


def do_diagnose(command: DiagnoseCommand) -> None:
    """Hold a checkpoint against its null."""
    from translimit.core import progress_bar
    from translimit.execute import lightly_optimised

    model = _model(command)
    with progress_bar(f"diagnose {model.name}") as progress, lightly_optimised():
        use_programs(command)
        from translimit.diagnose import diagnose, read_checkpoint

        checkpoint = read_checkpoint(model)
        whole = model.is_dir() or model.suffix == ".gguf"  # that holds its own tokenizer
        given = _inputs(command, checkpoint, model if whole else model.parent)
        found = diagnose(
            checkpoint,
            given,
            key=command.seed,
            null=None if command.null == "none" else command.null,
            null_entry=command.null_entry,
            draws=command.draws,
            progress=progress,
            announce=lambda cost: _announce(command, cost),
        )
        more = _more(command, checkpoint, given, progress)
    document: JsonObject = {**found.to_json(), **{name: plain for name, (plain, _) in more.items()}}
    if command.out is not None:
        _write(command.out, found, [section for _, section in more.values()], document)
    if command.json:
        print_json(document)
        return
    say(found)
    for _, section in more.values():
        say(f"\n{section.title}\n{section.text}")
    if command.out is not None:
        say(f"page: {command.out / 'diagnosis.html'}")


def _model(command: DiagnoseCommand) -> Path:
    if command.demo:
        if command.model is not None:
            raise ConfigError("MODEL", "is given beside --demo", "leave one of them out")
        from translimit.diagnose import packaged_folder

        return packaged_folder()
    if command.model is None:
        raise ConfigError("MODEL", "is missing", "pass the folder of a checkpoint, or --demo")
    return command.model


def _inputs(command: DiagnoseCommand, checkpoint: Checkpoint, folder: Path) -> Inputs | list[Any]:
    """The sequences that are asked for."""
    from translimit.diagnose import packaged_inputs, read_id_lines, text_inputs

    given = {"--text": command.text, "--ids": command.ids, "--image": command.image or None}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConfigError(names[1], f"is given beside {names[0]}", "pass one of them")
    if checkpoint.patches and names not in ([], ["--image"]):
        raise ConfigError(names[0], f"{checkpoint.family} reads images", "pass --image")
    if command.image:
        return _images(command, checkpoint, folder)
    if command.ids is not None:
        return read_id_lines(command.ids)
    if command.text is not None:
        return text_inputs(command.text, checkpoint, folder)
    return packaged_inputs(checkpoint, folder)


def _images(command: DiagnoseCommand, checkpoint: Checkpoint, folder: Path) -> list[Any]:
    """Pixels of images, as the model was trained on them."""
    from translimit.describe import PatchEmbedding, read_stack
    from translimit.predict import read_image

    embedding = read_stack(folder).stack.embedding
    if not checkpoint.patches or not isinstance(embedding, PatchEmbedding):
        raise ConfigError("--image", f"{checkpoint.family} reads tokens", "pass --text or --ids")
    return [read_image(one, embedding, folder)[0] for one in command.image]


def _announce(command: DiagnoseCommand, cost: DiagnosisCost) -> None:
    """Tell the cost where that is no moment, and refuse hours that nobody asked for."""
    if cost.seconds > LONG and not command.yes:
        remedy = "pass --yes, fewer --draws, or shorter sequences"
        raise ConfigError("MODEL", f"this takes {cost}", remedy)
    if cost.seconds > TOLD:
        say(f"translimit: {cost}", error=True)


def _more(
    command: DiagnoseCommand, checkpoint: Checkpoint, given: Any, progress: Progress | None
) -> dict[str, tuple[Json, Section]]:
    """What else is asked for, as data and as a section of the page."""
    from translimit.diagnose import (
        Inputs,
        Section,
        as_inputs,
        changes,
        find_outliers,
        read_checkpoint,
        series,
        skip,
    )

    rows = given.rows if isinstance(given, Inputs) else as_inputs(given, checkpoint).rows
    more: dict[str, tuple[Json, Section]] = {}
    if command.against is not None:
        found = changes(read_checkpoint(command.against), checkpoint, rows, progress=progress)
        more["against"] = (
            found.to_json(),
            Section(f"Against {command.against}", str(found)),
        )
    if command.outliers:
        outlying = find_outliers(checkpoint, rows)
        more["outliers"] = (outlying.to_json(), Section("Outliers", str(outlying)))
    if command.skip is not None:
        ranked = skip(checkpoint, rows, command.skip, progress=progress)
        plain: list[Json] = [one.to_json() for one in ranked]
        told = "\n".join(f"without {one}" for one in ranked)
        more["skip"] = (plain, Section(f"What is lost without single {command.skip}", told))
    if command.checkpoints:
        steps = {_step(one): read_checkpoint(one) for one in command.checkpoints}
        last = max(steps) + 1 if command.model is None else _step(command.model, max(steps) + 1)
        along = series({**steps, last: checkpoint}, rows, progress=progress)
        figure = along.plot() if command.out is not None else None
        more["series"] = (along.to_json(), Section("Along training", str(along), figure))
    return more


def _step(path: Path, default: int | None = None) -> int:
    """The step that the name of a checkpoint ends with."""
    found = re.search(r"(\d+)(?:\.pt)?$", path.name)
    if found is None and default is None:
        raise ConfigError("--checkpoints", f"{path.name} names no step", "name it as in step-100")
    return int(found[1]) if found is not None else int(default or 0)


def _write(
    folder: Path, found: Diagnosis, sections: Sequence[Section], document: JsonObject
) -> None:
    from translimit.core import whole_file
    from translimit.store import dump_json

    folder.mkdir(parents=True, exist_ok=True)
    parts: Sequence[tuple[str, str]] = (
        ("diagnosis.html", found.page(sections)),
        ("diagnosis.json", dump_json(document)),
    )
    for name, text in parts:
        again = "diagnose again"
        with whole_file(folder / name, remedy="name another folder", again=again) as temporary:
            temporary.write_text(text, encoding="utf-8")
