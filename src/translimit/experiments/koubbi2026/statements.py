"""Statements of Koubbi, Geshkovski and Rigollet, arXiv 2604.01978, and what tests them.

The abstract and a public formal transcription of the first version were at hand; printed means: in
that transcription.
"""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "The first stochastic equation meets means of the chain to first order in the step; where "
        "the mean effect stays it needs the drift of the noise (printed without).",
        (
            *("drift-and-noise/order-first", "drift-and-noise/first-at-fixed-alpha"),
            *("drift-and-noise/order-at-fixed-alpha", "regimes/diffusive-*"),
            "regimes/sampled-*",
        ),
        missing="how the constant grows with the time and with the size of the noise, in general: "
        "the constant is not specified.",
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
        "Ballistic, modified and diffusive regimes, with one clock.",
        (
            *("regimes/ballistic-order", "regimes/modified-*", "regimes/diffusive-*"),
            *("regimes/tangent-order", "regimes/one-clock"),
        ),
    ),
    Statement(
        "The corollaries on equations without noise print a leading $\\eta$ that the rate does not "
        "have.",
        ("regimes/ballistic-order", "drift-and-noise/no-noise-*"),
    ),
    Statement(
        "Gaussian heads have no drift of their own, and the updates of two tokens have covariance "
        "$s_{ij} I / d$ per unit of diffusive time.",
        (
            *("overlaps/one-step-covariation", "overlaps/gram-is-the-chain*"),
            *("overlaps/sde-is-the-chain*", "overlaps/one-diffusive-step-one-law*"),
        ),
    ),
    Statement(
        "Itô's drift of the overlaps.",
        (
            *("overlaps/one-step-drift", "overlaps/sde-is-the-chain*"),
            "overlaps/solver-is-the-sde*",
        ),
        note="`solver-is-the-sde` compares two solvers of one equation.",
    ),
    Statement(
        "Where all overlaps are equal, their drift is a function of the common overlap; printed is "
        "its form for $d \\to \\infty$.",
        ("simplex/drift-at-*",),
    ),
    Statement(
        "The mean of the overlaps from such a start follows that equation: not at moderate $d$, "
        "where fluctuations enter.",
        (
            *("simplex/mean-*", "simplex/order-in-dim", "simplex/logistic-*"),
            "moebius/moment-*",
        ),
    ),
    Statement(
        "Overlaps concentrate about the common curve like $d^{-1/2}$, with the constant of linear "
        "noise.",
        ("concentration/*",),
        missing="the printed bound itself: with an unspecified constant it cannot fail.",
    ),
    Statement(
        "With weak scores the overlap follows $\\dot u = u (1 - u)$.",
        ("simplex/logistic-*", "simplex/order-in-dim"),
    ),
    Statement(
        "The error of that in the temperature: the square of the scores' size as printed, which "
        "holds for random tokens; the fourth power where all overlaps are equal.",
        ("high-temperature/*",),
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
        missing="the printed constant, which is not specified.",
    ),
    Statement(
        "On the time $d$ the overlap tends to $du = -\\kappa u (1 - u^2) dt + \\sqrt 2 (1 - u^2) "
        "dB$, $\\kappa = 3/2 + d / (2 d_k)$ (printed: 1).",
        ("low-temperature/*-chain", "low-temperature/*-limit", "settling/*"),
        note="`*-limit` sets the diffusion of finite dimensions beside its limit; chains are in "
        "the others.",
        missing="a true law of infinitely many tokens: it needs a number exponential in $d$. The "
        "kernel of the limit is imposed.",
    ),
    Statement(
        "Where the overlap is absorbed: at $+1$ with probability "
        "$1/2 + \\arcsin(u_0) / \\pi$ (printed, $\\kappa = 1$).",
        ("absorption/*",),
        note="Chains (`*-t=8`) exclude the printed $\\kappa$; `settled-share` and "
        "`unsettled-share` set the diffusion of finite dimensions beside its limit.",
    ),
    Statement(
        "$\\arcsin u$ is a martingale.",
        missing="so it is in the printed equation, by Itô's formula, and only there: at the "
        "$\\kappa$ of the chains it has a drift. (For two tokens of the shaped Transformer it is "
        "measured: `noci2023/exact-facts`.)",
    ),
    Statement(
        "Heads are Lipschitz in the token and in the law; the printed constant vanishes without "
        "scores, where the true one does not.",
        ("chaos/single-token-*", "chaos/single-law-*"),
        missing="with scores: no number is known.",
    ),
    Statement(
        "Given the heads, the law of infinitely many tokens solves a stochastic Fokker-Planck "
        "equation.",
        ("common-noise/*",),
        note="On the circle.",
        missing="in more dimensions: a solver of the density is missing.",
    ),
    Statement(
        "Propagation of chaos. Printed, the distance is zero from equal starts; a term of order "
        "$1 / n$ is missing.",
        ("chaos/single-first-*", "chaos/rate-*", "chaos/distance-*", "chaos/apart-*"),
    ),
    Statement(
        "Beyond the paper: cross-ratios of tokens are conserved without scores, and stacks of "
        "whole pre-LN blocks align as a recursion says.",
        ("moebius/cross-ratios-*", "pre-norm-stacks/*"),
    ),
    Statement("Existence and uniqueness.", missing="no number to measure."),
    Statement(
        "Constants $C$ and factors $e^{Ct}$ of the bounds.",
        missing="they are not specified, so that they exclude nothing.",
    ),
    Statement("Figures.", missing="they were not at hand."),
)
