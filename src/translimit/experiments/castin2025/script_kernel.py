r"""The L2 logits of the authors' scripts beside those of exp(-c |Qx - Ky|^2).

The scripts scale the cross term and not |Ky|^2, 2 c <Qx, Ky> - |Ky|^2 with c = 1 / sqrt(d): that
is the kernel exp(-c |Qx - Ky|^2) for no c, but `L2` with a scale of its own for the keys.

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation, "The variants".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core
from translimit.core import Estimate

if TYPE_CHECKING:
    from translimit.core import Key

#: Random parameters and clouds on which the kernels are compared, and tokens of each.
DRAWS, TOKENS = 32, 20


@dataclass(frozen=True)
class Kernels(ex.Arrays):
    """How far other kernels are from that of the scripts, draw by draw."""

    reproduced: Annotated[Float[np.ndarray, " draw"], "relative distance, c_K = 1"]
    one_scale: Annotated[Float[np.ndarray, " draw"], "relative distance, c_K = c"]
    best: Annotated[Float[np.ndarray, " draw"], "relative distance of the logits, best c"]


def compare_kernels(config: object, at: ex.Alone, keys: ex.Keys) -> Kernels:
    """The field of the scripts' logits, relative to it those of `L2`, in float64."""
    del config, at
    draws = np.array([_distances(core.named_key(keys.own, draw)) for draw in range(DRAWS)])
    return Kernels(*draws.T)


def _distances(key: Key) -> tuple[float, float, float]:
    """On one draw: of the fields with `key_scale` 1 and c, and of the logits at the best c."""
    import jax

    scale = 2**-0.5
    with jax.enable_x64(True):
        x = np.asarray(jax.random.normal(key, (TOKENS + 6, 2), np.float64))
    cloud, Q, K, V = x[:TOKENS], x[-6:-4], x[-4:-2], x[-2:]
    products, squares = (cloud @ Q.T) @ (cloud @ K.T).T, ((cloud @ K.T) ** 2).sum(axis=1)
    logits = 2 * scale * products - squares
    kernel = np.exp(logits - logits.max(axis=1, keepdims=True))
    script = kernel / kernel.sum(axis=1, keepdims=True) @ cloud @ V.T
    reproduced, one_scale = (
        attention.L2(Q=Q, K=K, V=V, score_scale=scale, key_scale=key_scale)(cloud, cloud)
        for key_scale in (1.0, scale)
    )
    # Logits count up to a constant for each query; the best c is a least-squares problem.
    wanted, offered = (
        part - part.mean(axis=1, keepdims=True) for part in (logits, 2 * products - squares)
    )
    c = (offered * wanted).sum() / (offered**2).sum()
    return (
        float(np.linalg.norm(reproduced - script) / np.linalg.norm(script)),
        float(np.linalg.norm(one_scale - script) / np.linalg.norm(script)),
        float(np.linalg.norm(wanted - c * offered) / np.linalg.norm(wanted)),
    )


KERNEL: ex.Part[Any, ex.Alone, Kernels] = ex.Part(
    "kernel/l2", Kernels, compare_kernels, grid=ex.alone, cost=lambda c, at: ex.Cost(4.0)
)


def _reproduced(found: ex.Found[Any], at: ex.Alone) -> Estimate:
    distances = found(KERNEL).reproduced
    return Estimate(float(distances.max()), count=len(distances))


def _best(found: ex.Found[Any], at: ex.Alone) -> Estimate:
    """Of the logits of one scale, the best c for each draw."""
    return Estimate.from_samples(found(KERNEL).best)


def _same_scale(found: ex.Found[Any], at: ex.Alone) -> Estimate:
    return Estimate.from_samples(found(KERNEL).one_scale)


KERNEL_CLAIMS: tuple[ex.Claims[Any, ex.Alone], ...] = (
    ex.Claims(
        "l2-script-kernel",
        "The scripts' L2 attention has the logits $2 c \\langle Qx, Ky\\rangle - |Ky|^2$, "
        "$c = 1/\\sqrt d$: `L2` with `key_scale=1` (largest relative distance of the fields; of "
        "the printed kernel the mean distance of the logits at the best $c$).",
        estimate=_reproduced,
        prediction=0.0,
        tol=1e-13,
        over=ex.alone,
        one_sided=True,
        rivals=(
            ex.Rival("the kernel exp(-c |Qx - Ky|^2) for one c", estimate=_best, printed=True),
            ex.Rival("c_K = c = 1 / sqrt(d)", estimate=_same_scale),
        ),
    ),
)
