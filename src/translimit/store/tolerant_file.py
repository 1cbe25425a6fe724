"""A file for HDF5, which ends its process where a write fails: no write fails, and one is told.

HDF5 keeps what it could not write and tries again whenever an object of the file goes, which ends
in a segmentation fault. So it is given a file that takes every write. What the system refuses is
kept in memory, for HDF5 reads again what it has written; whoever writes looks at `failure` now and
then and stops.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = object  # Python has no class of it before 3.12


class TolerantFile(io.RawIOBase):
    """A new binary file to read and write, in which every write succeeds.

    Args:
        path: of the file; an old one is emptied.

    Attributes:
        failure: the first error of the system, or None while all is well.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.failure: OSError | None = None
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115, closed by `close`
        self._refused: list[tuple[int, bytes]] = []  # what the system did not take, and where
        self._position, self._size = 0, 0

    def require_written(self) -> None:
        """Go on only if all is written so far.

        Raises:
            OSError: the first error.
        """
        if self.failure is not None:
            raise self.failure

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        """The place."""
        return self._position

    def write(self, data: Buffer) -> int:
        """Write bytes at the place, or keep them where the system refuses."""
        content = memoryview(data).cast("B")
        at, done = self._position, 0
        try:
            self.require_written()
            self._file.seek(at)
            while done < len(content):
                done += self._file.write(content[done:])
        except OSError as error:
            self.failure = self.failure or error
            self._refused.append((at + done, bytes(content[done:])))
        self._position = at + len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def readinto(self, buffer: Buffer) -> int:
        """Read what was written at the place."""
        view = memoryview(buffer).cast("B")
        at = self._position
        number = max(0, min(len(view), self._size - at))
        found = bytearray(number)
        self._file.seek(at)
        there = self._file.read(number)
        found[: len(there)] = there
        for start, content in self._refused:
            first, last = max(start, at), min(start + len(content), at + number)
            if first < last:
                found[first - at : last - at] = content[first - start : last - start]
        view[:number] = found
        self._position += number
        return number

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        self._size = self._position if size is None else size
        try:
            self.require_written()
            self._file.truncate(self._size)
        except OSError as error:
            self.failure = self.failure or error
        return self._size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
