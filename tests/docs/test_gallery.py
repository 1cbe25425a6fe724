"""The gallery: pictures of stored runs with their command, and pages that find every experiment."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.docs.test_hooks import CHECKOUT, hook

from translimit import store
from translimit.core import Claim, Estimate, Rival
from translimit.experiments import all_experiments

NAME = "koubbi2026/moebius"


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The hook, with a folder of its own and no pictures."""
    made = hook("gallery")
    monkeypatch.setattr(made, "GALLERY", tmp_path / "gallery")
    monkeypatch.setattr(made, "INDEX", tmp_path / "gallery" / "gallery.json")
    known = {
        name: SimpleNamespace(title=f"About {name}", summary="It compares.", question="Is it?")
        for name in (NAME, "koubbi2026/simplex")
    }
    monkeypatch.setattr(made, "_experiments", lambda: known)
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one experiment with two figures, made in some folder of a machine."""
    from PIL import Image

    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("first", "second"):
        out = io.BytesIO()
        Image.new("RGB", (1400, 700), "white").save(out, "png")
        (figures / f"{name}.png").write_bytes(out.getvalue())
    index = {NAME: [{"file": "first", "title": "Moments of $R$"}, {"file": "second", "title": ""}]}
    (figures / "index.json").write_text(json.dumps(index), encoding="utf-8")
    claims = [
        Claim("right", "", 1.0, Estimate(1.0, 0.1), 0.5, rivals=(Rival("twice", 2.0),)),
        Claim("open", "", 1.0, Estimate(1.0, 9.0), 0.5, rivals=(Rival("twice", 2.0),)),
    ]
    opened = SimpleNamespace(
        path=tmp_path,
        figures=figures,
        info={"translimit": "0.2", "preset": "demo", "seed": 3, "overrides": ["draws=10"]},
        claims=lambda: {NAME: [claim.to_json() for claim in claims]},
    )
    monkeypatch.setattr(store, "RunFolder", SimpleNamespace(open=lambda path: opened))
    return tmp_path


def test_the_first_figure_of_a_run_is_taken_small_with_its_command(gallery, run: Path) -> None:
    from PIL import Image

    gallery.write([run])
    entry = gallery.stored()[NAME]
    assert entry["command"] == f"translimit run {NAME} --preset demo --seed 3 --set draws=10"
    assert entry["verdicts"] == {"supported": 1, "underpowered": 1}
    with Image.open(gallery.GALLERY / entry["file"]) as picture:
        assert picture.size == (gallery.WIDTH, gallery.WIDTH // 2)
    assert str(run) not in gallery.INDEX.read_text(encoding="utf-8")
    gallery.write([])
    assert list(gallery.stored()) == [NAME]


def test_too_many_bytes_are_told(gallery, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "LARGEST", 10)
    with pytest.raises(SystemExit, match="larger than"):
        gallery.write([run])


def test_pages_show_pictures_and_say_where_there_is_none(gallery, run: Path) -> None:
    gallery.write([run])
    page = SimpleNamespace(file=SimpleNamespace(src_uri="papers/koubbi2026.md"))
    shown = gallery.on_page_markdown(":::: gallery koubbi2026\n", page=page)
    assert "![Moments of R](../assets/gallery/koubbi2026-moebius.webp)" in shown
    assert "1 supported, 1 underpowered" in shown
    assert "{ #simplex }" in shown
    assert "*Is it?* It compares." in shown
    assert "*No picture yet:* `translimit run koubbi2026/simplex`" in shown
    inline = gallery.on_page_markdown(f"a\n\n:::: figure {NAME}\n", page=page)
    assert "(../papers/koubbi2026.md#moebius)" in inline
    assert gallery.on_page_markdown(":::: figure koubbi2026/simplex\n", page=page) == "\n"
    small = gallery.on_page_markdown(":::: thumbnails koubbi2026\n", page=page)
    assert small.count("<img") == 1
    row = gallery.on_page_markdown(f"| a | :::: beside {NAME} koubbi2026/simplex | b |", page=page)
    assert row.startswith('| a | <a class="beside" href="#moebius"><img src="../assets/gallery/')
    assert row.endswith(">About koubbi2026/simplex</a> | b |")


def test_a_section_says_what_was_found_and_lists_its_claims() -> None:
    made = hook("gallery")
    checked = made.judged("castin2025/variants")
    assert {one["verdict"] for one in checked} <= {"supported", "refuted", "underpowered"}
    shown = made.section("castin2025/variants")
    assert "<details><summary>Claims: " in shown
    assert shown.count("<li><code>") == len(checked) > 20
    assert made._experiments()["castin2025/variants"].found(checked) in shown


def test_every_experiment_has_a_place_and_every_link_leads_to_one() -> None:
    experiments = all_experiments()
    pages = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (CHECKOUT / "docs").glob("papers/*.md")
    }
    assert {name.partition("/")[0] for name in experiments} == set(pages)
    for paper, text in pages.items():
        assert f":::: gallery {paper}\n" in text
        links = {f"{paper}/{link}" for link in re.findall(r"\]\(#([\w-]+)\)", text)}
        for row in re.findall(r":::: beside ([^|]+) \|", text):
            links |= set(row.split())
        assert links <= {name for name in experiments if name.startswith(f"{paper}/")}
    front = (CHECKOUT / "docs" / "gallery.md").read_text(encoding="utf-8")
    links = re.findall(r"papers/(\w+)\.md#([\w-]+)", front)
    assert {"/".join(link) for link in links} == set(experiments), "by question"
    papers = set(re.findall(r"^:::: thumbnails (\w+)$", front, re.MULTILINE))
    assert papers == set(pages), "by paper"
    shown = [
        name
        for path in (CHECKOUT / "docs").rglob("*.md")
        for name in re.findall(r"^:::: figure (\S+)$", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(shown) > 8
    assert set(shown) <= set(experiments)


def test_the_pictures_are_those_of_the_index_and_small_together() -> None:
    made = hook("gallery")
    files = {entry["file"] for entry in made.stored().values()}
    assert {path.name for path in made.GALLERY.glob("*.webp")} == files
    assert sum((made.GALLERY / file).stat().st_size for file in files) <= made.LARGEST
    assert set(made.stored()) <= set(all_experiments())
