"""A progress bar appears where something takes its time, and a terminal is there to see it."""

import io
import sys
import time

import pytest

from translimit.core import part_of, progress_bar


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self):
        return True


@pytest.fixture
def error(monkeypatch):
    """Standard error of a program in a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stderr", Terminal())
    return sys.stderr


def test_what_is_done_at_once_shows_no_bar(error):
    with progress_bar("quick") as report:
        report(0.5)
    assert "quick" not in error.getvalue()


def test_a_bar_appears_before_anything_is_reported(error, monkeypatch):
    monkeypatch.setattr("translimit.core.progress.PATIENCE", 0.01)
    with progress_bar("slow") as report:
        time.sleep(0.3)
        report(0.5)
    assert "slow" in error.getvalue()
    assert sys.stdout.getvalue() == ""


def test_no_bar_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("translimit.core.progress.PATIENCE", 0.01)
    with progress_bar("slow") as report:
        time.sleep(0.1)
        report(1.0)
    assert capsys.readouterr().err == ""


def test_parts_make_a_whole():
    seen = []
    assert part_of(None, 0.0, 0.5) is None
    for start in (0.0, 0.5):
        report = part_of(seen.append, start, start + 0.5)
        for fraction in (0.5, 1.0):
            report(fraction)
    assert seen == [0.25, 0.5, 0.75, 1.0]
