"""The gallery of experiments: the main figure of each, by paper and by question.

`make gallery-docs RUNS="..."` takes run folders and writes the first figure of every experiment in
them into `assets/gallery/`, small, with `gallery.json`: the command that makes it again, version,
preset, seed and verdicts. What a run says takes the place of what stood there of its experiments,
all else is kept. What was found, and its claims, come from the stored verdicts of `ledger.py`.

On a page

- `:::: gallery PAPER` becomes the figures of a paper's experiments, with what was found,
- `:::: figure EXPERIMENT` one of them,
- `:::: thumbnails PAPER` small pictures that lead to them,
- in a cell of a table of a paper's page `:::: beside EXPERIMENT ...` small pictures of some.
"""

from __future__ import annotations

import functools
import html
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from small_images import smallest_webp

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
GALLERY = ROOT / "docs" / "assets" / "gallery"
INDEX = GALLERY / "gallery.json"
VERDICTS = ROOT / "docs" / "assets" / "ledger.json"
#: Pixels across, and bytes that all pictures may have together.
WIDTH, LARGEST = 800, 4_000_000


class Entry(TypedDict):
    """The picture of an experiment, and where it comes from."""

    file: str
    title: str
    command: str
    version: str
    preset: str
    seed: int
    verdicts: dict[str, int]
    claims: list[str]


def stored() -> dict[str, Entry]:
    """The pictures by experiment."""
    return json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else {}


def taken(runs: Iterable[Path]) -> tuple[dict[str, Entry], dict[str, bytes]]:
    """What runs say of their experiments, and the pictures as bytes by file.

    A run without figures gets its report, which draws them.

    Args:
        runs: folders of runs that are complete.
    """
    _package()
    from translimit.core import Claim
    from translimit.store import RunFolder, slug

    found: dict[str, Entry] = {}
    pictures: dict[str, bytes] = {}
    for path in runs:
        run = RunFolder.open(path)
        if not (run.figures / "index.json").exists():
            from translimit.report import build_report

            build_report(run.path)
        index = json.loads((run.figures / "index.json").read_text(encoding="utf-8"))
        for name, records in run.claims().items():
            if not index.get(name):
                continue
            first = index[name][0]
            file = f"{slug(name)}.webp"
            png = (run.figures / f"{first['file']}.png").read_bytes()
            pictures[file] = smallest_webp(png, WIDTH)
            claims = [Claim.from_json(one) for one in records]
            found[name] = Entry(
                file=file,
                title=first["title"],
                command=_command(name, run.info),
                version=run.info["translimit"],
                preset=run.info["preset"],
                seed=run.info["seed"],
                verdicts=dict(Counter(claim.verdict.value for claim in claims)),
                claims=[claim.name for claim in claims],
            )
    return found, pictures


def _command(name: str, info: Any) -> str:
    """The command that makes a picture's numbers again, without a place on a machine."""
    words = ["translimit", "run", name, "--preset", info["preset"]]
    words += ["--seed", str(info["seed"])] if info["seed"] else []
    for one in info.get("overrides", ()):
        words += ["--set", one]
    return " ".join(words)


def section(name: str) -> str:
    """One experiment on the page of its paper: what it compares, its picture, what was found.

    Args:
        name: of the experiment.
    """
    experiment = _experiments()[name]
    heading = (
        f"### {experiment.title} {{ #{_anchor(name)} }}\n\n"
        f"*{experiment.question}* {experiment.summary}\n\n"
    )
    entry = stored().get(name)
    if entry is None:
        return f"{heading}*No picture yet:* `translimit run {name}`."
    checked = judged(name)
    found = checked and _experiments()[name].found(checked)
    cut = " This run is a part of the preset." if " --set " in entry["command"] else ""
    return (
        f"{heading}![{_plain(entry['title'])}](../assets/gallery/{entry['file']})\n\n"
        f"*{entry['title'].rstrip('.')}.*{cut} {found or ''}\n\n"
        f"`{entry['command']}` (translimit {entry['version']})\n\n{_claims(entry, checked)}"
    )


def judged(name: str) -> list[dict[str, Any]]:
    """The claims of an experiment as the stored verdicts have them; none of another preset.

    Args:
        name: of the experiment.
    """
    told, experiment = _verdicts().get(name), _experiments()[name]
    if told is None or told["preset"] != stored()[name]["preset"]:
        return []
    config = experiment.presets[told["preset"]]
    sides = {claim: one.one_sided for one in experiment.claims for claim in one.names(config)}
    return [
        {
            **claim,
            "name": one,
            "estimate": {"value": claim["value"]},
            "floor": claim["error"],
            "one_sided": sides[one],
        }
        for one, claim in told["claims"].items()
        if one in sides
    ]


def _claims(entry: Entry, checked: list[dict[str, Any]]) -> str:
    """How many verdicts of each kind, and behind it the claims one by one."""
    from translimit.experiments.findings import measured

    counts = ", ".join(
        f"{entry['verdicts'][word]} {word}"
        for word in ("supported", "refuted", "underpowered")
        if word in entry["verdicts"]
    )
    lines = [
        f"<li><code>{html.escape(one['name'])}</code>: {html.escape(measured(one))}, "
        f"{one['verdict']}</li>"
        for one in checked
    ]
    if not lines:
        return f"Claims: {counts}."
    listed = "".join(lines).replace("; refuted)", ")").replace("; underpowered)", ")")
    return f"<details><summary>Claims: {counts}</summary><ul>{listed}</ul></details>"


def gallery(paper: str) -> str:
    """The sections of a paper's experiments.

    Args:
        paper: the first half of their names.
    """
    return "\n\n".join(section(name) for name in _experiments() if name.startswith(f"{paper}/"))


def figure(name: str, up: str = "") -> str:
    """The picture of an experiment on any page, with a link to its section; nothing without one.

    Args:
        name: of the experiment.
        up: from the page to the top of the documentation, as `../`.
    """
    paper, anchor = name.split("/")
    entry = stored().get(name)
    if entry is None:
        return ""
    title = entry["title"].rstrip(".")
    return (
        f"![{_plain(title)}]({up}assets/gallery/{entry['file']})\n\n"
        f"*{title}: what was found, and the command, are in the "
        f"[gallery]({up}papers/{paper}.md#{anchor}).*"
    )


def thumbnails(paper: str) -> str:
    """Small pictures of a paper's experiments, each a link to the large one.

    Args:
        paper: the first half of their names.
    """
    found = stored()
    items = [
        f'<a href="papers/{paper}.html#{_anchor(name)}">'
        f'<img src="assets/gallery/{found[name]["file"]}" alt="{_plain(experiment.title)}" '
        f'loading="lazy"><span>{_plain(experiment.title)}</span></a>'
        for name, experiment in _experiments().items()
        if name.startswith(f"{paper}/") and name in found
    ]
    return f'<div class="thumbnails">{"".join(items)}</div>' if items else "*No pictures yet.*"


def beside(names: str) -> str:
    """Small pictures on the page of a paper, each a link to its section, to stand in a cell.

    Args:
        names: of the experiments, with spaces between them.
    """
    found, known = stored(), _experiments()
    items = []
    for name in names.split():
        title = _plain(known[name].title)
        shown = name in found and (
            f'<img src="../assets/gallery/{found[name]["file"]}" alt="" loading="lazy">'
        )
        items.append(f'<a class="beside" href="#{_anchor(name)}">{shown or ""}{title}</a>')
    return "".join(items)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the pictures in (an event of MkDocs)."""
    up = "../" * page.file.src_uri.count("/")
    for word, made in (
        ("gallery", gallery),
        ("thumbnails", thumbnails),
        ("figure", lambda name: figure(name, up)),
    ):
        pattern = re.compile(rf"^:::: {word} (\S+)$", re.MULTILINE)
        markdown = pattern.sub(lambda match, made=made: made(match[1]), markdown)
    pattern = re.compile(r":::: beside (\w+/[\w-]+(?: \w+/[\w-]+)*)")
    return pattern.sub(lambda match: beside(match[1]), markdown)


def _verdicts() -> dict[str, Any]:
    """The verdicts of stored runs by experiment, as `ledger.py` writes them."""
    return json.loads(VERDICTS.read_text(encoding="utf-8"))


def _anchor(name: str) -> str:
    return name.partition("/")[2]


def _plain(text: str) -> str:
    """Text without mathematics and marks, for an attribute."""
    return re.sub(r"[$\\{}\"*_`]", "", text)


def _package() -> None:
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


@functools.cache
def _experiments() -> dict[str, Any]:
    _package()
    from translimit.experiments import all_experiments

    return all_experiments()


def write(runs: Iterable[Path]) -> None:
    """Write the pictures of runs, and drop those of experiments that are gone.

    Args:
        runs: folders of runs.

    Raises:
        SystemExit: all pictures together are too large.
    """
    GALLERY.mkdir(exist_ok=True)
    found, pictures = taken(runs)
    entries = {
        name: entry
        for name, entry in sorted({**stored(), **found}.items())
        if name in _experiments()
    }
    for file, data in pictures.items():
        (GALLERY / file).write_bytes(data)
    for path in GALLERY.glob("*.webp"):
        if path.name not in {entry["file"] for entry in entries.values()}:
            path.unlink()
    text = json.dumps(entries, indent=1, ensure_ascii=False, sort_keys=True)
    INDEX.write_text(text + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in GALLERY.glob("*.webp"))
    print(f"{len(found)} experiments taken, {len(entries)} pictures, {size / 1e6:.2f} MB")
    if size > LARGEST:
        raise SystemExit(f"the pictures are larger than {LARGEST / 1e6:g} MB together")


if __name__ == "__main__":
    write(map(Path, sys.argv[1:]))
