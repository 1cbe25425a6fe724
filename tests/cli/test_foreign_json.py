"""Well-formed JSON of the wrong shape in the files of a run: one clear line, never a traceback."""

import copy
import json
import random
import shutil

import pytest

from translimit.cli import main
from translimit.core import StoreError
from translimit.store import load_json, require_shape

WRONG = (None, True, -1, 1e300, "text", "", [], [[]], {}, {"a": 1}, [None], {"": []})


@pytest.fixture(scope="module")
def run(finished_run):
    """A finished run."""
    return finished_run("fake_experiments:EXPERIMENT")


def places(data, place=()):
    """Every place in a document, the document itself included."""
    yield place
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*place, key))


def changed(data, place, value):
    """The document with another value at a place; without the place where the value is `...`."""
    if not place:
        return {} if value is ... else value
    data = copy.deepcopy(data)
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return data


def files(run):
    manifest = next(run.glob("cells/*/*/manifest.json"))
    return {"run.json": run / "run.json", "claims.json": run / "claims.json", "manifest": manifest}


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("name", ["run.json", "claims.json", "manifest"])
def test_a_document_of_the_wrong_shape_is_told_in_one_line(run, tmp_path, capsys, name):
    """At every place something of the wrong kind, or nothing, to one of the commands that read."""
    path = tmp_path / "run"
    shutil.copytree(run, path)
    file = files(path)[name]
    whole = json.loads(file.read_text())
    rng = random.Random(f"shapes of {name}")
    told = 0
    for place in places(whole):
        for value in (..., rng.choice(WRONG)):
            file.write_text(json.dumps(changed(whole, place, value)))
            words = rng.choice((("status",), ("claims",), ("status", "--json")))
            capsys.readouterr()
            status = main([words[0], str(path), *words[1:]])
            said = capsys.readouterr()
            assert status in (0, 2), (place, value, said.err)
            assert (status == 0) == (said.err == ""), (place, value, said.err)
            assert said.err.count("\n") <= 1
            assert "Traceback" not in said.err
            told += status == 2
    assert told > 10 or name == "manifest"


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("name", ["run.json", "claims.json", "manifest"])
@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_a_document_that_is_nested_too_deeply(run, tmp_path, capsys, name, opened):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    files(path)[name].write_text(opened * 100_000)
    for word in ("status", "claims"):
        assert main([word, str(path)]) in (0, 2)
        assert capsys.readouterr().err.count("\n") <= 1


def test_the_first_place_that_differs_is_named(tmp_path):
    shape = {"a": [{"b": int}], "c?": str}
    require_shape({"a": [{"b": 1}], "d": None}, shape, tmp_path)
    for data, message in (
        ([], "it is a list where an object belongs"),
        ({}, "the object has no 'a'"),
        ({"a": 3}, "a is an integer where a list belongs"),
        ({"a": [{"b": 1}, {}]}, r"a\[1\] has no 'b'"),
        ({"a": [{"b": True}]}, r"a\[0\].b is true or false where an integer belongs"),
        ({"a": [], "c": None}, "c is null where a text belongs"),
    ):
        with pytest.raises(StoreError, match=message):
            require_shape(data, shape, tmp_path)


def test_deep_json_is_refused_by_the_reader(tmp_path):
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(StoreError, match="nested too deeply"):
        load_json(file)
