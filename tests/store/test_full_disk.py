"""A full disk, a limit on files: every writer tells it, and so does standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "fakes" / "full_disk.py"
#: What these writers leave is a store of cells, whose unfinished cells have no manifest.
PARTIAL = {"merge", "upload"}


@pytest.mark.skipif(os.name == "nt", reason="limits on files are those of POSIX")
def test_every_writer_on_a_full_disk(tmp_path, fakes):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path)], env=fakes, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert len(found) == 12
    for name, one in found.items():
        # Storing a cell raises what the system says; whoever asked for the cell tells it.
        assert one["raised"] == ("OSError" if name == "cell" else "DiskFullError"), name
        assert one["torn"] == [], name
        assert one["lost"] == [], name
        assert one["written"], name
        assert not [file for file in one["changed"] if file.endswith("manifest.json")], name
        assert name in PARTIAL or one["changed"] == [], name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("words", [["cite"], ["list", "--json"]])
def test_standard_output_on_a_full_disk(words, fakes):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "translimit", *words],
            env=fakes,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    told = "translimit: standard output: the disk is full; free space and do it again\n"
    assert (done.returncode, done.stderr) == (1, told)
