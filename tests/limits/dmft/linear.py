"""A deep linear network."""

from tests.limits.dmft.cases import RICH

from translimit.describe import Activation

LINEAR = {**RICH, "layers": 3, "attention": False, "mlp": Activation.LINEAR}
