"""Batches, memory-mapped sets in the formats of the large ones, and the floors of loss plots."""

import numpy as np
import pytest
from scipy.special import softmax

from translimit import data
from translimit.core import ArgumentError, ArgumentTypeError, StoreError
from translimit.data import defaults


def test_an_epoch_is_every_example_once_and_a_step_needs_no_history():
    source = data.Examples(np.arange(12.0).reshape(12, 1, 1), np.arange(12))
    epochs = [np.concatenate([source.batch(5, 3 * e + s, 4)[1] for s in range(3)]) for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert (epochs[0] != epochs[1]).any()
    assert (source.batch(5, 0, 4)[1] != source.batch(6, 0, 4)[1]).any()
    inputs, targets = source.batch(5, 4, 4)
    np.testing.assert_array_equal(inputs[:, 0, 0], targets)
    assert inputs.dtype == np.float32


def test_digits_are_patches_of_one_scale():
    source = data.digit_patches()
    inputs, labels = source.take(np.arange(len(source)))
    assert inputs.shape == (1797, 8, 8)
    assert abs(inputs.mean()) < 1e-6
    assert inputs.std() == pytest.approx(1.0, abs=1e-6)
    assert set(labels) == set(range(10))
    train_set, test_set = source.split(1500)
    assert (len(train_set), len(test_set)) == (1500, 297)
    np.testing.assert_array_equal(test_set.probe(3)[0], inputs[1500:1503])


def test_what_is_observed_need_not_be_trained():
    train_set, test_set = data.digit_patches().split(1500)
    source = data.Observed(train_set, test_set)
    np.testing.assert_array_equal(source.batch(1, 2, 4)[0], train_set.batch(1, 2, 4)[0])
    np.testing.assert_array_equal(source.probe(3)[0], test_set.probe(3)[0])


def test_text_windows_predict_the_next_byte():
    source = data.byte_text(tokens=20)
    inputs, targets = source.batch(1, 2, 6)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert bytes(np.asarray(source.ids[:6], np.uint8)) == b'The "a'
    assert (source.batch(1, 3, 6)[0] != inputs).any()
    one, other = (data.Repeated(source, True).batch(1, step, 6)[0] for step in (0, 9))
    np.testing.assert_array_equal(one, other)


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


def test_floors_of_known_laws():
    """Entropies of a chain of known transitions; least squares of an exactly linear rule."""
    rng = np.random.default_rng(0)
    moves = np.array([[0.9, 0.1], [0.4, 0.6]])
    ids = np.zeros(200_000, int)
    uniform = rng.random(len(ids))
    for i in range(1, len(ids)):
        ids[i] = uniform[i] > moves[ids[i - 1], 0]
    rest = np.array([0.8, 0.2])  # invariant: 0.2 * 0.4 = 0.8 * 0.1
    bigram = -np.sum(rest[:, None] * moves * np.log(moves))
    # Standard errors of these averages are below 0.003.
    assert data.unigram_entropy(ids) == pytest.approx(-np.sum(rest * np.log(rest)), abs=0.012)
    assert data.bigram_entropy(ids) == pytest.approx(bigram, abs=0.012)
    narrow = ids.astype(np.uint8)  # as bytes come
    assert data.bigram_entropy(narrow) == data.bigram_entropy(ids)
    assert data.unigram_entropy(narrow) == data.unigram_entropy(ids)
    inputs = rng.normal(size=(50, 2, 3))
    targets = inputs.reshape(50, 6) @ rng.normal(size=(6, 2)) + 1.5
    assert data.linear_mse(inputs, targets) < 1e-20
    noise = rng.normal(size=(2000, 2))
    assert data.linear_mse(rng.normal(size=(2000, 3)), noise) == pytest.approx(1.0, abs=0.1)
    x = rng.normal(size=(20_000, 1))
    odds = softmax(x * np.array([[0.0, 2.0]]), axis=1)
    labels = (rng.random(20_000) < odds[:, 1]).astype(int)
    entropy = float(-np.mean(np.sum(odds * np.log(odds), axis=1)))
    assert data.linear_cross_entropy(x, labels) == pytest.approx(entropy, abs=0.015)


@pytest.mark.usefixtures("as_user")
def test_refusals(monkeypatch):
    for name, value, message in (
        ("TEXT_SHA256", "0" * 64, "does not have the digest it was shipped with; install transli"),
        ("_TEXT", "absent.gz", r"absent.gz: cannot be read \(No such file or directory\); install"),
    ):
        monkeypatch.setattr(defaults, name, value)
        with pytest.raises(StoreError, match=message):
            data.byte_text(5)
    with pytest.raises(ArgumentError, match="targets"):
        data.Examples(np.zeros((3, 2, 2)), np.zeros(2))
    with pytest.raises(ArgumentError, match="tokens"):
        data.TokenStream(np.zeros(5, int), 5)
    with pytest.raises(ArgumentTypeError, match="ids"):
        data.TokenStream(np.zeros(50), 5)
    with pytest.raises(ArgumentError, match=r"scale: got 0.0; pass a positive number"):
        data.Examples(np.zeros((3, 2, 2)), np.zeros(3), scale=0.0)
    with pytest.raises(ArgumentError, match="first"):
        data.digit_patches().split(0)
    with pytest.raises(ArgumentError, match="ridge"):
        data.linear_cross_entropy(np.zeros((3, 2)), np.zeros(3, int), ridge=0.0)
