"""`translimit diagnose`: what it prints, its one document, its files, its refusals."""

import json

import pytest

from translimit.cli import main
from translimit.diagnose import packaged_folder

FOLDER = str(packaged_folder())


def call(capsys, *arguments):
    capsys.readouterr()
    status = main(["diagnose", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "ids.txt"
    lines = [" ".join(str((7 * i + 31 * j) % 256) for i in range(24)) for j in range(8)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_one_document_and_a_page(capsys, ids, tmp_path):
    words = ("--ids", ids, "--draws", 2, "--json", "--out", tmp_path, "--skip", "layers")
    status, out, _ = call(capsys, FOLDER, *words)
    document = json.loads(out)
    assert (status, document["sequences"], document["draws"]) == (0, 8, 2)
    assert document["observables"]["overlap_null"][1] is not None
    assert sorted(one["layer"] for one in document["skip"]) == [1, 2, 3, 4]
    assert json.loads((tmp_path / "diagnosis.json").read_text()) == document
    page = (tmp_path / "diagnosis.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.split("base64")[0]


def test_the_answer_names_model_input_and_null(capsys, ids):
    status, out, _ = call(capsys, "--demo", "--ids", ids, "--null", "none")
    assert status == 0
    assert "byte_model (gpt2, 4 layers, width 64, 4 heads): 8 sequences of 24 tokens" in out
    assert "drawn networks" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "MODEL: is missing; pass the folder of a checkpoint, or --demo"),
        (("--demo", FOLDER), "MODEL: is given beside --demo"),
        (("nowhere",), "is not there; give a file or folder of weights"),
        ((FOLDER, "--null", "spectral"), "did you mean 'spectrum'?"),
        ((FOLDER, "--text", "a", "--ids", "b"), "--ids: is given beside --text"),
        ((FOLDER, "--image", "x.png"), "reads tokens"),
        ((FOLDER, "--draws", "1"), "draws"),
    ],
)
def test_refusals_are_one_line(capsys, words, message):
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_without_a_tokenizer_ids_are_asked_for(capsys, tmp_path):
    config = json.loads((packaged_folder() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 255}))
    import numpy as np

    from translimit.diagnose import open_tensors
    from translimit.diagnose.tensor_files import write_safetensors

    tensors = open_tensors(packaged_folder())
    held = {name: np.array(tensors[name]) for name in tensors}
    held["transformer.wte.weight"] = held["transformer.wte.weight"][:255]
    write_safetensors(tmp_path / "model.safetensors", held)
    status, _, err = call(capsys, tmp_path)
    assert status == 2
    assert "has no tokenizer.json; pass --ids with one sequence a line" in err
