"""Cells that somebody made: whole by their digests, and still not trusted to be plain arrays."""

import hashlib
import json
import pickle
import random

import numcodecs
import numpy as np
import pytest
import xarray as xr

from translimit.core import StoreError
from translimit.store import CellAddress, cell_state, write_cell
from translimit.store.arrays import _COMPRESSORS
from translimit.store.cells import read_cell

PICKLE = [{"id": "pickle", "protocol": 5}]


@pytest.fixture
def address(tmp_path):
    made = CellAddress(tmp_path, "paper/experiment", "cell", "0" * 64)
    rng = np.random.default_rng(0)
    variables = {"draws": (("n", "d"), rng.normal(size=(4, 3))), "words": ("n", list("abcd"))}
    write_cell(made, xr.Dataset(variables, coords={"n": np.arange(4)}, attrs={"about": "a cell"}))
    return made


def seal(address):
    """Write the digests anew, as whoever made the cell would."""
    manifest = json.loads((address.folder / "manifest.json").read_text())
    files = [path for path in sorted(address.folder.rglob("*")) if path.is_file()]
    manifest["files"] = {
        path.relative_to(address.folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in files
        if path.name != "manifest.json"
    }
    (address.folder / "manifest.json").write_text(json.dumps(manifest))


def describe(address, **changes):
    """Describe the array `draws` otherwise."""
    path = address.folder / "data.zarr" / "draws" / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path.parent


def test_a_pickled_array_is_refused_and_never_unpickled(address, trap, monkeypatch):
    # As numcodecs was before 0.16.6: it unpickled whatever an array said.
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True)
    array = describe(address, dtype="|O", filters=PICKLE, compressor=None, shape=[1], chunks=[1])
    for chunk in array.glob("[0-9]*"):
        chunk.unlink()
    (array / "0").write_bytes(pickle.dumps(np.array([trap], dtype=object)))
    attributes = array / ".zattrs"
    attributes.write_text(json.dumps({"_ARRAY_DIMENSIONS": ["one"]}))
    seal(address)
    assert "data.zarr/draws holds objects and no plain values" in cell_state(address).problem
    with pytest.raises(StoreError, match=r"the cell 'cell' is damaged: data.zarr/draws holds obj"):
        read_cell(address)
    assert not trap.mark.exists()


UNKNOWN = sorted({*numcodecs.registry.codec_registry, "nobody-knows"} - _COMPRESSORS)


@pytest.mark.parametrize("codec", UNKNOWN)
@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_codec_that_cells_do_not_use_is_refused(address, codec, place):
    describe(address, **{place: [{"id": codec}] if place == "filters" else {"id": codec}})
    seal(address)
    assert f"draws would be decoded by '{codec}'" in cell_state(address).problem
    with pytest.raises(StoreError, match="is damaged"):
        read_cell(address)


@pytest.mark.parametrize(
    "dtype", ["|O", "O", "object", [["a", "<f8"]], [["a", "|O"]], "<V8", "|V8", "<f8, |O", "", "Q"]
)
def test_a_type_that_is_not_plain_is_refused(address, dtype):
    describe(address, dtype=dtype)
    seal(address)
    assert "holds objects and no plain values" in cell_state(address).problem


def test_another_format_of_zarr_is_refused(address):
    place = address.folder / "data.zarr" / "draws"
    (place / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    seal(address)
    assert "data.zarr/draws is of another format of zarr" in cell_state(address).problem


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"dtype": 3}'])
def test_a_description_that_says_nothing(address, text):
    (address.folder / "data.zarr" / "words" / ".zarray").write_text(text)
    seal(address)
    assert "words has no description that can be read" in cell_state(address).problem


def test_whatever_the_bytes_are_reading_ends_in_data_or_in_one_line(address):
    """Files of a cell changed at random, with the digests of what they then are."""
    rng = random.Random(0)
    whole = {path: path.read_bytes() for path in address.folder.rglob("*") if path.is_file()}
    files = sorted(path for path in whole if path.name != "manifest.json")
    refused = []
    for _ in range(60):
        path = rng.choice(files)
        content = bytearray(whole[path])
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(bytes(content[: rng.choice([len(content), len(content) // 2])]))
        seal(address)
        try:
            assert isinstance(read_cell(address), xr.Dataset)
        except StoreError as error:
            refused.append(str(error))
        path.write_bytes(whole[path])
    assert len(refused) > 20
    assert not any("\n" in told for told in refused)


def test_what_is_written_is_what_may_be_read(tmp_path):
    """Every kind of plain value, with the compressor that the store writes."""
    kinds = ["?", "i1", "u8", "f2", "f8", "c16", "U5", "S3", ">f8", "m8[s]", "M8[ns]"]
    variables = {kind: ("n", np.ones(3).astype(kind)) for kind in kinds}
    made = CellAddress(tmp_path, "e", "c", "0")
    write_cell(made, xr.Dataset(variables))
    assert cell_state(made).whole
    for kind in kinds:
        assert np.array_equal(read_cell(made)[kind].values, variables[kind][1]), kind
