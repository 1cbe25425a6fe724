r"""A few digits, cut into patches: networks of H heads approach their limit.

`dmft-networks` on two classes of digits; limits that leave out the response R^h of the residual
stream to what comes back through the query, key and value matrices, or R^v of heads, miss.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import replace

from translimit.experiments.bordelon2024 import dmft_networks
from translimit.experiments.bordelon2024.growing_networks import Config

EXPERIMENT = replace(
    dmft_networks.EXPERIMENT,
    name="bordelon2024/dmft-heads",
    title="Networks in the number of heads against their training dynamics in the limit",
    question="Do trained networks approach the limit of many heads, and how fast?",
    summary="A few digits are learned by transformers of $H$ heads and by the limit "
    "$H \\to \\infty$, solved in one causal pass. Distances fall like $H^{-1/2}$, and means over "
    "seeds, extrapolated in $1/H$, are the limit within their errors.",
    presets={
        "demo": Config(
            sizes=(8, 16, 32), steps=10, samples=2000, populations=6, without=("R_v", "R_h")
        ),
        # The squared deviation of one network's kernel is 1.7 / H of its mean; 20,000 networks of
        # each size, extrapolated from 16, 32 and 64 heads, give the limit's to 0.0045, a fifth of
        # the tolerance.
        "standard": Config(seeds=20_000, at_once=2000, without=("R_v", "R_h")),
        "paper": Config(
            sizes=(8, 16, 32, 64, 128),
            inputs=8,
            steps=20,
            layers=2,
            seeds=10_000,
            at_once=1000,
            without=("R_v", "R_h"),
        ),
    },
)
