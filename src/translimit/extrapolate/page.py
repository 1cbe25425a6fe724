"""An extrapolation in words, for a terminal and for a notebook, and as plain data."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from translimit.core import JsonObject
from translimit.extrapolate.fitted import FARTHEST, Fitted
from translimit.extrapolate.predicted import ERRORS, Predicted
from translimit.extrapolate.shapes import coefficients_of

#: How powers of 1/n are written.
POWER_NAMES = {1.0: "1/n", 0.5: "n^(-1/2)"}


def as_text(extrapolation: Fitted, targets: Sequence[Predicted] | None = None) -> str:
    """The answer for a terminal.

    Args:
        extrapolation: the fit.
        targets: sizes that were asked for; the infinite one by default.
    """
    lines = [_head(extrapolation), _backtest(extrapolation)]
    if extrapolation.backtest.passes:
        targets = [extrapolation.infinite] if targets is None else targets
        for one in targets:
            lines += _predicted(extrapolation, one)
    else:
        lines.append(
            f"no value: the others miss the largest size by {extrapolation.backtest.told_z} "
            "errors; add larger sizes"
        )
    return "\n".join([*lines, *(f"note: {one}" for one in remarks(extrapolation, targets or ()))])


def as_html(extrapolation: Fitted) -> str:
    """The answer for a notebook.

    Args:
        extrapolation: the fit.
    """
    lines = as_text(extrapolation).split("\n")
    series = extrapolation.series[0]
    order = np.argsort(np.log(series.sizes).sum(axis=1))
    rows = [
        (
            ", ".join(f"{size:g}" for size in series.sizes[place]),
            f"{math.exp(series.means[place, -1]):.4g}",
            f"{_error(ERRORS * series.noise[-1, place, place] ** 0.5)}",
        )
        for place in order
    ]
    if extrapolation.backtest.passes:
        limit = extrapolation.infinite
        low, high = limit.low[-1], limit.high[-1]
        rows.append(("∞", f"{limit.loss[-1]:.4g}", f"{low:.4g} to {high:.4g}"))
    cells = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    said = "".join(f"<li>{html.escape(line)}</li>" for line in lines[1:])
    return (
        f"<p><b>{html.escape(lines[0])}</b></p><table><tr><th>"
        f"{html.escape(', '.join(extrapolation.axes))}</th><th>loss</th><th>two errors</th></tr>"
        f"{cells}</table><ul>{said}</ul>"
    )


def remarks(extrapolation: Fitted, targets: Sequence[Predicted] = ()) -> list[str]:
    """What was assumed, and what limits the answer.

    Args:
        extrapolation: the fit.
        targets: sizes that were asked for.
    """
    said = list(extrapolation.notes)
    if extrapolation.underpowered:
        said.append("three sizes: underpowered, the law cannot be checked")
    most = extrapolation.series[0].sizes.max(axis=0)
    for one in targets:
        for (axis, size), last in zip(one.sizes.items(), most, strict=True):
            if FARTHEST * last < size < math.inf:
                said.append(f"{axis} = {size:g} is {size / last:.0f} times the largest size")
    dropped = set(extrapolation.backtest.powers) - {s.power for s in extrapolation.series}
    said += [f"the backtest excludes {POWER_NAMES.get(p, p)}" for p in sorted(dropped)]
    return said


def as_json(extrapolation: Fitted, targets: Sequence[Predicted]) -> JsonObject:
    """The answer as plain data.

    Args:
        extrapolation: the fit.
        targets: sizes that were asked for; none where the backtest fails.
    """
    backtest = extrapolation.backtest
    series = extrapolation.series[0]
    return {
        "axes": list(extrapolation.axes),
        "together": list(extrapolation.together),
        "sizes": series.sizes.tolist(),
        "mean_log_loss": series.means[:, -1].tolist(),
        "seeds": len(extrapolation.curves.seeds),
        "paired": extrapolation.curves.paired,
        "lr": None if math.isnan(extrapolation.lr) else extrapolation.lr,
        "step": float(extrapolation.steps[-1]),
        "backtest": {
            "size": backtest.size.tolist(),
            "measured_log_loss": float(backtest.measured[-1]),
            "rates": [
                {"rate": p, "log_loss": float(v), "error": float(e), "z": float(z)}
                for p, v, e, z in zip(
                    backtest.powers,
                    backtest.value[:, -1],
                    backtest.error[:, -1],
                    backtest.z[:, -1],
                    strict=True,
                )
            ],
            "passes": backtest.passes,
        },
        "chi_square": [
            {"rate": one.power, "value": float(one.chi_square[-1]), "sizes": len(one.sizes)}
            for one in extrapolation.series
        ],
        "coefficients": {
            axis: {"value": one.value, "error": one.floor, "seed_error": one.stderr}
            for axis, one in coefficients_of(extrapolation).values.items()
        },
        "predictions": [_plain(one) for one in targets],
        "notes": remarks(extrapolation, targets),
    }


def _plain(one: Predicted) -> JsonObject:
    last = zip(
        one.powers,
        one.log_loss[:, -1],
        one.error[:, -1],
        one.seed_error[:, -1],
        one.misspecification[:, -1],
        strict=True,
    )
    return {
        "sizes": {axis: "Infinity" if math.isinf(s) else s for axis, s in one.sizes.items()},
        "loss": float(one.loss[-1]),
        "range": [float(one.low[-1]), float(one.high[-1])],
        "resolved": one.resolved,
        "rates": [
            {
                "rate": power,
                "log_loss": float(value),
                "error": float(error),
                "seed_error": float(seeds),
                "misspecification": float(rest),
            }
            for power, value, error, seeds, rest in last
        ],
        "curve": {
            "step": one.steps.tolist(),
            "loss": one.loss.tolist(),
            "low": one.low.tolist(),
            "high": one.high.tolist(),
        },
    }


def _head(extrapolation: Fitted) -> str:
    curves, series = extrapolation.curves, extrapolation.series[0]
    if len(extrapolation.axes) == 1:
        said = f"{extrapolation.axes[0]} " + ", ".join(f"{s:g}" for s in series.sizes[:, 0])
    else:
        said = f"{len(series.sizes)} sizes of {', '.join(extrapolation.axes)}"
    if extrapolation.together:
        said += f" (with {', '.join(extrapolation.together)})"
    kind = "paired" if curves.paired else "unpaired"
    said += f"; {len(curves.seeds)} {kind} seeds; {len(curves.steps)} steps up to "
    said += f"{curves.steps[-1]:g}"
    return said if math.isnan(extrapolation.lr) else f"{said}; lr {extrapolation.lr:.4g}"


def _backtest(extrapolation: Fitted) -> str:
    one = extrapolation.backtest
    size = ", ".join(f"{a} = {s:g}" for a, s in zip(extrapolation.axes, one.size, strict=True))
    told = "; ".join(
        f"{POWER_NAMES.get(p, p)}: {math.exp(v):.4g} {_signed(ERRORS * e)}, z = {z:+.1f}"
        for p, v, e, z in zip(
            one.powers, one.value[:, -1], one.error[:, -1], one.z[:, -1], strict=True
        )
    )
    return f"backtest, {size} from the others: measured {math.exp(one.measured[-1]):.4g}; {told}"


def _predicted(extrapolation: Fitted, one: Predicted) -> list[str]:
    lines = [
        f"{one.named()} after {one.steps[-1]:g} steps: loss {one.loss[-1]:.4g}, at two errors "
        f"{one.low[-1]:.4g} to {one.high[-1]:.4g}",
        f"  {'rate':>10} {'loss':>9} {'two errors':>11} {'of seeds':>9} {'of the law':>11} "
        f"{'chi-square':>11}",
    ]
    for place, power in enumerate(one.powers):
        series = extrapolation.series[place]
        lines.append(
            f"  {POWER_NAMES.get(power, f'n^-{power:g}'):>10} "
            f"{math.exp(one.log_loss[place, -1]):>9.4g} "
            f"{_signed(ERRORS * one.error[place, -1]):>11} "
            f"{_error(ERRORS * one.seed_error[place, -1]):>9} "
            f"{_error(ERRORS * one.misspecification[place, -1]):>11} "
            f"{f'{series.chi_square[-1]:.2g} / {len(series.sizes) - 1}':>11}"
        )
    if not one.resolved:
        lines.append(
            f"  not resolved: the largest size, {math.exp(one.largest[-1]):.4g}, is the answer"
        )
    return lines


def _error(log: float | np.floating) -> str:
    """An error of a log loss as part of the loss, or as a factor where it is large."""
    part = math.expm1(min(float(log), 700.0))
    return f"{100 * part:.2g} %" if part < 0.995 else f"factor {part + 1:.3g}"


def _signed(log: float | np.floating) -> str:
    """An error with its sign, where it is no factor."""
    said = _error(log)
    return "± " + said if said.endswith("%") else said
