r"""Networks of growing depth approach the depth ODE: heads grow with the layers.

`dmft-networks` along layers at alpha_L = 1. Networks of L layers and H = 2 L heads are
extrapolated to infinite depth, and compared with the ODE in depth of the limit, which has no finite
depth in it; against the ODE without one of the responses that survive there, R^v and R^p; and
against the limit as deep as the smallest network.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace

from translimit.experiments.bordelon2024 import dmft_networks
from translimit.experiments.bordelon2024.growing_networks import Config

_RING = Config(
    task="ring",
    inputs=2,
    tokens=2,
    dim=4,
    axis="layers",
    sizes=(4, 8, 16),
    heads=8,
    beta0=1.0,
    gamma0=2.0,
    eta0=0.05,
    steps=8,
    samples=1000,
    populations=4,
    seeds=400,
    without=("R_v",),
)

#: Predictions of 400 networks, extrapolated from 4, 8 and 16 layers, have an error of 0.017 by
#: sampling and leave 0.0075 of their bias. Twice the layers and heads halve the variance and leave
#: a quarter: 3600 networks come to 0.0045 in all, the tolerance over 4.5.
_DEEPER = replace(
    _RING,
    sizes=(8, 16, 32),
    heads=16,
    samples=2000,
    populations=8,
    seeds=3600,
    at_once=250,
    without=("R_v", "R_p"),
)

EXPERIMENT = replace(
    dmft_networks.EXPERIMENT,
    name="bordelon2024/dmft-layers",
    title="Networks of growing depth against the depth ODE",
    question="Do trained deep networks approach the depth ODE?",
    summary="Transformers of $L$ layers and $H = 2L$ heads at $\\alpha_L = 1$, extrapolated in "
    "$1/L$, learn what the limit of infinitely many heads and layers says: an ODE in depth in "
    "which attention is learned.",
    claims=tuple(replace(one, decided_by="standard") for one in dmft_networks.EXPERIMENT.claims),
    presets={
        "demo": _RING,
        "standard": _DEEPER,
        "paper": replace(_DEEPER, sizes=(4, 8, 16, 32), heads=8, samples=4000),
    },
)
