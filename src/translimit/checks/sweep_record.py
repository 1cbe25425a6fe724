"""What a transfer sweep is told as: plain data, as `--json` prints it and files keep it."""

from typing import TypedDict


class SizeRow(TypedDict):
    """The optimum of one size, what the base's costs it, and the losses at both."""

    size: int
    log10_optimum: float
    stderr: float
    bound: str
    optimum_drift: float
    optimum_drift_stderr: float
    regret: float
    regret_stderr: float
    curvature: float
    censored: float
    verdict: str
    loss_at_optimum: float
    loss_at_optimum_stderr: float
    loss_at_base_rate: float
    loss_at_base_rate_stderr: float
    loss_one_step_above: float


class SweepRecord(TypedDict):
    """A transfer sweep as plain data."""

    axis: str
    steps: int
    schedule: str
    seeds: int
    rates: list[float]
    optimum_drift: float
    optimum_drift_stderr: float
    optimum_drift_in_words: str
    verdict: str
    sizes: list[SizeRow]
    warnings: list[str]
    losses: list[list[list[float]]]
    cap: float
