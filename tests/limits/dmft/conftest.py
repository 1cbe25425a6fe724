"""Solutions that several files of this folder look at."""

from typing import Any

import pytest
from tests.limits.dmft.cases import BASE, ring4

from translimit.core import (
    solve,
)


@pytest.fixture(scope="module")
def base() -> Any:
    return solve(ring4(**BASE))
