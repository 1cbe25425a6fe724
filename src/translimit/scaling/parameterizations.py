"""Sizes, roles and absolute numbers: what the rules share with the models, from `describe`."""

from translimit.describe import (
    Axis,
    Parameterization,
    Role,
    RoleRule,
    Size,
    standard_parameterization,
)

__all__ = ["Axis", "Parameterization", "Role", "RoleRule", "Size", "standard_parameterization"]
