"""Identities and refusals: a cell is whole, or it is never read."""

import errno
import os

import numpy as np
import pytest
import xarray as xr

from translimit.core import StoreError, disk_full
from translimit.store import CellAddress, cell_state, write_cell
from translimit.store.cells import read_cell, slug
from translimit.store.copying import copy_cell


def dataset():
    """Every kind of data an experiment may return."""
    rng = np.random.default_rng(0)
    n = np.arange(4)
    return xr.Dataset(
        {
            "double": (("n", "d"), rng.normal(size=(4, 3))),
            "single": ("n", np.array([1, np.nan, np.inf, -0.0], np.float32)),
            "zeros": ("n", np.zeros(4)),
            "integers": ("n", np.zeros(4, np.int32)),
            "flags": ("n", np.array([True, False, True, False])),
            "words": ("n", np.array(["a", "bb", "", "ß"])),
            "complex": ("n", rng.normal(size=4) + 1j),
            "scalar": ((), 3.0),
            "nothing": ("q", np.zeros(0)),
        },
        coords={"n": n, "d": ["x", "yy", "z"]},
        attrs={"title": "all kinds", "nan": float("nan"), "list": [1, 2]},
    )


@pytest.fixture
def address(tmp_path):
    return CellAddress(tmp_path, "paper/experiment", "cell 1/2", "0" * 64)


def test_round_trip_keeps_every_bit(address):
    original = dataset()
    write_cell(address, original)
    read = read_cell(address)
    xr.testing.assert_identical(read, original)
    for name, variable in original.variables.items():
        assert read[name].dtype == variable.dtype, name
        assert read[name].values.tobytes() == variable.values.tobytes(), name


def test_arrays_of_jax_are_stored_as_those_of_numpy(address):
    import jax
    import jax.numpy as jnp

    found = {
        "bits": ("n", jax.random.bernoulli(jax.random.key(0), shape=(4,))),
        "single": ("n", jnp.arange(4.0), {"scale": jnp.float32(0.5), "units": "1"}),
        "half": ("n", jnp.arange(4, dtype=jnp.bfloat16)),
        "scalar": ((), jnp.int32(3)),
        "words": ("n", np.array(["a", "bb", "", "c"], dtype=object)),
    }
    times = {"t": ("n", jnp.linspace(0, 1, 4))}
    made = xr.Dataset(found, coords=times, attrs={"norm": jnp.ones(2)})
    write_cell(address, made)
    read = read_cell(address)
    for name, dtype in (("bits", "?"), ("single", "f4"), ("half", "f4"), ("scalar", "i4")):
        assert read[name].dtype == np.dtype(dtype)
        assert np.array_equal(read[name].values, np.asarray(found[name][1], dtype))
    assert read["words"].values.tolist() == ["a", "bb", "", "c"]
    assert read["t"].values.tolist() == made["t"].values.tolist()
    assert read["single"].attrs == {"scale": 0.5, "units": "1"}
    assert read.attrs["norm"] == [1.0, 1.0]
    assert isinstance(made["single"].data, jax.Array)  # the caller's dataset is as it was
    assert isinstance(made.attrs["norm"], jax.Array)
    assert isinstance(made["single"].attrs["scale"], jax.Array)


@pytest.mark.parametrize("kind", ["objects", "keys", "records"])
def test_what_a_cell_cannot_hold_is_told(address, kind):
    import jax

    values = {
        "objects": np.array([{}, None], dtype=object),
        "keys": jax.random.split(jax.random.key(0), 2),
        "records": np.zeros(2, dtype=[("a", "f8")]),
    }
    with pytest.raises(TypeError, match=r"odd: has elements of type .*; store numbers, truth valu"):
        write_cell(address, xr.Dataset({"odd": ("n", values[kind])}))
    assert list(address.folder.parent.iterdir()) == []


def test_equal_data_has_equal_digests(tmp_path):
    manifests = []
    for run in ("a", "b"):
        address = CellAddress(tmp_path / run, "e", "c", "0")
        write_cell(address, dataset(), {"seconds": 1.0})
        manifests.append(cell_state(address).manifest)
    assert manifests[0]["files"] == manifests[1]["files"]
    assert manifests[0]["seconds"] == 1.0
    assert manifests[0]["pid"] == os.getpid()


def test_states(address):
    assert cell_state(address).state == "missing"
    write_cell(address, dataset())
    assert cell_state(address).whole
    other = CellAddress(address.run, address.experiment, address.cell, "1" * 64)
    assert "another configuration" in cell_state(other).problem


def test_only_a_whole_cell_is_copied(address, tmp_path):
    write_cell(address, dataset())
    (address.folder / "manifest.json").unlink()
    target = CellAddress(tmp_path / "other", address.experiment, address.cell, address.digest)
    with pytest.raises(StoreError, match=r"is not the whole cell .*; copy it from where it is"):
        copy_cell(address, target)
    assert not target.folder.exists()


def test_any_change_of_any_file_is_noticed(address):
    folder = write_cell(address, dataset())
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        content = path.read_bytes()
        flipped = content[:-1] + bytes([content[-1] ^ 1]) if content else b"x"
        for damage in (flipped, content[: len(content) // 2], content + b"\0"):
            path.write_bytes(damage)
            state = cell_state(address)
            assert state.state == "damaged" or damage == content, (path, state)
            assert state.problem
        path.unlink()
        assert cell_state(address).state == "damaged", path
        path.write_bytes(content)
        assert cell_state(address).whole


def test_a_file_too_many_is_noticed(address):
    # zarr leaves out chunks that hold nothing but the fill value: an added file is added data.
    folder = write_cell(address, dataset())
    (folder / "data.zarr" / "zeros" / "1").write_bytes(b"x")
    assert "not in its manifest" in cell_state(address).problem


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": 3}', "{"])
def test_manifests_that_say_nothing(address, manifest):
    folder = write_cell(address, dataset())
    (folder / "manifest.json").write_text(manifest)
    assert cell_state(address).state == "damaged"


def test_damaged_cells_are_refused_and_replaced(address):
    folder = write_cell(address, dataset())
    (folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"'cell 1/2' is damaged: it has no manifest; start"):
        read_cell(address)
    write_cell(address, dataset())
    assert cell_state(address).whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing(address, monkeypatch, code):
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 5:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_cell(address, dataset())
    assert disk_full(caught.value)
    assert cell_state(address).state == "missing"
    assert list(address.folder.parent.iterdir()) == []


def test_disk_full_is_found_behind_other_errors():
    behind = RuntimeError("store failed")
    behind.__cause__ = OSError(errno.ENOSPC, "full")
    assert disk_full(behind)
    assert not disk_full(OSError(errno.EACCES, "no"))
    assert not disk_full(None)


def test_slugs_are_safe_and_tell_names_apart():
    assert slug("castin2025/digits") == "castin2025-digits"
    names = ["a b", "a:b", "a*b", "..", ".", ".tmp-x", "x" * 300, "x" * 301, "ä", "ö", "a\\b"]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    for one in slugs:
        assert len(one) < 100
        assert one[0] not in "."
        assert not set(one) & set("/\\:* ")
