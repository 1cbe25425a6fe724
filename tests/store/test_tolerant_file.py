"""A file that reads back what the system refused."""

import errno
import os

import pytest

from translimit.store.tolerant_file import TolerantFile


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
