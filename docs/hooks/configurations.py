"""What every key of the public configurations does when they are read.

The files are the copies in `tests/describe/configurations`, with their origins. A key is judged by
what happens without it, not by what the reader says of it:

- needed: the configuration is refused without it,
- acts: something that is read changes,
- default: nothing changes but the assumption that the family's default holds,
- ignored: told under `ignored`, by name,
- same: nothing changes: its value is the default, or it does not act at initialisation.

`:::: configurations` on a page becomes the table of the files, `:::: keys` that of the keys.
`:::: dmft` becomes the table of what files for `translimit dmft` may say, from the classes that
read them.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
FILES = ROOT / "tests" / "describe" / "configurations"
#: What a key can do, in the order of the tables.
DEEDS = ("needed", "acts", "default", "ignored", "same")


class Read(NamedTuple):
    """One file.

    Attributes:
        name: of the file.
        origin: where it is public.
        reading: what was read; None where it is refused.
        refused: why it is.
        keys: what each key did.
    """

    name: str
    origin: str
    reading: Any
    refused: str
    keys: Mapping[str, str]


@cache
def read_all() -> tuple[Read, ...]:
    """All files, in the order of their names."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
    rows = (FILES / "ORIGINS.tsv").read_text(encoding="utf-8").splitlines()
    origins = {name: f"{repo}, {path}" for name, repo, path in (row.split("\t") for row in rows)}
    return tuple(_read(path, origins[path.name]) for path in sorted(FILES.glob("*.json")))


def _read(path: Path, origin: str) -> Read:
    from translimit.core import TranslimitError
    from translimit.describe import read_stack

    values = json.loads(path.read_text(encoding="utf-8"))
    try:
        whole = read_stack(values)
    except TranslimitError as error:
        told = str(error)
        return Read(path.name, origin, None, re.sub(r"; known: .*", "", told, flags=re.DOTALL), {})
    # The keys of the part that is read, where a file describes several towers.
    part = next(
        (one for one in ("text_config", "vision_config") if "model_type" in values.get(one, {})), ""
    )
    own = values[part] if part else values
    keys = {}
    for key in own:
        less = {name: value for name, value in own.items() if name != key}
        try:
            without = read_stack({**values, part: less} if part else less)
        except TranslimitError:
            keys[key] = "needed"
        else:
            keys[key] = _deed(key, whole, without)
    return Read(path.name, origin, whole, "", keys)


def _deed(key: str, whole: Any, without: Any) -> str:
    if any(one.startswith(f"{key}:") for one in whole.ignored):
        return "ignored"
    bare = {"assumptions": (), "ignored": ()}
    if replace(whole, **bare) != replace(without, **bare):
        return "acts"
    return "same" if whole.assumptions == without.assumptions else "default"


def files_table() -> str:
    """A row a file: what it was read as, and how many of its keys did what."""
    rows = [
        "| file | from | read as | " + " | ".join(DEEDS) + " |",
        "|---|---|---|" + "---|" * len(DEEDS),
    ]
    for one in read_all():
        origin = f"`{one.origin}`"
        if one.reading is None:
            rows.append(f"| `{one.name}` | {origin} | refused: {_cell(one.refused)} |" + " |" * 5)
            continue
        counts = Counter(one.keys.values())
        stack = one.reading.stack
        told = f"{one.reading.family}, {len(stack.layers)} layers of width {stack.dim}"
        cells = " | ".join(str(counts[deed] or "") for deed in DEEDS)
        rows.append(f"| `{one.name}` | {origin} | {told} | {cells} |")
    return "\n".join(rows)


def keys_table() -> str:
    """A row a key that does something in some file; the others in one sentence."""
    counts: dict[str, Counter[str]] = {}
    said: dict[str, list[str]] = {}
    for one in read_all():
        for key, deed in one.keys.items():
            counts.setdefault(key, Counter())[deed] += 1
        for sentence in () if one.reading is None else one.reading.ignored:
            key, _, why = sentence.partition(": ")
            said.setdefault(key, []).append(why)
    rows = [
        "| key | " + " | ".join(DEEDS) + " | what is said where it is ignored |",
        "|---|" + "---|" * (len(DEEDS) + 1),
    ]
    same = []
    for key, own in sorted(counts.items()):
        if set(own) == {"same"}:
            same.append(f"`{key}`")
            continue
        cells = " | ".join(str(own[deed] or "") for deed in DEEDS)
        why = _cell("; ".join(dict.fromkeys(said.get(key, []))))
        rows.append(f"| `{key}` | {cells} | {why} |")
    last = f"The same without them, wherever they occur ({len(same)}): {', '.join(same)}."
    return "\n".join([*rows, "", last])


def counts() -> tuple[int, int, Counter[str]]:
    """Files that are read, files that are refused, and what the keys of the former did in all."""
    found = read_all()
    read = [one for one in found if one.reading is not None]
    return len(read), len(found) - len(read), Counter(d for one in read for d in one.keys.values())


def summary() -> str:
    """One sentence with the counts."""
    read, refused, deeds = counts()
    told = ", ".join(f"{deeds[deed]} {deed}" for deed in DEEDS)
    return (
        f"{read} of {read + refused} files are read, {refused} are refused. Of the "
        f"{deeds.total()} keys of those that are read: {told}."
    )


def dmft_table() -> str:
    """A row a field of the files of `translimit dmft`: its default and what it is."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
    from translimit.experiments.bordelon2024 import dmft_networks, dmft_own_best_rate

    demo = dmft_own_best_rate.EXPERIMENT.presets["demo"]
    usual = replace(demo, **vars(dmft_networks.EXPERIMENT.presets["demo"]))
    kind = type(demo)
    said: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        said |= attributes(one)
    rows = ["| key | by default | what it is |", "|---|---|---|"]
    for field in fields(kind):
        default = json.dumps(getattr(usual, field.name))
        rows.append(f"| `{field.name}` | `{default}` | {_cell(said[field.name])} |")
    return "\n".join(rows)


def attributes(kind: type) -> dict[str, str]:
    """What the documentation of a class says of its attributes, by name."""
    own = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=    \w)", own.partition("\n\n")[0]):
        names, _, words = block.strip().partition(": ")
        found |= dict.fromkeys(names.split(", "), re.sub(r"\s+", " ", words))
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the tables of a page (an event of MkDocs)."""
    tables = {
        "configurations": files_table,
        "keys": keys_table,
        "counts": summary,
        "dmft": dmft_table,
    }
    for name, made in tables.items():
        if re.search(rf"^:::: {name}$", markdown, flags=re.MULTILINE):
            markdown = re.sub(
                rf"^:::: {name}$", lambda _, made=made: made(), markdown, flags=re.MULTILINE
            )
    return markdown
