r"""A parameterization: how every role starts, is multiplied and moves. Numbers only.

A weight is used as W = mult w, w starts with standard deviation `init`, and an optimiser at base
rate eta moves w with the rate lr eta, the epsilon eps epsilon_0 and the decay wd lambda_0. The
scores carry one absolute factor c, every branch one absolute factor b:

    A_ij = c q_i . k_j,      h <- skip h + b branch(h).

Models read the multipliers, optimisers the rest; scaling rules and the parameterizations of papers
are functions that return one of these.

Reference: documentation, "Scaling rules"; Bordelon et al., arXiv 2405.15712, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from translimit.core import NOT_NEGATIVE, POSITIVE, ArgumentError, nearest, require_real
from translimit.describe.roles import BESIDE_BLOCKS, Role, unknown_role
from translimit.describe.size import Size


@dataclass(frozen=True)
class RoleRule:
    """What the parameters of one role take: absolute numbers, or ratios target / base.

    Attributes:
        mult: forward multiplier of the parameter, the factor `residual` of its branch not
            included.
        init: standard deviation of a random start; of a constant start (gain 1), the constant.
        lr: learning rate, times the schedule of the base.
        eps: epsilon of Adam, or None for an update that has none.
        wd: weight decay lambda, or None where the optimiser has none to scale.
    """

    mult: float = 1.0
    init: float = 1.0
    lr: float = 1.0
    eps: float | None = None
    wd: float | None = None

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


@dataclass(frozen=True)
class Parameterization:
    """The numbers of one network, role by role, all absolute.

    `init` of a role is its standard deviation, the constant of a gain or 0 of a bias; `lr`, `eps`
    and `wd` multiply the rate, the epsilon and the decay of the optimiser.

    Attributes:
        size: of the network.
        roles: what each role takes; 1 of everything where a role is absent.
        score_scale: c, what multiplies q . k.
        residual: b, the factor of every branch.
        skip: weight of the skip connection, 1 but for shaped blocks.

    Raises:
        ArgumentError: a number that is negative, NaN or infinite.
    """

    size: Size
    roles: Mapping[Role, RoleRule]
    score_scale: float
    residual: float = 1.0
    skip: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))
        numbers = {name: getattr(self, name) for name in _OUTSIDE}
        for role, rule in self.roles.items():
            numbers |= {f"{role.value}.{name}": v for name, v in rule.to_json().items()}
        for name, value in numbers.items():
            if value is not None:
                require_real(value, name, NOT_NEGATIVE)

    def __hash__(self) -> int:
        return hash((frozenset(self.roles.items()), self.score_scale, self.residual, self.skip))

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.size, dict(self.roles), self.score_scale, self.residual, self.skip)
        return type(self), arguments

    def role(self, role: Role | str) -> RoleRule:
        """What the parameters of a role take.

        Raises:
            ArgumentError: no such role.
        """
        try:
            return self.roles.get(Role(role), RoleRule())
        except ValueError:
            raise unknown_role(role) from None

    @property
    def readout(self) -> float:
        """The multiplier of the readout weight: `mult` of its role."""
        return self.role(Role.READOUT).mult

    def table(self) -> dict[str, dict[str, float | None]]:
        """Role to `mult`, `init`, `lr`, `eps` and `wd`."""
        return {role.value: rule.to_json() for role, rule in self.roles.items()}

    def changed(self, roles: Role | Iterable[Role] = (), **numbers: float) -> Parameterization:
        """Another one, with numbers of some roles replaced.

        Args:
            roles: whose `mult`, `init`, `lr`, `eps` or `wd` are given; without any, `score_scale`,
                `residual` and `skip` are.
            numbers: the new values.

        Raises:
            ArgumentError: a number of another name.

        >>> from translimit.describe import Size
        >>> start = Parameterization(Size(head_dim=4, heads=2, layers=1), {}, score_scale=0.5)
        >>> start.changed(Role.READOUT, init=0.0).role("readout").init
        0.0
        """
        return self._with(roles, numbers, lambda old, new: new)

    def times(self, roles: Role | Iterable[Role] = (), **ratios: float) -> Parameterization:
        """Another one, with numbers of some roles multiplied; names as in `changed`."""
        return self._with(roles, ratios, lambda old, ratio: (1.0 if old is None else old) * ratio)

    def _with(
        self,
        roles: Role | Iterable[Role],
        numbers: Mapping[str, float],
        make: Callable[[float | None, float], float],
    ) -> Parameterization:
        roles = (roles,) if isinstance(roles, Role) else tuple(roles)
        known = [field.name for field in fields(RoleRule)] if roles else list(_OUTSIDE)
        for name in numbers:
            if name not in known:
                raise ArgumentError(
                    name,
                    f"is not a number of {'a role' if roles else 'the whole network'}",
                    nearest(name, known),
                )
        if not roles:
            return replace(self, **{n: make(getattr(self, n), v) for n, v in numbers.items()})
        changed = dict(self.roles)
        for role in roles:
            rule = self.role(role)
            new: dict[str, Any] = {n: make(getattr(rule, n), v) for n, v in numbers.items()}
            changed[role] = replace(rule, **new)
        return replace(self, roles=changed)


_OUTSIDE = ("score_scale", "residual", "skip")


def standard_parameterization(
    size: Size, *, pixels: int = 1, position_std: float = 0.5
) -> Parameterization:
    """The ordinary transformer: one rate, no multipliers, scores N^{-1/2} q . k.

    Weights have standard deviation (fan-in)^{-1/2}, tokens 1, gains start at 1 and biases at 0.

    Args:
        size: of the network.
        pixels: entries of a patch, the fan-in of the patch embedding.
        position_std: of learned positions.

    Raises:
        ArgumentError: a number that is not positive.

    Reference: documentation, "Scaling rules", the reference model.
    """
    for name, value in (("pixels", pixels), ("position_std", position_std)):
        require_real(value, name, POSITIVE)
    own = {
        Role.TOKEN_EMBEDDING: 1.0,
        Role.PATCH_EMBEDDING: pixels**-0.5,
        Role.POSITION_EMBEDDING: position_std,
    }

    def start(role: Role) -> float:
        if role.is_gain or role.is_bias:
            return float(role.is_gain)
        return own.get(role, role.fan_in.length(size) ** -0.5)

    return Parameterization(
        size=size,
        roles={
            role: RoleRule(1.0, start(role), 1.0, 1.0, 1.0)
            for role in Role
            if role is not Role.UNSCALED and role not in BESIDE_BLOCKS and not role.is_of_latent
        },
        score_scale=size.head_dim**-0.5,
    )
