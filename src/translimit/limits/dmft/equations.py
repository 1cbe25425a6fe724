r"""What the limit sees of a training problem: of its inputs their kernel and nothing else.

Full-batch gradient descent on the loss sum over inputs of w (y - f)^2 / 2. In the tangent kernel
its curvature is W^(1/2) K^NTK W^(1/2), and an update of rate eta_0 is stable while eta_0 times
the largest eigenvalue stays below 2 (1 + momentum).

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, Result 1; documentation, "Training
dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.limits.dmft.architecture import Architecture


@dataclass(frozen=True)
class TrainingEquations:
    """Data of the closed equations.

    Attributes:
        architecture: the transformer.
        kx: K^x = x . x / dim, the kernel of the inputs' tokens.
        tokens: S.
        targets: y [inputs], or [inputs, outputs].
        weights: w of each input in the loss.
        schedule: factors of the learning rate.
        rate: eta_0 in the convention where gamma_0 -> 0 is lazy.
        momentum: of the heavy ball.
    """

    architecture: Architecture
    kx: Float[np.ndarray, "fields fields"]
    tokens: int
    targets: Float[np.ndarray, "inputs ..."]
    weights: Float[np.ndarray, "steps inputs"]
    schedule: Float[np.ndarray, " steps"]
    rate: float
    momentum: float

    @property
    def steps(self) -> int:
        """Evaluations."""
        return len(self.schedule)

    @property
    def inputs(self) -> int:
        """P."""
        return len(self.targets)

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return len(self.kx)

    @property
    def outputs(self) -> int:
        """Predictions for an input."""
        return 1 if self.targets.ndim == 1 else self.targets.shape[1]

    @property
    def columns(self) -> Float[np.ndarray, "inputs outputs"]:
        """The targets, with an axis of outputs."""
        return self.targets.reshape(self.inputs, -1)

    def loss(
        self, f: Float[np.ndarray, "populations steps inputs outputs"]
    ) -> Float[np.ndarray, "populations steps"]:
        """The sum over inputs and outputs of w (y - f)^2 / 2."""
        return np.einsum("tp,ntpo->nt", self.weights, (self.columns - f) ** 2) / 2

    def sharpness(
        self, ntk: Float[np.ndarray, "steps inputs inputs"]
    ) -> Float[np.ndarray, " steps"]:
        """lambda_max of W^(1/2) K W^(1/2) at every evaluation; NaN where K is not finite."""
        root = np.sqrt(self.weights)
        weighted = root[:, :, None] * ntk * root[:, None, :]
        finite = np.all(np.isfinite(weighted), axis=(1, 2))
        largest = np.linalg.eigvalsh(np.where(finite[:, None, None], weighted, 0.0))[:, -1]
        return np.where(finite, largest, np.nan)

    def edge_ratio(self, sharpness: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """eta_0 schedule sharpness / (2 (1 + momentum)): 1 at the edge of stability."""
        return self.rate * self.schedule * sharpness / (2 * (1 + self.momentum))
