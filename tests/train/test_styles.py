"""The four styles of the rules train one and the same network, in float64."""

import jax
import numpy as np
import pytest

from translimit import data, train
from translimit.describe import TransformerShape, standard_parameterization
from translimit.scaling import STYLES, rules

BASE = TransformerShape(
    head_dim=2, heads=2, layers=1, tokens=6, outputs=256, vocabulary=256, mlp_ratio=1.0,
    causal=True, pooled=False,
)  # fmt: skip
TARGET = TransformerShape(
    head_dim=4, heads=4, layers=2, tokens=6, outputs=256, vocabulary=256, mlp_ratio=1.0,
    causal=True, pooled=False,
)  # fmt: skip
STEPS = 8


def losses(optimizer, style, alphas):
    made = rules(
        BASE.size,
        TARGET.size,
        optimizer=optimizer.name,
        alpha_A=alphas[0],
        alpha_L=alphas[1],
        style=style,
    )
    numbers = made.applied(standard_parameterization(BASE.size))
    training = train.Training(
        steps=STEPS, rates=(0.05,), batch=4, optimizer=optimizer, precision="float64"
    )
    history = train.train(TARGET, numbers, data.byte_text(6), training, key=jax.random.key(0))
    return history.losses[0, 0]


@pytest.mark.parametrize(
    "optimizer",
    [
        train.Optimizer("momentum", weight_decay=0.02, decay_vectors=True),
        train.Optimizer("adamw", eps=1e-4, weight_decay=0.02, decay_vectors=True),
    ],
    ids=["sgd", "adamw"],
)
def test_styles_give_one_trajectory(optimizer):
    """To 1e-12, at three pairs of exponents; the exponents themselves make a difference."""
    seen = []
    for alphas in ((1.0, 1.0), (0.5, 0.5), (0.75, 0.6)):
        canonical, *others = (losses(optimizer, style, alphas) for style in STYLES)
        for style, other in zip(STYLES[1:], others, strict=True):
            np.testing.assert_allclose(other, canonical, rtol=0, atol=1e-12, err_msg=style)
        seen.append(canonical)
    assert canonical[-1] < canonical[0]
    assert min(np.ptp([row[-1] for row in pair]) for pair in (seen[:2], seen[1:])) > 1e-6
