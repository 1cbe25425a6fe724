"""Files are whole or as they were, also on a full disk."""

import errno
import os

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
