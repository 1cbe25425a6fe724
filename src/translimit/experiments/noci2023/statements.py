"""Statements of Noci et al., arXiv 2306.17759, and the claims that test them.

The abstract was at hand, and the theorems as others quote them.
"""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "As depth and width grow together the covariance of the tokens converges in law to a "
        "stochastic equation in depth / width.",
        ("sde-and-networks/*", "weak-error/attention-*", "exact-facts/*"),
        note="`exact-facts` has paths of the equation, beside moments in closed form.",
    ),
    Statement(
        "The limit needs a softmax centred at the identity and a temperature that depends on the "
        "width.",
        ("shaped-and-unshaped/*",),
    ),
    Statement(
        "Residual weights set the scale of drift and diffusion.",
        ("one-layer/layer-noise-*", "one-layer/clock-*"),
    ),
    Statement(
        "The covariance is well behaved at large depth and width, and its rank does not "
        "degenerate. With limits: two tokens explode if and only if $\\gamma^2 < H / 2$, and the "
        "log determinant falls linearly.",
        ("shaped-and-unshaped/shaped*", "explosion/*", "exact-facts/log-det-*"),
        note="`explosion` and `exact-facts` have paths of the equation beside closed forms.",
    ),
    Statement(
        "The equation describes finite networks; the error is of order one over the width.",
        ("weak-error/*", "sde-and-networks/*"),
    ),
    Statement(
        "In the shaped ReLU block with skip connection the branch weight only changes the clock.",
        ("one-layer/clock-*", "weak-error/mlp-rate", "sde-and-networks/full-*"),
    ),
    Statement(
        "Attention and MLP in one block: generators add, a block is one step of 1 / width.",
        ("sde-and-networks/full-*",),
    ),
    Statement(
        "The drift does not depend on the number of heads nor on the key dimension; the noise of "
        "attention falls like $1 / H$.",
        (
            *("one-layer/drift-*", "one-layer/attention-noise-*", "one-layer/layer-noise-*"),
            *("sde-and-networks/four-heads-*", "explosion/paths-two heads*"),
        ),
    ),
    Statement(
        "Over depth, laws keep to the equation at every branch weight, temperature, number of "
        "heads and head dimension.",
        ("sde-and-networks/*", "explosion/paths-*"),
        note="Networks have one or four wide heads, and branch weight and temperature 1/2. "
        "`explosion/paths-*` are paths of the equation for two tokens, at other weights and "
        "temperatures, beside closed forms. How head dimension and temperature enter is measured "
        "in single layers (`one-layer`).",
        missing="laws over depth at $n_k = 1$, or at $\\tau_0 = 1$ and $\\gamma^2 = 0.1$ with "
        "three and more tokens.",
    ),
    Statement(
        "Shaped models train without norms, like pre-LN.",
        ("training/*",),
        note="Recalled, not read.",
    ),
    Statement(
        "Figures, tables and settings of the paper.",
        missing="only its abstract, and theorems as quoted elsewhere, were at hand.",
    ),
)
