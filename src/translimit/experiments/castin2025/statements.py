"""Statements of Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322, and what tests them.

Only the abstract and the published scripts were at hand: the list may be incomplete.
"""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "Clouds of $n$ tokens converge to the equation of their law, for every variant.",
        (
            *("variants/*-mean-field", "particles-and-closure/sampling-rate"),
            *("particles-and-closure/matched-rate", "sinkhorn-clouds/sampling-rate"),
        ),
    ),
    Statement(
        "Stability: two clouds stay as close as the flow's tangent allows, for every variant.",
        ("variants/*-growth", "variants/*-growth-power"),
    ),
    Statement(
        "Networks of $L$ layers are first order in $1 / L$.",
        ("variants/*-depth-rate", "finite-depth/*"),
    ),
    Statement("A finite cloud never blows up.", ("past-blow-up/no-blow-up",)),
    Statement(
        "Masked: a prefix does not see what follows, and the first token moves by itself.",
        ("causal-prefixes/first-token", "causal-prefixes/prefix-autonomy"),
    ),
    Statement(
        "Masked: stability in the conditional distance, and not in the plain one.",
        ("causal-stability/*",),
    ),
    Statement(
        "Masked: equal conditional Gaussians stay equal and follow the unmasked closure.",
        ("causal-prefixes/equal-*", "causal-prefixes/rank-noise", "causal-blocks/*"),
    ),
    Statement(
        "Softmax, multi-head, L2 and Sinkhorn attention send Gaussians to Gaussians.",
        (
            *("variants/*-closure", "particles-and-closure/closure-*", "attention-weights/*"),
            *("sinkhorn-clouds/closure-*", "sinkhorn-erratum/*"),
        ),
    ),
    Statement("Sigmoid attention does not.", ("sigmoid/*",)),
    Statement(
        "The mean of the tokens, for Sinkhorn attention of any law.",
        ("sinkhorn-clouds/mean-exact", "sinkhorn-clouds/closure-alpha_*"),
    ),
    Statement(
        "Divergence in finite time, with its time; none for L2 with injective keys nor Sinkhorn.",
        ("blow-up-times/*", "past-blow-up/*", "covariances/*blow-up*"),
    ),
    Statement(
        "Pictures of the plane: to zero, to a line, a plane, two lines, divergence, dependence on "
        "the start.",
        ("covariances/*",),
    ),
    Statement(
        "Ranks of limits: $d - \\mathrm{rank}\\, Q$ for $K = -Q$ and every $V$ with eigenvalues in "
        "the right half plane, by an identity (new); the published draws.",
        ("limit-ranks/*", "rank-histograms/*"),
        "$V$ with eigenvalues of both signs: most draws are unbounded, and nothing is proved.",
    ),
    Statement("The rank does not change at finite depth.", ("limit-ranks/determinant-*",)),
    Statement(
        "The anisotropy of the data is carried by the closure.",
        ("particles-and-closure/anisotropy", "digits/digits-anisotropy-*"),
    ),
    Statement(
        "Sinkhorn attention descends a self-transport; its iteration contracts.",
        ("sinkhorn-energy/*", "sinkhorn-contraction/*"),
    ),
    Statement(
        "Softmax attention descends an energy in a twisted metric, of mobility $1 / Z$.",
        ("softmax-energy/*",),
    ),
    Statement("No convexity along Bures geodesics in general.", ("bures-convexity/*",)),
    Statement(
        "Tokens on the sphere (arXiv 2410.06833): growth rates, clusters, energy.",
        ("sphere-clustering/*",),
    ),
    Statement(
        "Existence, uniqueness, and the comparison with the unnormalised discrete case.",
        missing="no number to measure, and the compared statement is not available.",
    ),
)
