r"""The paper's parameterization with everything that the limit of training may have.

In units in which every matrix starts with N(0, 1) entries, networks of these numbers have

    words, features   h_a = sum_c Phi_ac E_c,        rate 1
    positions         + s_P P_s,                     rate `position_rate`
    readout           f = w . phi / (gamma_0 n),     w(0) = `readout_std` N(0, 1)
    scores            A = tau N^{-alpha_A} k . q,    rate of tau `score_gain_rate` / n

beside the paper's blocks, and rates relative to eta_0 gamma_0^2 n L^{2 alpha_L - 1}. With all of
them constant as heads grow, the limit of infinitely many heads exists.

**Adam and sign.** A step moves E and w by eta_0 u, matrices by eta_0 n^{-1/2} L^{alpha_L - 1} u,
those of queries and keys by N^{alpha_A - 1} times as much. u is Adam's update of gradients in units
of their size: a gradient is beta_0 L^{-alpha_L} (gamma_0 n)^{-1} (fan-in)^{-1/2} G of a matrix in a
block and (gamma_0 n)^{-1} G of E and w, and epsilon is that of G. A decay lambda takes eta_0 lambda
off every parameter.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from translimit.core import NOT_NEGATIVE, POSITIVE, ArgumentError, require_real
from translimit.describe import (
    WITHOUT_RULE,
    OptimizerKind,
    OptimizerName,
    Parameterization,
    Role,
    Size,
    Update,
    optimizer_kind,
)
from translimit.scaling.paper import paper_parameterization

_WORDS = (Role.TOKEN_EMBEDDING, Role.PATCH_EMBEDDING, Role.POSITION_EMBEDDING)


def limit_parameterization(
    size: Size,
    *,
    optimizer: OptimizerName | OptimizerKind = "sgd",
    alpha_A: float | int = 1.0,
    alpha_L: float | int = 1.0,
    beta0: float | int = 1.0,
    gamma0: float | int = 1.0,
    eta0: float | int = 1.0,
    pixels: int = 1,
    readout_std: float | int = 1.0,
    position_std: float | int = 1.0,
    position_rate: float | int = 1.0,
    score_gain: float | int = 1.0,
    score_gain_rate: float | int = 0.0,
) -> Parameterization:
    """Numbers of finite networks whose limit is `limits.dmft.TrainingDynamics`.

    Train with the rate 1; the schedule of the limit multiplies it. A trained gain is that of a
    shape with `score_gain=True`; else the gain is part of `score_scale`.

    Args:
        size: (N, H, L), and the ratio of the MLP.
        optimizer: SGD with or without momentum, Adam, AdamW, or sign descent.
        alpha_A: of the scores.
        alpha_L: of the branches.
        beta0: of the branches.
        gamma0: of the readout; small is lazy.
        eta0: of the rate. Under Adam it has no gamma_0: eta_0 gamma_0 has a lazy limit.
        pixels: entries D of a patch; 1 for words.
        readout_std: of the readout at the start; 0 for one that starts at zero.
        position_std: s_P.
        position_rate: relative to that of words; 0 freezes positions.
        score_gain: tau at the start.
        score_gain_rate: relative; 0 for a gain that is not trained.

    Raises:
        ArgumentError: numbers out of range, a trained gain under Adam, for which no rate is
            known, an optimiser that the paper does not have.
    """
    kind = optimizer_kind(optimizer)
    scaled = kind.update in (Update.ADAM, Update.SIGN)
    for name, value, bound in (
        ("readout_std", readout_std, NOT_NEGATIVE),
        ("position_std", position_std, NOT_NEGATIVE),
        ("position_rate", position_rate, NOT_NEGATIVE),
        ("score_gain", score_gain, POSITIVE),
        ("score_gain_rate", score_gain_rate, NOT_NEGATIVE),
    ):
        require_real(value, name, bound)
    if scaled and score_gain_rate:
        raise ArgumentError(
            "score_gain_rate",
            f"got {score_gain_rate} under {kind.name}, for which no rate is known",
            "pass 0, or sgd",
        )
    numbers = paper_parameterization(
        size,
        optimizer="adam" if kind.update is Update.SIGN else kind,
        alpha_A=alpha_A,
        alpha_L=alpha_L,
        beta0=beta0,
        gamma0=gamma0,
        eta0=eta0,
        pixels=pixels,
    )
    if scaled:
        numbers = _in_units_of_gradients(numbers, beta0, gamma0, eta0, alpha_A, alpha_L)
    rate = numbers.role(Role.VALUE).lr
    numbers = numbers.times(Role.READOUT, init=float(readout_std))
    numbers = numbers.times(
        Role.POSITION_EMBEDDING, mult=float(position_std), lr=float(position_rate)
    )
    if not score_gain_rate:
        return numbers.times(score_scale=float(score_gain))
    return numbers.changed(
        Role.SCORE_GAIN, init=float(score_gain), lr=rate * score_gain_rate / size.width
    )


def _in_units_of_gradients(
    numbers: Parameterization,
    beta0: float,
    gamma0: float,
    eta0: float,
    alpha_A: float,
    alpha_L: float,
) -> Parameterization:
    """With epsilon in units of G, and a decay of eta_0 for all."""
    size = numbers.size
    outside = 1 / (gamma0 * size.width)
    for role in Role:
        if role in WITHOUT_RULE:
            continue
        rule = numbers.role(role)
        numbers = numbers.changed(role, wd=eta0 / rule.lr)
        if role in _WORDS or role is Role.READOUT:
            # What is stored is 1 / init of what starts with N(0, 1) entries.
            numbers = numbers.changed(role, eps=outside / rule.init)
        elif role.is_hidden_matrix:
            each = beta0 * size.layers**-alpha_L * outside * role.fan_in.length(size) ** -0.5
            scores = size.head_dim ** (alpha_A - 1) if role.moves_scores else 1.0
            numbers = numbers.changed(role, eps=each * scores)
    return numbers
