"""What the outputs of a training limit pay: rows, positions, tests, accuracy.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from translimit.core import (
    AbstractSolution,
    ArgumentError,
    Number,
    Outcome,
    Times,
    reference,
)
from translimit.limits.dmft.losses import AbstractLoss, CrossEntropy, Logistic
from translimit.limits.dmft.passes import Kernels


class TrainingOutputs(AbstractSolution):
    """Training of the infinite network, evaluation by evaluation.

    Attributes:
        ts: evaluations 0 .. steps - 1; parameters at t have received t updates. By strides those
            that all of them share.
        predictions: outputs that the loss sees, [steps, inputs], or as the targets; classes have
            an axis of outputs, tokens with outputs of their own one before it. Where they are
            centred the start is subtracted.
        stderr: standard error of the predictions over populations, 0 where nothing is sampled.
        cell_error: error of the depth ODE's cells in the predictions, 0 at finite depth. By
            `PopulationSampling` what the extrapolation in 1 / M adds to those of 2 M units.
        stride_error: of the extrapolation to single updates, the change from one without the
            longest steps, an upper estimate; 0 where every update is a step.
        compression_error: of `predictions` in the first population, against a tolerance of its
            compressed history that is ten times as large; 0 where it was not computed. It is an
            upper estimate, and includes the sampling noise of directions that differ.
        ranks: directions of each kind that are kept [steps, layers, units, kinds], the largest over
            populations: of what a sub-block reads, of its gradients, of what it writes, of the
            gradients it receives, and all that its population is orthogonal to. No kinds where
            histories are not compressed.
        kernel_ts: evaluations of the kernels, every one unless there are very many.
        loss: sum over rows of their weights times what they pay [steps].
        loss_stderr: its standard error over populations [steps].
        row_loss: what every row pays, [steps, inputs] or [steps, inputs, tokens]; NaN without a
            target.
        row_loss_stderr: its standard error over populations.
        ntk: neural tangent kernel [steps, rows, rows]; with several outputs of an input that of
            each of them at the start (between two it is zero there), NaN later, and NaN where
            the readout is tied or the rows are too many. Rows are inputs, or tokens with
            outputs of their own, all of an input in turn.
        sharpness: largest curvature of the loss, lambda_max((w J)^(1/2) K^NTK (w J)^(1/2)) with
            the weights w and the second derivative J of the loss [steps]; no learning rate is in
            it. J of cross-entropy is that of equal outputs.
        edge_ratio: eta_0 schedule sharpness / (2 (1 + momentum)) [steps]; 1 at the edge of
            stability.
        key_gradient: mean square of the gradients of keys and queries [steps, layers].
        score_gain: factor of the scores [steps, layers].
        targets: what the predictions are trained towards, in their shape without steps.
        outcome: `successful`, or `non_finite` with later rows NaN.
        discretisation: the largest `cell_error` or `stride_error`.
        samples: independent populations behind the standard errors; 1 where none are sampled.
        failed_at: where a kernel ceased to be finite, in words; empty otherwise.
    """

    ts: Times
    predictions: Float[np.ndarray, "steps inputs ..."]
    stderr: Float[np.ndarray, "steps inputs ..."]
    cell_error: Float[np.ndarray, "steps inputs ..."]
    stride_error: Float[np.ndarray, "steps inputs ..."]
    compression_error: Float[np.ndarray, "steps inputs ..."]
    ranks: Int[np.ndarray, "steps layers units kinds"]
    kernel_ts: Times
    loss: Float[np.ndarray, " steps"]
    loss_stderr: Float[np.ndarray, " steps"]
    row_loss: Float[np.ndarray, "steps inputs ..."]
    row_loss_stderr: Float[np.ndarray, "steps inputs ..."]
    ntk: Float[np.ndarray, "steps rows rows"]
    sharpness: Float[np.ndarray, " steps"]
    edge_ratio: Float[np.ndarray, " steps"]
    key_gradient: Float[np.ndarray, "steps layers"]
    score_gain: Float[np.ndarray, "steps layers"]
    targets: Float[np.ndarray, "inputs ..."] | Int[np.ndarray, "inputs ..."]
    outcome: Outcome
    discretisation: Number
    samples: int = eqx.field(static=True)
    failed_at: str = eqx.field(static=True)
    _scores: Float[np.ndarray, "steps layers heads inputs query key"]
    _kernels: Kernels
    _kernel_stderr: Float[np.ndarray, "states history history"]
    _tokens: int = eqx.field(static=True)
    _attention: bool = eqx.field(static=True)
    _causal: bool = eqx.field(static=True)
    _trained: Bool[np.ndarray, "inputs ..."]
    _loss: AbstractLoss = eqx.field(static=True)
    _test_stderr: Float[np.ndarray, " steps"] | None = eqx.field(kw_only=True, default=None)

    reference: ClassVar[str] = reference("bordelon2024")

    @property
    def token(self) -> bool:
        """Whether every token has outputs of its own."""
        return self._trained.ndim == 2

    @property
    def loss_by_position(self) -> Float[np.ndarray, "steps tokens"]:
        """Mean of `row_loss` over the inputs that are trained there; NaN where none is.

        Raises:
            ArgumentError: outputs are read from the mean over tokens.
        """
        return self._by_position(self.row_loss)

    @property
    def correct(self) -> Float[np.ndarray, "steps inputs ..."]:
        """Whether the largest output of each row is its class; 1 / k where k are the largest.

        NaN where a row has no target. Logistic classes are signs.

        Raises:
            ArgumentError: the loss knows no classes.
        """
        if isinstance(self._loss, Logistic):
            signs = np.sign(self.predictions) * self.targets
            outputs = signs.reshape(*self.row_loss.shape, -1)
            return np.mean((1 + outputs) / 2, axis=-1)
        if not isinstance(self._loss, CrossEntropy):
            raise ArgumentError(
                "loss", f"is {self._loss}, which knows no classes", "look at row_loss"
            )
        classes = np.maximum(self.targets, 0)[None, ..., None]
        largest = self.predictions >= self.predictions.max(axis=-1, keepdims=True)
        own = np.take_along_axis(largest, np.broadcast_to(classes, (*largest.shape[:-1], 1)), -1)
        correct = own[..., 0] / np.maximum(largest.sum(axis=-1), 1)
        known = (self.targets >= 0) & np.all(np.isfinite(self.predictions), axis=-1)
        return np.where(known, correct, np.nan)

    @property
    def accuracy(self) -> Float[np.ndarray, " steps"]:
        """The mean of `correct` over trained rows."""
        return self.correct[:, self._trained].mean(axis=1)

    @property
    def tested(self) -> Bool[np.ndarray, "inputs ..."]:
        """Which rows have a target and no weight at any time: those of a test."""
        return np.isfinite(self.row_loss[0]) & ~self._trained

    @property
    def test_loss(self) -> Float[np.ndarray, " steps"]:
        """Mean of `row_loss` over the rows of a test.

        Raises:
            ArgumentError: every row with a target is trained.
        """
        return self.row_loss[:, self._of_a_test()].mean(axis=1)

    @property
    def test_loss_stderr(self) -> Float[np.ndarray, " steps"]:
        """Its standard error over populations."""
        self._of_a_test()
        return np.full(len(self.ts), np.nan) if self._test_stderr is None else self._test_stderr

    @property
    def test_accuracy(self) -> Float[np.ndarray, " steps"]:
        """The mean of `correct` over the rows of a test."""
        return self.correct[:, self._of_a_test()].mean(axis=1)

    def _of_a_test(self) -> Bool[np.ndarray, "inputs ..."]:
        if not self.tested.any():
            raise ArgumentError(
                "weights", "leave no row for a test", "give some rows the weight 0 at all times"
            )
        return self.tested

    @property
    def accuracy_by_position(self) -> Float[np.ndarray, "steps tokens"]:
        """The mean of `correct` over the inputs that are trained there; NaN where none is."""
        return self._by_position(self.correct)

    def _by_position(
        self, values: Float[np.ndarray, "steps inputs ..."]
    ) -> Float[np.ndarray, "steps tokens"]:
        """Means over trained inputs."""
        if not self.token:
            raise ArgumentError(
                "readout", "is pooled: tokens have no outputs", 'solve with readout="token"'
            )
        count = self._trained.sum(axis=0)
        total = np.where(self._trained, values, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
