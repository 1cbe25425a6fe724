"""Workers of every test here can import the fake experiments."""

import pytest


@pytest.fixture(autouse=True)
def _importable(fakes):
    pass
