"""Losses of a ladder: paired seeds, and NaN once a run has diverged."""

import numpy as np

from translimit import data, describe, train
from translimit.core import named_key


def test_losses_of_a_ladder_and_a_run_that_diverges():
    shape = describe.TransformerShape(
        head_dim=2, heads=1, layers=1, tokens=8, outputs=10, patch_dim=8, mlp_ratio=1.0
    )
    training = train.Training(
        steps=4, rates=(1e-3, 1e30), seeds=2, batch=4, optimizer=train.Optimizer("sgd")
    )
    losses = train.ladder_losses(
        [shape, shape],
        lambda one: describe.standard_parameterization(one.size, pixels=8),
        data.digit_patches((2, 4)),
        training,
        (1, 4),
        key=named_key(0, "ladder"),
        probe=16,
    )
    assert losses.shape == (2, 2, 2, 2)
    assert np.array_equal(losses[0], losses[1], equal_nan=True)  # the same seeds at all shapes
    assert np.isfinite(losses[..., 0, :]).all()
    assert np.isnan(losses[..., 1, 1]).all()
    assert not np.array_equal(losses[0, 0], losses[0, 1], equal_nan=True)
