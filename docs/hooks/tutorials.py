"""Tutorials: files of cells, run by a command, shown as pages and offered as notebooks.

`tutorials/NAME.py` is plain Python in cells: `# %% [markdown]` starts a cell of text, whose lines
are comments, and `# %%` one of code. `make tutorials` runs all of them, `python
docs/hooks/tutorials.py NAME...` those that are named, and writes what they print and draw into
`assets/tutorials/`. The build of the documentation runs nothing: it puts cells and outputs
together, as `tutorials/NAME.md` and as `tutorials/NAME.ipynb`.

A cell that draws begins with `# Figure: ...`, which says what there is to see and becomes the text
alternative. Figures are those that pyplot holds at the end of a cell, and its last value if that is
a figure: as in a notebook.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from small_images import smallest_webp

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
TUTORIALS = ROOT / "docs" / "tutorials"
OUTPUTS = ROOT / "docs" / "assets" / "tutorials"
#: Dots per inch of the images.
RESOLUTION = 110
_SEPARATOR = re.compile(r"^# %%(.*)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+://|#)[^)]*\)")


class Cell(NamedTuple):
    """A cell of a tutorial.

    Attributes:
        text: Markdown, or Python.
        code: whether it is Python.
        line: number of the lines above it.
    """

    text: str
    code: bool
    line: int

    @property
    def says(self) -> str:
        """What its figure shows; empty if it draws none."""
        found = re.match(r"# Figure: ((?:.|\n# )+)", self.text)
        return " ".join(found[1].replace("\n# ", " ").split()) if found else ""


class Output(TypedDict):
    """What a cell of code printed, and the files of its figures."""

    text: str
    figures: list[str]


class Outputs(TypedDict):
    """What a tutorial printed and drew, and how."""

    command: str
    version: str
    seconds: int
    source: str
    cells: list[Output]


def tutorials() -> dict[str, Path]:
    """The tutorials by name."""
    return {path.stem: path for path in sorted(TUTORIALS.glob("*.py"))}


def cells_of(source: str) -> list[Cell]:
    """The cells of a file.

    Args:
        source: the file's text.
    """
    found: list[Cell] = []
    marks = list(_SEPARATOR.finditer(source))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = source[mark.end() + 1 : following.start() if following else None]
        code = mark[1].strip() != "[markdown]"
        text = body if code else re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        found.append(Cell(text.strip("\n"), code, source[: mark.end() + 1].count("\n")))
    return found


def digest(cells: list[Cell]) -> str:
    """A digest of the code: outputs belong to the code that made them."""
    code = "\n".join(cell.text for cell in cells if cell.code)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def run(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """What each cell of code prints and draws, in a folder of its own.

    Args:
        path: of the tutorial.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    module = types.ModuleType("tutorial")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    pyplot.close("all")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in cells_of(path.read_text(encoding="utf-8")):
            if not cell.code:
                continue
            tree = ast.parse("\n" * cell.line + cell.text, str(path))
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            value, out = None, io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(tree, str(path), "exec"), module.__dict__)
                if isinstance(last, ast.Expr):
                    ended = compile(ast.Expression(last.value), str(path), "eval")
                    value = eval(ended, module.__dict__)
            drawn = [pyplot.figure(number) for number in pyplot.get_fignums()]
            if isinstance(value, Figure) and value not in drawn:
                drawn.append(value)
            yield "\n".join(line.rstrip() for line in out.getvalue().splitlines()), drawn
            pyplot.close("all")
    del sys.modules[module.__name__]


def page(name: str) -> str:
    """A tutorial as a page: cells, what they print, and their figures.

    Args:
        name: of the tutorial.
    """
    stored = outputs(name)
    cells = cells_of(tutorials()[name].read_text(encoding="utf-8"))
    outcome = iter(stored["cells"])
    parts: list[str] = []
    for cell in cells:
        if not cell.code:
            parts.append(cell.text)
            continue
        told = next(outcome)
        parts.append(f"```python\n{cell.text}\n```")
        if told["text"]:
            parts.append(f"```text\n{told['text']}\n```")
        parts += [f"![{cell.says}](../assets/tutorials/{one})" for one in told["figures"]]
    parts.append(
        f"*Run by* `{stored['command']}` *with translimit {stored['version']} in "
        f"{stored['seconds']} processor seconds. [Notebook]({name}.ipynb) · "
        f"[Python file]({name}.py)*"
    )
    return "\n\n".join(parts) + "\n"


def notebook(name: str) -> str:
    """A tutorial as a notebook, with its outputs.

    Links to other pages of the documentation are text there.

    Args:
        name: of the tutorial.
    """
    outcome = iter(outputs(name)["cells"])
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(cells_of(tutorials()[name].read_text(encoding="utf-8"))):
        one: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}}
        if cell.code:
            told = next(outcome)
            shown = [_stream(told["text"])] if told["text"] else []
            shown += [_image(OUTPUTS / figure) for figure in told["figures"]]
            one |= {"cell_type": "code", "execution_count": None, "outputs": shown}
            one["source"] = cell.text.splitlines(keepends=True)
        else:
            text = _LINK.sub(r"\1", cell.text)
            one |= {"cell_type": "markdown", "source": text.splitlines(keepends=True)}
        cells.append(one)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def outputs(name: str) -> Outputs:
    """What a tutorial printed and drew when it was run last.

    Args:
        name: of the tutorial.
    """
    return json.loads((OUTPUTS / f"{name}.json").read_text(encoding="utf-8"))


def on_files(files: Any, config: Any) -> Any:
    """Add pages and notebooks (an event of MkDocs)."""
    from mkdocs.structure.files import File

    for name in tutorials():
        files.append(File.generated(config, f"tutorials/{name}.md", content=page(name)))
        files.append(File.generated(config, f"tutorials/{name}.ipynb", content=notebook(name)))
    return files


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def _stream(text: str) -> dict[str, Any]:
    lines = (text + "\n").splitlines(keepends=True)
    return {"output_type": "stream", "name": "stdout", "text": lines}


def _image(path: Path) -> dict[str, Any]:
    """A figure as an output: PNG, which every reader of notebooks shows."""
    from PIL import Image

    png = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(png, "png", optimize=True)
    data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": ["<Figure>"]}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def webp(figure: Any, resolution: float = RESOLUTION) -> bytes:
    """A figure as WebP, without loss where that is smaller.

    Args:
        figure: of Matplotlib.
        resolution: dots per inch.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=resolution, facecolor="white")
    return smallest_webp(drawn.getvalue())


def _write(names: list[str]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: threads would wait for threads
    sys.path.insert(0, str(SOURCE))
    from translimit import __version__
    from translimit.core import keep_programs

    keep_programs()
    OUTPUTS.mkdir(exist_ok=True)
    for name in names or tutorials():
        path = tutorials()[name]
        cells = cells_of(path.read_text(encoding="utf-8"))
        started, told, files = _processor_seconds(), [], []
        for text, figures in run(path):
            drawn = []
            for figure in figures:
                file = f"{name}-{len(files) + 1}.webp"
                (OUTPUTS / file).write_bytes(webp(figure))
                drawn.append(file)
                files.append(file)
            told.append(Output(text=text, figures=drawn))
        seconds = round(_processor_seconds() - started)
        made = Outputs(
            command="make tutorials",
            version=__version__,
            seconds=seconds,
            source=digest(cells),
            cells=told,
        )
        text = json.dumps(made, indent=1, ensure_ascii=False)
        (OUTPUTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for old in OUTPUTS.glob(f"{name}-*.webp"):
            if re.fullmatch(rf"{name}-\d+", old.stem) and old.name not in files:
                old.unlink()
        print(f"{name}: {seconds} processor seconds, {len(files)} figures", flush=True)


if __name__ == "__main__":
    _write(sys.argv[1:])
