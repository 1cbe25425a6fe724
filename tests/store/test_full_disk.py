"""A full disk, a limit on files, a folder that is none: whole or not at all, and told."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from translimit.core import (
    TEMPORARY,
    DiskFullError,
    StoreError,
    disk_full,
    unwritable,
    whole_file,
    write_all,
)
from translimit.store.tolerant_file import TolerantFile

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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_recognised_in_whatever_a_library_raises(code):
    system = OSError(code, os.strerror(code))
    text = f"write failed: errno = {code}, error message = '{os.strerror(code)}'"
    wrapped = ValueError("archive")
    wrapped.__context__ = system
    for error in (system, RuntimeError(text), OSError(text), wrapped):
        assert disk_full(error)
        assert isinstance(unwritable("x", error, remedy="r"), DiskFullError)
    for error in (None, OSError(errno.EROFS, "Read-only file system"), ValueError(text)):
        assert not disk_full(error)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space"), DiskFullError, "x: the disk is full; free space and a"),
        (RuntimeError(os.strerror(errno.EFBIG)), DiskFullError, "x: the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), StoreError, r"written \(Read-only .*; r"),
        (RuntimeError("of the block itself"), RuntimeError, "of the block itself"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_a_file_is_whole_or_as_it_was(tmp_path, error, kind, message):
    path = tmp_path / "x"
    path.write_text("old")

    def torn():
        with whole_file(path, remedy="r", again="a") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(kind, match=message):
        torn()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with whole_file(path, remedy="r") as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "x"
    told = pytest.raises(StoreError, match=r"cannot be written \(Not a directory\); name another")
    with told, whole_file(path, remedy="name another") as temporary:
        temporary.write_text("x")


def test_files_appear_together(tmp_path, monkeypatch):
    names = [tmp_path / name for name in "abc"]
    for path in names:
        path.write_text("old")
    calls, real = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "full")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            write_all(dict.fromkeys(names, b"new"))
    assert [path.read_text() for path in names] == ["old"] * 3
    assert not [path for path in tmp_path.iterdir() if TEMPORARY in path.name]
    write_all(dict.fromkeys(names, b"new"))
    assert [path.read_text() for path in names] == ["new"] * 3


def test_a_tolerant_file_reads_back_what_the_system_refused(tmp_path, monkeypatch):
    """The same bytes as a file without a limit, whatever was written where, and one error."""
    import random

    rng, expected = random.Random(0), bytearray()
    with TolerantFile(tmp_path / "x") as file:

        class Limited:
            """The file below, which takes nothing beyond a place."""

            def __getattr__(self, name):
                return getattr(below, name)

            def write(self, data):
                room = 50 - below.tell()
                if room <= 0:
                    raise OSError(errno.EFBIG, "File too large")
                return below.write(data[:room])

        below = file._file
        monkeypatch.setattr(file, "_file", Limited())
        for _ in range(200):
            at, data = rng.randrange(90), rng.randbytes(rng.randint(1, 20))
            expected.extend(bytes(max(0, at + len(data) - len(expected))))
            expected[at : at + len(data)] = data
            file.seek(at)
            assert file.write(data) == len(data)
            at = rng.randrange(len(expected))
            file.seek(at)
            assert file.read(20) == expected[at : at + 20]
        assert file.seek(0, os.SEEK_END) == len(expected)
        with pytest.raises(OSError, match="File too large"):
            file.require_written()
