"""Array files that anybody may have written: plain arrays, or refused in one line."""

import io
import pickle
import random

import numpy as np
import pytest

from translimit.core import StoreError
from translimit.data.large import _open_npy, open_npz


def test_nothing_is_unpickled(tmp_path, trap):
    evil = np.array([trap], dtype=object)
    np.savez(tmp_path / "a.npz", X=evil)
    np.save(tmp_path / "a.npy", evil)
    for name in ("b.npz", "b.npy"):
        (tmp_path / name).write_bytes(pickle.dumps(trap))
    for name, read in (("a.npz", open_npz), ("b.npz", open_npz), ("a.npy", _open_npy)):
        with pytest.raises(StoreError, match=name):
            read(tmp_path / name)
    with pytest.raises(StoreError, match=r"b.npy: cannot be read as .npy"):
        _open_npy(tmp_path / "b.npy")
    assert not trap.mark.exists()


@pytest.mark.parametrize(("suffix", "read"), [(".npz", open_npz), (".npy", _open_npy)])
def test_whatever_the_bytes_are_reading_ends_in_arrays_or_in_one_line(tmp_path, suffix, read):
    whole, rng, refused = io.BytesIO(), random.Random(0), []
    if suffix == ".npz":
        np.savez(whole, X=np.ones((4, 3), np.float32), Y=np.arange(4))
    else:
        np.save(whole, np.ones((4, 3), np.float32))
    for number in range(200):
        content = bytearray(whole.getvalue())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            read(path)
        except StoreError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in told for told in refused)
