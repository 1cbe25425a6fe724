r"""Covariances of the plane: to zero, to a line, to a plane, two lines, divergence, and both.

Each cell `setting/variant` follows the Gaussian closure from a grid of covariances of trace one,
in logarithmic time: Sigma_0 = ((u + v) / 2, w / 2; w / 2, (v - u) / 2) with v = 1 and (u, w) on a
grid inside the unit disc. Matrices are those of the authors' scripts (NumPy's legacy seeds), with
their scales: 1 / sqrt(d), 1 / sqrt(k) for a head, 1 for Sinkhorn, unscaled keys for L2.

The cell `kernel/l2` compares the scripts' L2 logits with those of exp(-c |Qx - Ky|^2): scaling the
cross term and not |Ky|^2 is that kernel for no c.

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import attention, core, figures, limits
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, Within

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Castin et al., arXiv 2501.18322"
#: Variants, half-width and points a side of the published grid, and depth to which it is followed,
#: by setting. Where the approach is algebraic the depth is large; where it is exponential (a plane,
#: two lines) an explicit step can not grow beyond it, and little is left to see.
SETTINGS: dict[str, tuple[tuple[str, ...], float, int, float]] = {
    "zero": (("softmax", "l2", "multi-head", "sinkhorn"), 0.5, 10, 1e6),
    "line": (("softmax", "l2"), 0.5, 10, 1e6),
    "plane": (("one-of-two-heads",), 0.5, 10, 1e4),
    "two-lines": (("softmax", "l2"), 1.0, 20, 1e4),
    "divergence": (("softmax", "l2", "multi-head", "sinkhorn"), 1.0, 40, 1e3),
    "depends": (("softmax", "l2"), 1.0, 30, 1e4),
}
#: The isotropic directions of A in `two-lines`, in degrees.
ISOTROPIC = (121.86, 172.40)
#: t tr Sigma of `zero` with softmax, at late t.
DECAY_CONSTANT = 29.446
#: Random parameters and clouds on which the L2 kernels are compared, and tokens of each.
KERNEL_DRAWS = 32
KERNEL_TOKENS = 20
#: An eigenvalue smaller than this, relative to the largest, is rounding of the factor, squared.
ROUNDING = (2 * np.finfo(float).eps) ** 2
ENDS = ("zero", "line", "plane", "blow-up", "divergence", "undecided")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the grids.

    Attributes:
        side: largest number of grid points a side (the published grids have 10 to 40).
        max_steps: attempted steps of one trajectory; one that needs more is undecided. Explicit
            steps to a line of large trace are many: 90,000 were seen.
    """

    side: Annotated[int, Within(2)] = 20
    max_steps: Count = 200_000


class Covariances(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the trajectories, longest where covariances diverge."""
        if cell.name.startswith("kernel"):
            return Cost(4.0)
        _, _, n, _ = SETTINGS[cell.parameters["setting"]]
        starts = min(config.side, n) ** 2
        long = cell.parameters["setting"] == "divergence"
        return Cost((7.0 if long else 1.5) + 0.02 * starts)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each setting and variant, and the comparison of kernels."""
        trajectories = (
            Cell(f"{setting}/{variant}", {"setting": setting, "variant": variant})
            for setting, (variants, *_) in SETTINGS.items()
            for variant in variants
        )
        return (*trajectories, Cell("kernel/l2"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return (
            *(f"zero-{variant}" for variant in SETTINGS["zero"][0]),
            "zero-constant",
            "line-softmax",
            "line-l2",
            "plane",
            *(f"two-lines-{variant}" for variant in SETTINGS["two-lines"][0]),
            "blow-up-time",
            "no-blow-up-l2",
            "no-blow-up-sinkhorn",
            "both-line",
            "both-blow-up",
            "l2-script-kernel",
            "l2-one-scale",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Follow every start of the grid; only the kernels are compared on random draws."""
        if cell.name == "kernel/l2":
            return _compare_kernels(key)
        return _compute(config, **cell.parameters)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Where the covariances go."""

        def all_end(name: str, cell: str, end: str, statement: str) -> Claim:
            return Claim(
                name=name,
                statement=f"{statement} (fraction of the starts that end elsewhere; the undecided "
                "fraction is its error).",
                prediction=0.0,
                estimate=_missing(results[cell], end),
                tol=0.0,
                reference=REFERENCE,
            )

        claims = [
            all_end(f"zero-{v}", f"zero/{v}", "zero", f"{v}: every covariance goes to zero")
            for v in SETTINGS["zero"][0]
        ]
        products = results["zero/softmax"]["last_trace"].values * SETTINGS["zero"][3]
        claims.append(
            Claim(
                name="zero-constant",
                statement="Softmax goes to zero like $1/t$: $t\\,\\mathrm{tr}\\,\\Sigma$ is the "
                "same for all starts (largest distance from 29.446).",
                prediction=0.0,
                estimate=Estimate(
                    float(np.abs(products - DECAY_CONSTANT).max()), count=products.size
                ),
                tol=0.01,
                one_sided=True,
                reference=REFERENCE,
            )
        )
        claims += [
            all_end(f"line-{v}", f"line/{v}", "line", f"{v}: every covariance goes to a line")
            for v in SETTINGS["line"][0]
        ]
        claims.append(
            all_end(
                "plane",
                "plane/one-of-two-heads",
                "plane",
                "Erratum: in the published multi-head run the second head is empty; the first "
                "alone keeps rank two",
            )
        )
        for v in SETTINGS["two-lines"][0]:
            data = results[f"two-lines/{v}"]
            lines = data["angle"].values[data["end"].values == "line"]
            distance = np.abs(lines[:, None] - np.array(ISOTROPIC))
            nearest = np.minimum(distance, 180 - distance).min(axis=1)
            claims.append(
                Claim(
                    name=f"two-lines-{v}",
                    statement=f"{v}: limits of rank one lie along the isotropic directions of $A$, "
                    "121.86° and 172.40° (largest distance in degrees).",
                    prediction=0.0,
                    estimate=Estimate(
                        float(nearest.max()) if lines.size else float("nan"), count=lines.size
                    ),
                    tol=0.1,
                    one_sided=True,
                    reference=REFERENCE,
                )
            )
        data = results["divergence/softmax"]
        error = np.abs(data["blow_up_time"].values / data["exact_time"].values - 1.0)
        claims.append(
            Claim(
                name="blow-up-time",
                statement="Softmax, $V = I$: $t^* = 1/\\lambda_{\\max}(\\Sigma_0^{1/2}"
                "(A + A^\\top)\\Sigma_0^{1/2})$ (largest relative error over the starts).",
                prediction=0.0,
                estimate=Estimate(float(error.max()), count=error.size),
                tol=1e-6,
                one_sided=True,
                reference=REFERENCE,
            )
        )
        claims += [
            all_end(
                f"no-blow-up-{v}",
                f"divergence/{v}",
                "divergence",
                f"{v}: covariances diverge without a finite-time blow-up",
            )
            for v in ("l2", "sinkhorn")
        ]
        ends = results["depends/softmax"]["end"].values
        claims += [
            Claim(
                name=f"both-{end}",
                statement=f"Softmax: the end depends on the start (fraction of {end}s).",
                prediction=prediction,
                estimate=Estimate.from_samples((ends == end).astype(float)),
                tol=0.1,
                reference=REFERENCE,
            )
            for end, prediction in (("line", 74 / 81), ("blow-up", 5 / 81))
        ]
        return claims + _kernel_claims(results["kernel/l2"])

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Every setting in the cone and in the disc, and the eigenvalues of softmax."""
        return [*(_figure(setting, results) for setting in SETTINGS), _figure_eigenvalues(results)]


def _definite_until(generator: Any, accept: Any) -> tuple[np.ndarray, np.ndarray]:
    """Q and K, redrawn until the eigenvalues of K^T Q + Q^T K please."""
    while True:
        Q, K = generator.randn(2, 2), generator.randn(2, 2)
        if accept(np.linalg.eigvalsh(K.T @ Q + Q.T @ K)):
            return Q, K


def matrices(setting: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q, K and V of a setting."""
    legacy = np.random.RandomState
    if setting == "zero":
        generator = legacy(35)
        Q, V = generator.rand(2, 2), generator.randn(2, 2)
        return Q, -Q, V @ V.T
    if setting in ("line", "plane"):
        q = legacy(36).randn(1, 2)
        q /= np.linalg.norm(q)
        return q, -q, np.eye(2)
    if setting == "divergence":
        return *_definite_until(legacy(33), lambda e: e[0] > 0), np.eye(2)
    Q, K = _definite_until(legacy(36), lambda e: e[0] * e[1] < 0)
    generator = legacy(32 if setting == "two-lines" else 35)
    if setting == "depends":
        generator.randn(8, 7)
    return Q, K, generator.randn(2, 2)


def make_attention(setting: str, variant: str) -> Any:
    """The attention of a cell, at the scale of the scripts."""
    Q, K, V = matrices(setting)
    if variant == "softmax":
        return attention.Softmax(Q=Q, K=K, V=V, score_scale=2**-0.5)
    if variant == "l2":
        return attention.L2(Q=Q, K=K, V=V, score_scale=2**-0.5, key_scale=1.0)
    if variant == "sinkhorn":
        return attention.Sinkhorn(Q=Q, K=K, V=V, score_scale=1.0)
    # One row of Q, K and V a head (k = 1, so c = 1); W puts the head's number into its row.
    heads = len(Q)
    return attention.MultiHead(
        Q=Q[:, None], K=K[:, None], V=V[:heads, None], W=np.eye(2)[:heads, :, None], score_scale=1.0
    )


def starts(setting: str, side: int) -> np.ndarray:
    """Covariances of trace one on the grid [starts, 2, 2], as many as lie in the cone."""
    _, half, most, _ = SETTINGS[setting]
    return covariances_of_trace_one(np.linspace(-half, half, min(side, most)))


def covariances_of_trace_one(points: np.ndarray) -> np.ndarray:
    """((1 + u) / 2, w / 2; w / 2, (1 - u) / 2) for (u, w) of the grid, u slowest [starts, 2, 2]."""
    u, w = (part.ravel() for part in np.meshgrid(points, points, indexing="ij"))
    inside = 1.0 - u**2 > w**2
    u, w = u[inside], w[inside]
    return np.stack([np.stack([1 + u, w], -1), np.stack([w, 1 - u], -1)], -2) / 2


def _compute(config: Config, setting: str, variant: str) -> xr.Dataset:
    import xarray as xr

    field = make_attention(setting, variant)
    cov = starts(setting, config.side)
    t1 = SETTINGS[setting][3]
    save = np.concatenate([[0.0], np.geomspace(1e-3 / t1, 1.0, 46) * t1])
    solution = limits.meanfield.solve_limits(
        [limits.meanfield.GaussianLimit(attention=field, cov=c, t1=t1) for c in cov],
        limits.meanfield.LogTimeODE(max_steps=config.max_steps, growth_limit=1e8),
        save=save,
    )
    outcome = solution.outcome
    end = np.array(["zero", "line", "plane", "undecided"])[solution.rank]
    end = np.where(np.asarray(outcome == core.Outcome.blow_up), "blow-up", end)
    end = np.where(np.asarray(outcome == core.Outcome.divergence), "divergence", end)
    axes = np.linalg.eigh(solution.last_cov)[1][:, :, -1]
    data = {
        "cov": (("start", "time", "component", "component2"), solution.cov),
        "end": ("start", end.astype("U16")),
        "angle": ("start", np.degrees(np.arctan2(axes[:, 1], axes[:, 0])) % 180.0),
        "last_trace": ("start", np.trace(solution.last_cov, axis1=1, axis2=2)),
        "blow_up_time": ("start", solution.blow_up_time),
        "eigenvalues": (("start", "time", "eigenvalue"), solution.eigenvalue_paths),
        "slopes": (("start", "decade", "eigenvalue"), solution.slopes),
        "steps": ("start", solution.steps_taken),
    }
    if (setting, variant) == ("divergence", "softmax"):
        form = field.A + field.A.T
        # The eigenvalues of Sigma_0^(1/2) S Sigma_0^(1/2) are those of Sigma_0 S.
        data["exact_time"] = ("start", 1.0 / np.linalg.eigvals(cov @ form).real.max(axis=1))
    return xr.Dataset(data, coords={"time": save}, attrs={"t1": t1, "reference": REFERENCE})


def _compare_kernels(key: Any) -> xr.Dataset:
    """The field of the scripts' L2 logits, relative to it those of `L2`, on random draws."""
    import jax
    import xarray as xr

    reproduced, one_scale, best = [], [], []
    scale = 2**-0.5
    for draw in range(KERNEL_DRAWS):
        with jax.enable_x64(True):
            shape = (KERNEL_TOKENS + 6, 2)
            x = np.asarray(jax.random.normal(core.named_key(key, draw), shape, np.float64))
        cloud, Q, K, V = x[:KERNEL_TOKENS], x[-6:-4], x[-4:-2], x[-2:]
        products, squares = (cloud @ Q.T) @ (cloud @ K.T).T, ((cloud @ K.T) ** 2).sum(axis=1)
        logits = 2 * scale * products - squares
        kernel = np.exp(logits - logits.max(axis=1, keepdims=True))
        script = kernel / kernel.sum(axis=1, keepdims=True) @ cloud @ V.T
        for found, key_scale in ((reproduced, 1.0), (one_scale, scale)):
            field = attention.L2(Q=Q, K=K, V=V, score_scale=scale, key_scale=key_scale)(
                cloud, cloud
            )
            found.append(np.linalg.norm(field - script) / np.linalg.norm(script))
        # Logits count up to a constant for each query; the best c is a least-squares problem.
        wanted, offered = (
            part - part.mean(axis=1, keepdims=True) for part in (logits, 2 * products - squares)
        )
        c = (offered * wanted).sum() / (offered**2).sum()
        best.append(np.linalg.norm(wanted - c * offered) / np.linalg.norm(wanted))
    return xr.Dataset(
        {
            "reproduced": ("draw", reproduced, {"long_name": "relative distance, c_K = 1"}),
            "one_scale": ("draw", one_scale, {"long_name": "relative distance, c_K = c"}),
            "best": ("draw", best, {"long_name": "relative distance of the logits, best c"}),
        },
        attrs={"reference": REFERENCE},
    )


def _kernel_claims(data: xr.Dataset) -> list[Claim]:
    low, high = (
        100 * float(extreme) for extreme in (data["one_scale"].min(), data["one_scale"].max())
    )
    return [
        Claim(
            name="l2-script-kernel",
            statement="The scripts' L2 attention has the logits "
            "$2 c \\langle Qx, Ky\\rangle - |Ky|^2$, $c = 1/\\sqrt d$: `L2` with `key_scale=1` "
            "(largest relative distance of the fields).",
            prediction=0.0,
            estimate=Estimate(float(data["reproduced"].max()), count=data.sizes["draw"]),
            tol=1e-13,
            one_sided=True,
            reference=REFERENCE,
        ),
        Claim(
            name="l2-one-scale",
            statement="Erratum: these are the logits of $e^{-c|Qx-Ky|^2}$ for one scale $c$ "
            "(relative distance of the logits at the best $c$, mean over random draws; with "
            f"$c_K = c = 1/\\sqrt d$ the fields differ by {low:.0f} to {high:.0f} %).",
            prediction=0.0,
            estimate=Estimate.from_samples(data["best"].values),
            tol=0.01,
            reference=REFERENCE,
        ),
    ]


def _missing(data: xr.Dataset, end: str) -> Estimate:
    """The fraction of settled starts that end elsewhere.

    The grid is fixed, so there is no sampling error; the undecided fraction is the uncertainty.
    """
    ends = data["end"].values
    undecided = ends == "undecided"
    elsewhere = float((~undecided & (ends != end)).mean())
    return Estimate(elsewhere, count=ends.size, discretisation=float(undecided.mean()))


def _figure(setting: str, results: Results) -> FigureSpec:
    variants = SETTINGS[setting][0]
    cells = {variant: results[f"{setting}/{variant}"] for variant in variants}
    points = {v: figures.cone_coordinates(data["cov"].values) for v, data in cells.items()}

    def draw(figure: Any) -> None:
        for index, variant in enumerate(variants):
            place = (2, len(variants), index + 1)
            cone = figure.add_subplot(*place, projection="3d")
            # Far up a diverging path nothing else is seen.
            shown = np.where(points[variant][..., 2:] < 5.0, points[variant], np.nan)
            figures.plot_cone(shown, cone, title=variant)
            disc = figure.add_subplot(2, len(variants), len(variants) + index + 1)
            figures.plot_disc(points[variant], disc)

    rows = []
    for variant, data in cells.items():
        ends = data["end"].values
        times = data["blow_up_time"].values
        finite = times[np.isfinite(times)]
        lines = np.unique(np.round(data["angle"].values[ends == "line"], 1))
        rows.append(
            (
                variant,
                *(int((ends == end).sum()) for end in ENDS),
                ", ".join(f"{angle:g}" for angle in lines[:6]),
                f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "",
            )
        )
    return FigureSpec(
        name=setting,
        title=f"Covariances of the plane: {setting}",
        caption="Paths of the covariance from a grid of starts (open circles) to their ends "
        "(dots). Above: in the cone, coordinates $(\\Sigma_{11} - \\Sigma_{22}, 2\\Sigma_{12}, "
        "\\mathrm{tr}\\,\\Sigma)$, at most 40 paths, up to trace 5. Below: $\\Sigma / "
        "\\mathrm{tr}\\,\\Sigma$ of all paths in the unit disc, whose rim are the lines; the angle "
        "there is twice that of the line. Dimensionless.",
        draw=draw,
        table=Table(("variant", *ENDS, "angles of the lines", "blow-up times"), tuple(rows)),
        shown=sum(data.sizes["start"] for data in cells.values()),
        size=(3.2 * max(len(variants), 2), 6.4),
    )


def _figure_eigenvalues(results: Results) -> FigureSpec:
    cells = {
        setting: results[f"{setting}/{variants[0]}"] for setting, (variants, *_) in SETTINGS.items()
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots(2, -(-len(cells) // 2)).ravel()
        for index, ((setting, data), ax) in enumerate(zip(cells.items(), axes, strict=True)):
            values = data["eigenvalues"]
            resolved = values > ROUNDING * values.isel(eigenvalue=0)
            figures.plot_eigenvalue_paths(values.where(resolved), ax, title=setting)
            if index % 3:
                ax.set_ylabel("")

    rows = []
    for setting, data in cells.items():
        slopes = data["slopes"].values[:, -1]
        for index in range(slopes.shape[1]):
            # Minus infinity: decayed below the rounding of the factor. NaN: ended before t1.
            mine = slopes[:, index][np.isfinite(slopes[:, index])]
            spread = (mine.min(), np.median(mine), mine.max()) if mine.size else (np.nan,) * 3
            rows.append((setting, index + 1, int(mine.size), *map(float, spread)))
    return FigureSpec(
        name="eigenvalues",
        title="Eigenvalues on the way",
        caption="Both eigenvalues of the covariance against depth, from every start of the grid, "
        "softmax attention (one of two heads in plane); what is below the rounding of the factor "
        "is not drawn. The table has the logarithmic slopes "
        "$d\\log\\lambda/d\\log t$ over the last decade, of the starts that got there with an "
        "eigenvalue above rounding: above $-0.05$ it persists, below $-0.5$ it decays. "
        "Dimensionless.",
        draw=draw,
        table=Table(
            ("setting", "eigenvalue", "starts", "smallest slope", "median slope", "largest slope"),
            tuple(rows),
        ),
        shown=sum(data.sizes["start"] for data in cells.values()),
        size=(11.0, 6.4),
    )


EXPERIMENT = Covariances(
    name="castin2025/covariances",
    title="Where covariances of the plane go",
    summary="The covariance of the Gaussian closure in two dimensions goes to zero, to a line, to "
    "a plane, to one of two lines, or diverges, depending on $Q$, $K$, $V$, the variant and the "
    "start; drawn in the cone of positive semi-definite matrices and in the disc.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(side=5),
        "standard": Config(),
        "paper": Config(side=40),
    },
)
