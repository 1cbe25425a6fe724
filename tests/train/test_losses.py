"""Losses of networks against formulas in NumPy, weights of rows, missing targets, centring."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import data, train
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import TransformerShape

RNG = np.random.default_rng(0)
F, Y = RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 5, 4))
LABELS = RNG.integers(4, size=(2, 5))


def log_softmax(f: np.ndarray) -> np.ndarray:
    return f - np.log(np.exp(f).sum(axis=-1, keepdims=True))


def huber(delta: float) -> np.ndarray:
    d = np.abs(Y - F)
    return np.where(d <= delta, d**2 / 2, delta * (d - delta / 2)).sum(axis=-1)


def smoothed(smoothing: float, temperature: float) -> np.ndarray:
    wanted = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
    return -(wanted * log_softmax(F / temperature)).sum(axis=-1)


SIGNS = np.sign(Y)
CASES: list[tuple[train.AbstractLoss, np.ndarray, np.ndarray]] = [
    (train.SquaredError(), Y, ((Y - F) ** 2).sum(axis=-1) / 2),
    (train.SquaredError(), LABELS, ((np.eye(4)[LABELS] - F) ** 2).sum(axis=-1) / 2),
    (train.Huber(0.5), Y, huber(0.5)),
    (train.Logistic(0.7), SIGNS, np.log1p(np.exp(-SIGNS * F / 0.7)).sum(axis=-1)),
    (train.CrossEntropy(), LABELS, smoothed(0.0, 1.0)),
    (train.CrossEntropy(0.1, 0.5), LABELS, smoothed(0.1, 0.5)),
]


@pytest.mark.parametrize(("loss", "targets", "expected"), CASES, ids=lambda one: type(one).__name__)
def test_rows(loss: train.AbstractLoss, targets: np.ndarray, expected: np.ndarray) -> None:
    with jax.enable_x64(True):
        f, y = jnp.asarray(F), jnp.asarray(targets)
        np.testing.assert_allclose(loss.rows(f, y), expected, rtol=1e-12)
        assert train.mean_loss(loss, f, y) == pytest.approx(expected.mean(), rel=1e-12)
        weights = jnp.asarray(RNG.uniform(size=(2, 5)))
        weighted = train.mean_loss(loss, f, y, weights)
        assert weighted == pytest.approx(float((weights * expected).sum()), rel=1e-12)
        right = np.argmax(F, -1) == (targets if targets.ndim == 2 else np.argmax(targets, -1))
        if isinstance(loss, train.Logistic):
            right = (np.sign(F) == SIGNS).mean(axis=-1)
        np.testing.assert_allclose(loss.right(f, y), right)


def test_losses_that_are_others() -> None:
    """Huber of a large width is squared; names mean losses; two classes are a logistic loss."""
    f, y = jnp.asarray(F), jnp.asarray(Y)
    assert train.mean_loss(train.Huber(1e3), f, y) == pytest.approx(
        float(train.mean_loss("mse", f, y)), rel=1e-6
    )
    one, zero = jnp.asarray(F[0, :, :1]), jnp.zeros(5, int)
    pair = jnp.concatenate([one, -one], axis=1) / 2**0.5
    logistic = train.Logistic(2**-0.5).rows(one, jnp.ones((5, 1)))
    np.testing.assert_allclose(train.CrossEntropy().rows(pair, zero), logistic, rtol=1e-5)
    assert train.Training(1, (0.1,)).row_loss == train.CrossEntropy()
    assert train.Training(1, (0.1,), loss="mse").row_loss == train.SquaredError()


SHAPE = TransformerShape(
    head_dim=2,
    heads=2,
    layers=1,
    tokens=4,
    outputs=5,
    vocabulary=5,
    mlp_ratio=0.0,
    causal=True,
    pooled=False,
)
IDS = RNG.integers(5, size=(6, 4))
NEXT = np.where(RNG.uniform(size=(6, 4)) < 0.3, -1, np.roll(IDS, -1, axis=1))


def run(source: data.AbstractSource, **changes: Any) -> train.History:
    options = {"optimizer": train.Optimizer("sgd"), "precision": "float64", **changes}
    training = train.Training(steps=3, rates=(0.2,), seeds=2, batch=len(IDS), **options)
    return train.train(
        SHAPE,
        None,
        source,
        training,
        key=jax.random.key(0),
        observe=(train.Predictions(per_token=True), train.ProbeLoss()),
        observe_at=range(4),
        probe=len(IDS),
    )


@pytest.fixture(scope="module")
def masked() -> train.History:
    return run(data.FullBatch(IDS, NEXT))


def test_rows_without_a_target_are_left_out(masked: train.History) -> None:
    f, counted = masked["predictions"][:3, :, 0], NEXT >= 0
    own = np.take_along_axis(
        log_softmax(f), np.broadcast_to(np.maximum(NEXT, 0)[..., None], (*f.shape[:-1], 1)), -1
    )[..., 0]
    loss = -own[..., counted].mean(axis=-1).T
    np.testing.assert_allclose(masked.losses[:, 0], loss, rtol=1e-10)
    np.testing.assert_allclose(masked["probe_loss"][:3, :, 0].T, loss, rtol=1e-10)
    right = (np.argmax(f, -1) == NEXT)[..., counted].mean(axis=-1)
    np.testing.assert_allclose(masked["accuracy"][:3, :, 0], right)
    # The same rows, told by weights: the target of a row of weight 0 is nothing to the others.
    weights = counted / counted.sum()
    told = run(data.FullBatch(IDS, np.maximum(NEXT, 0), weights))
    np.testing.assert_allclose(told.losses, masked.losses, rtol=1e-12)
    # Parts of a batch have unequal numbers of targets; their sum is that of the batch.
    parts = run(data.FullBatch(IDS, NEXT), accumulate=3)
    np.testing.assert_allclose(parts.losses, masked.losses, rtol=1e-10)


def test_weights_of_steps_are_minibatches(masked: train.History) -> None:
    """Weights of all rows but those of one input, at one step, are the batch without it."""
    counted = NEXT >= 0
    weights = np.broadcast_to(counted / counted.sum(), (3, 6, 4)).copy()
    weights[1] = 0
    found = run(data.FullBatch(IDS, NEXT, weights, by_step=True))
    np.testing.assert_allclose(found.losses[:, 0, 0], masked.losses[:, 0, 0])
    np.testing.assert_allclose(found.losses[:, 0, 1], 0)
    # Nothing moved at that step: the loss after it is the second one of the other run.
    np.testing.assert_allclose(found.losses[:, 0, 2], masked.losses[:, 0, 1], rtol=1e-12)
    with pytest.raises(ArgumentError, match="weights: are those of 2 steps, and step 3"):
        run(data.FullBatch(IDS, NEXT, weights[:2], by_step=True))


def test_centred_outputs_begin_at_zero(masked: train.History) -> None:
    found = run(data.FullBatch(IDS, NEXT), centred=True)
    assert not found["predictions"][0].any()
    np.testing.assert_allclose(found.losses[:, 0, 0], np.log(5), rtol=1e-12)
    np.testing.assert_allclose(found["probe_loss"][1, :, 0], found.losses[:, 0, 1], rtol=1e-12)
    assert np.abs(found.losses[:, 0, 1] - masked.losses[:, 0, 1]).min() > 1e-4
    # Of the uncentred run only the error differs: the first one is uniform - one-hot for all.
    assert (found.losses[:, 0, 2] < found.losses[:, 0, 0]).all()


@pytest.mark.usefixtures("as_user")
def test_refused() -> None:
    for make, message in (
        (lambda: train.Huber(0.0), "delta: got 0.0"),
        (lambda: train.Logistic(-1.0), "temperature: got -1.0"),
        (lambda: train.CrossEntropy(smoothing=1.0), "smoothing: got 1.0"),
        (lambda: data.FullBatch(IDS, NEXT[:2]), "targets: got 2 for 6 inputs"),
        (lambda: data.FullBatch(IDS, NEXT, -np.ones((6, 4))), "weights: has negative numbers"),
        (lambda: run(data.FullBatch(IDS, NEXT, np.ones(6))), "source: has weights of shape .6,"),
        (lambda: run(data.FullBatch(IDS, NEXT - 1)), "source: has the label -2"),
        (
            lambda: run(data.FullBatch(IDS, NEXT), loss=train.Logistic()),
            "source: targets are labels of type int64, and Logistic",
        ),
        (
            lambda: run(data.FullBatch(IDS, np.zeros((6, 4, 5))), loss=train.Logistic()),
            "source: has targets other than -1 and 1",
        ),
        (
            lambda: run(data.FullBatch(IDS, np.zeros((6, 5))), loss="mse"),
            r"source: targets have shape .6, 5.; pass .batch, 4, 5. numbers",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            make()
    with pytest.raises(ArgumentTypeError, match=r"loss: got 3; pass a train\.Abs"):
        train.Training(1, (0.1,), loss=3)  # pyright: ignore
    with pytest.raises(ArgumentError, match="batch: got 2; pass 6, all examples"):
        data.FullBatch(IDS, NEXT).batch(0, 0, 2)

    class Late(data.Sentences):
        """Targets are missing from the second batch on."""

        def batch(self, seed: int, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
            ids, targets = self.probe(size)
            return ids, np.where(step > 0, -1, targets)

    with pytest.raises(ArgumentError, match="source: has rows without a target, or weights, after"):
        train.train(
            SHAPE,
            None,
            Late(IDS, np.maximum(NEXT, 0)),
            train.Training(steps=2, rates=(0.1,), batch=6),
            key=jax.random.key(0),
        )
