"""Statements of Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322, and what tests them.

Only the abstract and the published scripts were at hand: the list may be incomplete.
"""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "Clouds of $n$ tokens of a law with compact support converge to the equation of their "
        "law, for every variant.",
        (
            *("variants/*-mean-field", "particles-and-closure/sampling-rate"),
            *("particles-and-closure/matched-rate", "sinkhorn-clouds/sampling-rate"),
        ),
        note="Uniform tokens in a square (`variants`), else Gaussian ones.",
    ),
    Statement(
        "Stability: two clouds stay as close in $W_2$ as a constant times their distance at the "
        "start, for every variant.",
        ("variants/*-growth", "variants/*-growth-power"),
        note="The growth is that of the flow's tangent.",
        missing="the printed constant, which is not specified.",
    ),
    Statement(
        "Networks of $L$ layers are first order in $1 / L$.",
        ("variants/*-depth-rate", "finite-depth/*"),
    ),
    Statement(
        "A finite cloud never blows up: $|x| \\le e^{\\|V\\| t} \\max |x_0|$.",
        ("past-blow-up/no-blow-up",),
    ),
    Statement(
        "Masked: a prefix does not see what follows, and the first token moves by itself.",
        ("causal-prefixes/first-token", "causal-prefixes/prefix-autonomy"),
    ),
    Statement(
        "Masked: stability in the conditional distance, and not in the plain one.",
        ("causal-stability/*",),
        note="Softmax, L2 and sigmoid attention.",
        missing="the printed constant, which is not specified; the other variants.",
    ),
    Statement(
        "Masked: equal conditional Gaussians stay equal and follow the unmasked closure.",
        ("causal-prefixes/equal-*", "causal-prefixes/rank-noise", "causal-blocks/*"),
        note="Softmax attention.",
        missing="the other variants.",
    ),
    Statement(
        "Softmax, multi-head, L2 and Sinkhorn attention send Gaussians to Gaussians, with affine "
        "fields.",
        (
            *("variants/*-closure", "variants/*-exact", "particles-and-closure/closure-*"),
            *("sinkhorn-clouds/closure-*", "sinkhorn-erratum/*"),
        ),
    ),
    Statement("Sigmoid attention does not.", ("sigmoid/*",)),
    Statement(
        "The mean under softmax attention follows $\\dot \\alpha = V (I + \\Sigma A) \\alpha$.",
        ("particles-and-closure/closure-alpha_*", "causal-prefixes/equal-alpha_*"),
        note="Rivals: the mean follows $V$ alone (masked clouds); a term dropped.",
    ),
    Statement(
        "The mean under Sinkhorn attention follows $\\dot \\alpha = V \\alpha$, for any law.",
        ("sinkhorn-clouds/mean-exact", "sinkhorn-clouds/closure-alpha_*"),
    ),
    Statement(
        "Divergence in finite time, with its time; none for L2 with injective keys nor Sinkhorn.",
        (
            *("blow-up-times/*", "past-blow-up/*", "covariances/*blow-up*"),
            "covariances/growth-*",
        ),
        note="Closures, except `past-blow-up/no-*`, which has clouds.",
    ),
    Statement(
        "Pictures of the plane: to zero, to a line, a plane, two lines, divergence, dependence on "
        "the start.",
        ("covariances/*",),
        note="Closures, as in the scripts, beside closed forms.",
    ),
    Statement(
        "Ranks of limits in $d = 3, 4, 5$: the published draws, $K = -Q$, "
        "$\\mathrm{rank}\\, Q = \\lfloor d / 2 \\rfloor$.",
        ("rank-histograms/*",),
        note="Closures.",
    ),
    Statement(
        "Ranks of limits are $d - \\mathrm{rank}\\, Q$ for $K = -Q$ and every $V$ with eigenvalues "
        "in the right half plane, by an identity (not in the scripts).",
        (
            *("limit-ranks/rank-*", "limit-ranks/exceptions", "limit-ranks/identity-*"),
            "limit-ranks/bounded-*",
        ),
        note="Closures.",
        missing="$V$ with eigenvalues of both signs: most draws are unbounded, and nothing is "
        "proved; several heads, which would need one weight for all of them.",
    ),
    Statement("The rank does not change at finite depth.", ("limit-ranks/determinant-*",)),
    Statement(
        "The anisotropy of the data is carried by the closure.",
        ("particles-and-closure/anisotropy", "digits/digits-anisotropy-*"),
    ),
    Statement(
        "Sinkhorn attention descends a self-transport where $A = A^T$, $V = \\pm A$.",
        ("sinkhorn-energy/*",),
    ),
    Statement(
        "Softmax attention descends an energy in a twisted metric, of mobility $1 / Z$.",
        ("softmax-energy/*",),
    ),
    Statement(
        "No convexity along Bures geodesics in general.",
        ("bures-convexity/*",),
        missing="the printed form, which was not at hand.",
    ),
    Statement(
        "Tokens on the sphere (arXiv 2410.06833): growth rates, clusters, energy.",
        ("sphere-clustering/*",),
    ),
    Statement(
        "Beyond the paper: real tokens beside the closure, what weights attention gives, how "
        "Sinkhorn's iteration contracts.",
        ("digits/*", "attention-weights/*", "sinkhorn-contraction/*"),
    ),
    Statement(
        "Existence and uniqueness of solutions.",
        missing="no number to measure.",
    ),
    Statement(
        "Constants $C$ and factors $e^{Ct}$ of the bounds.",
        missing="they are not specified, so that they exclude nothing.",
    ),
    Statement(
        "Clustering as in the discrete case without normalisation.",
        missing="the statement that is compared was not at hand.",
    ),
    Statement(
        "Figures beyond those of the scripts, and the numbers of theorems.",
        missing="no source was at hand.",
    ),
)
