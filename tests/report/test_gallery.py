"""The page over many runs: every stored figure and claim, and nothing from elsewhere."""

import re
from pathlib import Path

import pytest

from translimit.core import StoreError
from translimit.report import build_gallery, build_report


def test_the_page_shows_every_figure_and_every_claim(make_run, tmp_path: Path) -> None:
    first, second = make_run(folder="first"), make_run(["SECOND"], folder="second")
    build_report(first)  # the other has no report yet, and gets one
    page = build_gallery(tmp_path, [first, second])
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
    assert build_gallery(tmp_path, [first, second]).read_text() == text


def test_a_run_that_is_not_whole_says_what_it_lacks(make_run, tmp_path: Path) -> None:
    whole = make_run(folder="whole")
    cell = next(path.name for path in whole.glob("cells/*/*"))
    manifest = next(whole.glob(f"cells/*/{cell}/manifest.json"))
    manifest.unlink()
    text = build_gallery(tmp_path, [whole]).read_text()
    assert re.search(r"1 of \d+ cells missing", text)
    assert "translimit run averages:EXPERIMENT" in text
    assert "<img" not in text


def test_runs_must_lie_in_the_folder(make_run, tmp_path: Path) -> None:
    run = make_run()
    build_report(run)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(StoreError, match="keep the runs of a gallery in its folder"):
        build_gallery(tmp_path / "elsewhere", [run])
