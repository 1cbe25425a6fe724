"""The methods by which flows of the Transformer PDE are solved, under the limit's own name."""

from translimit.integrate import AdaptiveODE as AdaptiveODE
from translimit.integrate import FixedODE as FixedODE
from translimit.integrate import LogTimeODE as LogTimeODE
