r"""The parameterization of the paper, in absolute numbers.

The paper (Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712) stores parameters with multipliers
so that one rate serves all of them. With n = N H and the residual factor beta_0 L^{-alpha_L},

| parameter | multiplier | standard deviation |
|---|---|---|
| embedding of D pixels | D^{-1/2} L^{1/2 - alpha_L} | L^{alpha_L - 1/2} |
| W_K, W_Q | N^{alpha_A - 3/2} H^{-1/2} | N^{1 - alpha_A} |
| W_V, W_O, MLP | (fan-in)^{-1/2} | 1 |
| readout | L^{1/2 - alpha_L} / (gamma_0 n) | L^{alpha_L - 1/2} |

with scores N^{-alpha_A} k . q and the rate eta_0 gamma_0^2 n L^{2 alpha_L - 1} of SGD.

!!! warning "Erratum"
    The paper's table prints the rate of SGD without gamma_0^2. Its Result 1 needs the factor: only
    then is gamma_0 to 0 the lazy limit at fixed eta_0. `lr_convention="table"` gives what is
    printed.

Under Adam the rate is eta_0 n^{-1/2} L^{alpha_L - 1}; embedding and readout then have multipliers
n^{1/2} L^{1 - alpha_L} times those without depth factors, and standard deviations divided by it.
"""

from __future__ import annotations

from typing import Literal, assert_never

from translimit.core import POSITIVE, ArgumentError, nearest, require_real
from translimit.describe import (
    OPTIMIZERS,
    WITHOUT_RULE,
    OptimizerKind,
    OptimizerName,
    Parameterization,
    Role,
    RoleRule,
    Size,
    Update,
    optimizer_kind,
)
from translimit.scaling.engine import rules

_BLOCK_MATRICES = (Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT)
_EMBEDDINGS = (Role.TOKEN_EMBEDDING, Role.PATCH_EMBEDDING, Role.POSITION_EMBEDDING)


def paper_parameterization(
    size: Size,
    *,
    optimizer: OptimizerName | OptimizerKind = "sgd",
    alpha_A: float | int = 1.0,
    alpha_L: float | int = 1.0,
    beta0: float | int = 1.0,
    gamma0: float | int = 1.0,
    eta0: float | int = 1.0,
    pixels: int = 1,
    lr_convention: Literal["gamma0_squared", "table"] = "gamma0_squared",
) -> Parameterization:
    """The parameterization of Bordelon, Chaudhry and Pehlevan; formulas in the module's docstring.

    What their bare model lacks (gains, biases) takes what style `single_lr` gives from a base of
    sizes one; epsilon and decay as well.

    Args:
        size: (N, H, L); the paper's MLP has ratio 1.
        optimizer: SGD with or without momentum, Adam or AdamW.
        alpha_A: of the scores.
        alpha_L: of the branches.
        beta0: of the branches.
        gamma0: of the readout; small is lazy.
        eta0: of the rate.
        pixels: entries D of a patch; a token embedding has none.
        lr_convention: whether the rate of SGD has gamma_0^2 or, as the table prints it, not. The
            rate of Adam never has it.

    Raises:
        ArgumentError: an exponent outside [1/2, 1], a constant that is not positive, another
            optimiser or convention, heads that together are not as wide as the stream.

    Reference: arXiv 2405.15712, section 2.1 and Table 1.
    """
    if lr_convention not in ("gamma0_squared", "table"):
        raise ArgumentError(
            "lr_convention",
            f"unknown convention {lr_convention!r}",
            nearest(str(lr_convention), ("gamma0_squared", "table")),
        )
    if size.dim is not None or size.kv_rank is not None:
        raise ArgumentError(
            "size",
            f"has {size.heads} heads of {size.head_dim} in a stream of {size.width}"
            + ("" if size.kv_rank is None else f", and latents of {size.kv_rank}"),
            "leave dim and kv_rank out: the paper's stream is head_dim x heads wide",
        )
    beta0, gamma0, eta0 = (
        require_real(beta0, "beta0", POSITIVE),
        require_real(gamma0, "gamma0", POSITIVE),
        require_real(eta0, "eta0", POSITIVE),
    )
    pixels_root = require_real(pixels, "pixels", POSITIVE) ** 0.5
    one = Size(head_dim=1, heads=1, layers=1, mlp_ratio=size.mlp_ratio)
    others = rules(
        one, size, optimizer=optimizer, alpha_A=alpha_A, alpha_L=alpha_L, style="single_lr"
    )
    N, H, L, n = size.head_dim, size.heads, size.layers, size.width
    kind = optimizer_kind(optimizer)
    match kind.update:
        case Update.GRADIENT:
            lr = eta0 * n * L ** (2 * alpha_L - 1)
            lr *= gamma0**2 if lr_convention == "gamma0_squared" else 1.0
            outer = L ** (0.5 - alpha_L)
        case Update.ADAM:
            lr = eta0 * n**-0.5 * L ** (alpha_L - 1)
            outer = n**0.5 * L ** (1 - alpha_L)
        case Update.SIGN | Update.ORTHOGONAL:
            known = [
                name
                for name, one in OPTIMIZERS.items()
                if one.update in (Update.GRADIENT, Update.ADAM)
            ]
            raise ArgumentError(
                "optimizer", f"the paper has no {kind.name!r}", nearest(kind.name, known)
            )
        case _:
            assert_never(kind.update)

    # (multiplier, standard deviation) of what the paper has.
    printed = {role: (outer, 1 / outer) for role in _EMBEDDINGS}
    printed[Role.PATCH_EMBEDDING] = (outer / pixels_root, 1 / outer)
    printed |= {role: (role.fan_in.length(size) ** -0.5, 1.0) for role in _BLOCK_MATRICES}
    scores = (N ** (alpha_A - 1.5) * H**-0.5, N ** (1 - alpha_A))
    printed |= {role: scores for role in (Role.QUERY, Role.KEY)}
    printed[Role.READOUT] = (outer / (gamma0 * n), 1 / outer)

    def rule(role: Role) -> RoleRule:
        other = others.role(role)
        constant = 0.0 if role.is_bias else other.init
        mult, init = printed.get(role, (other.mult, constant))
        return RoleRule(mult, init, lr, other.eps, other.wd)

    return Parameterization(
        size=size,
        roles={role: rule(role) for role in Role if role not in WITHOUT_RULE},
        score_scale=N**-alpha_A,
        residual=beta0 * L**-alpha_L,
    )
