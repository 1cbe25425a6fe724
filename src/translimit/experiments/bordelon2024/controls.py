"""Negative controls of coordinate checks: one factor of the rules left out, and what it breaks.

Every control names the roles whose number is wrong, the coordinate that shows it after the given
number of updates, and the axis. One does not bite by construction, and is checked not to.

Reference: documentation, "Scaling rules", negative controls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from translimit import describe

if TYPE_CHECKING:
    from translimit.describe import Parameterization, Role, Size

Change = Callable[["Parameterization", "Size"], "Parameterization"]


@dataclass(frozen=True)
class Control:
    """One factor left out.

    Attributes:
        optimizer: under which.
        axis: along which size.
        roles: whose numbers are wrong, as claims say it.
        wrong: what is wrong with them.
        coordinate: what shows it.
        step: after how many updates.
        measured: its exponent in the documentation.
        change: the rules' numbers of a shape, and the base, to the wrong ones.
        alpha_L: exponent of the branches.
        bites: whether the check must fail.
    """

    optimizer: Literal["adamw", "sgd"]
    axis: Literal["head_dim", "heads", "layers"]
    roles: str
    wrong: str
    coordinate: str
    step: int
    measured: float
    change: Change
    alpha_L: float = 1.0
    bites: bool = True


def _width(numbers: Parameterization, base: Size) -> float:
    return numbers.size.width / base.width


def _depth(numbers: Parameterization, base: Size) -> float:
    return numbers.size.layers / base.layers


def _hidden(numbers: Parameterization) -> list[Role]:
    return [role for role in numbers.roles if role.is_hidden_matrix]


def _in_block(numbers: Parameterization) -> list[Role]:
    return [role for role in numbers.roles if role.in_block]


def _hidden_rate(numbers: Parameterization, base: Size) -> Parameterization:
    return numbers.times(_hidden(numbers), lr=_width(numbers, base))


def _readout(numbers: Parameterization, base: Size) -> Parameterization:
    return numbers.times(describe.Role.READOUT, mult=_width(numbers, base) ** 0.5)


def _score_scale(numbers: Parameterization, base: Size) -> Parameterization:
    return numbers.changed(score_scale=numbers.size.head_dim**-0.5)


def _global_rate(numbers: Parameterization, base: Size) -> Parameterization:
    return numbers.times(list(numbers.roles), lr=1 / _width(numbers, base))


def _no_residual(numbers: Parameterization, base: Size) -> Parameterization:
    return numbers.changed(residual=1.0)


def _block_rate(power: float) -> Change:
    return lambda numbers, base: numbers.times(
        _in_block(numbers), lr=_depth(numbers, base) ** power
    )


_MATRICES = "query, key, value, attention_out, mlp_in, mlp_out"

CONTROLS: dict[str, Control] = {
    "hidden-rate-head_dim": Control(
        "adamw",
        "head_dim",
        _MATRICES,
        "rates without $1/m_d$",
        "learned_key_change",
        1,
        0.97,
        _hidden_rate,
    ),
    "hidden-rate-heads": Control(
        "adamw",
        "heads",
        _MATRICES,
        "rates without $1/m_d$",
        "learned_key_change",
        1,
        0.91,
        _hidden_rate,
    ),
    "readout-adamw": Control(
        "adamw",
        "head_dim",
        "readout",
        "multiplier $m_d^{-1/2}$ instead of $1/m_d$",
        "output_change",
        1,
        0.50,
        _readout,
    ),
    "score-scale": Control(
        "adamw",
        "head_dim",
        "query, key",
        "scores times $N^{-1/2}$ with the rates of $\\alpha_A = 1$",
        "learned_score_change",
        1,
        0.31,
        _score_scale,
    ),
    "global-rate-head_dim": Control(
        "sgd",
        "head_dim",
        "all roles",
        "rates without $m_d$",
        "output_change",
        1,
        -0.92,
        _global_rate,
    ),
    "global-rate-heads": Control(
        "sgd", "heads", "all roles", "rates without $m_d$", "output_change", 1, -0.95, _global_rate
    ),
    "readout-sgd": Control(
        "sgd",
        "head_dim",
        "readout",
        "multiplier $m_d^{-1/2}$ instead of $1/m_d$",
        "output_change",
        1,
        0.92,
        _readout,
    ),
    "no-residual-sgd": Control(
        "sgd",
        "layers",
        "attention_out, mlp_out",
        "branches without $1/m_L$",
        "stream_change",
        1,
        1.38,
        _no_residual,
    ),
    "no-residual-adamw": Control(
        "adamw",
        "layers",
        "attention_out, mlp_out",
        "branches without $1/m_L$",
        "stream_change",
        1,
        0.96,
        _no_residual,
    ),
    "depth-rate-adamw": Control(
        "adamw",
        "layers",
        "all roles of the blocks",
        "rates without $m_L^{-1/2}$ at $\\alpha_L = 1/2$",
        "stream_change",
        1,
        0.44,
        _block_rate(0.5),
        alpha_L=0.5,
    ),
    "depth-rate-sgd": Control(
        "sgd",
        "layers",
        "all roles of the blocks",
        "rates without $m_L$",
        "learned_score_change",
        1,
        -1.02,
        _block_rate(-1.0),
    ),
    "depth-rate-of-one": Control(
        "adamw",
        "layers",
        "all roles of the blocks",
        "rates without $m_L^{\\alpha_L - 1}$, which is 1",
        "stream_change",
        1,
        0.0,
        _block_rate(0.0),
        bites=False,
    ),
}
