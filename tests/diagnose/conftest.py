"""The byte model, read once, and its diagnosis."""

import pytest

from translimit.diagnose import diagnose, held_out_windows, packaged_folder, read_checkpoint

TOKENS = 24


@pytest.fixture(scope="session")
def byte_model():
    return read_checkpoint(packaged_folder())


@pytest.fixture(scope="session")
def windows():
    return held_out_windows(8)[:, :TOKENS]


@pytest.fixture(scope="session")
def diagnosis(byte_model, windows):
    return diagnose(byte_model, windows, key=0, draws=8)
