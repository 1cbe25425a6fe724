"""A trained module without its attributes: the score scale in the weights of the queries."""

from __future__ import annotations

from translimit.core import ConfigError, TorchModule
from translimit.describe import Role
from translimit.scaling.adapters.groups import ParameterGroups
from translimit.scaling.adapters.matching import matches
from translimit.scaling.adapters.names import bare_name
from translimit.scaling.adapters.tables import Names, table_of
from translimit.scaling.engine import Rules
from translimit.scaling.errors import UnsupportedModuleError


def bake_scores(model: TorchModule, groups: ParameterGroups, *, names: Names = None) -> None:
    """Put the score scale into the queries, so that the module computes the same without it.

    `save_pretrained` and state dicts hold weights and no attributes: a module that is loaded from
    them has its scale of old. Call it on what is published, after training: rates and epsilons of
    the queries no longer fit.

    Args:
        model: trained, with the scales that `apply` set.
        groups: what `apply` returned.
        names: as in `apply`.

    Raises:
        UnsupportedModuleError: queries that are normalised, packed head by head, or not found.
        ConfigError: groups of another module.

    Equation: W_Q, b_Q <- (c / c_before) (W_Q, b_Q), and the attribute is c_before again.
    """
    table, found = table_of(model, names), matches(model, names)
    modules = {bare_name(name): module for name, module in model.named_modules()}
    told = {name: one for name, one in groups.report["scales"].items()}
    if not told:
        return
    if any(match.role in (Role.QUERY_NORM_GAIN, Role.QK_GAIN_SHARED) for match in found.values()):
        raise UnsupportedModuleError(
            "model", "normalises its queries, which undoes a factor", "publish the scale as well"
        )
    if table.interleaved:
        raise UnsupportedModuleError(
            "model", "packs query, key and value head by head", "publish the scale as well"
        )
    ratios = {one["now"] / one["before"] for one in told.values() if one["before"]}
    if len(ratios) != 1 or not told.keys() <= modules.keys():
        raise ConfigError("groups", "are of another module", "pass what `apply` gave for this one")
    import torch

    factor = ratios.pop()
    width = Rules.from_json(groups.report["rules"]).question.target.width
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            match = found[name]
            if not {Role.QUERY, Role.QUERY_BIAS} & set(match.parts):
                continue
            axis = -1 if match.transposed else 0
            tensor.narrow(axis, 0, width if match.packed else tensor.shape[axis]).mul_(factor)
    for name, one in told.items():
        setattr(modules[name], one["attribute"], one["before"])
