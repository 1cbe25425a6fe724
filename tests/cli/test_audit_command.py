"""`translimit claims RUN --audit`: wrong theories against the ledger of a run, end to end."""

import json
import shutil

import pytest

from translimit.cli import main

OTHER = "fake_experiments:OTHER"


@pytest.fixture(scope="module")
def run(finished_run):
    return finished_run(OTHER)


def audited(capsys, run) -> dict:
    assert main(["claims", str(run), "--audit", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["fake/other"]


def test_wrong_theories_are_put_in_the_place_of_the_right_ones(run, capsys):
    found = audited(capsys, run)
    # The mean is nearly zero: neither ten nor minus ten is supported. A prediction of zero is
    # replaced by its nearest rival, one of ten becomes eleven, and no number is no verdict.
    assert found == {
        "swaps": 4,
        "supported": [],
        "disturbed": 3,
        "refuted": ["mean", "wrong"],
    }
    assert main(["claims", str(run), "--audit"]) == 0
    said = capsys.readouterr().out
    assert "rivals swapped in" in said
    assert "fake/other" in said


def test_a_rival_that_the_data_support_is_named(run, capsys, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / "claims.json"
    text = path.read_text(encoding="utf-8")
    claims = json.loads(text)["experiments"]["fake/other"]
    value = json.dumps(next(one for one in claims if one["name"] == "mean")["estimate"]["value"])
    path.write_text(text.replace(value, "10.0"), encoding="utf-8")
    found = audited(capsys, copy)
    assert found["supported"] == ["mean: the mean is ten"]
    # The nearest rival of a zero is the one that is right, and eleven is within the tolerance.
    assert found["refuted"] == []
