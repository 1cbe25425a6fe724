r"""Ranks of limiting covariances for value maps that are not symmetric, and for every rank of Q.

With K = -Q and all eigenvalues of V in the right half plane every limit of the Gaussian closures
has a rank of at most d - rank Q: d tr(W Sigma) / dt is never positive for W V + V^T W = I
(`limits.meanfield.monotone_rate`), and bounds the path. Random draws in d = 4 and 5 with rank Q =
1, 2 and 4, so that d - rank Q is neither a half of d nor rank Q; V = randn + c I has real parts of
0.2 or more. At finite depth no rank is lost: log det Sigma changes by 2 int tr M dt.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import attention, core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.rank_draws import padded, share
from translimit.experiments.checked import CheckedConfig, Distinct, OneOf, Positive, Within

if TYPE_CHECKING:
    from jaxtyping import Array

#: (d, rank Q), and the largest of both, to which matrices are padded with zeros.
CASES = ((4, 1), (5, 1), (5, 2), (5, 4))
DIM, ROWS = 5, 4
#: Draws of softmax to those of each variant, whose trajectories take longer.
VARIANTS = {"softmax": 1, "l2": 2, "sinkhorn": 6}
#: Smallest real part of an eigenvalue of V.
REAL_PART = 0.2
#: Depth and quadrature nodes of the determinants.
T_DET, NODES = 1.0, 400
#: What says the rate of tr(W Sigma): the identity and its rivals.
THEORIES = ("identity", "twice the rate", "the rate of softmax", "W = V^-1 / 2, for a symmetric V")
#: What is measured of a variant.
Measured = Callable[[ex.Found["Config"], str], Estimate]
#: Ranks that plausible wrong theories predict, from d and rank Q.
RIVAL_RANKS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "rank floor(d / 2)": lambda d, r: d // 2,
    "rank ceil(d / 2)": lambda d, r: (d + 1) // 2,
    "rank Q": lambda d, r: r,
    "no loss of rank": lambda d, r: d,
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        variants: of attention.
        draws: of every case with softmax; half as many with L2, a sixth with Sinkhorn.
        t1: depth to which limits are followed.
    """

    variants: Annotated[tuple[str, ...], OneOf(tuple(VARIANTS)), Distinct()] = tuple(VARIANTS)
    draws: Annotated[int, Within(12)] = 60
    t1: Positive = 1e6

    def draws_of(self, variant: str) -> int:
        """How many draws of a case a variant has."""
        return self.draws // VARIANTS[variant]


@dataclass(frozen=True)
class Ranks(ex.Arrays):
    """All draws of a variant; `error` is of the rate of tr(W Sigma) at the start, by theory."""

    dim: Int[np.ndarray, " draw"]
    query_rank: Int[np.ndarray, " draw"]
    rank: Annotated[Int[np.ndarray, " draw"], "settled rank, -1 undecided"]
    theory: Shaped[np.ndarray, " theory"]
    error: Annotated[Float[np.ndarray, "theory draw"], "relative error of the rate"]
    bound_ratio: Annotated[Float[np.ndarray, " draw"], "largest trace over its bound"]
    trace_ratio: Annotated[Float[np.ndarray, " draw"], "largest trace over the first"]
    log_det: Annotated[Float[np.ndarray, " draw"], "change of log det at depth 1"]
    twice_trace: Annotated[Float[np.ndarray, " draw"], "2 int tr M dt"]


def compute(config: Config, variant: str, keys: ex.Keys) -> Ranks:
    """Draws of all cases side by side, padded to one shape; the first are those of all variants."""
    cases = [(case, index) for case in CASES for index in range(config.draws_of(variant))]
    drawn = [_draw(keys.shared("draw", *case, index), *case) for case, index in cases]
    problems = [
        limits.meanfield.GaussianLimit(
            attention=make_layer(variant, padded(Q, ROWS, DIM), padded(V, DIM, DIM)),
            cov=padded(cov, DIM, DIM),
            t1=config.t1,
        )
        for Q, V, cov in drawn
    ]
    save = np.geomspace(1e-8, 1.0, 60) * config.t1
    solution = limits.meanfield.solve_limits(problems, save=save)
    largest = np.nanmax(np.trace(solution.cov, axis1=-2, axis2=-1), axis=1)
    weights = [limits.meanfield.monotone_weight(V) for _, V, _ in drawn]
    bounds = [
        np.trace(W @ cov) / np.linalg.eigvalsh(W)[0]
        for W, (_, _, cov) in zip(weights, drawn, strict=True)
    ]
    errors = [_errors(variant, *one) for one in drawn]
    change, traces = _determinants(problems, [len(cov) for _, _, cov in drawn])
    return Ranks(
        dim=np.array([d for (d, _), _ in cases]),
        query_rank=np.array([r for (_, r), _ in cases]),
        rank=np.asarray(solution.rank),
        theory=np.array(THEORIES),
        error=np.array(errors).T,
        bound_ratio=largest / np.array(bounds),
        trace_ratio=largest / np.array([np.trace(cov) for _, _, cov in drawn]),
        log_det=change,
        twice_trace=traces,
    )


def _draw(key: core.Key, dim: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q, V and the covariance at the start."""
    import jax

    with jax.enable_x64(True):
        normal = np.asarray(jax.random.normal(key, (rank + 2 * dim, dim), dtype=np.float64))
    Q, V, factor = normal[:rank], normal[rank : rank + dim], normal[rank + dim :]
    lift = max(REAL_PART - np.linalg.eigvals(V).real.min(), 0.0)
    return Q, V + lift * np.eye(dim), factor @ factor.T / dim


def make_layer(
    variant: str, Q: np.ndarray, V: np.ndarray
) -> attention.Softmax | attention.L2 | attention.Sinkhorn:
    """A variant with K = -Q and unit scales."""
    if variant == "softmax":
        return attention.Softmax(Q=Q, K=-Q, V=V, score_scale=1.0)
    if variant == "l2":
        return attention.L2(Q=Q, K=-Q, V=V, score_scale=1.0, key_scale=1.0)
    return attention.Sinkhorn(Q=Q, K=-Q, V=V, score_scale=1.0)


def _errors(variant: str, Q: np.ndarray, V: np.ndarray, cov: np.ndarray) -> list[float]:
    """Errors of what `THEORIES` say of a rate, relative to the closure's."""
    layer = make_layer(variant, Q, V)
    half = np.asarray(layer.gaussian_field(np.zeros(len(cov)), cov)[1]) @ cov
    change = half + half.T
    rate = limits.meanfield.monotone_rate(layer, cov)
    softmax = limits.meanfield.monotone_rate(make_layer("softmax", Q, V), cov)
    closure = float(np.trace(limits.meanfield.monotone_weight(V) @ change))
    symmetric = float(np.trace(np.linalg.inv(V) @ change)) / 2
    told = ((rate, closure), (2.0 * rate, closure), (softmax, closure), (rate, symmetric))
    return [abs(one / other - 1.0) for one, other in told]


def _determinants(
    problems: list[limits.meanfield.GaussianLimit], dims: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Changes of log det Sigma along the closures, and quadratures of 2 tr M."""
    import jax

    # Cubes of Gauss-Legendre nodes: the fields change fast at first.
    nodes, masses = np.polynomial.legendre.leggauss(NODES)
    roots = (nodes + 1) / 2
    save, masses = np.append(T_DET * roots**3, T_DET), T_DET * masses * 1.5 * roots**2

    def one(layer: attention.AbstractAttention, cov: core.AnyArray) -> tuple[Array, Array]:
        exact = limits.meanfield.AdaptiveODE(rtol=1e-10, atol=1e-15)
        flow = limits.meanfield.GaussianFlow(attention=layer, mean=np.zeros(DIM), cov=cov, t1=T_DET)
        path = jax.numpy.asarray(core.solve(flow, exact, save=save).factor)
        fields = jax.vmap(lambda F: layer.factor_field(jax.numpy.zeros(DIM), F)[1])(path[:-1])
        return path[-1], jax.numpy.dot(masses, jax.numpy.trace(fields, axis1=1, axis2=2))

    with jax.enable_x64(True):
        solve = jax.jit(one)
        found = [solve(problem.attention, problem.cov) for problem in problems]
    # Singular values of the factor keep the digits of small eigenvalues.
    ends = [np.linalg.svd(F, compute_uv=False)[:d] for (F, _), d in zip(found, dims, strict=True)]
    starts = [np.linalg.eigvalsh(p.cov)[-d:] for p, d in zip(problems, dims, strict=True)]
    logs = [(np.log(one).sum(), np.log(two).sum()) for one, two in zip(ends, starts, strict=True)]
    changes = np.array([2.0 * last - first for last, first in logs])
    return changes, 2.0 * np.array([float(integral) for _, integral in found])


RANKS = ex.Part(
    "ranks/{variant}",
    Ranks,
    compute,
    grid=lambda c: c.variants,
    # Compilation, and trajectories: implicit steps, long ones for Sinkhorn.
    cost=lambda c, at: ex.Cost(20.0 + c.draws_of(at) * (9.0 if at == "sinkhorn" else 0.8)),
)


def _missed(rule: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Measured:
    """The share of all draws that did not settle at a rank; undecided ones among them."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        ranks = found(RANKS, variant)
        return share(ranks.rank != rule(ranks.dim, ranks.query_rank))

    return measured


def _worst(values: Callable[[Ranks], np.ndarray]) -> Measured:
    """The largest of the draws' values."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        every = values(found(RANKS, variant))
        return Estimate(float(every.max()), count=every.size)

    return measured


def _trace(share_of_integral: float) -> Measured:
    """The largest gap between the change of log det and a multiple of the integral."""
    return _worst(lambda ranks: np.abs(ranks.log_det - share_of_integral * ranks.twice_trace))


def _exceptions(found: ex.Found[Config]) -> Estimate:
    """Settled draws of all variants at another rank."""
    every = [one for _, one in found.each(RANKS)]
    wrong = [(one.rank != one.dim - one.query_rank)[one.rank >= 0] for one in every]
    return share(np.concatenate(wrong))


def _each(
    name: str, said: str, estimate: Measured, tol: float, *rivals: ex.Rival[Config, str]
) -> ex.Claims[Config, str]:
    """A number of each variant that is zero, or below."""
    return ex.Claims(
        name,
        lambda found, variant: f"{variant}: {said}",
        *(estimate, 0.0, tol, lambda c: c.variants, rivals),
        one_sided=True,
    )


CLAIMS = (
    _each(
        "rank-{variant}",
        "$K = -Q$, eigenvalues of $V$ in the right half plane: limits have rank $d - "
        "\\operatorname{rank} Q$ (share of all draws that did not settle there; undecided draws "
        "count against it).",
        _missed(lambda d, r: d - r),
        0.25,
        *(ex.Rival(name, estimate=_missed(rule)) for name, rule in RIVAL_RANKS.items()),
    ),
    ex.claim(
        "exceptions",
        "No settled limit has another rank than $d - \\operatorname{rank} Q$ (share of the settled "
        "draws of all variants).",
        _exceptions,
        0.0,
        0.03,
        rivals=(ex.Rival("one draw in ten settles elsewhere", 0.1),),
        one_sided=True,
        decided_by="standard",
    ),
    _each(
        "identity-{variant}",
        "$d\\,\\mathrm{tr}(W\\Sigma)/dt$, $WV + V^TW = I$, is what the scores say (largest "
        "relative error over the draws).",
        _worst(lambda ranks: ranks.error[0]),
        1e-8,
        *(
            ex.Rival(
                theory,
                estimate=_worst(lambda ranks, place=place: ranks.error[place]),
                when=lambda config, variant, theory=theory: f"of {variant}" not in theory,
            )
            for place, theory in enumerate(THEORIES)
            if place
        ),
    ),
    _each(
        "bounded-{variant}",
        "$\\mathrm{tr}\\,\\Sigma(t)$ stays below $\\mathrm{tr}(W\\Sigma_0) / "
        "\\lambda_{\\min}(W)$ (largest ratio over draws and depth, less one).",
        _worst(lambda ranks: ranks.bound_ratio - 1.0),
        1e-6,
        ex.Rival("the trace never grows", estimate=_worst(lambda r: r.trace_ratio - 1.0)),
    ),
    _each(
        "determinant-{variant}",
        "no rank is lost at finite depth, $\\log\\det\\Sigma$ changes by "
        "$2\\int\\mathrm{tr}\\,M\\,dt$ (largest gap over the draws at depth 1).",
        _trace(1.0),
        1e-6,
        ex.Rival("without the factor 2", estimate=_trace(0.5)),
        ex.Rival("times 1.1", estimate=_trace(1.1)),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, ranks in found.each(RANKS):
        for d, r in CASES:
            mine = ranks.rank[(ranks.dim == d) & (ranks.query_rank == r)]
            for place, rank in enumerate((*range(DIM + 1), -1)):
                shift = 0.12 * (tuple(VARIANTS).index(variant) - 1)
                yield (variant, d, r, d - r, place + shift, float((mine == rank).mean()))


HISTOGRAM = ex.Figure(
    name="ranks",
    title="Ranks of limits for general value maps",
    caption="Share of the draws ({draws} of each case with softmax, half as many with L2, a sixth "
    "with Sinkhorn) whose limit settled at each rank, $K = -Q$, followed to $t = {t1:g}$. The last "
    "place, 6, are the undecided draws. Dashed: $d - \\operatorname{{rank}} Q$. Dimensionless.",
    columns=("variant", "d", "rank Q", "bound", "place", "share"),
    rows=_rows,
    layers=lambda c: tuple(
        figures.panel(
            f"$d = {d}$, rank $Q = {r}$",
            figures.points("share", by="variant"),
            figures.level("bound", vertical=True, dash="4 2"),
            where={"d": d, "rank Q": r},
        )
        for d, r in CASES
    ),
    x="place",
    xlabel="rank of the limit",
    ylabel="share of the draws",
    ylim=(-0.05, 1.05),
    size=(11.0, 3.2),
    shown=lambda found, table: sum(len(one.rank) for _, one in found.each(RANKS)),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/limit-ranks",
    title="Ranks of limits for general value maps",
    question="How large can the rank of a limiting covariance be?",
    summary="With $K = -Q$ and a value map whose eigenvalues lie in the right half plane, "
    "symmetric or not, a weighted trace of the covariance never grows; limits have a rank of at "
    "most $d - \\operatorname{rank} Q$. Random draws with several ranks of $Q$ are followed in "
    "logarithmic time; the identity behind the bound, and that of the determinant at finite depth, "
    "are measured on the same draws.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(variants=("softmax", "l2"), draws=20),
        "standard": Config(),
        "paper": Config(draws=360),
    },
    reference=core.reference("castin2025"),
    parts=(RANKS,),
    claims=CLAIMS,
    figures=(HISTOGRAM,),
    finding=ex.Finding("Of all settled draws a share of {0} has another rank", ("exceptions",)),
)
