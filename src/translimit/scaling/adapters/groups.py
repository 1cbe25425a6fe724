"""Parameter groups of PyTorch by the rules: what every parameter takes, and who shares a group."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from translimit.core import TorchTensors, whole_file
from translimit.describe import Role
from translimit.scaling.adapters.names import Match, bare_name
from translimit.scaling.adapters.report import AppliedNumbers, AppliedReport
from translimit.scaling.engine import Rules


class ParameterGroups(list[dict[str, Any]]):
    """Parameter groups that every optimiser of PyTorch accepts, with the report of how they arose.

    Every group has `params`, `lr`, `weight_decay` (0 where nothing decays), `eps` where the
    update has one, and for reading `names`, `roles`, `lr_ratio` and `update`. Parameters that
    take the same share a group. Betas, momentum and all else stay the optimiser's.

    Attributes:
        report: plain data: the rules, and of every parameter its role, shape, factor and numbers.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], report: AppliedReport):
        super().__init__(groups)
        self.report = report

    def of(self, update: str) -> list[dict[str, Any]]:
        """The groups with one kind of update: `orthogonal` is what Muon takes."""
        return [group for group in self if group["update"] == update]

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, for `apply(..., report=path)` in another process.

        Raises:
            StoreError: the file cannot be written (a full disk is a `DiskFullError`); an old one
                is untouched.
        """
        content = (json.dumps(self.report, indent=1) + "\n").encode()
        with whole_file(Path(path), remedy="name another file", again="save it again") as temporary:
            temporary.write_bytes(content)


def numbers_of(
    rules: Rules,
    role: Role,
    lr: float,
    eps: float,
    weight_decay: float,
    adam_lr: float | None,
    decay_vectors: bool,
) -> AppliedNumbers:
    """What a parameter of a role takes, absolute."""
    rule, update = rules.role(role), rules.update(role)
    beside = rules.question.kind.of(role) is not rules.question.kind
    rate = adam_lr if beside and adam_lr is not None else lr
    vector = role.is_gain or role.is_bias or role.is_factor or role is Role.UNSCALED
    decays = rule.wd is not None and (decay_vectors or not vector)
    made: AppliedNumbers = {
        "lr": rate * rule.lr,
        "lr_ratio": rule.lr,
        "weight_decay": weight_decay * (rule.wd or 0.0) if decays else 0.0,
        "update": update.name.lower(),
    }
    return made if rule.eps is None else {**made, "eps": eps * rule.eps}


def merged(
    parameters: TorchTensors,
    found: Mapping[str, Match],
    numbers: Mapping[str, AppliedNumbers],
) -> list[dict[str, Any]]:
    """One group for all that take the same, in the order of the module."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, tensor in parameters.items():
        if not tensor.requires_grad:
            continue
        told = numbers[name]
        group = groups.setdefault(
            tuple(sorted(told.items())), {"params": [], **told, "names": [], "roles": []}
        )
        group["params"].append(tensor)
        group["names"].append(bare_name(name))
        if found[name].role.value not in group["roles"]:
            group["roles"].append(found[name].role.value)
    return list(groups.values())
