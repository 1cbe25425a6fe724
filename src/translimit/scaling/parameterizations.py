"""Sizes, roles, optimisers and absolute numbers: what rules and models share, from `describe`."""

from translimit.describe import (
    OPTIMIZERS,
    Axis,
    OptimizerKind,
    Parameterization,
    Role,
    RoleRule,
    Size,
    Update,
    standard_parameterization,
)

__all__ = [
    "OPTIMIZERS",
    "Axis",
    "OptimizerKind",
    "Parameterization",
    "Role",
    "RoleRule",
    "Size",
    "Update",
    "standard_parameterization",
]
