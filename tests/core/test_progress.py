"""A progress bar appears where something takes its time, and a terminal is there to see it."""

import io
import time

from translimit.core import part_of, progress_bar


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self):
        return True


def in_a_terminal(monkeypatch):
    """Standard output and error of a program in a terminal; for the body of a test only."""
    monkeypatch.setenv("TERM", "xterm")
    out, error = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", error)
    return out, error


def test_what_is_done_at_once_shows_no_bar(monkeypatch):
    _, error = in_a_terminal(monkeypatch)
    with progress_bar("quick") as report:
        report(0.5)
    assert "quick" not in error.getvalue()


def test_a_bar_appears_before_anything_is_reported(monkeypatch):
    out, error = in_a_terminal(monkeypatch)
    monkeypatch.setattr("translimit.core.progress.PATIENCE", 0.01)
    with progress_bar("slow") as report:
        time.sleep(0.3)
        report(0.5)
    assert "slow" in error.getvalue()
    assert out.getvalue() == ""


def test_a_pipe_behind_standard_output_leaves_the_bar(monkeypatch):
    _, error = in_a_terminal(monkeypatch)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("translimit.core.progress.PATIENCE", 0.01)
    with progress_bar("slow") as report:
        time.sleep(0.3)
        report(0.5)
    assert "slow" in error.getvalue()


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
