"""Statements of Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, and what tests them."""

from __future__ import annotations

from translimit.experiments.statements import Statement

STATEMENTS = (
    Statement(
        "The limits that exist: $\\alpha_A = 1$ as $N$ grows, $1/2 \\le \\alpha_L \\le 1$ as $L$ "
        "grows; attention goes on moving at $\\alpha_L = 1$ only.",
        ("coordinates/*", "depth/*", "dmft-depth/*"),
    ),
    Statement(
        "One learning rate carries over, with the printed powers of $N$, $H$ and $L$.",
        ("coordinates/control-*", "transfer/*", "lm-transfer/*"),
    ),
    Statement(
        "At $\\alpha_A = 1$ heads become identical and attention starts uniform; at 1/2 it is "
        "random over heads.",
        ("head-variance/*", "vit-sizes/head-variance-*"),
    ),
    Statement(
        "After 2,500 steps on CIFAR-5M the variance over heads is of order $N^{-2}$ and $N^0$.",
        ("head-variance/trained-*",),
        "CIFAR-5M does not ship. The preset paper has images of its size, 16 heads and 2,500 "
        "steps; it was not run to its end (seven hours on one core).",
    ),
    Statement(
        "At the start the kernel of one network has a squared error of order $1 / H$.",
        ("initial-depth/kernel-*", "initial-laws/kernel-rate"),
    ),
    Statement(
        "At the start the law of attention over heads converges; it is not Gaussian at $N = 1$, "
        "and Gaussian as $N \\to \\infty$.",
        ("initial-laws/kurtosis-*", "head-variance/start-*"),
    ),
    Statement("Keys and queries move like $L^{\\alpha_L - 1}$.", ("depth/learned_*",)),
    Statement(
        "At fixed compute and large $L$, $\\alpha_L = 1$ has the lower loss.",
        ("depth/compute-*", "depth/early-*"),
        "for AdamW the data do not decide.",
    ),
    Statement(
        "Losses nearly agree for all $H$; early dynamics differ at large $L$.",
        ("dmft-early/*", "dmft-few-heads/width-*", "head-scaling/*"),
    ),
    Statement(
        "The Brownian motion of the residual stream at the start is suppressed at large $L$.",
        ("dmft-stream/*",),
        "in a vision transformer: cost.",
    ),
    Statement("Kernels over positions of one sample converge.", ("spatial-kernels/*",)),
    Statement(
        "Laws of attention over heads at both exponents, before and after training.",
        ("vit-sizes/*",),
    ),
    Statement(
        "Language model: loss improves with $H$; along $N$, $\\alpha_A = 1/2$ is better.",
        ("lm-sizes/*",),
        "C4, 10,000 steps, $H, N = 128$, $L = 64$: size and data.",
    ),
    Statement(
        "At fixed compute $\\alpha_A = 1$ is better along $N$ or $H$ (as captioned in conflict "
        "with the line above, along $N$).",
        ("lm-sizes/one-better-*",),
    ),
    Statement(
        "As $H \\to \\infty$ training is closed equations with four responses.",
        ("dmft-responses/*", "dmft-heads/*", "dmft-networks/*", "dmft-learned/*"),
    ),
    Statement(
        "As $N \\to \\infty$ at $\\alpha_A = 1$ all heads have one dynamics, for every $H$.",
        ("dmft-few-heads/*", "dmft-head-dimension/*"),
    ),
    Statement(
        "For $\\alpha_A < 1$ there is no limit $N \\to \\infty$ beyond the first steps.",
        ("dmft-head-dimension/attention-diverges", "dmft-head-dimension/gradients"),
    ),
    Statement(
        "As $L \\to \\infty$ at $\\alpha_L = 1$, an equation in depth in which attention learns.",
        ("dmft-layers/*", "dmft-depth/ode", "dmft-depth/learned"),
    ),
    Statement(
        "As $L \\to \\infty$ at $\\alpha_L = 1/2$, a stochastic equation in depth; attention "
        "freezes.",
        ("initial-depth/*", "dmft-depth/frozen"),
        "the stochastic equation during training: no independent solver of its kernels exists.",
    ),
    Statement(
        "As $\\gamma_0 \\to 0$ training is lazy, up to $\\gamma_0^2$.", ("dmft-rich-and-lazy/*",)
    ),
    Statement(
        "The first step of SGD moves attention by $N^{-2}$ in the square.", ("first-steps/*",)
    ),
    Statement("The results' figures 4, 9 and 11 and table 2.", missing="no source was at hand."),
)
