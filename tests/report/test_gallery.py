"""The page over many runs: every stored figure and claim, and nothing from elsewhere."""

import re
from pathlib import Path

import pytest

from translimit.core import StoreError
from translimit.report import build_gallery, build_report

from .conftest import OWN


def test_the_page_shows_every_figure_and_every_claim(make_run, tmp_path: Path) -> None:
    first, second = make_run(folder="first"), make_run(["SECOND"], folder="second")
    build_report(first, OWN)  # the other has no report yet, and gets one
    page = build_gallery(tmp_path, [first, second], OWN)
    assert page == tmp_path / "index.html"
    text = page.read_text()
    sources = re.findall(r'<img [^>]*src="([^"]+)"', text)
    stored = sorted(tmp_path.glob("*/figures/*.png"))
    assert sorted(sources) == [str(path.relative_to(tmp_path)) for path in stored]
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img [^>]*>", text))
    for link in re.findall(r'href="([^"#]+)"', text):
        assert link.startswith("data:") or (tmp_path / link).is_file()
    assert "://" not in re.sub(r'xmlns="[^"]*"', "", text)  # no address of anybody
    from translimit.store import RunFolder

    for run in (first, second):
        for claims in RunFolder.open(run).claims().values():
            assert claims
            for claim in claims:
                assert claim["verdict"] in text
    assert text.count('class="badge') == sum(
        len(claims) for run in (first, second) for claims in RunFolder.open(run).claims().values()
    )
    assert build_gallery(tmp_path, [first, second], OWN).read_text() == text


def test_a_run_that_is_not_whole_says_what_it_lacks(make_run, tmp_path: Path) -> None:
    whole = make_run(folder="whole")
    cell = next(path.name for path in whole.glob("cells/*/*"))
    manifest = next(whole.glob(f"cells/*/{cell}/manifest.json"))
    manifest.unlink()
    text = build_gallery(tmp_path, [whole], OWN).read_text()
    assert re.search(r"1 of \d+ cells missing", text)
    assert "translimit run averages:EXPERIMENT" in text
    assert "<img" not in text


def test_an_experiment_that_is_not_loaded_shows_its_claims_and_stored_figures(
    make_run, tmp_path: Path
) -> None:
    run = make_run(bias="0.25")
    assert "<img" not in build_gallery(tmp_path, [run]).read_text()
    build_report(run, OWN)
    build_report(run)  # without figures of its own; those that are stored stay
    text = build_gallery(tmp_path, [run]).read_text()
    assert text.count("<img") == len(list(run.glob("figures/*.png"))) == 2
    assert "refuted" in text


def test_what_cannot_be_shown_or_written_is_told(make_run, tmp_path: Path, monkeypatch) -> None:
    run = make_run()
    build_report(run, OWN)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(StoreError, match="keep the runs of a gallery in its folder"):
        build_gallery(tmp_path / "elsewhere", [run])

    def refuse(path, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("translimit.report.gallery.write_bytes", refuse)
    with pytest.raises(StoreError, match=r"index.html: cannot be written \(Permission denied\)"):
        build_gallery(run.parent, [run])
