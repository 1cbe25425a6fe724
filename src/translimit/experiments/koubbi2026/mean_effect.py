"""Heads with a fixed mean and no noise: chains beside X' = b(X) and the modified equation.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, describe, limits, models

#: Tokens (rows are normalised), values and scores of the heads with a mean effect.
ROWS = ((1.0, 0.2, 0.0), (0.3, 1.0, 0.4), (-0.2, 0.1, 1.0))
VALUES = ((1.0, 0.3, 0.0), (-0.2, 0.8, 0.1), (0.0, 0.4, 0.6))
#: Chains by their retractions.
CHAINS = {"AMBIENT": "printed chain", "TANGENT": "tangent chain"}
EQUATIONS = ("ballistic", "modified, as printed", "modified, corrected")
PLACES = {"layers": "at layers", "between": "between layers"}


@dataclass(frozen=True)
class Drift(ex.Arrays):
    """Errors of the deterministic limits."""

    chain: Shaped[np.ndarray, " chain"]
    equation: Shaped[np.ndarray, " equation"]
    where: Shaped[np.ndarray, " where"]
    step: Annotated[Float[np.ndarray, " step"], "residual step"]
    error: Annotated[
        Float[np.ndarray, "chain equation where step"], "largest entry of the difference of tokens"
    ]

    def at(self, chain: str, equation: str, where: str) -> Float[np.ndarray, " step"]:
        """Errors of one chain, equation and place over the steps."""
        place = list(CHAINS).index(chain), EQUATIONS.index(equation), list(PLACES).index(where)
        return self.error[place]


def deterministic_errors(steps: Sequence[float]) -> Drift:
    """Both chains and all equations at every step; nothing is random."""
    import jax

    law = describe.ShiftedHeads(mean_v=VALUES, mean_a=np.eye(3), beta=1.0)
    tokens = core.SPHERE.project(np.array(ROWS))
    errors = np.zeros((len(CHAINS), len(EQUATIONS), len(PLACES), len(steps)))
    for s, step in enumerate(steps):
        last = round(1.0 / step)
        # Halfway between layers the chain still has the state of the earlier one.
        save, t1 = [(last - 0.5) * step, last * step], last * step
        ballistic = limits.homogenized.BallisticFlow(law=law, initial=tokens, t1=t1)
        modified = [
            limits.homogenized.ModifiedFlow(
                law=law, initial=tokens, t1=t1, step=step, retraction=one
            )
            for one in (core.Retraction.TANGENT, core.Retraction.AMBIENT)
        ]
        solutions = [core.solve(one, save=save).tokens for one in (ballistic, *modified)]
        for r, chain in enumerate(CHAINS):
            # Layer by layer, so that all steps share one compilation; the law has no noise.
            layer = models.RandomHeadChain(
                law=law, step=step, heads=1, layers=1, retraction=core.Retraction[chain]
            )
            states = [tokens]
            for _ in range(last):
                states.append(
                    np.asarray(layer.simulate(states[-1], key=jax.random.key(0)).tokens)[0, 1]
                )
            for e, solution in enumerate(solutions):
                errors[r, e, 0, s] = np.abs(states[-1] - solution[1]).max()
                errors[r, e, 1, s] = np.abs(states[-2] - solution[0]).max()
    return Drift(
        chain=np.array(list(CHAINS)),
        equation=np.array(EQUATIONS),
        where=np.array(list(PLACES)),
        step=np.array(steps),
        error=errors,
    )
