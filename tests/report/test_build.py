"""The page says what the run found, asks nothing of anybody, and is the same every time."""

import base64
import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from translimit.core import ReportError, Rival, StoreError
from translimit.experiments import Arrays
from translimit.figures import Table
from translimit.report import build_report
from translimit.report.drawing import Drawing, inline
from translimit.store import RunFolder

from .conftest import OWN
from .reading import Reader, outside, read

HERE = Path(__file__).parent


def contents(run: Path) -> dict[str, bytes]:
    files = [run / "report.html", *(run / "figures").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def test_page_says_what_the_run_found(reported):
    page = read(reported / "report.html")
    for words in (
        "2 experiments, demo preset",
        "demo preset · seed 7 · 22 November 2026 · 1 min 23 s",
        "2 claims are refuted, first: The mean is at most",
        "2 printed forms are corrected, first “the mean is minus ten”",
        "2 claims are underpowered (too few samples to decide), first: The shortest row",
        "1 more figure: A crowd of points",
        "3 claims in brief",
        "Printed forms that are corrected",
        "This run computed bernoulli1713/averages and bernoulli1713/biased at the demo preset "
        "with seed 7",
        "on 22 November 2026 at 12:05 UTC, in 1 min 23 s of wall time",
        "nearest rival: the mean is ten, excluded by",
        "2 printed forms corrected",
        "Bernoulli, Ars Conjectandi (1713), part IV",
        "64 samples",
        "discretisation 0.0002",
        "2 supported",
        "2 refuted",
        "2 underpowered",
        "How a verdict is reached",
        "4 cases shown, 0 excluded.",
        "3200 cases shown, 2 excluded.",
        "The first 1000 rows of 3200",
        "translimit run averages:EXPERIMENT --preset demo --seed 7 --threads 2 --set bias=0.25",
        "translimit report averages-demo-0123abcd",
        "4 of 4 whole, 1.0 s summed over cells",
        "jax 0.10.2",
        "@misc{castin2025,",
    ):
        assert words in page.text, words
    assert page.text.index("What to look at first") < page.text.index("Figure 1.")
    assert page.text.index("Figure 1.") < page.text.index("How a verdict is reached")
    assert "not complete" not in page.text
    assert page.all("html") == [{"lang": "en"}]


def test_claims_show_what_is_stored(reported):
    page = (reported / "report.html").read_text(encoding="utf-8")
    ledger = json.loads((reported / "claims.json").read_text(encoding="utf-8"))["experiments"]
    for claim in ledger["bernoulli1713/averages"]:
        name = f"claim-bernoulli1713-averages-{claim['name']}"
        row = re.search(rf'<tr role="row" id="{name}".*?</tr>', page, re.DOTALL)
        assert row
        text = Reader(row[0]).text
        assert claim["verdict"] in text
        assert f"{claim['estimate']['count']} samples" in text
        for number in (claim["gap"], claim["tol"], claim["prediction"]):
            assert f" {number:.3g} " in text


def test_each_experiment_leads_with_a_sentence_its_verdicts_and_one_figure(reported):
    page = (reported / "report.html").read_text(encoding="utf-8")
    for section in re.findall(
        r'<section id="[^"]*" class="experiment".*?</section>', page, re.DOTALL
    ):
        sentence = re.search(r'<p class="finding">(.*?)</p>', section, re.DOTALL)
        assert sentence
        assert "refuted" in sentence[1]
        strip = re.search(r'<ol class="strip".*?</ol>', section, re.DOTALL)
        assert strip
        assert [a["class"] for a in Reader(strip[0]).all("a")] == [
            "supported",
            "underpowered",
            "refuted",
        ]
        before, _, folded = section.partition('<details class="more">')
        assert (before.count("<figure "), folded.count("<figure ")) == (1, 1)
        assert section.index("</ol>") < section.index("<figure ")


def test_what_went_as_expected_points_at_the_closest_call_and_the_figures(make_run):
    def only_supported(claims):
        return [replace(claims[0], rivals=(Rival("the mean is ten", 10.0),))]

    page = read(build_report(make_run(claims=only_supported), OWN))
    lines = re.search(r"What to look at first (.*?) Contents", page.text)
    assert lines
    assert lines[1].startswith("The closest call, rival “the mean is ten” excluded by")
    assert "Figure 1: The spread falls as" in lines[1]
    assert "printed forms" not in page.text


def test_no_request_leaves_the_page(reported):
    page = read(reported / "report.html")
    assert len(page.addresses) > 50
    assert outside(page) == []
    policies = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:; font-src data:;")


@pytest.mark.parametrize(
    "planted",
    [
        '<img src="https://example.org/x.png">',
        '<link rel="stylesheet" href="x.css">',
        "<style>@import 'x.css';</style>",
        '<p style="background: url(//example.org/x)"></p>',
        '<svg><use xlink:href="other.svg#a"></use></svg>',
    ],
)
def test_the_search_for_requests_finds_one(planted):
    assert len(outside(Reader(planted))) == 1


def test_identifiers_are_unique_and_references_resolve(reported):
    page = read(reported / "report.html")
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    named = (
        a[k]
        for _, a in page.elements
        for k in ("aria-labelledby", "aria-describedby", "for")
        if k in a
    )
    assert targets | set(named) <= set(identifiers)
    assert any("url(#figure-" in a.get("clip-path", "") for _, a in page.elements)


def test_figures_stand_beside_the_page_with_their_tables(reported):
    page = read(reported / "report.html")
    names = {file.name for file in (reported / "figures").iterdir()}
    assert names == {
        f"bernoulli1713-{experiment}-{figure}.{kind}"
        for experiment in ("averages", "biased")
        for figure in ("rate", "cloud")
        for kind in ("svg", "png", "csv")
    } | {"index.json"}
    stored = (reported / "figures" / "bernoulli1713-averages-rate.csv").read_bytes()
    links = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    uri = links["bernoulli1713-averages-rate.csv"]
    assert base64.b64decode(uri.removeprefix("data:text/csv;base64,")) == stored
    svg = (reported / "figures" / "bernoulli1713-averages-cloud.svg").read_text(encoding="utf-8")
    assert svg.count("<use") < 2000  # the crowd of 3200 points is stored as pixels
    assert "data:image/png;base64" in svg


@pytest.mark.parametrize(("size", "tag"), [(100, "svg"), (1_100_000, "img")])
def test_large_svg_gives_way_to_pixels(size, tag):
    vector = f'<?xml version="1.0"?><svg width="9pt"><path id="p" d="{"M" * size}"/></svg>'
    figure = inline(Drawing(vector.encode(), b"pixels"), "figure-a", 'A "title"', "caption")
    (found,) = (a for t, a in Reader(f"<p>{figure}</p>").elements if t in ("svg", "img"))
    assert f"<{tag} " in figure
    assert (found["aria-label"], found["aria-describedby"]) == ('A "title"', "caption")
    assert ("data:image/png;base64," in figure) == (tag == "img")


def test_another_process_gives_the_same_bytes_loads_no_jax_and_changes_no_setting(reported):
    first = contents(reported)
    code = """
        import sys, matplotlib
        from translimit.report import build_report
        matplotlib.rcParams.update({"axes.grid": True, "font.size": 30, "axes.facecolor": "red"})
        settings = lambda: dict(dict.items(matplotlib.rcParams))  # asks for no backend
        before = settings()
        build_report(sys.argv[1], ["averages:EXPERIMENT", "averages:SECOND"])
        assert settings() == before
        print([m for m in ("jax", "matplotlib.pyplot", "scipy") if m in sys.modules])
    """
    search = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(reported)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": search, "PYTHONHASHSEED": "12345"},
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert contents(reported) == first


def test_data_is_escaped(make_run, averages, monkeypatch):
    from dataclasses import replace

    evil = '"><script>alert(1)</script><img src=http://example.org/x> & <b>'
    own = averages.EXPERIMENT

    def poison(specs):
        table = Table((evil, "b"), ((evil, 1),))
        return [replace(specs[0], title=evil, caption=evil, table=table), *specs[1:]]

    hostile = replace(own, title=evil, summary=evil, hook=poison)
    monkeypatch.setattr(averages, "HOSTILE", hostile, raising=False)

    def claims(honest):
        return [replace(honest[0], name=evil, statement=evil, printed=evil, reference=evil)]

    page = read(build_report(make_run(["HOSTILE"], claims=claims), ["averages:HOSTILE"]))
    assert outside(page) == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert page.text.count(evil) >= 8


def test_incomplete_run_says_what_is_missing(make_run):
    failed = [{"cell": "bernoulli1713/averages: n64", "error": "ValueError: <odd>", "details": ""}]
    run = make_run(["EXPERIMENT"], without=["n64", "n256"], failed=failed)
    page = read(build_report(run, OWN))
    notice = page.text[: page.text.index("Contents")]
    assert "This run is not complete" in notice
    assert "2 cells of 4 missing" in notice
    assert "n64 ValueError: <odd> n256" in notice
    assert "translimit run averages:EXPERIMENT --preset demo --seed 7" in notice
    assert "No claim has been checked yet." in page.text
    assert page.all("figure") == []


def test_damaged_cell_counts_as_missing_and_the_other_experiment_is_shown(make_run):
    run = make_run(["EXPERIMENT", "SECOND"])
    victim = next((run / "cells" / "bernoulli1713-biased" / "n64").rglob("manifest.json"))
    victim.write_text("{}", encoding="utf-8")
    page = read(build_report(run, OWN))
    assert "bernoulli1713/biased : 1 cell of 4 missing" in page.text
    assert "n64 damaged:" in page.text
    assert len(page.all("figure")) == 2
    assert "1 supported" in page.text  # of the three claims of the whole experiment


def test_an_experiment_that_is_not_loaded_is_shown_from_what_is_stored(make_run, monkeypatch):
    """The claims as they were checked; no figures, no cells read, and the flag that allows more."""
    run = make_run(["EXPERIMENT", "SECOND"], bias="0.25")
    monkeypatch.setattr(RunFolder, "read_cells", lambda *_: pytest.fail("a cell was read"))
    page = read(build_report(run))
    assert page.all("figure") == []
    for words in (
        "Shown from what is stored",
        "bernoulli1713/averages and bernoulli1713/biased are neither part of translimit nor",
        "translimit report averages-demo-0123abcd --from module:OBJECT",
        "2 supported",
        "2 refuted",
        "The mean is at most",
        "Means of",
        "bias 0.25 not known",
        "translimit run averages:EXPERIMENT --preset demo --seed 7 --threads 2 --set bias=0.25",
    ):
        assert words in page.text, words


def broken_draw(figure):
    raise KeyError("no such variable")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draw": broken_draw}, r"figure 'rate' cannot be shown: KeyError: 'no such variable'"),
        ({"name": "Cloud"}, "figure 'cloud' cannot be shown: two figures have this name"),
    ],
)
def test_failure_names_the_experiment_and_writes_nothing(
    make_run, averages, monkeypatch, as_user, change, message
):
    from dataclasses import replace

    def spoil(specs):
        return [replace(specs[0], **change), *specs[1:]]

    monkeypatch.setattr(averages, "BROKEN", replace(averages.EXPERIMENT, hook=spoil), raising=False)
    run = make_run(["BROKEN"])
    with pytest.raises(ReportError, match=f"bernoulli1713/averages: the {message}"):
        build_report(run, ["averages:BROKEN"])
    assert not (run / "report.html").exists()
    assert not (run / "figures").exists()


def test_a_formula_that_cannot_be_read_is_shown_as_text(make_run, averages, monkeypatch):
    from dataclasses import replace

    def spoil(specs):
        return [replace(specs[0], caption=r"see $\nosuch x$"), *specs[1:]]

    changed = replace(averages.EXPERIMENT, title=r"A $\nosuch$", hook=spoil)
    monkeypatch.setattr(averages, "BROKEN", changed, raising=False)
    run = make_run(["BROKEN"])
    ledger = json.loads((run / "claims.json").read_text())
    ledger["experiments"]["bernoulli1713/averages"][0]["statement"] = r"grows like $\frac{$"
    (run / "claims.json").write_text(json.dumps(ledger))
    page = read(build_report(run, ["averages:BROKEN"]))
    for source in (r"$\nosuch x$", r"$\nosuch$", r"$\frac{$"):
        assert source in page.text
    assert len(page.all("figure")) == 2


def test_no_run_folder(tmp_path, as_user):
    with pytest.raises(StoreError, match="is not a run folder"):
        build_report(tmp_path)


def test_unwritable_run_folder(make_run, as_user):
    run = make_run()
    (run / "figures").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(StoreError, match=r"cannot be written .*; make the run folder writable"):
        build_report(run)
    assert not (run / "report.html").exists()


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark(reported):
    (style,) = read(reported / "report.html").styles
    light, dark, *_ = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    pairs = [
        (ink, "paper") for ink in ("ink", "quiet", "link", "supported", "refuted", "underpowered")
    ]
    pairs += [("ink", "panel"), ("ink", "notice"), ("quiet", "notice"), ("link", "panel")]
    pairs += [("supported", "supported-tint"), ("refuted-ink", "refuted")]
    for colours in (light, dark):
        for ink, ground in pairs:
            high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@dataclass(frozen=True)
class Renamed(Arrays):
    average: Float[np.ndarray, " replicate"]


def test_cells_of_another_version_show_their_claims_without_figures(make_run, averages):
    """Names of arrays may change between versions: what was stored is shown, nothing is lost."""
    run, record = make_run(), averages.ROWS.record
    object.__setattr__(averages.ROWS, "record", Renamed)
    try:
        reader = Reader(build_report(run, OWN).read_text())
    finally:
        object.__setattr__(averages.ROWS, "record", record)
    assert "the stored cell has no 'average'" in reader.text
    assert "Another version of this experiment stored the cells" in reader.text
    assert "A crowd of points" not in reader.text
    assert "The shortest row alone tells the bias." in reader.text
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"translimit": "0.1.0"}))
    reader = Reader(build_report(run, OWN).read_text())
    assert "translimit 0.1.0 stored them" in reader.text
    assert "A crowd of points" not in reader.text
