"""The laws of heads and the clocks, under the limit's own name."""

from translimit.core import Retraction as Retraction
from translimit.describe import Clocks as Clocks
from translimit.describe import FiniteHeads as FiniteHeads
from translimit.describe import GaussianHeads as GaussianHeads
from translimit.describe import SampledHeads as SampledHeads
from translimit.describe import ShiftedHeads as ShiftedHeads
from translimit.describe import WideHeads as WideHeads
from translimit.describe import diffusive_step as diffusive_step
