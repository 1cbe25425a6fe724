"""The tutorials: outputs belong to their code, pages and notebooks show them, and all run again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.docs.test_answers import NUMBER
from tests.docs.test_hooks import CHECKOUT, hook

TINY = """\
# %% [markdown]
# # Tiny
#
# With $x_1$ and a [link](../index.md).

# %%
# Figure: a line that rises from zero
# to one.
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([0, 1])
print("one ")

# %%
from matplotlib.figure import Figure
Figure()
"""
NAMES = sorted(hook("tutorials").tutorials())
#: What may be missing.
OPTIONAL = ("torch", "transformers", "accelerate")


@pytest.fixture(scope="module")
def tutorials():
    return hook("tutorials")


def test_a_tutorial_is_run_cell_by_cell_with_its_figures(tutorials, tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(TINY, encoding="utf-8")
    text, first, second = tutorials.cells_of(TINY)
    assert (text.code, first.code, second.code) == (False, True, True)
    assert text.text.startswith("# Tiny\n\nWith $x_1$")
    assert first.says == "a line that rises from zero to one."
    assert second.says == ""
    (told, drawn), (silent, last) = [(text, len(figures)) for text, figures in tutorials.run(path)]
    assert (told, drawn, silent, last) == ("one", 1, "", 1)


def test_a_page_and_a_notebook_show_cells_and_outputs(
    tutorials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    monkeypatch.setattr(tutorials, "TUTORIALS", tmp_path)
    monkeypatch.setattr(tutorials, "OUTPUTS", tmp_path)
    tutorials._write(["tiny"])
    page = tutorials.page("tiny")
    assert "```text\none\n```" in page
    assert "![a line that rises from zero to one.](../assets/tutorials/tiny-1.webp)" in page
    book = json.loads(tutorials.notebook("tiny"))
    kinds = [cell["cell_type"] for cell in book["cells"]]
    assert (kinds, book["nbformat"]) == (["markdown", "code", "code"], 4)
    assert "".join(book["cells"][0]["source"]).endswith("and a link.")
    stream, image = book["cells"][1]["outputs"]
    assert stream["text"] == ["one\n"]
    assert image["data"]["image/png"].startswith("iVBOR")


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_the_code_that_stands_there(tutorials, name: str) -> None:
    cells = tutorials.cells_of(tutorials.tutorials()[name].read_text(encoding="utf-8"))
    stored = tutorials.outputs(name)
    assert stored["source"] == tutorials.digest(cells), f"run `make tutorials` for {name}"
    code = [cell for cell in cells if cell.code]
    assert len(code) == len(stored["cells"])
    for cell, told in zip(code, stored["cells"], strict=True):
        assert bool(told["figures"]) == bool(cell.says), cell.text
        assert all((tutorials.OUTPUTS / figure).exists() for figure in told["figures"])
    assert sum(len(told["figures"]) for told in stored["cells"]) >= 2
    assert stored["seconds"] <= 60


def test_nothing_is_left_of_a_tutorial_that_is_gone_and_all_are_in_the_contents(tutorials) -> None:
    shown = {
        f for name in NAMES for told in tutorials.outputs(name)["cells"] for f in told["figures"]
    }
    assert {path.name for path in tutorials.OUTPUTS.glob("*.webp")} == shown
    assert {path.stem for path in tutorials.OUTPUTS.glob("*.json")} == set(NAMES)
    contents = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"tutorials/([\w-]+)\.md", contents)) == set(NAMES)


@pytest.mark.slow
@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_prints_again_what_stands_there(tutorials, name: str) -> None:
    path = tutorials.tutorials()[name]
    for package in OPTIONAL:
        if re.search(rf"^(?:import|from) {package}\b", path.read_text("utf-8"), re.MULTILINE):
            pytest.importorskip(package)
    again = "\n".join(text for text, _ in tutorials.run(path))
    told = "\n".join(cell["text"] for cell in tutorials.outputs(name)["cells"])
    assert NUMBER.sub("#", again).split() == NUMBER.sub("#", told).split()
    old, new = (np.array([float(one) for one in NUMBER.findall(s)]) for s in (told, again))
    digit = np.array([10.0 ** -len(one.partition(".")[2]) for one in NUMBER.findall(told)])
    assert np.all(np.abs(new - old) <= 0.02 * np.abs(old) + 1.01 * digit)
