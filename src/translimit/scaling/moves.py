r"""The rule of one parameter, and the moves that leave its trajectory unchanged.

A parameter used as W = m w, with w_0 of standard deviation s, keeps the whole trajectory of W
under, for any theta > 0 (Yang and Hu's abc symmetry, here with epsilon and decay):

| update | (m, s, eta, epsilon, lambda) -> |
|---|---|
| gradient (SGD, momentum; L2 or decoupled decay) | (m theta, s / theta, eta / theta^2, -, lambda theta^2) |
| Adam, AdamW (decoupled decay) | (m theta, s / theta, eta / theta, epsilon theta, lambda theta) |
| sign (signSGD, Lion), orthogonalised (Muon) | (m theta, s / theta, eta / theta, -, lambda theta) |

eta lambda is invariant in all of them. Global-norm clipping is not: gradients of w scale with m.
"""  # noqa: E501

from __future__ import annotations

from translimit.core import POSITIVE, require_real
from translimit.describe import RoleRule, Update


def moved(
    rule: RoleRule, theta: float, update: Update, *, independent_decay: bool = False
) -> RoleRule:
    """The same trajectory with the multiplier times theta.

    Args:
        rule: of a role.
        theta: positive.
        update: of the optimiser.
        independent_decay: decay w <- w - lambda w that the learning rate does not multiply.

    Raises:
        ArgumentError: theta is not positive and finite.
    """
    require_real(theta, "theta", POSITIVE)
    decay = 1.0 if independent_decay else theta**update.power
    return RoleRule(
        mult=rule.mult * theta,
        init=rule.init / theta,
        lr=rule.lr / theta**update.power,
        eps=None if rule.eps is None else rule.eps * theta,
        wd=None if rule.wd is None else rule.wd * decay,
    )
