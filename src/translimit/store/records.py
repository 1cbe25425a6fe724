"""The files of a run as records: which keys there are, and what type their values have.

`translimit.store.shapes` checks the files that are read; a key that an older or newer version did
not write is told when it is asked for.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from translimit.core import Json


class CellEntry(TypedDict):
    """A cell in `run.json`: its name, parameters, and the digest of its computation."""

    name: str
    parameters: dict[str, Json]
    digest: str


class ExperimentEntry(TypedDict):
    """An experiment in `run.json`."""

    name: str
    source: str
    title: str
    citations: list[str]
    config: dict[str, Json]
    cells: list[CellEntry]


class CellFailure(TypedDict):
    """A cell that failed: the last error with its traceback, and the errors of all attempts."""

    cell: str
    error: str
    details: str
    attempts: int
    errors: list[str]


class CellRetries(TypedDict):
    """A cell that is whole and failed at first."""

    cell: str
    attempts: int
    errors: list[str]


class RunStart(TypedDict):
    """What `run.json` says when a run starts.

    `status` is "running", "interrupted", "incomplete" or "complete"; `command` is the command line
    that remakes the run.
    """

    status: str
    digest: str
    command: str
    preset: str
    seed: int
    threads: int
    device: str
    keys: str
    overrides: list[str]
    executor: str
    workers: int | None
    experiments: list[ExperimentEntry]
    packages: dict[str, str]
    python: str
    platform: str
    devices: list[str]
    started: str
    wall_seconds: float
    failed: list[CellFailure]
    retried: list[CellRetries]


class RunRecord(RunStart):
    """The contents of `run.json`: with the number of the layout, and the version that wrote it."""

    format: int
    translimit: str


class RunIdentity(TypedDict):
    """What of `run.json` tells which run it is."""

    digest: str
    experiments: list[ExperimentEntry]
    seed: int
    threads: int
    device: str
    keys: NotRequired[str]


class EstimateRecord(TypedDict):
    """An estimate of a claim."""

    value: float
    stderr: float
    count: int
    discretisation: float


class RivalRecord(TypedDict):
    """A rival of a claim: what it predicts, and by how many standard errors it is excluded."""

    name: str
    prediction: float
    estimate: EstimateRecord | None
    stderr: float
    printed: bool
    gap: float
    floor: float
    excluded_by: float
    refuted: bool


class ClaimRecord(TypedDict):
    """A claim of the ledger, as `Claim.to_json` writes it.

    Versions before 0.2 knew neither rivals nor remarks.
    """

    name: str
    statement: str
    prediction: float
    estimate: EstimateRecord
    tol: float
    printed: str
    reference: str
    one_sided: bool
    gap: float
    floor: float
    verdict: str
    rivals: NotRequired[list[RivalRecord]]
    nearest: NotRequired[str | None]
    decided_by: NotRequired[str]
    remark: NotRequired[str]


class LedgerRecord(TypedDict):
    """The contents of `claims.json`: claims by the name of their experiment."""

    format: NotRequired[int]
    experiments: dict[str, list[ClaimRecord]]


class FileEntry(TypedDict):
    """A file of a cell in its manifest."""

    sha256: str
    bytes: int


class ManifestRecord(TypedDict):
    """The manifest of a cell; what the computation said about itself may be absent."""

    experiment: str
    cell: str
    digest: str
    files: dict[str, FileEntry]
    pid: NotRequired[int]
    finished: NotRequired[str]
    seconds: NotRequired[float]
    device: NotRequired[str]
    threads: NotRequired[int]


class ArrayRecord(TypedDict):
    """The description of an array, as zarr of format 2 writes it."""

    dtype: Json
    filters: Json
    compressor: dict[str, Json] | None


class MarkRecord(TypedDict):
    """Who computes a cell, and since when (seconds since the epoch)."""

    pid: int
    host: str
    started: float
