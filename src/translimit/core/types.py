"""Names for what public annotations say everywhere: arrays, keys, times, and what is observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

#: An array of NumPy or JAX, to be given a shape: `Float[AnyArray, "times dim"]`.
AnyArray = np.ndarray | Array
#: Floats of any shape.
Floats = Float[AnyArray, "..."]
#: One number: of Python, NumPy or JAX, traced or not; and arrays of them.
Number = float | int | Float[AnyArray, ""]
Numbers = Floats | float
#: The times that a solution keeps.
Times = Float[AnyArray, " times"]
#: What draws random numbers.
Key = PRNGKeyArray
#: Told the fraction that is done.
Progress = Callable[[float], object]
#: A function of the time and the state of a problem, in terms of JAX.
Observable = Callable[[Array, Any], Array]
#: Observables by name.
Observables = Mapping[str, Observable]
