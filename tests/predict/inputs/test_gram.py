"""Covariances that somebody measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.predict.inputs.readings import llama, vit

from translimit.core import ArgumentError
from translimit.predict.inputs import read_tokens
from translimit.predict.inputs.gram import read_gram

COV = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.25], [0.0, -0.25, 0.5]])


def written(folder: Path, cov: Any) -> list[Path]:
    """The same matrix in every form."""
    np.save(folder / "gram.npy", np.asarray(cov))
    np.savetxt(folder / "gram.csv", cov, delimiter=",")
    np.savetxt(folder / "gram.txt", cov)
    (folder / "gram.json").write_text(json.dumps(np.asarray(cov).tolist()))
    return [folder / f"gram.{end}" for end in ("npy", "csv", "txt", "json")]


def test_every_form_is_one_matrix(tmp_path: Path) -> None:
    for path in written(tmp_path, COV):
        found = read_tokens(llama(), gram=path, key=0)
        np.testing.assert_array_equal(found.cov, COV)
        assert found.source == f"the covariance of {path.name} of 3 tokens"
        assert found.ids is None
        assert found.targets is None
        assert found.warnings == ()
        np.testing.assert_array_equal(found.groups, [0, 1, 2])
    # Of images as well, and of any number of tokens.
    assert read_tokens(vit(), gram=COV, key=0).count == 3


def test_rounding_of_single_precision_is_mended_and_told() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 5)).astype(np.float32)  # 12 tokens of rank 5
    cov = x @ x.T / 5
    assert np.linalg.eigvalsh(cov.astype(float))[0] < -1e-10
    found, told = read_gram(cov)
    assert np.linalg.eigvalsh(found)[0] > -1e-12
    np.testing.assert_allclose(found, cov, atol=1e-5)
    assert len(told) == 1
    assert told[0].endswith("of its largest eigenvalue: that was mended")
    exact, silent = read_gram(x.astype(float) @ x.astype(float).T / 5)
    assert silent == ()
    np.testing.assert_allclose(exact, cov, atol=1e-5)


def test_zero_tokens_are_a_covariance() -> None:
    np.testing.assert_array_equal(read_gram(np.diag([0.0, 1.0]))[0], np.diag([0.0, 1.0]))
    np.testing.assert_array_equal(read_gram(np.zeros((2, 2)))[0], np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,0\n0", "row 1 \\(from 0\\) has 1 entries, and there are 2 rows"),
        ("1,0\n0,x", "row 1, column 1 \\(from 0\\) is 'x', no number"),
        ("a,b\n1,0\n0,1", "row 0 \\(from 0\\) has 2 entries"),
        ("1,nan\nnan,1", "NaN or infinity in 2 of 4"),
        ("1,inf\ninf,1", "NaN or infinity"),
        ("1,2\n2,1", "negative eigenvalue -1"),
        ("1,0.5\n0.4,1", "not symmetric"),
        ("1", "two tokens at least"),
        ("[]", "has shape \\(0,\\)"),
        ("[[1, 0], [0, true]]", "is True, no number"),
        ("[[1, 0], [0, [1]]]", "is \\[1\\], no number"),
        ("[1, 0]", "row 0 \\(from 0\\) has 1"),
        ("[[1, 0], [0, 1]", "malformed JSON"),
        ("1e200,0\n0,1", "entries above 1e100"),
        ("\n\n", "has shape \\(0,\\)"),
    ],
)
def test_what_is_no_covariance(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "gram.csv"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=says) as caught:
        read_tokens(llama(), gram=path, key=0)
    assert caught.value.argument == "gram"


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2), ()])
def test_arrays_of_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="gram: has shape"):
        read_gram(np.ones(shape))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "gram.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match=r"gram.csv is not UTF-8 text"):
        read_gram(tmp_path / "gram.csv")
