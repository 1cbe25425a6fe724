r"""For how many updates rates were seen to transfer: the ledger that ships with the rules.

A record is one cell of a sweep: data, optimiser, axis, schedule and number of updates, with the
drift of the best rate and what the base's costs at a multiple of the base. A horizon counts as
verified where every record of its optimiser, axis and kind of schedule that grew as much is
supported, and none of a shorter one is refuted. Nothing is extrapolated beyond it.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from translimit.core import (
    REFUTED,
    SUPPORTED,
    ConfigError,
    Json,
    JsonObject,
    Verdict,
    brief,
    config,
    with_error,
)
from translimit.scaling.engine import Rules

#: Of the file.
FORMAT = 1
#: The axes of a ledger, and their exponents' values at which it was made.
LEDGER_AXES: tuple[Literal["head_dim", "heads", "layers"], ...] = ("head_dim", "heads", "layers")
#: Sizes of the module of which no ledger has records.
_UNTRIED = ("experts", "active_experts", "mlp_ratio")
_NAMES = {"head_dim": "head dimension", **{one: one for one in ("heads", "layers", "width")}}
_NAMES |= {"experts": "experts", "active_experts": "active experts", "mlp_ratio": "MLP ratio"}
#: Schedules in sentences.
_RATES = {"constant": "a constant rate", "cosine": "cosine decay", "linear": "linear decay"}


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """One cell of a ledger.

    Attributes:
        data: what was learned.
        optimizer: that trained.
        axis: which size grew.
        schedule: of the rate.
        steps: updates.
        multiple: of the base along the axis.
        optimum_drift: of the best rate, in decades.
        optimum_drift_error: its standard error.
        regret: what the base's best rate costs, in nats.
        regret_error: its standard error.
        seeds: paired starts.
        epochs: how often the data were seen; 0 where nobody says.
        verdict: supported, underpowered or refuted.
        digest: of the run.
    """

    data: str
    optimizer: str
    axis: str
    schedule: str
    steps: int
    multiple: float
    optimum_drift: float
    optimum_drift_error: float
    regret: float
    regret_error: float
    seeds: int
    epochs: float
    verdict: str
    digest: str

    @property
    def supported(self) -> bool:
        """Whether the base's best rate serves."""
        return self.verdict == Verdict.supported.value

    @property
    def refuted(self) -> bool:
        """Whether it does not."""
        return self.verdict == Verdict.refuted.value

    def allowed(self, tol: float, regret_tol: float) -> bool:
        """Whether its numbers allow its verdict: supported, or refuted, only where they say so.

        Args:
            tol: of the drift, in decades.
            regret_tol: of the regret, in nats.
        """
        drift, paid = abs(self.optimum_drift), self.regret
        if self.supported:
            near = drift + SUPPORTED * self.optimum_drift_error <= tol
            return near or paid + SUPPORTED * self.regret_error <= regret_tol
        if self.refuted:
            far = drift - REFUTED * self.optimum_drift_error > tol
            return far and paid - REFUTED * self.regret_error > regret_tol
        return True

    def __str__(self) -> str:
        drift = with_error(self.optimum_drift, self.optimum_drift_error, "+.2f", unit="decades")
        paid = with_error(self.regret, self.regret_error, unit="nats")
        seen = f", {self.epochs:.2g} epochs" if self.epochs else ""
        return (
            f"{self.data} up to {self.steps} steps (drift {drift}, regret {paid} at "
            f"{self.multiple:g} times the base, {self.seeds} seeds{seen})"
        )


@dataclass(frozen=True)
class VerifiedHorizon:
    """What the ledger says of one axis under one kind of schedule.

    Attributes:
        axis: which size grows.
        ratio: by how much.
        schedule: of the rate; "" where nothing is known under any.
        horizons: the records of the largest verified number of steps, one for each data; none
            where no horizon is verified.
        refuted: records of the ledger that are.
    """

    axis: str
    ratio: float
    schedule: str
    horizons: tuple[Horizon, ...]
    refuted: tuple[Horizon, ...] = ()

    @property
    def steps(self) -> int:
        """The largest verified number of updates, or 0."""
        return self.horizons[0].steps if self.horizons else 0

    def __str__(self) -> str:
        where = f"{_NAMES[self.axis]} x{self.ratio:g}"
        under = "any schedule" if not self.schedule else _RATES.get(self.schedule, self.schedule)
        if self.horizons:
            return f"{where} under {under}: verified on {'; on '.join(map(str, self.horizons))}"
        said = f"{where} under {under}: no verified horizon"
        if self.refuted:
            said += f"; refuted on {self.refuted[0]}"
        if self.schedule in ("", "constant"):
            said += "; at a constant rate expect the best rate to fall with the number of steps"
        return said

    def to_json(self) -> dict[str, Json]:
        """Everything as plain data."""
        return {
            "axis": self.axis,
            "ratio": self.ratio,
            "schedule": self.schedule or None,
            "steps": self.steps,
            "verified": [asdict(one) for one in self.horizons],
            "refuted": [asdict(one) for one in self.refuted],
            "in_words": str(self),
        }


def verified_horizons(
    rules: Rules, ledger: Iterable[Horizon] | None = None
) -> tuple[VerifiedHorizon, ...]:
    """What a ledger says of every axis that rules change, under every schedule that it has.

    Axes are told one by one: that a rate transfers along two of them at once was not tried. Records
    are of dense networks at alpha_A = alpha_L = 1; of other exponents no horizon is verified, nor
    where attention has latents, heads take another share of the stream, or there are experts, nor
    along the number of experts or the ratio of hidden units.

    Args:
        rules: from a base to a target.
        ledger: the records; those that ship by default.

    Returns:
        One for each axis and schedule, constant rates first; one for an axis of which the ledger
        has nothing.
    """
    question = rules.question
    known = tuple(shipped_horizons() if ledger is None else ledger)
    base, target = question.base, question.target
    apart = base.attention_ratio != target.attention_ratio
    other = target.kv_rank is not None or target.experts is not None
    if (question.alpha_A, question.alpha_L) != (1, 1) or apart or other:
        known = ()
    told: list[VerifiedHorizon] = []
    if apart:
        told.append(VerifiedHorizon("width", target.width / base.width, "", ()))
    for axis in LEDGER_AXES:
        ratio = getattr(question.target, axis) / getattr(question.base, axis)
        if ratio == 1:
            continue
        own = [
            one
            for one in known
            if (one.optimizer, one.axis) == (question.kind.name, axis) and one.multiple >= ratio > 1
        ]
        schedules = sorted(
            {one.schedule for one in own}, key=lambda name: (name != "constant", name)
        )
        told += [
            VerifiedHorizon(axis, ratio, schedule, *_largest(own, schedule))
            for schedule in schedules
        ] or [VerifiedHorizon(axis, ratio, "", ())]
    for name in _UNTRIED:
        before, after = getattr(base, name), getattr(target, name)
        if before is not None and after is not None and before != after:
            told.append(VerifiedHorizon(name, after / before, "", ()))
    return tuple(told)


def _largest(own: list[Horizon], schedule: str) -> tuple[tuple[Horizon, ...], tuple[Horizon, ...]]:
    """The records of the largest verified number of steps, and those that are refuted."""
    rows = sorted((one for one in own if one.schedule == schedule), key=lambda one: one.steps)
    refuted = tuple(one for one in rows if one.refuted)
    for steps in sorted({one.steps for one in rows}, reverse=True):
        here = tuple(one for one in rows if one.steps == steps)
        if all(one.supported for one in here) and not any(r.steps <= steps for r in refuted):
            return here, refuted
    return (), refuted


@functools.cache
def shipped_horizons() -> tuple[Horizon, ...]:
    """The records that ship."""
    text = (resources.files("translimit.scaling") / "horizons.json").read_text(encoding="utf-8")
    return horizons_from_json(json.loads(text), "the shipped ledger")


def read_horizons(path: str | Path) -> tuple[Horizon, ...]:
    """The records of a file of one's own.

    Args:
        path: a JSON file with the keys of the shipped one.

    Raises:
        ConfigError: a file that cannot be read, or is no ledger.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "ledger", f"{path} cannot be read ({error})", "name a JSON file"
        ) from error
    return horizons_from_json(data, str(path))


def horizons_to_json(horizons: Iterable[Horizon]) -> dict[str, Json]:
    """Records as `horizons_from_json` reads them.

    Args:
        horizons: the records.
    """
    return {"format": FORMAT, "runs": [], "horizons": [asdict(one) for one in horizons]}


def horizons_from_json(data: object, where: str) -> tuple[Horizon, ...]:
    """Records from plain data.

    Args:
        data: an object with `format` and `horizons`.
        where: what it came from, for messages.

    Raises:
        ConfigError: another format, or a record that lacks a field.
    """
    told: Any = data
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        got = brief(told.get("format") if isinstance(told, dict) else told)
        raise ConfigError("ledger", f"{where} has the format {got}", f"pass format {FORMAT}")
    rows: JsonObject = told
    found = rows.get("horizons")
    if not isinstance(found, list):
        raise ConfigError("ledger", f"{where} has no list of horizons", "see the shipped one")
    return tuple(config.from_json(Horizon, row, where="ledger") for row in found)
