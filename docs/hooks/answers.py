"""Questions and their answers: examples of the pages, with what they printed.

`assets/answers/NAME.py` or `NAME.sh` is an example, `NAME.txt` is what it prints, and on a page
`:::: answer NAME` becomes both. `make answers` runs all examples and writes what they print,
`python docs/hooks/answers.py NAME...` those that are named.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
ANSWERS = ROOT / "docs" / "assets" / "answers"
#: What a terminal has as the commands `translimit` and `python`.
COMMAND = 'translimit() { "$PYTHON" -m translimit "$@"; }\npython() { "$PYTHON" "$@"; }\n'


def examples() -> dict[str, Path]:
    """The examples by name."""
    found = [*ANSWERS.glob("*.py"), *ANSWERS.glob("*.sh")]
    return {path.stem: path for path in sorted(found)}


def output_of(path: Path) -> str:
    """What an example prints, run in a folder of its own.

    Args:
        path: of the example.
    """
    text = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".sh":
            python_path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
            told = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", COMMAND + text],
                cwd=folder,
                env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": python_path},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        else:
            out = io.StringIO()
            with contextlib.chdir(folder), contextlib.redirect_stdout(out):
                exec(compile(text, str(path), "exec"), {"__name__": "__main__"})
            told = out.getvalue()
    return "\n".join(line.rstrip() for line in told.splitlines()) + "\n"


def answer(name: str) -> str:
    """An example and what it prints, as two blocks of code.

    Args:
        name: of the example.
    """
    path = examples()[name]
    language = {".py": "python", ".sh": "sh"}[path.suffix]
    text, told = (
        one.read_text(encoding="utf-8").rstrip("\n") for one in (path, path.with_suffix(".txt"))
    )
    return f"```{language}\n{text}\n```\n\n```text\n{told}\n```"


def shown(markdown: str) -> Iterator[str]:
    """The names of the examples that a page shows.

    Args:
        markdown: of the page.
    """
    yield from re.findall(r"^:::: answer ([\w-]+)$", markdown, flags=re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the examples of a page in (an event of MkDocs)."""
    pattern = re.compile(r"^:::: answer ([\w-]+)$", re.MULTILINE)
    return pattern.sub(lambda match: answer(match[1]), markdown)


def _write(names: list[str]) -> None:
    sys.path.insert(0, str(SOURCE))
    from translimit.core import keep_programs

    keep_programs()
    found = examples()
    for name in names or found:
        started = sum(os.times()[:4])
        told = output_of(found[name])
        found[name].with_suffix(".txt").write_text(told, encoding="utf-8")
        print(f"{name}: {sum(os.times()[:4]) - started:.1f} processor seconds", flush=True)


if __name__ == "__main__":
    _write(sys.argv[1:])
