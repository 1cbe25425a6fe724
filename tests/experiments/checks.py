"""What the tests of experiments do alike: compute all cells, draw all figures, read verdicts."""

import pytest
from matplotlib.figure import Figure
from tests.figures.vision import colour_alone

from translimit.core import ConfigError, Verdict
from translimit.diagnose import packaged_checkpoint
from translimit.study.needs import costs_of_cells

#: The checkpoint in a package that an experiment reads.
CHECKPOINTS = {
    "checkpoints/minilm": "MiniLM",
    "checkpoints/rxnmapper": "rxnmapper",
    "checkpoints/smollm2": "SmolLM2",
}


def skip_without_checkpoint(name: str) -> None:
    """Skip the test where an experiment reads a checkpoint whose package is not installed."""
    if name not in CHECKPOINTS:
        return
    try:
        packaged_checkpoint(CHECKPOINTS[name])
    except ConfigError as error:
        pytest.skip(str(error))


def compute(experiment, config):
    """The datasets of all cells by name."""
    return {c.name: experiment.compute_cell(config, c, 0) for c in experiment.cells(config)}


def drawn(spec) -> Figure:
    """The figure of a specification: drawn, with its table, and no series told by colour alone."""
    figure = Figure(figsize=spec.size)
    spec.draw(figure)
    assert figure.axes
    assert colour_alone(figure) == [], spec.name
    assert spec.shown > 0
    assert spec.table.rows
    assert all(len(row) == len(spec.table.columns) for row in spec.table.rows)
    return figure


def draw_all(experiment, config, results) -> list[str]:
    """Draw every figure into an empty one; the names of the figures."""
    specs = experiment.drawings(config, results)
    return [spec.name for spec in specs if drawn(spec)]


def verdicts(experiment, config, results) -> dict[str, Verdict]:
    """Verdicts by the names of claims, all of them announced."""
    claims = experiment.check(config, results)
    assert {claim.name for claim in claims} <= set(experiment.claim_names(config))
    return {claim.name: claim.verdict for claim in claims}


def needs(experiment, config) -> tuple[int, float, float]:
    """How many cells a configuration has, their seconds, and the largest memory of one."""
    cells = experiment.cells(config)
    costs = costs_of_cells(experiment, config, cells)
    return len(cells), sum(seconds for seconds, _ in costs), max(memory for _, memory in costs)
