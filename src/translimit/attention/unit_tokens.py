"""Tokens of the unit sphere as arguments."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from translimit.core import ArgumentError, as_float, directions, is_traced

#: Largest | |x| - 1 | that counts as rounding.
NORM_TOLERANCE = 1e-6


def require_unit_tokens(value: Any, name: str, dim: int, *, normalize: bool = False) -> Any:
    """Tokens [tokens, dim] of norm one, or scaled to it on request.

    Args:
        value: the tokens.
        name: how errors call them.
        dim: dimension that they must have.
        normalize: scale them to norm one instead of refusing other norms.

    Raises:
        ArgumentError: another shape, NaN or infinite entries, or norms that differ from one by
            more than 1e-6 (with `normalize`: a norm of zero).
    """
    tokens = as_float(value, name)
    if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] != dim:
        raise ArgumentError(name, f"has shape {tokens.shape}", f"pass [tokens, {dim}]")
    xp = np if isinstance(tokens, np.ndarray) else jnp
    scaled, norms = directions(tokens)
    wrong = norms == 0 if normalize else xp.abs(norms - 1.0) > NORM_TOLERANCE
    remedy = "pass tokens that are not zero" if normalize else "pass normalize=True to scale them"
    if is_traced(tokens):
        scaled = eqx.error_if(scaled, jnp.any(wrong), f"{name}: norms are not one; {remedy}")
    elif bool(np.any(np.asarray(wrong))):
        token = int(np.flatnonzero(np.asarray(wrong)[:, 0])[0])
        norm = float(np.asarray(norms)[token, 0])
        raise ArgumentError(name, f"token {token} has norm {norm:.8g}", remedy)
    return scaled
