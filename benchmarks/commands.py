"""How long whole commands take: an empty cache of compiled programs, a kept one, a busy machine.

    python benchmarks/commands.py [--demo] [--repeats R] [--out FILE]

Every row is a fresh process with its own cache folder, timed from outside: seconds of the wall and
of the processor (its children included), and the wall in units of `import jax` of the same round.
Busy means that one process a core counts for nothing meanwhile. With --demo also the experiments of
`make demo`, into an empty folder, with an empty cache and with kept programs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PREDICT = ["-m", "translimit", "predict", str(ROOT / "src/translimit/examples/gpt2.json")]
BARE = ["-c", "import jax"]


def demo_experiments() -> list[str]:
    """The experiments of `make demo`, as the Makefile names them."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    found = re.search(r"^DEMO := (.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1].split()


def seconds(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Wall and processor seconds of one fresh interpreter."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A process a core that only counts."""
    cores = len(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


def one_round(demo: bool) -> dict[str, tuple[float, float]]:
    """All rows once, caches empty at first."""
    rows: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        rows["import jax"] = seconds(BARE, cache)
        rows["predict, empty cache"] = seconds(PREDICT, cache)
        rows["predict, kept programs"] = seconds(PREDICT, cache)
        rows["predict, --no-cache"] = seconds([*PREDICT, "--no-cache"], cache)
        with busy():
            rows["import jax, busy"] = seconds(BARE, cache)
            rows["predict, empty cache, busy"] = seconds(PREDICT, cache / "busy")
            rows["predict, kept programs, busy"] = seconds(PREDICT, cache)
        if demo:
            run = ["-m", "translimit", "run", *demo_experiments(), "--preset", "demo", "--out"]
            rows["demo, empty cache"] = seconds([*run, str(cache / "first")], cache / "demo")
            rows["demo, kept programs"] = seconds([*run, str(cache / "second")], cache / "demo")
    return rows


def main() -> int:
    """Print the table: medians over rounds."""
    parser = argparse.ArgumentParser(description="whole commands")
    parser.add_argument("--demo", action="store_true", help="also the experiments of make demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    options = parser.parse_args()
    seconds(BARE, Path(tempfile.gettempdir()))  # fills the file caches
    rounds = [one_round(options.demo and number == 0) for number in range(options.repeats)]
    bare = statistics.median(one["import jax"][0] for one in rounds)
    print(f"{'':30}{'wall':>8}{'processor':>11}{'/ import jax':>14}")
    table = {}
    for name in rounds[0]:
        walls, cpus = zip(*(one[name] for one in rounds if name in one), strict=True)
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        table[name] = {"wall": wall, "processor": cpu}
        print(f"{name:30}{wall:8.2f}{cpu:11.2f}{wall / bare:14.1f}")
    if options.out:
        options.out.write_text(json.dumps(table, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
