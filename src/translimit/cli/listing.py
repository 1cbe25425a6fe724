"""The experiments as `translimit list` shows them: one a line, by paper."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from translimit.cli.tables import duration
from translimit.core import ConfigError, nearest

#: Presets whose cost a line tells.
COSTS = ("demo", "standard")


def chosen(
    listed: Sequence[Mapping[str, Any]], paper: str, question: str
) -> list[Mapping[str, Any]]:
    """The experiments of a paper that are about a question.

    Args:
        listed: experiments, as `translimit list --json` describes them.
        paper: the first half of their names; all of them by default.
        question: words that title, question, summary or names of claims have; any by default.

    Raises:
        ConfigError: there is no such paper, or nothing is about the question.
    """
    papers = dict.fromkeys(one["name"].partition("/")[0] for one in listed)
    if paper and paper not in papers:
        raise ConfigError("--paper", f"unknown paper {paper!r}", nearest(paper, papers))
    found = [one for one in listed if not paper or one["name"].partition("/")[0] == paper]
    words = question.lower().split()
    found = [one for one in found if all(word in _text(one) for word in words)]
    if not found:
        raise ConfigError(
            "--question", f"no experiment is about {question!r}", "leave a word out, or `list` all"
        )
    return found


def listed_by_paper(listed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines: a heading for each paper, then name, cost and question of its experiments."""
    from translimit.experiments import PAPERS

    width = max(len(one["name"].partition("/")[2]) for one in listed)
    most = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    papers = {one["name"].partition("/")[0] for one in listed}
    ordered = [*(paper for paper in PAPERS if paper in papers), *sorted(papers - set(PAPERS))]
    for paper in ordered:
        yield f"{paper}: {PAPERS[paper]}" if paper in PAPERS else paper
        for one in listed:
            own, _, name = one["name"].partition("/")
            if own == paper:
                line = f"  {name:{width}}  {_cost(one):>15}  {_question(one)}"
                yield line[: most - 1] + "…" if 0 < most < len(line) else line
        yield ""
    yield "cost on one core: demo / standard; `translimit list NAME` tells the claims"


def _cost(one: Mapping[str, Any]) -> str:
    presets = one["presets"]
    return " / ".join(duration(presets[name]["seconds"]) for name in COSTS if name in presets)


def _question(one: Mapping[str, Any]) -> str:
    return one["question"] or one["title"].replace("$", "")


def _text(one: Mapping[str, Any]) -> str:
    names = (name for preset in one["presets"].values() for name in preset["claims"])
    return " ".join((one["name"], one["title"], one["question"], one["summary"], *names)).lower()
