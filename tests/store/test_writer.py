"""One writer at a time: the second waits, continues, or is refused."""

import json
import signal
import subprocess
import sys

import pytest
from tests.store.making import INFO, store

from translimit.core import StoreError
from translimit.store import (
    being_written,
    writing,
)


def test_a_second_writer_continues_and_removes_temporaries(tmp_path):
    with writing(tmp_path, INFO):
        store(tmp_path, "one")
    started = json.loads((tmp_path / "run.json").read_text()).get("started")
    (tmp_path / "cells" / "a-b" / ".tmp-two-1-ff").mkdir()
    (tmp_path / "cells" / "a-b" / ".tmp-two-1-ff" / "x").write_text("half")
    (tmp_path / ".tmp-run.json-1-ff").write_text("half")
    with writing(tmp_path, INFO) as run:
        assert run.previous is not None
        assert run.info.get("started") == started
        assert [state.state for state in run.states()] == ["whole", "missing"]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_two_writers(tmp_path):
    with writing(tmp_path, INFO):
        assert being_written(tmp_path)
        with pytest.raises(StoreError, match="another process is writing"), writing(tmp_path, INFO):
            pass
    assert not being_written(tmp_path)
    with writing(tmp_path, INFO):
        pass


def test_a_writer_in_another_process_blocks_until_it_is_killed(tmp_path):
    program = (
        "import json, sys, time\n"
        "from translimit.store import writing\n"
        "with writing(sys.argv[1], json.loads(sys.argv[2])):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), json.dumps(INFO)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert being_written(tmp_path)
        with pytest.raises(StoreError, match="another process"), writing(tmp_path, INFO):
            pass
        process.send_signal(signal.SIGKILL)
    assert not being_written(tmp_path)
    with writing(tmp_path, INFO):
        pass
