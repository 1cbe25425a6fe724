"""Statements of Koubbi, Geshkovski and Rigollet, arXiv 2604.01978, and what tests them."""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "The first stochastic equation meets means of the chain to first order in the step; where "
        "the mean effect stays it needs the drift of the noise (printed without).",
        (
            *("drift-and-noise/order-first", "drift-and-noise/first-at-fixed-alpha"),
            *("drift-and-noise/order-at-fixed-alpha", "regimes/diffusive-*", "regimes/sampled-*"),
        ),
    ),
    Statement(
        "With the modified drift the error is $\\eta \\max(\\eta, \\alpha)$: true at the times of "
        "layers, for the printed chain with two more drifts.",
        (
            *("drift-and-noise/order-corrected", "drift-and-noise/linear-part"),
            *("drift-and-noise/sampled-*", "regimes/modified-*", "regimes/tangent-order"),
            "regimes/between-layers",
        ),
    ),
    Statement(
        "Ballistic, modified and diffusive regimes, with one clock; the corollaries on equations "
        "without noise print a leading $\\eta$ that the rate does not have.",
        ("regimes/ballistic-order", "regimes/one-clock", "drift-and-noise/no-noise-*"),
    ),
    Statement(
        "Gaussian heads have no drift of their own, and the updates of two tokens have covariance "
        "$s_{ij} I / d$ per unit of diffusive time.",
        ("overlaps/one-step-covariation", "overlaps/sde-is-the-chain*"),
    ),
    Statement(
        "Itô's drift of the overlaps.", ("overlaps/one-step-drift", "overlaps/sde-is-the-chain*")
    ),
    Statement(
        "Where all overlaps are equal, their drift is a function of the common overlap; printed is "
        "its form for $d \\to \\infty$. Their mean follows no such equation at moderate $d$: "
        "fluctuations enter.",
        ("simplex/*", "moebius/moment-*"),
    ),
    Statement(
        "Without scores the cross-ratios of tokens are conserved (not in the paper).",
        ("moebius/cross-ratios-*",),
    ),
    Statement(
        "Overlaps concentrate about the common curve like $d^{-1/2}$, with the constant of linear "
        "noise.",
        ("concentration/*",),
        "the printed bound itself: with an unspecified constant it cannot fail.",
    ),
    Statement(
        "With weak scores the overlap follows $\\dot u = u (1 - u)$; its order in the temperature "
        "(printed: the square).",
        ("simplex/logistic-*", "high-temperature/*"),
    ),
    Statement(
        "Trade-offs of dimension, tokens and temperature in the time of collapse.",
        ("trade-offs/*", "collapse/*", "moebius/collapse-*"),
    ),
    Statement(
        "Under strong scores attention returns $Ax$ over its norm; the loss is of order "
        "$d / b$ (printed: free of $d$).",
        ("laplace/*",),
    ),
    Statement(
        "$E \\cos(Ax, Ay) = R - R (1 - R^2) / (2 d)$ for one matrix; two give twice as much.",
        ("low-temperature/kernel-*",),
    ),
    Statement(
        "Slow motion: over a fixed time overlaps move by $d^{-1/2}$.",
        ("slow-motion/*",),
        "the constant, which is not specified.",
    ),
    Statement(
        "On the time $d$ the overlap tends to $du = -\\kappa u (1 - u^2) dt + \\sqrt 2 (1 - u^2) "
        "dB$, $\\kappa = 3/2 + d / (2 d_k)$ (printed: 1).",
        ("low-temperature/*-chain", "low-temperature/*-limit", "settling/*"),
        "a true law of infinitely many tokens: it needs a number exponential in $d$.",
    ),
    Statement("Where the overlap is absorbed.", ("absorption/*",)),
    Statement(
        "Heads are Lipschitz in the token and in the law; the printed constant vanishes without "
        "scores, where the true one does not.",
        ("chaos/single-token-*", "chaos/single-law-*"),
        "with scores: no number is known.",
    ),
    Statement(
        "Given the heads, the law of infinitely many tokens solves a stochastic Fokker-Planck "
        "equation.",
        ("common-noise/*",),
        "off the circle: a solver of the density is missing.",
    ),
    Statement(
        "Propagation of chaos. Printed, the distance is zero from equal starts; a term of order "
        "$1 / n$ is missing.",
        ("chaos/single-first-*", "chaos/rate-*", "chaos/distance-*", "chaos/apart-*"),
    ),
    Statement("Existence and uniqueness.", missing="no number to measure."),
)
