r"""The residual stream as coefficient rows on its Gaussian sources, and what is stored of it.

A stream field is a row B over s = (e, w_0, u^O and zeta of every sub-block), and Cov(s) =
blockdiag(K^x, readout_std^2, V, Pi, ...). Square roots of growing kernels are sequential and reveal
the rank.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.limits.dmft.histories import Index, put_columns, put_rows
from translimit.limits.dmft.plan import Numbers, Plan


def with_cov(
    plan: Plan,
    numbers: Numbers,
    cov: Float[Array, "layers units 2 history history"],
    rows: Float[Array, "rows sources"],
) -> Float[Array, "rows sources"]:
    """Coefficient rows times the covariance of the sources."""
    embedded, read = rows[:, : plan.columns], rows[:, plan.columns : plan.first]
    done = [embedded @ numbers.source_cov, read * numbers.readout_var]
    if plan.fresh and plan.units:
        blocks = rows[:, plan.first :].reshape(len(rows), -1, plan.history)
        stacked = cov.reshape(-1, plan.history, plan.history)
        moved = jnp.einsum("abk,bkj->abj", blocks, stacked)
        done.append(moved.reshape(len(rows), -1))
    return jnp.concatenate(done, axis=1)


class Root(NamedTuple):
    """The new block row of a sequential square root L L^T = C, and of the whitened rows L^+ B."""

    past: Float[Array, "fields history"]  # L_t,<t
    now: Float[Array, "fields fields"]  # L_tt
    white: Float[Array, "fields sources"]  # row t of L^+ B


def next_root(
    plan: Plan,
    product: Callable[[Array], Array],
    B: Float[Array, "fields sources"],
    Q: Float[Array, "history sources"],
) -> Root:
    """Append the block row of the rows B; directions without variance are left out.

    Gram-Schmidt in the metric of the sources, twice: what is new at a step is small beside what
    is old, and with one pass (or with an explicit L^+) rounding would be amplified from step to
    step until it shows. The diagonal block is the symmetric root: eigenvectors of nearly equal
    eigenvalues may turn, and would give other innovations to the same field.

    Args:
        plan: the tolerance.
        product: rows to rows times the covariance of the sources.
        B: coefficient rows now [fields, sources].
        Q: whitened rows of the past, zero from now on [history, sources].
    """
    weighted = product(B)
    past = weighted @ Q.T
    rest = B - past @ Q
    again = product(rest) @ Q.T
    past, rest = past + again, rest - again @ Q
    schur = product(rest) @ rest.T
    values, basis = jnp.linalg.eigh((schur + schur.T) / 2)
    kept = values > plan.tol * jnp.sum(weighted * B) / plan.fields
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    L_now = (basis * jnp.where(kept, roots, 0.0)) @ basis.T
    return Root(past, L_now, (basis * jnp.where(kept, 1 / roots, 0.0)) @ (basis.T @ rest))


def no_root(plan: Plan) -> Root:
    """What a unit gets that draws nothing."""
    past = jnp.zeros((plan.fields, plan.history))
    now = jnp.zeros((plan.fields, plan.fields))
    return Root(past, now, jnp.zeros((plan.fields, plan.sources)))


def put_symmetric(
    cov: Float[Array, "layers units 2 history history"],
    layer: Index,
    index: int,
    side: int,
    past: Float[Array, "fields history"],
    now: Float[Array, "fields fields"],
    start: Index,
) -> Float[Array, "layers units 2 history history"]:
    """The covariance of one family of sources with the row and column of this time."""
    row = put_columns(past, now, start)
    zero = jnp.zeros_like(start)
    where = (layer, zero + index, zero + side)
    cov = jax.lax.dynamic_update_slice(cov, row[None, None, None], (*where, start, zero))
    return jax.lax.dynamic_update_slice(cov, row.T[None, None, None], (*where, zero, start))


def put_kernels(
    cov: Float[Array, "layers units 2 history history"],
    rows: Sequence[Float[Array, "layers fields history"]],
    side: int,
    start: Index,
) -> Float[Array, "layers units 2 history history"]:
    """Rows and columns of this time in the kernels of all sub-blocks."""
    stacked = jnp.stack(rows, axis=1)
    kernel = put_rows(cov[:, :, side], stacked, start)
    return cov.at[:, :, side].set(put_columns(kernel, stacked.swapaxes(-1, -2), start))
