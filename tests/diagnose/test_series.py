"""Checkpoints along training: what moved, what is aligned, when a level is crossed."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from translimit.core import ArgumentError
from translimit.diagnose import Section, kernel_alignment, series

RNG = np.random.default_rng(0)


def moved(checkpoint, size):
    layers = []
    for place, layer in enumerate(checkpoint.layers):
        rng = np.random.default_rng(place)
        drawn = rng.standard_normal(layer.parameters["W_Q"].shape)
        change = size * np.sqrt(np.mean(np.square(layer.parameters["W_Q"]))) * drawn
        layers.append(layer.with_parameters(W_Q=layer.parameters["W_Q"] + change))
    return checkpoint.with_layers(layers)


@pytest.fixture(scope="module")
def found(byte_model, windows):
    steps = {0: byte_model, 2: moved(byte_model, 0.1), 5: moved(byte_model, 2.0)}
    return series(steps, windows[:4])


def test_kernels_are_aligned_up_to_rotations_and_scale():
    x = RNG.normal(size=(9, 5))
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert kernel_alignment(x, 3 * x @ turn + 2) == pytest.approx(1)
    assert kernel_alignment(x, RNG.normal(size=(9, 5))) < 0.9
    assert np.isnan(kernel_alignment(x, np.ones((9, 5))))


def test_nothing_moved_at_the_first_and_more_later(found):
    np.testing.assert_array_equal(found.scores_moved[0], 0)
    np.testing.assert_allclose(found.alignment[0], 1)
    assert (np.diff(found.scores_moved, axis=0) > 0).all()
    assert (found.alignment[1:, 1:] < 1).all()
    np.testing.assert_allclose(found.alignment[:, 0], 1)  # the tables are as they were
    np.testing.assert_allclose(found.moved["W_Q"][1], 0.1, rtol=0.05)
    np.testing.assert_array_equal(found.moved["W_K"], 0)


def test_movement_of_scores_is_counted_by_hand(byte_model, windows, found):
    """First layer, one head after another: entry and K are as they were."""
    from translimit.diagnose.passing import in_layer, visible

    other, rows = moved(byte_model, 0.1), []
    for row in windows[:4]:
        x = byte_model.embed(row)
        one, two = (in_layer(each.layers[0], x).scores for each in (byte_model, other))
        seen = np.tril(np.ones((len(x), len(x)), bool))
        assert (seen == visible(byte_model.layers[0].attention, True, len(x))).all()
        change = sum(np.abs(b - a)[seen].sum() for a, b in zip(one, two, strict=True))
        rows.append(change / sum(np.abs(a)[seen].sum() for a in one))
    assert found.scores_moved[1, 0] == pytest.approx(np.mean(rows))


def test_a_level_is_crossed_between_two_steps(found):
    values = found.mean("score_spread")[:, 1]
    level = (values[1] + values[2]) / 2
    step, error = found.crossing("score_spread", 1, level, upward=True)
    assert step == pytest.approx(np.expm1((np.log(3) + np.log(6)) / 2))
    assert 0 < error < 10
    assert np.isnan(found.crossing("score_spread", 1, -1.0, upward=True)[0])


def test_it_is_drawn_told_and_put_on_the_page(found, diagnosis):
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_ylabel() == "loss in nats"
    assert len(str(found).splitlines()) >= 4
    plain = found.to_json()
    assert np.shape(plain["alignment"]) == (3, 5)
    page = diagnosis.page([Section("Along training", "a < b", figure)])
    assert "<h2>Along training</h2>" in page
    assert "a &lt; b" in page
    assert page.count("data:image/png") == 2
    assert diagnosis.page().count("data:image/png") == 1


def test_a_single_checkpoint_is_refused(byte_model, windows):
    with pytest.raises(ArgumentError, match="checkpoints"):
        series({0: byte_model}, windows)
