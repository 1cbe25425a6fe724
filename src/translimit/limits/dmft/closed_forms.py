r"""What is known in closed form: the lazy limit, two linear layers, the start of training.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArrayInput,
    Bounds,
    as_float64,
    require_count,
    require_covariance,
    require_real,
)

if TYPE_CHECKING:
    from translimit.limits.dmft.losses import AbstractLoss


def lazy_predictions(
    ntk: ArrayInput,
    targets: ArrayInput,
    *,
    steps: int,
    eta0: float,
    momentum: float = 0.0,
    weights: ArrayInput | None = None,
    schedule: ArrayInput | None = None,
    loss: AbstractLoss | None = None,
    classes: int | None = None,
) -> Float[np.ndarray, "steps rows *outputs"]:
    r"""Predictions [steps, rows] of the linearised network, the limit gamma_0 -> 0.

    With several outputs [steps, rows, outputs]: each has the same kernel, none acts on another.

    f(t + 1) - f(t) = eta_0 K (w e(t)) from f(0) = 0, e = -dl/df (y - f for the squared error),
    and the heavy ball's sum of past steps with momentum.

    Args:
        ntk: neural tangent kernel K [rows, rows], `ntk[0]` of a solution; rows are inputs, or
            tokens with outputs of their own, all of an input in turn.
        targets: y [rows], or [rows, outputs]; classes [rows].
        steps: evaluations.
        eta0: learning rate.
        momentum: of the heavy ball.
        weights: w of the rows in the loss [rows], or [steps, rows]; by default the same for all
            with a target, 1 in sum.
        schedule: factors of the learning rate [steps]; 1 by default.
        loss: as in `TrainingDynamics`; the squared error by default.
        classes: outputs under `CrossEntropy`.

    Raises:
        ArgumentError: shapes that do not match, numbers out of range.
    """
    import jax
    import jax.numpy as jnp

    from translimit.limits.dmft.losses import SquaredError
    from translimit.limits.dmft.targets import read_schedule, read_targets, read_weights

    kernel = np.asarray(require_covariance(as_float64(ntk, "ntk"), "ntk"))
    loss = SquaredError() if loss is None else loss
    require_real(eta0, "eta0", POSITIVE)
    count = require_count(steps, "steps", 1)
    read = read_targets(targets, loss, "pooled", len(kernel), 1, classes)
    w = read_weights(weights, read, count)
    if schedule is not None:
        w = read_schedule(schedule, count)[:, None] * w
    f = np.zeros((count, *read.y.shape))
    velocity = np.zeros(read.y.shape)
    with jax.enable_x64(True):
        y = jnp.asarray(read.y)
        for t in range(count - 1):
            error = np.asarray(loss.error(jnp.asarray(f[t]), y))
            velocity = momentum * velocity + eta0 * kernel @ (w[t][:, None] * error)
            f[t + 1] = f[t] + velocity
    return f.reshape(count, *read.shape)


def two_layer_linear(
    target: float, gamma0: float, times: ArrayInput
) -> Float[np.ndarray, "*times"]:
    r"""Output [times] of the network without blocks, one input of norm one, as eta_0 -> 0.

    At tau = eta_0 t, df/dtau = 2 (1 + gamma_0^2 f^2)^(1/2) (y - f) from f(0) = 0. With
    gamma_0 f = sinh u and gamma_0 y = sinh v it is du/dtau = 2 (sinh v - sinh u), a Riccati
    equation in e^u:

        e^u = (rho e^v - e^-v) / (1 + rho),  rho = e^(2 tau cosh v) (1 + e^-v) / (e^v - 1).

    Args:
        target: y.
        gamma0: richness, positive.
        times: eta_0 times updates [times].

    Raises:
        ArgumentError: gamma0 not positive, times not finite.

    >>> float(round(two_layer_linear(1.5, 1.0, [1.0])[0], 6))
    1.409408
    """
    tau = np.asarray(as_float64(times, "times"))
    gamma = require_real(gamma0, "gamma0", POSITIVE)
    y = float(as_float64(target, "target"))
    if y == 0:
        return np.zeros(tau.shape)
    end = np.arcsinh(gamma * abs(y))
    # 1 / rho, so that long times underflow instead of overflowing.
    inverse = np.exp(-2 * tau * np.cosh(end)) * np.expm1(end) / (1 + np.exp(-end))
    exponential = (np.exp(end) - inverse * np.exp(-end)) / (1 + inverse)
    return np.sign(y) * np.sinh(np.log(exponential)) / gamma


def initial_score_cov(kernel: ArrayInput, inputs: int) -> Float[np.ndarray, "P S S P S S"]:
    r"""Covariance over heads of scores at initialisation, alpha_A = 1/2, head_dim -> infinity.

    E[A_st A_qr] = H_sq H_tr, with H the kernel: the scores of all inputs are jointly Gaussian (at
    finite head dimension N their excess kurtosis is 6 / N). This is all that the
    limit N -> infinity says at alpha_A < 1: during training it does not exist.

    Args:
        kernel: of the residual stream before the block [fields, fields], fields flattened with
            tokens fastest.
        inputs: P, which divides the fields.

    Returns:
        The covariance [inputs, tokens, tokens, inputs, tokens, tokens].

    Raises:
        ArgumentError: not a covariance, or fields that are not a multiple of inputs.
    """
    h = np.asarray(require_covariance(as_float64(kernel, "kernel"), "kernel"))
    count = require_count(inputs, "inputs", 1)
    if len(h) % count:
        raise ArgumentError(
            "inputs", f"got {count} for {len(h)} fields", f"pass a divisor of {len(h)}"
        )
    blocks = h.reshape(count, -1, count, len(h) // count)
    return np.einsum("psqr,pSqR->psSqrR", blocks, blocks)


def uniform_attention_ntk(
    kernel: ArrayInput,
    inputs: int,
    *,
    layers: int | float,
    beta0: float,
    alpha_L: float = 1.0,
) -> Float[np.ndarray, "P P"]:
    r"""Neural tangent kernel at the start, attention only without norm, head_dim infinite.

    At alpha_A = 1 attention starts uniform: a block multiplies the token means of the stream's
    kernel and of the gradient's by 1 + e^2, e = beta_0 L^(-alpha_L). Embedding and readout give
    (1 + e^2)^L each, the output and value matrices of every block beta_0^2 / L (1 + e^2)^(L - 1),
    keys and queries nothing:

        K = (2 (1 + e^2)^L + 2 beta_0^2 (1 + e^2)^(L - 1)) Kbar,

    Kbar the kernel of token means. As L -> infinity this is (2 + 2 beta_0^2) Kbar at alpha_L = 1,
    exp(beta_0^2) times as much at 1/2. The first update is f(1) = eta_0 K w y exactly.

    Args:
        kernel: of the inputs' tokens [fields, fields], fields flattened with tokens fastest.
        inputs: P, which divides the fields.
        layers: L; `math.inf` too.
        beta0: branch multiplier.
        alpha_L: exponent of the branches, in [1/2, 1].

    Raises:
        ArgumentError: not a covariance, fields that are not a multiple of inputs, numbers out of
            range.
    """
    pooled = _pooled(kernel, inputs)
    growth, added = _growth(layers, beta0, alpha_L)
    return (2 * (1 + growth) + 2 * added) * pooled


def uniform_attention_motion(
    kernel: ArrayInput,
    inputs: int,
    *,
    layers: int | float,
    beta0: float,
    alpha_L: float = 1.0,
) -> Float[np.ndarray, " P"]:
    r"""Mean square distance of the stream from its embedding, as in `uniform_attention_ntk`.

    Blocks are uncorrelated at the start: it is the sum of what each of them adds,
    ((1 + e^2)^L - 1) Kbar for all tokens of an input. It falls like 1 / L at alpha_L = 1 and
    tends to (exp(beta_0^2) - 1) Kbar at alpha_L = 1/2.

    Args:
        kernel: of the inputs' tokens [fields, fields], fields flattened with tokens fastest.
        inputs: P, which divides the fields.
        layers: L; `math.inf` too.
        beta0: branch multiplier.
        alpha_L: exponent of the branches, in [1/2, 1].

    Raises:
        ArgumentError: see `uniform_attention_ntk`.
    """
    return _growth(layers, beta0, alpha_L)[0] * np.diag(_pooled(kernel, inputs))


def _pooled(kernel: ArrayInput, inputs: int) -> Float[np.ndarray, "P P"]:
    """The kernel of token means."""
    h = np.asarray(require_covariance(as_float64(kernel, "kernel"), "kernel"))
    count = require_count(inputs, "inputs", 1)
    if len(h) % count:
        raise ArgumentError(
            "inputs", f"got {count} for {len(h)} fields", f"pass a divisor of {len(h)}"
        )
    return h.reshape(count, len(h) // count, count, -1).mean(axis=(1, 3))


def _growth(layers: int | float, beta0: float, alpha_L: float) -> tuple[float, float]:
    """(1 + e^2)^L - 1, and beta_0^2 (1 + e^2)^(L - 1)."""
    require_real(beta0, "beta0", POSITIVE)
    require_real(alpha_L, "alpha_L", Bounds(0.5, 1.0))
    if math.isinf(layers):
        exponent = beta0**2 if alpha_L == 0.5 else 0.0
        return math.expm1(exponent), beta0**2 * math.exp(exponent)
    L = require_count(layers, "layers", 1)
    one = math.log1p(beta0**2 * L ** (-2 * alpha_L))
    return math.expm1(L * one), beta0**2 * math.exp((L - 1) * one)
