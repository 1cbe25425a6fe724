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

import enum
from dataclasses import asdict, dataclass

from translimit.core import ArgumentError


class Update(enum.Enum):
    """How an optimiser's step depends on the gradient."""

    GRADIENT = "proportional to it"
    ADAM = "of unit size entry by entry, above an epsilon"
    SIGN = "its sign"
    ORTHOGONAL = "its orthogonal factor"

    @property
    def power(self) -> int:
        """The power p of eta -> eta / theta^p."""
        return 2 if self is Update.GRADIENT else 1


@dataclass(frozen=True)
class RoleRule:
    """What the parameters of one role take; ratios target / base unless said otherwise.

    Attributes:
        mult: forward multiplier of the parameter, the factor `residual` of its branch not
            included.
        init: standard deviation of a random start; of a constant start (gain 1), the constant.
        lr: learning rate, times the schedule of the base.
        eps: epsilon of Adam, or None for an update that has none.
        wd: weight decay lambda, or None where the optimiser has none to scale.
    """

    mult: float
    init: float
    lr: float
    eps: float | None = None
    wd: float | None = None

    def moved(self, theta: float, update: Update, *, independent_decay: bool = False) -> RoleRule:
        """The same trajectory with the multiplier times theta.

        Args:
            theta: positive.
            update: of the optimiser.
            independent_decay: decay w <- w - lambda w that the learning rate does not multiply.

        Raises:
            ArgumentError: theta is not positive and finite.
        """
        if not 0 < theta < float("inf"):
            raise ArgumentError("theta", f"got {theta}", "pass a positive number")
        decay = 1.0 if independent_decay else theta**update.power
        return RoleRule(
            mult=self.mult * theta,
            init=self.init / theta,
            lr=self.lr / theta**update.power,
            eps=None if self.eps is None else self.eps * theta,
            wd=None if self.wd is None else self.wd * decay,
        )

    def times(self, other: RoleRule) -> RoleRule:
        """Entry by entry: absolute values times ratios, or ratios of two steps in a row."""
        return RoleRule(
            mult=self.mult * other.mult,
            init=self.init * other.init,
            lr=self.lr * other.lr,
            eps=None if self.eps is None or other.eps is None else self.eps * other.eps,
            wd=None if self.wd is None or other.wd is None else self.wd * other.wd,
        )

    def to_json(self) -> dict[str, float | None]:
        """The five entries as plain data."""
        return asdict(self)
