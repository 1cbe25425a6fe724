"""Fixtures for all rooms, and the table of seconds per room at the end of a test run."""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

hypothesis.settings.register_profile("translimit", deadline=None)  # no timed tests
hypothesis.settings.load_profile("translimit")

TESTS = Path(__file__).parent


#: Memory mappings of a worker of the test run above which it forgets what it has compiled.
MOST_MAPPINGS = 20_000


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs() -> Iterator[None]:
    """Drop what JAX compiled when a file is done and the process has many mappings."""
    yield
    if "jax" in sys.modules:
        from translimit.core import drop_programs

        drop_programs(MOST_MAPPINGS)


@pytest.fixture(autouse=True, scope="session")
def _kept_programs() -> None:
    """Both workers, and the next run, find what one has compiled."""
    from translimit.core import keep_programs

    keep_programs()


#: The rooms whose files take longest, in that order.
LONG_ROOMS = ("experiments", "limits", "predict", "train", "cli", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: short ones are left for the end, where workers run out."""
    order = {room: place for place, room in enumerate(LONG_ROOMS)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(order)))


@pytest.fixture
def as_user() -> Iterator[None]:
    """Run without the shape checks of the test suite, as a user does, to see our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Trap:
    """An object that leaves a folder behind where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    """A trap, for readers of files that anybody may have written; its `mark` is not there yet."""
    return Trap(tmp_path / "it-was-unpickled")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make `fake_experiments` importable here and in child processes; returns their environment."""
    folder = str(TESTS / "fakes")
    monkeypatch.syspath_prepend(folder)
    search = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what could not run here and why, then seconds and tests per room."""
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.section("not run here")
        for reason, number in sorted(skipped.items()):
            terminalreporter.write_line(f"{number:5d} tests  {reason}", yellow=True)
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not hasattr(report, "duration") or not hasattr(report, "nodeid"):
                continue
            parts = Path(report.nodeid.split("::")[0]).parts
            room = "/".join(parts[1:-1]) or "."
            seconds[room] += report.duration
            tests[room].add(report.nodeid)
    if not seconds:
        return
    terminalreporter.section("seconds per room")
    for room in sorted(seconds, key=lambda name: -seconds[name]):
        terminalreporter.write_line(f"{seconds[room]:9.1f} s  {len(tests[room]):5d} tests  {room}")
    terminalreporter.write_line(f"{sum(seconds.values()):9.1f} s  in all, summed over workers")


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped, in its own words."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
