from .cost import expected_rank as expected_rank
from .shape import Shape as Shape
