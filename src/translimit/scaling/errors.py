"""What the rules refuse, as types; each names the argument, the value and the way out."""

from __future__ import annotations

from translimit.core import ArgumentError


class ShapeMismatchError(ArgumentError):
    """Base and target differ in something that the rules hold fixed."""


class UnsupportedModuleError(ArgumentError):
    """A module cannot carry the rules: a multiplier, a rate or a scale has no place in it."""


class ConversionError(ArgumentError):
    """No exact conversion between two styles exists for this training."""


class DegenerateInitError(ArgumentError):
    """Parameters start at a saddle that no gradient leaves."""


class UnmatchedParameterError(ArgumentError):
    """A parameter has no role, or a pattern of a name table matches no parameter."""


class AmbiguousRuleError(ArgumentError):
    """A parameter, or one shared tensor, has two different roles."""


class AlreadyAppliedError(ArgumentError, RuntimeError):
    """The rules were applied to these weights before."""
