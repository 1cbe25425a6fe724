r"""What the limit sees of a training problem: rows of outputs, and of its inputs their kernel.

Full-batch gradient descent on the loss sum over rows of w l(f, y). In the tangent kernel its
curvature is (w J)^(1/2) K^NTK (w J)^(1/2), J that of the loss, and an update of rate eta_0 is
stable while eta_0 times the largest eigenvalue stays below 2 (1 + momentum).

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, Result 1; documentation, "Training
dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.embedding import Embedding
from translimit.limits.dmft.losses import AbstractLoss, SquaredError
from translimit.limits.dmft.optimizers import AbstractOptimizer
from translimit.limits.dmft.targets import Targets


@dataclass(frozen=True)
class TrainingEquations:
    """Data of the closed equations.

    Attributes:
        architecture: the transformer.
        embedding: sources of the stream, and what the embedding learns.
        tokens: S.
        features: which mean over fields each row of outputs is read from.
        targets: what rows are to become.
        loss: what a row pays.
        weights: w of each row in the loss.
        schedule: factors of the learning rate.
        rate: eta_0 in the convention where gamma_0 -> 0 is lazy.
        momentum: of the heavy ball.
        readout_std: of the readout at the start.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding.
        optimizer: what an update makes of a gradient.
    """

    architecture: Architecture
    embedding: Embedding
    tokens: int
    features: Float[np.ndarray, "rows fields"]
    targets: Targets
    loss: AbstractLoss
    weights: Float[np.ndarray, "steps rows"]
    schedule: Float[np.ndarray, " steps"]
    rate: float
    momentum: float
    readout_std: float
    centred: bool
    tied: bool
    optimizer: AbstractOptimizer

    @property
    def steps(self) -> int:
        """Evaluations."""
        return len(self.schedule)

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return len(self.embedding.start)

    @property
    def inputs(self) -> int:
        """P."""
        return self.fields // self.tokens

    @property
    def rows(self) -> int:
        """Rows of outputs."""
        return len(self.features)

    @property
    def outputs(self) -> int:
        """Outputs of a row."""
        return self.targets.y.shape[1]

    @property
    def folded(self) -> bool:
        """Whether gradients have to carry the error: an input has more than one output."""
        return self.outputs > 1 or self.rows > self.inputs

    @property
    def trained(self) -> np.ndarray:
        """Which rows ever count in the loss."""
        return np.any(self.weights > 0, axis=0)

    def row_losses(
        self, f: Float[np.ndarray, "populations steps rows outputs"]
    ) -> Float[np.ndarray, "populations steps rows"]:
        """What every row pays; NaN where it has no target."""
        return np.where(self.targets.counted, self.loss.value(f, self.targets.y), np.nan)

    def total_loss(
        self, row_losses: Float[np.ndarray, "populations steps rows"]
    ) -> Float[np.ndarray, "populations steps"]:
        """The sum over rows of w times what they pay."""
        counted = self.targets.counted
        return np.einsum("tr,ntr->nt", self.weights[:, counted], row_losses[..., counted])

    def sharpness(
        self,
        ntk: Float[np.ndarray, "steps rows rows"],
        f: Float[np.ndarray, "steps rows outputs"],
    ) -> Float[np.ndarray, " steps"]:
        """The largest eigenvalue of (w J)^(1/2) K (w J)^(1/2); NaN where K is not known."""
        finite = np.all(np.isfinite(ntk), axis=(1, 2)) & np.all(np.isfinite(f), axis=(1, 2))
        curvature = self.loss.curvature(f[finite], self.targets.y)
        root = np.sqrt(self.weights[finite, :, None] * curvature)
        weighted = np.einsum("tro,trs,tso->tors", root, ntk[finite], root)
        largest = np.full(len(ntk), np.nan)
        largest[finite] = np.linalg.eigvalsh(weighted)[..., -1].max(axis=1)
        return largest

    def edge_ratio(self, sharpness: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """eta_0 schedule sharpness / (2 (1 + momentum)): 1 at the edge of stability.

        NaN where updates work entry by entry: their edge is another one.
        """
        if self.optimizer.elementwise:
            return np.full_like(sharpness, np.nan)
        return self.rate * self.schedule * sharpness / (2 * (1 + self.momentum))

    def errors(
        self, f: Float[np.ndarray, "steps rows outputs"]
    ) -> Float[np.ndarray, "steps rows outputs"]:
        """Minus the derivative of what every row pays; 0 where it has no weight."""
        found = np.asarray(self.loss.error(jnp.asarray(f), jnp.asarray(self.targets.y)))
        return np.where(self.weights[:, :, None] > 0, found, 0.0)

    def of_one_output(self) -> TrainingEquations:
        """One evaluation of a network with one output of each row, for its tangent kernel.

        Where tokens have outputs, every input comes once for each of its tokens: gradients of
        the outputs of two rows are then different fields.
        """
        embedding, features = self.embedding, self.features
        if self.rows > self.inputs:
            embedding = embedding.for_each_token(self.tokens)
            own = np.eye(self.rows).repeat(self.tokens, axis=1)
            features = own * np.tile(np.eye(self.tokens), (self.inputs, self.rows))
        nothing = np.zeros((self.rows, 1))
        one = Targets(
            given=nothing,
            token=self.targets.token,
            y=nothing,
            counted=np.ones(self.rows, bool),
            shape=(self.rows,),
            rows=(self.rows,),
        )
        return replace(
            self,
            embedding=embedding,
            features=features,
            targets=one,
            loss=SquaredError(),
            weights=np.zeros((1, self.rows)),
            schedule=np.ones(1),
            momentum=0.0,
            centred=False,
        )


def pooled_features(inputs: int, tokens: int) -> Float[np.ndarray, "inputs fields"]:
    """The mean over the tokens of every input."""
    return np.eye(inputs).repeat(tokens, axis=1) / tokens
