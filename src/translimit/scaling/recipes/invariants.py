r"""What no move of a tensor changes: the canonical form in which recipes are compared.

Every fixed factor counts in the multiplier m of one map: that of a branch in its last map, weight
and bias, that of the output in the readout, that of the embedding in the embedding; the scale of
the scores is a number of its own. Then

| number | of a tensor with multiplier m, start s, rate eta, epsilon, decay lambda |
|---|---|
| start | m s |
| rate | m^p eta, p = 2 for SGD and 1 else |
| epsilon | epsilon / m |
| decay | eta lambda; none where the tensor does not decay |

Pairs of tensors exchange a scale without effect; `Invariants.canonical` chooses among such forms
(`translimit.scaling.recipes.exchanges`).

Reference: documentation, "Scaling rules", recipes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType

from translimit.core import ArgumentError
from translimit.describe import BESIDE_BLOCKS, WITHOUT_RULE, Role, RoleRule, Size, Update
from translimit.scaling.engine import Rules
from translimit.scaling.recipes.exchanges import canonical
from translimit.scaling.recipes.monomials import Monomial

_SHORT = {
    "embedding": Role.TOKEN_EMBEDDING,
    "block_gain": Role.BLOCK_NORM_GAIN,
    "block_bias": Role.MLP_IN_BIAS,
    "end_bias": Role.MLP_OUT_BIAS,
    "final_gain": Role.FINAL_NORM_GAIN,
}
_NAMES = {role: row for row, role in _SHORT.items()}
#: Rows of a recipe, and the role of the rules that each stands for; most bear its name.
ROWS: Mapping[str, Role] = MappingProxyType({_NAMES.get(one, one.value): one for one in Role})
#: Rows that the rules of this library have whatever the sizes.
RULED = tuple(
    row
    for row, role in ROWS.items()
    if role not in WITHOUT_RULE or role in BESIDE_BLOCKS or role is Role.UNSCALED
)
NUMBERS = ("start", "rate", "epsilon", "decay")


@dataclass(frozen=True)
class Invariants:
    """The numbers of one recipe between two sizes.

    Attributes:
        name: of the recipe.
        base: the tuned size.
        target: the other one.
        exponents: by `row.number`, and `scores`; what one parameter has apart from the rest of its
            row by `row.number (parameter)`.
        powers: by row, p of the optimiser that moves it; 1 where none is told.
        normed: rows whose map a norm follows, so that its scale is no number of the network.
        undecided: numbers that more than one simple monomial explains, and what would tell.
    """

    name: str
    base: Size
    target: Size
    exponents: Mapping[str, Monomial]
    powers: Mapping[str, int] = field(default_factory=dict[str, int])
    normed: frozenset[str] = frozenset()
    undecided: Mapping[str, str] = field(default_factory=dict[str, str])

    def __getitem__(self, key: str) -> float:
        """A number, target over base.

        Raises:
            ArgumentError: no such number.
        """
        if key not in self.exponents:
            raise ArgumentError(
                key, f"is no number of {self.name!r}", f"known: {', '.join(self.exponents)}"
            )
        return self.exponents[key].at(self.base, self.target)

    def __iter__(self) -> Iterator[str]:
        return iter(self.exponents)

    def __len__(self) -> int:
        return len(self.exponents)

    def canonical(self, normed: Collection[str] = ()) -> Invariants:
        """The same network with every exchange of scales made.

        Args:
            normed: further rows whose map a norm follows.
        """
        both = self.normed | frozenset(normed)
        made = canonical(self.exponents, self.powers, both)
        return replace(self, exponents=made, normed=both)

    def table(self) -> dict[str, dict[str, str]]:
        """Row to its numbers, as monomials."""
        made: dict[str, dict[str, str]] = {}
        for key, power in self.exponents.items():
            row, _, number = key.partition(".")
            made.setdefault(row, {})[number or "scale"] = str(power)
        return made


def counted(
    rule: Mapping[str, Monomial | None], update: Update, branch: Monomial
) -> dict[str, Monomial]:
    """The numbers of one tensor from `mult`, `init`, `lr`, `eps` and `decay`.

    Args:
        rule: with None where there is no such number.
        update: of the optimiser.
        branch: the factor of the branch that the tensor ends, or 1.
    """
    one = Monomial()
    m = (rule.get("mult") or one) * branch
    made = {}
    if (init := rule.get("init")) is not None:
        made["start"] = m * init
    if (lr := rule.get("lr")) is not None:
        made["rate"] = m**update.power * lr
    if (eps := rule.get("eps")) is not None:
        made["epsilon"] = eps / m
    if (decay := rule.get("decay")) is not None:
        made["decay"] = decay
    return made


def of_rules(rules: Rules, name: str = "rules") -> Invariants:
    """The numbers of the rules of this library, whatever their style.

    Args:
        rules: whose exponents are fractions with small denominators, such as 1/2, 0.6, 3/4.
        name: how a comparison calls them.

    The exponents are those of three targets, each twice the base in one ratio.
    """
    question = rules.question
    base = Size(head_dim=8, heads=4, layers=2)
    small = replace(question, base=base, target=base, clipping=False)
    c_0 = small.base.head_dim**-0.5
    made: list[dict[str, float]] = []
    for target in (
        Size(head_dim=8, heads=8, layers=2),  # m_d
        Size(head_dim=16, heads=2, layers=2),  # m_N at the same width
        Size(head_dim=8, heads=4, layers=4),  # m_L
    ):
        asked = replace(small, target=target, base_score_scale=c_0)
        made.append(_numbers(Rules(asked)))
    exponents = {key: Monomial(*(_exact(one[key]) for one in made)) for key in made[0]}
    powers = {row: rules.update(ROWS[row]).power for row in RULED}
    return Invariants(name, question.base, question.target, exponents, powers)


def _numbers(rules: Rules) -> dict[str, float]:
    made = {"scores": rules.score_scale * rules.question.base.head_dim**0.5}
    for row in RULED:
        role = ROWS[row]
        rule: RoleRule = rules.role(role)
        m = rule.mult * (rules.residual if role.ends_branch else 1.0)
        power = rules.update(role).power
        if not role.is_bias:  # which start at zero, whatever multiplies them
            made[f"{row}.start"] = m * rule.init
        made[f"{row}.rate"] = m**power * rule.lr
        if rule.eps is not None:
            made[f"{row}.epsilon"] = rule.eps / m
        if rule.wd is not None and not (role.is_gain or role.is_bias):
            made[f"{row}.decay"] = rule.lr * rule.wd
    return made


def _exact(ratio: float) -> Fraction:
    return Fraction(math.log2(ratio)).limit_denominator(240)
