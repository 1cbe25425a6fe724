r"""Two tokens: their distance is a diffusion of its own, and its explosion has a closed form.

D = V_11 + V_22 - 2 V_12 = |x_1 - x_2|^2 / n solves, for the attention block alone,

    dD = a D^3 dt + sqrt(2 sigma^2 D^2 + q D^4) dB,    a = gamma^2 beta^2 / (16 tau0^2),
    q = gamma^4 alpha^2 beta^2 / (4 H tau0^2).

With z^2 = q D^2 / (2 sigma^2) the coordinate x = arsinh(1 / z) has constant volatility; x = 0 is
infinite distance, which behaves like the origin of a Bessel process of dimension 3 - 2 k,
k = a / q = H / (4 gamma^2 alpha^2). It is reached, with positive probability, if and only if
k > 1/2, and then

    P(zeta < infinity) = I_{z^2 / (1 + z^2)}(1/2, k - 1/2).

Expectations at a finite time solve the backward equation f_t = L f, discretised as a birth-death
chain that is exact for the scale function, so that no cut-off at a large distance is needed.

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.limits.shaped.block import Block, require_limit
from translimit.limits.shaped.coefficients import linear_variance

#: Nodes of the backward equation, half of them equally spaced in x, half in the scale function.
NODES = 6000
#: Time steps of Crank-Nicolson, after four damping quarter steps of implicit Euler.
TIME_STEPS = 400
#: The distance at x = 16 is 4e-7 of its unit: zero. One nearer than this to x = 0 is infinite.
_FAR, _NEAR = 16.0, 1e-12


def explosion_probability(block: Block, distance: float, t1: float = math.inf) -> float:
    """Probability that two tokens explode before t1.

    Args:
        block: attention block with finite tau0, without MLP, mask and growth_rate.
        distance: D = V_11 + V_22 - 2 V_12 at depth 0, not negative.
        t1: time, layers / dim; closed form at infinity, backward equation at finite times.

    Returns:
        The probability; 0 when gamma^2 identity^2 >= heads / 2.

    Raises:
        ArgumentError: a negative distance or t1; for a finite t1 as `two_token_expectation`.
        NoSuchLimitError: the distance is no diffusion of its own for this block.

    Examples:
        >>> from translimit.limits.shaped import Block, explosion_probability
        >>> print(round(explosion_probability(Block(gamma=0.5, tau0=0.5), 2.0), 6))
        0.312506
    """
    from scipy.special import betainc

    shape, unit = _diffusion_of(block)
    _require(distance, t1)
    if shape <= 0.5 or distance == 0:
        return 0.0
    if math.isinf(t1):
        ratio = distance / unit
        return float(betainc(0.5, shape - 0.5, (ratio / math.hypot(1.0, ratio)) ** 2))
    found = two_token_expectation(block, distance, t1, np.zeros_like, at_explosion=1.0)
    return min(max(found, 0.0), 1.0)


def two_token_expectation(
    block: Block,
    distance: float,
    t1: float,
    functional: Callable[[Float[np.ndarray, " nodes"]], Float[np.ndarray, " nodes"]],
    *,
    at_explosion: float,
    nodes: int = NODES,
) -> float:
    """E f(D_t1) for two tokens, by the backward equation; error about 1e-4 for bounded f.

    Args:
        block: attention block with finite tau0, without MLP, mask and growth_rate.
        distance: D at depth 0, positive.
        t1: time, layers / dim, finite.
        functional: f, bounded, of an array of distances; may jump.
        at_explosion: the value given to paths that have exploded.
        nodes: of the grid.

    Raises:
        ArgumentError: a distance or t1 that is not positive, a distance that the grid takes for
            zero or infinite, a block whose scale function is beyond float64 on the grid, too few
            nodes.
        NoSuchLimitError: the distance is no diffusion of its own for this block.
    """
    from scipy.linalg import solve_banded

    shape, unit = _diffusion_of(block)
    _require(distance, t1)
    if distance == 0 or not 0 < t1 < math.inf:
        raise ArgumentError("t1", f"got {t1} at distance {distance}", "pass positive numbers")
    if nodes < 100:
        raise ArgumentError("nodes", f"got {nodes}", "pass at least 100")
    here = math.asinh(unit / distance)
    if not _NEAR <= here <= _FAR:
        raise ArgumentError(
            "distance",
            f"got {distance:g}, and the grid holds {unit / math.sinh(_FAR):.2g} to "
            f"{unit / _NEAR:.2g}",
            "pass one within, or t1 = inf, which has a closed form",
        )
    grid = _grid(shape, here, nodes)
    with np.errstate(all="ignore"):  # what overflows is refused below
        differences = _scale_differences(shape, grid)
        measure, values = _cells(shape, grid, lambda x: functional(unit / np.sinh(x)))
    values[-1] = float(functional(np.zeros(1))[0])
    # Birth rate towards larger x and death rate towards x = 0, exact for the scale function.
    variance = float(linear_variance(block))
    up = np.zeros(len(grid))
    down = np.zeros(len(grid))
    with np.errstate(all="ignore"):
        up[:-1] = variance / (measure[:-1] * differences)
        down[1:] = variance / (measure[1:] * differences)
    up[-1] = down[-1] = 0.0  # nothing returns from distance zero
    if shape > 0.5:
        values[0], up[0] = at_explosion, 0.0
    if not all(np.isfinite(each).all() for each in (up, down, values)):
        raise ArgumentError(
            "block",
            f"has k = heads / (4 gamma^2 alpha^2) = {shape:.3g}, whose scale function is beyond "
            "float64 on the grid",
            "pass fewer heads, or t1 = inf, which has a closed form",
        )

    def implicit(h: float) -> np.ndarray:
        bands = np.zeros((3, len(grid)))
        bands[0, 1:], bands[1], bands[2, :-1] = -h * up[:-1], 1 + h * (up + down), -h * down[1:]
        return bands

    def generator(f: np.ndarray) -> np.ndarray:
        change = np.zeros_like(f)
        change[:-1] += up[:-1] * (f[1:] - f[:-1])
        change[1:] += down[1:] * (f[:-1] - f[1:])
        return change

    step = t1 / TIME_STEPS
    bands = implicit(step / 4)
    for _ in range(4):
        values = solve_banded((1, 1), bands, values)
    bands = implicit(step / 2)
    for _ in range(TIME_STEPS - 1):
        values = solve_banded((1, 1), bands, values + step / 2 * generator(values))
    return float(values[np.searchsorted(grid, here)])


def _diffusion_of(block: Block) -> tuple[float, float]:
    """K = a / q, and the distance at which z = 1."""
    require_limit(block)
    own = (
        isinstance(block, Block)
        and block.mlp is None
        and not block.causal
        and not block.growth_rate
    )
    if (
        not own
        or not math.isfinite(block.tau0)
        or block.shaped_gains.identity * block.shaped_gains.attention == 0
    ):
        raise NoSuchLimitError(
            "block",
            "the distance of two tokens is a diffusion of its own for attention alone",
            "pass a block without MLP, mask and growth_rate, with finite tau0 and gains other than "
            "0; "
            "for others run CovarianceSDE",
        )
    gains = block.shaped_gains
    drift = (block.gamma * gains.attention / block.tau0) ** 2 / 16
    noise = (block.gamma**2 * gains.identity * gains.attention / block.tau0) ** 2 / (
        4 * block.heads
    )
    return drift / noise, math.sqrt(2 * float(linear_variance(block)) / noise)


def _require(distance: float, t1: float) -> None:
    if not (distance >= 0 and math.isfinite(distance)):
        raise ArgumentError("distance", f"got {distance}", "pass a squared distance of at least 0")
    if not t1 > 0:
        raise ArgumentError("t1", f"got {t1}", "pass a positive time")


def _grid(shape: float, here: float, nodes: int) -> np.ndarray:
    """Increasing x with `here` among them; x = 0 only where it can be reached."""
    from scipy.special import betaincinv

    even = np.linspace(0, _FAR, nodes // 2 + 1)
    if shape <= 0.5:
        points = even[1:] - even[1] / 2
    else:
        # 1 - p = I_{tanh^2 x}(k - 1/2, 1/2), resolved where explosion is the likelier end.
        tail = betaincinv(shape - 0.5, 0.5, np.linspace(0, 0.5, nodes // 2 + 1)[1:])
        points = np.concatenate([even, np.arctanh(np.sqrt(tail))])
    points = np.unique(np.concatenate([points, [here, _FAR]]))
    apart = np.concatenate([[True], np.diff(points) > 1e-12])
    apart |= points == here
    return points[apart & (points <= _FAR)]


def _log_scale_density(shape: float, x: np.ndarray) -> np.ndarray:
    """Log of sinh^(2k - 2)(x) cosh^(1 - 2k)(x)."""
    return (2 * shape - 2) * np.log(np.sinh(x)) + (1 - 2 * shape) * np.log(np.cosh(x))


def _panels(left: np.ndarray, right: np.ndarray, points: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights of intervals [intervals, points]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = (right - left)[:, None] / 2
    return left[:, None] + half * (1 + nodes), half * weights


def _scale_differences(shape: float, grid: np.ndarray) -> np.ndarray:
    """Increments of the scale function over the intervals of the grid."""
    from scipy.special import beta, betainc

    points, weights = _panels(grid[:-1], grid[1:])
    increments = np.sum(np.exp(_log_scale_density(shape, points)) * weights, axis=1)
    if shape > 0.5:
        # Near x = 0 the density is a power that quadrature does not see; the function is known.
        near = grid[1:] < 1.0
        total = beta(0.5, shape - 0.5) / 2
        known = total * np.diff(betainc(shape - 0.5, 0.5, np.tanh(grid) ** 2))
        increments = np.where(near, known, increments)
    return increments


def _cells(
    shape: float, grid: np.ndarray, functional: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Speed measure of the cell around each node, and the functional's mean over it."""
    faces = np.concatenate([[grid[0]], (grid[1:] + grid[:-1]) / 2, [grid[-1]]])
    if shape <= 0.5:
        faces[0] = 0.0
    points, weights = _panels(faces[:-1], faces[1:], 16)
    points = np.maximum(points, 1e-300)
    density = np.exp(-_log_scale_density(shape, points)) * weights
    measure = np.sum(density, axis=1)
    values = np.sum(functional(points) * density, axis=1) / measure
    return measure, values
