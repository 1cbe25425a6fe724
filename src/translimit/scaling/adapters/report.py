"""The report of an application of the rules: plain data, from which groups are built again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from translimit.core import ConfigError, Json, JsonObject, TorchTensors, cause_of
from translimit.scaling.adapters.names import bare_name
from translimit.scaling.engine import Rules

KIND = "translimit.scaling.applied"
SCHEMA = 2


class AppliedScale(TypedDict):
    """The score scale of one module: its attribute, the value before (None: not told) and now."""

    attribute: str
    before: float | None
    now: float


class AppliedNumbers(TypedDict):
    """What the optimiser takes of one parameter, absolute, and the ratio of its rate."""

    lr: float
    lr_ratio: float
    weight_decay: float
    update: str
    eps: NotRequired[float]


class AppliedParameter(AppliedNumbers):
    """One parameter: its role, its shape, the factor of its start, and what it takes."""

    role: str
    packed: bool
    shape: list[int]
    factor: float
    trained: bool


class AppliedReport(TypedDict):
    """All of it, in the order of the module."""

    kind: str
    schema: int
    rules: dict[str, Json]
    table: str
    start: str
    warnings: list[str]
    scales: dict[str, AppliedScale]
    parameters: dict[str, AppliedParameter]


def read_report(
    source: str | Path | AppliedReport | JsonObject, rules: Rules, parameters: TorchTensors
) -> AppliedReport:
    """The report of an application of these rules to this module.

    Args:
        source: a file, or its content.
        rules: of the target.
        parameters: of the module.

    Raises:
        ConfigError: no report, of another version, of other rules or of another module.
    """
    saved = _read(source)
    for key, wanted in (("kind", KIND), ("schema", SCHEMA)):
        if saved.get(key) != wanted:
            raise ConfigError(
                "report",
                f"{key} is {saved.get(key)!r}, not {wanted!r}",
                "pass the report of an application by this version",
            )
    report = cast(AppliedReport, saved)
    if report["rules"]["digest"] != rules.digest:
        raise ConfigError("report", "is of other rules", "pass Rules.from_json(report['rules'])")
    then = {name: tuple(told["shape"]) for name, told in report["parameters"].items()}
    now = {bare_name(name): tuple(tensor.shape) for name, tensor in parameters.items()}
    if then != now:
        differing = sorted(name for name in then | now if then.get(name) != now.get(name))
        raise ConfigError(
            "report",
            f"is of another module: {', '.join(differing[:5])}",
            "pass the report of this module",
        )
    return report


def _read(source: str | Path | AppliedReport | JsonObject) -> Mapping[str, object]:
    if isinstance(source, Mapping):
        return source
    try:
        found = json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            str(source), f"cannot be read ({cause_of(error)})", "pass the report that `apply` gave"
        ) from error
    if not isinstance(found, Mapping):
        raise ConfigError(str(source), "holds no report", "pass the report that `apply` gave")
    return found
