"""Memory-mapped sets in the formats of the large ones."""

import numpy as np
import pytest

from translimit import data
from translimit.core import ArgumentError, StoreError


def test_large_images_are_mapped(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (20, 1))
    np.savez(tmp_path / "part.npz", X=images, Y=labels)
    source = data.open_images(tmp_path / "part.npz", (8, 8))
    assert isinstance(source.inputs, np.memmap)
    inputs, targets = source.take(np.array([7, 3]))
    assert inputs.shape == (2, 16, 192)
    np.testing.assert_array_equal(targets, labels[[7, 3], 0])
    green = images[3, 8:16, 16:24, 1].ravel()
    expected = (green - images.mean()) / images.astype(float).std()
    np.testing.assert_allclose(inputs[1, 6, 64:128], expected, rtol=1e-5)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    pair = data.open_images(tmp_path / "images.npy", (8, 8), labels=tmp_path / "labels.npy")
    np.testing.assert_array_equal(pair.take(np.array([7, 3]))[0], inputs)
    with pytest.raises(ArgumentError, match="labels"):
        data.open_images(tmp_path / "images.npy", (8, 8))
    np.savez_compressed(tmp_path / "small.npz", X=images, Y=labels)
    with pytest.raises(StoreError, match="compressed"):
        data.open_images(tmp_path / "small.npz", (8, 8))
    np.savez(tmp_path / "odd.npz", a=images)
    with pytest.raises(StoreError, match="x_train and y_train"):
        data.open_images(tmp_path / "odd.npz", (8, 8))
    np.savez(tmp_path / "objects.npz", X=np.array([{}]), Y=labels)
    with pytest.raises(StoreError, match=r"X.npy holds objects; store plain arrays"):
        data.open_images(tmp_path / "objects.npz", (8, 8))
    np.savez(tmp_path / "grey.npz", X=images[0, :, :, 0], Y=labels)
    with pytest.raises(ArgumentError, match=r"path: holds images of shape \(32, 32\); store \[ex"):
        data.open_images(tmp_path / "grey.npz", (8, 8))
    with pytest.raises(StoreError, match=r"cannot be read as \.npy \(No such file or directory\)"):
        data.open_images(tmp_path / "absent.npy", (8, 8), labels=tmp_path / "labels.npy")
    (tmp_path / "none.npz").write_bytes(b"no zip")
    with pytest.raises(StoreError, match="cannot be read"):
        data.open_images(tmp_path / "none.npz", (8, 8))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_tokenised_text_is_mapped(tmp_path, dtype):
    ids = np.random.default_rng(0).integers(0, 50_000, 1000).astype(dtype)
    ids.tofile(tmp_path / "train.bin")
    source = data.open_tokens(tmp_path / "train.bin", 16, dtype=dtype)
    assert isinstance(source.ids, np.memmap)
    inputs, targets = source.probe(2)
    np.testing.assert_array_equal(inputs[0], ids[:16])
    np.testing.assert_array_equal(targets[1], ids[-16:])
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(StoreError, match="no multiple of"):
        data.open_tokens(tmp_path / "odd.bin", 16, dtype=dtype)
    with pytest.raises(StoreError, match="cannot be read"):
        data.open_tokens(tmp_path / "absent.bin", 16)
    with pytest.raises(ArgumentError, match="dtype"):
        data.open_tokens(tmp_path / "train.bin", 16, dtype="int8")
