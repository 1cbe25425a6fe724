"""What a training limit leaves behind: predictions, kernels over training time, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import (
    ArgumentError,
    require_count,
)
from translimit.limits.dmft.losses import CrossEntropy, Logistic
from translimit.limits.dmft.outputs import TrainingOutputs
from translimit.limits.dmft.score_law import ScoreLaw

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: Axes, values and attributes of a labelled array.
Labelled = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
#: Quantiles of scores over heads that `to_xarray` carries.
PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99)


class TrainingSolution(TrainingOutputs):
    """Training of the infinite network, evaluation by evaluation.

    Its fields, losses and accuracy are those of `TrainingOutputs`; here are kernels over training
    time, attention, and labelled arrays.
    """

    @property
    def largest_rank(self) -> int:
        """The most directions that a field of a sub-block has; 0 without compression."""
        kinds = self.ranks[..., :4]
        return int(kinds.max()) if kinds.size else 0

    @property
    def layers(self) -> int:
        """Blocks; cells of the finest pass where depth is infinite."""
        return len(self._kernels["residual"]) - 1

    def kernel(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """<h h> of the residual state after `layer` blocks (0: the embedding).

        Indices are evaluation (of `kernel_ts`), input, token, twice. Where depth is infinite,
        depth is layer / layers.
        """
        return self._shaped(self._kernels["residual"][self._layer(layer, self.layers + 1)])

    def kernel_stderr(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """Standard error of `kernel(layer)` over populations, entry by entry."""
        return self._shaped(self._kernel_stderr[self._layer(layer, self.layers + 1)])

    def gradient_kernel(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """<g g> at the residual state after `layer` blocks, g = gamma_0 n df/dh.

        With several outputs of an input g carries the errors: it is the gradient of minus the
        loss.
        """
        return self._shaped(self._kernels["gradient"][self._layer(layer, self.layers + 1)])

    def responses(self, layer: int, block: int = 0) -> dict[str, Float[np.ndarray, "_ _"]]:
        """The responses of a sub-block (0: the first of the layer).

        Where histories are compressed, in the order in which directions entered and in the first
        population, what the image of each (row) has of directions of the other side (column):

        - "R_h", "R_p": of the input matrix, forward (directions of what is read on gradients) and
          backward.
        - "R_v", "R_g": of the output matrix, forward (directions of what is written on gradients
          that are received) and backward.

        Where nothing is sampled, [K, K] with K = steps fields:

        - "R_h", "R_g": of the stream to the sub-block's two sources; absent in the depth ODE.
        - "S_x", "S_p": R^v and R^p.
        """
        index = self._layer(layer, self.layers)
        known = ("R_h", "R_g", "S_x", "S_p", "R_v", "R_p")
        names = [name for name in known if name in self._kernels]
        if not names and self.layers and "motion" in self._kernels:
            raise ArgumentError(
                "layer",
                "PopulationSampling forms no responses, and those of longer steps are others",
                "solve by CausalSampling without strides, or switch them off with omit",
            )
        if not names:
            raise ArgumentError("layer", "there are no blocks", "look at kernel(0)")
        units = self._kernels[names[0]].shape[1]
        if not 0 <= require_count(block, "block", 0) < units:
            raise ArgumentError("block", f"got {block}", f"pass an integer from 0 to {units - 1}")
        return {name: self._kernels[name][index, block] for name in names}

    def score_law(self, layer: int) -> ScoreLaw:
        """The law over heads of a layer's attention scores."""
        if not self._attention:
            raise ArgumentError(
                "layer", "the architecture has no attention", "solve one with attention=True"
            )
        return ScoreLaw(self._scores[:, self._layer(layer, self.layers)], self._causal)

    def movement(self, layer: int) -> Float[np.ndarray, "steps P S"]:
        """Feature movement <(h(t) - h(0))^2> / <h(0)^2> after `layer` blocks, at `kernel_ts`."""
        kernel = self.kernel(layer)
        steps, P, S = kernel.shape[:3]
        flat = kernel.reshape(steps, P * S, steps, P * S)
        squares = np.einsum("tata->ta", flat)
        overlap = np.einsum("taa->ta", flat[:, :, 0])
        moved = (squares - 2 * overlap + squares[0]) / squares[0]
        return moved.reshape(steps, P, S)

    def stream_motion(
        self,
    ) -> tuple[Float[np.ndarray, "steps P S"], Float[np.ndarray, "steps P S"]]:
        """How far blocks carry the stream: in all, and the sum of what each of them adds.

        The mean over coordinates of (h^L - h^0)^2, and the sum over blocks of those of
        (h^(l + 1) - h^l)^2, the quadratic variation along depth. Where blocks add independent
        increments both are equal; a coherent drift makes the first larger.

        Raises:
            ArgumentError: there are no blocks.
        """
        if "motion" not in self._kernels:
            raise ArgumentError("layer", "there are no blocks", "look at kernel(0)")
        motion = self._kernels["motion"][:, 0].reshape(self.layers + 1, len(self.ts), -1)
        shape = (len(self.ts), -1, self._tokens)
        return motion[-1].reshape(shape), motion[:-1].sum(axis=0).reshape(shape)

    def _dataset(self) -> xarray.Dataset:
        """Predictions, loss, kernels and quantiles of scores as labelled arrays."""
        import xarray

        def labelled(dims: tuple[str, ...], values: np.ndarray, name: str) -> Labelled:
            attrs = {"long_name": name, "units": "1", "reference": self.reference}
            return dims, values, attrs

        rows = ("time", "input", *("token",) * self.token)
        f_dims = (*rows, *("output",) * (self.predictions.ndim - len(rows)))
        ntk_dims = ("row", "row2") if self.token else ("input", "input2")
        of_kernels = "time" if len(self.kernel_ts) == len(self.ts) else "kernel_time"
        pair = (of_kernels, "input", "token", "time2", "input2", "token2")
        kernels = np.stack([self.kernel(layer) for layer in range(self.layers + 1)])
        gradients = np.stack([self.gradient_kernel(layer) for layer in range(self.layers + 1)])
        movement = np.stack([self.movement(layer) for layer in range(self.layers + 1)])
        data = {
            "predictions": labelled(f_dims, self.predictions, "predictions"),
            "stderr": labelled(f_dims, self.stderr, "standard error of the predictions"),
            "cell_error": labelled(f_dims, self.cell_error, "error of the depth cells"),
            "stride_error": labelled(f_dims, self.stride_error, "error of longer steps"),
            "compression_error": labelled(
                f_dims, self.compression_error, "error of compressed histories"
            ),
            "targets": labelled(f_dims[1 : np.ndim(self.targets) + 1], self.targets, "targets"),
            "loss": labelled(("time",), self.loss, "loss"),
            "loss_stderr": labelled(("time",), self.loss_stderr, "standard error of the loss"),
            "row_loss": labelled(rows, self.row_loss, "loss of rows"),
            "row_loss_stderr": labelled(rows, self.row_loss_stderr, "its standard error"),
            "ntk": labelled(("time", *ntk_dims), self.ntk, "neural tangent kernel"),
            "sharpness": labelled(("time",), self.sharpness, "sharpness"),
            "edge_ratio": labelled(("time",), self.edge_ratio, "distance to the edge of stability"),
            "kernel": labelled(("state", *pair), kernels, "residual kernel"),
            "gradient_kernel": labelled(("state", *pair), gradients, "gradient kernel"),
            "movement": labelled(("state", *pair[:3]), movement, "feature movement"),
        }
        if self.tested.any():
            data["test_loss"] = labelled(("time",), self.test_loss, "loss of a test")
            data["test_loss_stderr"] = labelled(
                ("time",), self.test_loss_stderr, "standard error of the loss of a test"
            )
            if isinstance(self._loss, CrossEntropy | Logistic):
                data["test_accuracy"] = labelled(
                    ("time",), self.test_accuracy, "accuracy of a test"
                )
        if self.token:
            data["loss_by_position"] = labelled(
                ("time", "token"), self.loss_by_position, "loss by position"
            )
        if isinstance(self._loss, CrossEntropy | Logistic):
            data["correct"] = labelled(rows, self.correct, "whether rows are classed right")
            data["accuracy"] = labelled(("time",), self.accuracy, "accuracy")
            if self.token:
                data["accuracy_by_position"] = labelled(
                    ("time", "token"), self.accuracy_by_position, "accuracy by position"
                )
        if self._attention:
            laws = [self.score_law(layer) for layer in range(self.layers)]
            quantiles = np.stack([law.quantiles(PROBABILITIES) for law in laws])
            dims = ("layer", "probability", "time", "input", "query", "key")
            data["score_quantiles"] = labelled(dims, quantiles, "scores over heads")
            data["score_gain"] = labelled(
                ("time", "layer"), self.score_gain, "factor of the scores"
            )
            data["key_gradient"] = labelled(
                ("time", "layer"), self.key_gradient, "mean square gradient of keys and queries"
            )
        time = ("time", np.asarray(self.ts), {"long_name": "evaluation", "units": "updates"})
        coords: dict[str, tuple[object, ...]] = {"time": time}
        if of_kernels != "time":
            coords[of_kernels] = (of_kernels, np.asarray(self.kernel_ts), time[2])
        if self._attention:
            coords["probability"] = ("probability", list(PROBABILITIES))
        return xarray.Dataset(
            data,
            coords=coords,
            attrs={"failed_at": self.failed_at, "largest_rank": self.largest_rank},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Predictions against updates and their targets; of classes the loss and accuracy."""
        from translimit.figures import plot_loss, plot_predictions

        classes = isinstance(self._loss, CrossEntropy)
        return (plot_loss if classes else plot_predictions)(self.to_xarray(), ax)

    def plot_positions(self, name: str = "loss_by_position", ax: Axes | None = None) -> Axes:
        """`loss_by_position` or `accuracy_by_position` against updates, a line for each token.

        Raises:
            ArgumentError: outputs are read from the mean over tokens; another name.
        """
        from translimit.figures import plot_positions

        known = ("loss_by_position", "accuracy_by_position")
        if name not in known:
            raise ArgumentError("name", f"got {name!r}", f"pass {' or '.join(known)}")
        getattr(self, name)  # refuses what has none
        return plot_positions(self.to_xarray(), ax, name=name)

    def plot_scores(
        self, layer: int, place: tuple[int, int, int] = (0, 0, 0), ax: Axes | None = None
    ) -> Axes:
        """Quantiles over heads of one score (input, query, key) against updates."""
        from translimit.figures import plot_score_law

        self.score_law(layer)  # refuses what has none
        index = self._layer(layer, self.layers)
        return plot_score_law(self.to_xarray(), ax, layer=index, place=place)

    def plot_kernel(
        self, layer: int, field: tuple[int, int] = (0, 0), ax: Axes | None = None
    ) -> Axes:
        """`kernel(layer)` of one field (input, token) over both training times."""
        from translimit.figures import plot_time_kernel

        index = self._layer(layer, self.layers + 1)
        return plot_time_kernel(self.to_xarray(), ax, state=index, field=field)

    def _layer(self, layer: int, count: int) -> int:
        if not -count <= require_count(layer, "layer", -count) < count:
            raise ArgumentError("layer", f"got {layer}", f"pass an integer from 0 to {count - 1}")
        return layer % count

    def _shaped(
        self, kernel: Float[np.ndarray, "history history"]
    ) -> Float[np.ndarray, "steps P S steps P S"]:
        steps, S = len(self.kernel_ts), self._tokens
        P = len(kernel) // (steps * S)
        return kernel.reshape(steps, P, S, steps, P, S)
