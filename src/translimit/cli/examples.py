"""The example files of the package: configurations and programs to copy and change.

They lie in the folder `examples` of the installed package, one copy of each. What is written into a
user's folder is that user's own: it is never written over.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from translimit.core import ConfigError, nearest, whole_file

#: The example files in the order of the table, each with what it is for.
EXAMPLES: dict[str, str] = {
    "gpt2.json": "the config.json of GPT-2: `translimit predict gpt2.json`",
    "dmft.toml": "training dynamics in the limit: `translimit dmft dmft.toml`",
    "language.toml": "those of a small language model: `translimit dmft language.toml`",
    "runs.csv": "losses of small runs: `translimit extrapolate runs.csv --target 16`",
    "small_models.py": "factories of models for `translimit coord-check small_models:gpt2`",
    "two_hosts.py": "two processes that compute as one: `python two_hosts.py`",
    "two_ray_nodes.py": "a run on two Ray nodes, one of them lost: `python two_ray_nodes.py`",
}


def write_example(name: str, folder: Path) -> Path:
    """Write an example file into a folder, made where it is absent.

    Args:
        name: one of `EXAMPLES`.
        folder: where the file goes, under its own name.

    Returns:
        The path of the file.

    Raises:
        ConfigError: there is no such example, or a file of that name with other words is there.
        StoreError: the folder cannot be written to.
        DiskFullError: the disk is full.
    """
    if name not in EXAMPLES:
        raise ConfigError("NAME", f"got {name!r}", nearest(name, EXAMPLES))
    words = _source(name).read_bytes()
    path = folder / name
    if path.exists():
        if not path.is_file() or path.read_bytes() != words:
            raise ConfigError("NAME", f"{path} is there already", "move it or choose another --out")
        return path
    with whole_file(path, remedy="choose another --out", again="write it again") as temporary:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(words)
    return path


def _source(name: str) -> Traversable:
    return files("translimit") / "examples" / name
