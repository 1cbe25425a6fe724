"""Small finished pieces of a long computation as JSON files: written as they come, read again."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from translimit.core import Json, StoreError, unwritable
from translimit.store.jsonfiles import load_json, write_json


class JsonCells(MutableMapping[str, Json]):
    """A mapping from the name of a piece to plain data, one file each; a file is whole or absent.

    Args:
        path: the folder, made if it is absent.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        return unwritable(self.path, error, remedy="choose another with --out", again="resume")

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def __contains__(self, name: object) -> bool:
        return self._file(str(name)).is_file()

    def __getitem__(self, name: str) -> Json:
        if name not in self:
            raise KeyError(name)
        return load_json(self._file(name))

    def __setitem__(self, name: str, data: Json) -> None:
        try:
            write_json(self._file(name), data)
        except OSError as error:
            raise self._unwritable(error) from error

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._file(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.path.glob("[!.]*.json")))

    def __len__(self) -> int:
        return sum(1 for _ in self)
