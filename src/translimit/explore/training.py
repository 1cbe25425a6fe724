"""A transformer with infinitely many heads learns three inputs, and networks beside it.

gamma_0 sets how rich the training is: at small gamma_0 kernels keep their start (lazy), at larger
ones they move. The networks are trained by gradient descent at the paper's parameterisation, the
same one whose limit is solved.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping
from functools import lru_cache

import jax
import numpy as np

from translimit.core import format_count, solve, with_error
from translimit.data import Examples
from translimit.describe import TransformerShape
from translimit.explore.networks import mean_and_error
from translimit.explore.panel import Panel, Verified
from translimit.explore.view import View
from translimit.figures import COLOURS, INK, Chart, ChartAxis, Image, Level, Line, Mark, Points
from translimit.limits.dmft import Architecture, TrainingDynamics
from translimit.scaling import paper_parameterization
from translimit.train import AttentionLaw, Optimizer, Predictions, StreamKernel, Training, train

#: Evaluations, one more than updates, and the sizes beyond which the panel does not go.
STEPS, DEEPEST, MOST_HEADS, MOST_DIM = 16, 8, 16, 8
TARGETS = (1.0, -1.0, 1.0)
#: Networks that are trained.
NETWORKS = 8
#: All entries of attention: input, query, key; and the one that is drawn as a curve.
PLACES = tuple((i, j, k) for i in range(3) for j in range(2) for k in range(2))
PLACE = (0, 0, 1)
CODE = """\
import numpy as np
from translimit.explore.training import limit, networks

# Infinitely many heads: solve(TrainingDynamics(...)) of limits.dmft
solved = limit({layers}, {alpha_l!r}, {gamma0!r}, {rate!r})
loss, kernel, attention = solved["loss"], solved["kernel"], solved["attention"]
sharpness = solved["sharpness"]
# {networks} networks of {heads} heads of dimension {head_dim}: train(...) of translimit.train
trained = networks({heads}, {head_dim}, {layers}, {alpha_l!r}, {gamma0!r}, {rate!r})
losses, kernels, attentions = (trained[one] for one in ("loss", "kernel", "attention"))
"""


def _inputs() -> np.ndarray:
    """Three inputs of two tokens in eight dimensions."""
    return np.random.default_rng(0).standard_normal((3, 2, 8))


def _sizes(view: View) -> tuple[int, int, int]:
    """Heads, their dimension and layers of the networks."""
    return min(view.heads, MOST_HEADS), min(view.head_dim, MOST_DIM), min(view.layers, DEEPEST)


def shape(view: View) -> Hashable:
    """What decides what is solved and trained: everything but the part of training shown."""
    return *_sizes(view), view.alpha_l, view.gamma0, view.rate


@lru_cache(maxsize=16)
def limit(
    layers: int, alpha_l: float | int, gamma0: float | int, rate: float | int
) -> dict[str, np.ndarray]:
    """Loss, sharpness, pooled kernel and attention of the limit, evaluation by evaluation.

    Attention is that of the first layer, mean over heads [steps, input, query, key].

    Args:
        layers: depth.
        alpha_l: exponent of the branches.
        gamma0: richness.
        rate: learning rate eta_0.
    """
    architecture = Architecture(
        head_dim=math.inf, layers=layers, alpha_L=float(alpha_l), gamma0=float(gamma0)
    )
    problem = TrainingDynamics(
        architecture=architecture,
        inputs=_inputs(),
        targets=np.array(TARGETS),
        steps=STEPS,
        eta0=float(rate),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve(problem)
    kernel = np.einsum("tptq->tpq", solution.kernel(layers).mean(axis=(2, 5)))
    attention = np.asarray(solution.score_law(0).attention).mean(axis=1)
    return {
        "loss": np.asarray(solution.loss),
        "sharpness": np.asarray(solution.sharpness),
        "kernel": kernel,
        "attention": attention,
        "notes": np.array(list(dict.fromkeys(str(one.message) for one in caught)), dtype=object),
    }


@lru_cache(maxsize=16)
def networks(
    heads: int,
    head_dim: int,
    layers: int,
    alpha_l: float | int,
    gamma0: float | int,
    rate: float | int,
) -> dict[str, np.ndarray]:
    """Loss, pooled kernel and attention of trained networks [networks, steps, ...].

    Args:
        heads: H.
        head_dim: N.
        layers: depth.
        alpha_l: exponent of the branches.
        gamma0: richness.
        rate: learning rate eta_0.
    """
    x, y = _inputs(), np.array(TARGETS)[:, None]
    of = TransformerShape(
        head_dim=head_dim,
        heads=heads,
        layers=layers,
        tokens=x.shape[1],
        outputs=1,
        patch_dim=x.shape[2],
        mlp_ratio=0.0,
        norm=None,
        final_norm=False,
        gains=False,
        biases=False,
        positions=None,
        causal=False,
    )
    numbers = paper_parameterization(
        of.size,
        alpha_A=1.0,
        alpha_L=float(alpha_l),
        beta0=1.0,
        gamma0=float(gamma0),
        eta0=float(rate),
        pixels=x.shape[2],
    )
    history = train(
        of,
        numbers,
        Examples(x, y),
        Training(
            steps=STEPS - 1,
            rates=(1.0,),
            seeds=NETWORKS,
            batch=len(x),
            optimizer=Optimizer(name="sgd"),
            loss="mse",
        ),
        key=jax.random.key(0),
        observe=(Predictions(), StreamKernel(), AttentionLaw(places=PLACES)),
        observe_at=tuple(range(STEPS)),
        probe=len(x),
    )
    f = np.moveaxis(np.asarray(history["predictions"])[:, :, 0], 0, 1)
    attention = np.asarray(history["attention"])[:, :, 0, 0].mean(axis=2)
    return {
        "loss": np.mean(np.sum((y - f) ** 2, axis=-1), axis=-1) / 2,
        "kernel": np.moveaxis(np.asarray(history["stream_kernel"])[:, :, 0, -1], 0, 1),
        "attention": np.moveaxis(attention, 0, 1).reshape(NETWORKS, STEPS, 3, 2, 2),
    }


def panel(view: View) -> Panel:
    """How loss, kernels and attention change in training, in the limit and in networks."""
    heads, head_dim, layers = _sizes(view)
    of = (layers, view.alpha_l, view.gamma0, view.rate)
    solved, trained = limit(*of), networks(heads, head_dim, *of)
    loss, sharpness, kernel = solved["loss"], solved["sharpness"], solved["kernel"]
    now = round((STEPS - 1) * view.time)
    moved = float(np.linalg.norm(kernel[-1] - kernel[0]) / np.linalg.norm(kernel[0]))
    sizes = {"heads": heads, "head_dim": head_dim, "layers": layers}
    cut = {name: size for name, size in sizes.items() if size != getattr(view, name)}
    mean, error = mean_and_error(trained["loss"])
    weights = trained["attention"].mean(axis=0)
    shades = np.stack([solved["attention"], weights])
    trained_loss = with_error(float(mean[-1]), 2 * float(error[-1]), ".3g", ".1g")
    return Panel(
        says=f"{_said(cut)}With {format_count(layers, 'layer')} the loss falls from "
        f"{loss[0]:.3g} to {loss[-1]:.3g} in {STEPS - 1} updates, in networks to {trained_loss}; "
        f"at γ₀ = {view.gamma0:g} the kernel moves by {moved:.2g} of its norm.",
        figures=(
            _course("loss", loss, trained["loss"], now, heads),
            _film("kernel of the limit", kernel, kernel, now),
            _film("kernel of the networks", trained["kernel"].mean(axis=0), kernel, now),
            _course(
                "attention of token 1 to token 2",
                solved["attention"][:, *PLACE],
                trained["attention"][:, :, *PLACE],
                now,
                heads,
            ),
            _weights("attention of the limit", solved["attention"], shades, now),
            _weights("attention of the networks", weights, shades, now),
        ),
        assumptions=(
            "Infinitely many heads of infinite dimension, attention blocks alone, gradient descent "
            f"at rate {view.rate:g} on the square loss.",
            "A tiny problem: three inputs of two tokens in eight dimensions, fixed once.",
            f"Branches are scaled by L^-α_L with α_L = {view.alpha_l:g}; outputs are divided by "
            "γ₀, rates multiplied by its square: small γ₀ is lazy, large γ₀ rich.",
            f"{NETWORKS} networks of {format_count(heads, 'head')} of dimension {head_dim} (at "
            f"most {MOST_HEADS} and {MOST_DIM} here), trained from their own starts; bars are "
            "two standard errors of their mean. Kernels are those of the last layer, averaged over "
            "tokens.",
            f"The sharpness of the tangent kernel goes from {sharpness[0]:.3g} to "
            f"{sharpness[-1]:.3g}.",
            *(f"Note: {one}." for one in solved["notes"]),
        ),
        verified=(
            Verified(
                "bordelon2024/dmft-networks",
                ("rate", "predictions", "kernel"),
                "trained networks of growing size on bytes of a text",
            ),
            Verified(
                "bordelon2024/dmft-depth", ("ode", "learned", "frozen"), "the exponent of depth"
            ),
        ),
        code=CODE.format(
            layers=layers,
            alpha_l=view.alpha_l,
            gamma0=view.gamma0,
            rate=view.rate,
            heads=heads,
            head_dim=head_dim,
            networks=NETWORKS,
        ),
        numbers={
            "loss": loss,
            "sharpness": sharpness,
            "kernel": kernel,
            "attention": solved["attention"],
            "losses": trained["loss"],
            "kernels": trained["kernel"],
            "attentions": trained["attention"],
        },
        solved=cut,
    )


def _said(cut: Mapping[str, int]) -> str:
    """Which sizes are smaller than those of the sliders, as a sentence; "" where none is."""
    words = {"heads": "heads", "head_dim": "head dimension", "layers": "layers"}
    if not cut:
        return ""
    told = ", ".join(f"{words[name]} {size}" for name, size in cut.items())
    return f"Smaller than the sliders, so that it answers at once: {told}. "


def _course(label: str, values: np.ndarray, finite: np.ndarray, now: int, heads: int) -> Chart:
    mean, error = mean_and_error(finite)
    updates = np.arange(len(values))
    marks: tuple[Mark, ...] = (
        Line(updates, values, COLOURS[0], "infinitely many heads"),
        Points(
            updates,
            mean,
            INK,
            f"{len(finite)} networks of {format_count(heads, 'head')}",
            "square",
            3.0,
            2 * error,
        ),
        Level(now, COLOURS[1], "now", "", vertical=True),
    )
    known = np.concatenate([values, mean + 2 * error, mean - 2 * error])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.1
    return Chart(
        alt=f"{label} against the update, from {values[0]:.3g} to {values[-1]:.3g}, in networks "
        f"from {mean[0]:.3g} to {mean[-1]:.3g}.",
        title=label,
        x=ChartAxis("update", 0, len(values) - 1),
        y=ChartAxis("loss" if label == "loss" else "weight", float(low - room), float(high + room)),
        marks=marks,
    )


def _film(title: str, kernel: np.ndarray, scale: np.ndarray, now: int) -> Chart:
    """The kernel of the inputs at one update; all updates share their shades."""
    count = kernel.shape[-1]
    low, high = _shades(scale)
    ticks = tuple((float(k), f"{k + 1}") for k in range(count))
    here = np.array2string(kernel[now], precision=2, separator=", ").replace("\n", "")
    return Chart(
        alt=f"{title} between the inputs after {format_count(now, 'update')}: {here}.",
        title=f"{title}, update {now}",
        x=ChartAxis("input", -0.5, count - 0.5, ticks=ticks),
        y=ChartAxis("input", -0.5, count - 0.5, ticks=ticks),
        square=True,
        marks=(
            Image(
                np.arange(count),
                np.arange(count),
                kernel[now],
                f"dark {low:.2g} to light {high:.2g}",
                low,
                high,
            ),
        ),
    )


def _weights(title: str, attention: np.ndarray, scale: np.ndarray, now: int) -> Chart:
    """Attention of every query at one update; all updates share their shades."""
    _, inputs, queries, keys = attention.shape
    low, high = _shades(scale)
    rows = attention[now].reshape(-1, keys)
    names = [f"{i + 1}, {j + 1}" for i in range(inputs) for j in range(queries)]
    here = np.array2string(rows, precision=3, separator=", ").replace("\n", "")
    return Chart(
        alt=f"{title} after {format_count(now, 'update')}, a row for each query of each input: "
        f"{here}.",
        title=f"{title}, update {now}",
        x=ChartAxis("key", -0.5, keys - 0.5, ticks=tuple((float(k), f"{k + 1}") for k in range(2))),
        y=ChartAxis(
            "input, query",
            -0.5,
            len(rows) - 0.5,
            ticks=tuple((float(k), one) for k, one in enumerate(names)),
        ),
        marks=(
            Image(
                np.arange(keys),
                np.arange(len(rows)),
                rows,
                f"dark {low:.3g} to light {high:.3g}",
                low,
                high,
            ),
        ),
    )


def _shades(scale: np.ndarray) -> tuple[float, float]:
    """The values of the darkest and of the lightest shade."""
    finite = scale[np.isfinite(scale)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
