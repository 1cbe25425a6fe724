"""A store that is away is waited for, and nothing else."""

import errno
import threading
import time

import pytest
from tests.store.jobs import data

from translimit.core import StoreError
from translimit.store import (
    CellAddress,
    cell_state,
    new_start,
    patiently,
    require_start,
    write_cell,
)


def test_a_store_that_returns_is_waited_for(tmp_path):
    run, away = tmp_path / "run", tmp_path / "away"
    run.mkdir()
    token = new_start(run)
    address = CellAddress(run, "a/b", "c", "0")
    run.rename(away)
    back = threading.Timer(0.5, lambda: away.rename(run))
    back.start()
    patiently(lambda: write_cell(address, data(), token=token), run, seconds=30.0)
    back.join()
    assert cell_state(address).whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_patience_ends(tmp_path):
    run = tmp_path / "run"
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"was out of reach for 0.3 seconds .*when it is back"):
        patiently(lambda: require_start(run, "token"), run, seconds=0.3)
    assert time.monotonic() - started < 10
    assert not run.exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "denied"), OSError(errno.ENOSPC, "full"), ValueError("no")]
)
def test_other_errors_are_not_waited_for(tmp_path, error):
    new_start(tmp_path)
    calls = []

    def fail():
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(fail, tmp_path, seconds=30.0)
    assert len(calls) == 1
