"""Training drawn: predictions towards targets, losses, the law of scores, kernels over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from translimit.figures.style import COLOURS, DASHES, LIMIT, bars, finish, marked, new_axes

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: Predictions that are drawn; the first ones.
SHOWN = 12
#: Curves up to which each is labelled at its end.
LABELLED = 6
#: Different targets up to which each has a colour and a dash of its own.
CLASSES = 4


def plot_predictions(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """Predictions [time, input(, output)] with two standard errors, targets as dotted lines.

    Args:
        data: `predictions`, `stderr` and `targets`.
        ax: where to draw.
    """
    ax = new_axes(ax)
    steps = data["time"].values
    f = data["predictions"].values.reshape(len(steps), -1)
    error = 2 * bars(data["stderr"].values.reshape(len(steps), -1))
    targets = data["targets"].values.reshape(-1)
    looks = _looks(targets[:SHOWN])
    part = f", {SHOWN} of {f.shape[1]} curves" if f.shape[1] > SHOWN else ""
    for i in range(min(SHOWN, f.shape[1])):
        colour, dash, name = looks[i]
        label = f"{name}{part}" if i == 0 else name
        ax.plot(steps, f[:, i], color=colour, linestyle=dash, linewidth=1.6, label=label)
        ax.fill_between(
            steps,
            f[:, i] - error[:, i],
            f[:, i] + error[:, i],
            color=colour,
            alpha=0.3,
            linewidth=0,
        )
    for i in np.flatnonzero(np.isfinite(targets[:SHOWN])):
        label = "targets" if i == 0 else ""
        ax.axhline(targets[i], color=looks[i][0], linestyle=":", linewidth=0.8, label=label)
    if data["predictions"].ndim == 2 and f.shape[1] <= LABELLED:
        for i in range(f.shape[1]):
            ax.annotate(f" input {i}", (steps[-1], f[-1, i]), color=looks[i][0], va="center")
    return finish(ax, xlabel="updates", ylabel="prediction $f$")


def _looks(targets: Float[np.ndarray, " curve"]) -> list[tuple[Any, Any, str]]:
    """Colour, dash and name of each curve.

    Few different targets have a colour and a dash each, and a name where they come first; many are
    shaded from dark to light in their order.
    """
    from matplotlib import colormaps

    values, place = np.unique(targets, return_inverse=True)
    if len(values) <= CLASSES:
        first = {int(k): int(np.flatnonzero(place == k)[0]) for k in range(len(values))}
        named = [f"target {values[k]:g}" if first[int(k)] == i else "" for i, k in enumerate(place)]
        return [(COLOURS[k], DASHES[k], name) for k, name in zip(place, named, strict=True)]
    shades = colormaps["viridis"](0.9 * place / (len(values) - 1))
    names = ["predictions, shaded by target", *[""] * (len(targets) - 1)]
    return [(shade, "-", name) for shade, name in zip(shades, names, strict=True)]


def plot_loss(data: xarray.Dataset, ax: Axes | None = None) -> Axes:
    """The loss with two standard errors, and the accuracy where the loss has classes.

    Those of a test beside them, where some rows are not trained.

    Args:
        data: `loss` and `loss_stderr`; `accuracy`, `test_loss`, `test_accuracy` where there are.
        ax: where to draw.
    """
    ax = new_axes(ax)
    steps, loss = data["time"].values, data["loss"].values
    error = 2 * bars(data["loss_stderr"].values)
    ax.plot(steps, loss, label="loss", linewidth=1.6, **marked(0, len(steps)))
    ax.fill_between(steps, loss - error, loss + error, color=COLOURS[0], alpha=0.3, linewidth=0)
    if "accuracy" in data:
        ax.plot(steps, data["accuracy"].values, label="accuracy", **marked(1, len(steps)))
    for series, name in enumerate(("test_loss", "test_accuracy")):
        if name in data:
            label, look = name.replace("test_", "test: "), marked(2 + series, len(steps))
            ax.plot(steps, data[name].values, label=label, linestyle="--", **look)
    both = "loss and accuracy" if "accuracy" in data else "loss"
    return finish(ax, xlabel="updates", ylabel=both)


def plot_positions(
    data: xarray.Dataset, ax: Axes | None = None, *, name: str = "loss_by_position"
) -> Axes:
    """Loss or accuracy of every position against updates.

    Args:
        data: `loss_by_position` or `accuracy_by_position` [time, token].
        ax: where to draw.
        name: which of them.
    """
    ax = new_axes(ax)
    values = data[name].transpose("time", "token").values
    shown = np.flatnonzero(np.isfinite(values).any(axis=0))
    for series, place in enumerate(shown[:SHOWN]):
        look = marked(series, len(values))
        ax.plot(data["time"].values, values[:, place], label=f"token {place}", **look)
    return finish(ax, xlabel="updates", ylabel=name.replace("_", " "))


def plot_score_law(
    data: xarray.Dataset,
    ax: Axes | None = None,
    *,
    layer: int = 0,
    place: tuple[int, int, int] = (0, 0, 0),
) -> Axes:
    """Quantiles over heads of one score against updates, nested bands around the median.

    Args:
        data: `score_quantiles` [layer, probability, time, input, query, key].
        ax: where to draw.
        layer: which layer.
        place: input, query and key.
    """
    ax = new_axes(ax)
    sample, query, key = place
    law = data["score_quantiles"].isel(layer=layer, input=sample, query=query, key=key)
    probabilities, steps = law["probability"].values, law["time"].values
    values = law.transpose("probability", "time").values
    for i in range(len(probabilities) // 2):
        low, high = probabilities[i], probabilities[-1 - i]
        label = f"{100 * low:g} to {100 * high:g} %"
        shade = 0.2 + 0.2 * i
        ax.fill_between(
            steps, values[i], values[-1 - i], color=COLOURS[0], alpha=shade, label=label
        )
    if len(probabilities) % 2:
        ax.plot(steps, values[len(probabilities) // 2], color=LIMIT, label="median")
    return finish(ax, xlabel="updates", ylabel="score over heads")


def plot_time_kernel(
    data: xarray.Dataset,
    ax: Axes | None = None,
    *,
    state: int = -1,
    field: tuple[int, int] = (0, 0),
    name: str = "kernel",
) -> Axes:
    """The kernel K(t, t') of one field with itself, as a map.

    Args:
        data: `kernel` or `gradient_kernel` [state, time, input, token, time2, input2, token2].
        ax: where to draw.
        state: after how many blocks.
        field: input and token.
        name: "kernel" or "gradient_kernel".
    """
    ax = new_axes(ax)
    (i, s) = field
    kernel = data[name].isel(state=state, input=i, token=s, input2=i, token2=s)
    image = ax.imshow(kernel.transpose("time", "time2").values, origin="lower", cmap="viridis")
    ax.figure.colorbar(image, ax=ax, label=str(kernel.attrs.get("long_name", name)))
    ax.set_xlabel("updates $t'$")
    ax.set_ylabel("updates $t$")
    return ax
