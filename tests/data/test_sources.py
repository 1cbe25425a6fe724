"""Batches that need no history, and refusals."""

import numpy as np
import pytest

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


@pytest.mark.usefixtures("as_user")
def test_sentences_come_all_at_once():
    ids = np.array([[0, 1, 2], [2, 0, 1]])
    source = data.Sentences(ids, np.roll(ids, -1, axis=1))
    for step in range(2):
        inputs, targets = source.batch(step, step, 2)
        np.testing.assert_array_equal(inputs, ids)
        np.testing.assert_array_equal(targets[:, :2], ids[:, 1:])
    assert source.probe(1)[0].shape == (1, 3)
    for make, message in (
        (lambda: source.batch(0, 0, 1), "batch: got 1; pass 2, all sentences"),
        (lambda: data.Sentences(ids * 1.0, ids), "ids: are float64; pass integers"),
        (lambda: data.Sentences(ids, ids[:1]), r"targets: have shape \(1, 3\)"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            make()
