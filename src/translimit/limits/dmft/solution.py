"""What a training limit leaves behind: predictions, kernels over training time, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AbstractSolution,
    ArgumentError,
    Floats,
    Number,
    Outcome,
    Times,
    reference,
    require_count,
)
from translimit.limits.dmft.passes import Kernels
from translimit.limits.dmft.score_law import ScoreLaw

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

#: Axes, values and attributes of a labelled array.
Labelled = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
#: Quantiles of scores over heads that `to_xarray` carries.
PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99)


class TrainingSolution(AbstractSolution):
    """Training of the infinite network, evaluation by evaluation.

    Attributes:
        ts: evaluations 0 .. steps - 1; parameters at t have received t updates.
        predictions: f [steps, inputs], or [steps, inputs, outputs] as the targets.
        stderr: standard error of the predictions over populations, 0 where nothing is sampled.
        cell_error: error of the depth ODE's cells in the predictions, 0 at finite depth.
        loss: half the weighted squared errors, summed over inputs [steps].
        loss_stderr: its standard error over populations [steps].
        ntk: neural tangent kernel [steps, inputs, inputs]; with several outputs that of each of
            them at the start (between two it is zero there), NaN later.
        sharpness: largest curvature of the loss, lambda_max(W^(1/2) K^NTK W^(1/2)) with the loss
            weights W [steps]; no learning rate is in it.
        edge_ratio: eta_0 schedule sharpness / (2 (1 + momentum)) [steps]; 1 at the edge of
            stability.
        key_gradient: mean square of the gradients of keys and queries [steps, layers].
        targets: what the predictions are trained towards, in their shape without steps.
        outcome: `successful`, or `non_finite` with later rows NaN.
        discretisation: largest error of the depth ODE's cells in predictions; 0 at finite depth.
        samples: independent populations behind the standard errors; 1 where none are sampled.
        failed_at: where a kernel ceased to be finite, in words; empty otherwise.
    """

    ts: Times
    predictions: Float[np.ndarray, "steps inputs ..."]
    stderr: Float[np.ndarray, "steps inputs ..."]
    cell_error: Float[np.ndarray, "steps inputs ..."]
    loss: Float[np.ndarray, " steps"]
    loss_stderr: Float[np.ndarray, " steps"]
    ntk: Float[np.ndarray, "steps inputs inputs"]
    sharpness: Float[np.ndarray, " steps"]
    edge_ratio: Float[np.ndarray, " steps"]
    key_gradient: Float[np.ndarray, "steps layers"]
    targets: Float[np.ndarray, "inputs ..."]
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

    reference: ClassVar[str] = reference("bordelon2024")

    @property
    def layers(self) -> int:
        """Blocks; cells of the finest pass where depth is infinite."""
        return len(self._kernels["residual"]) - 1

    def kernel(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """<h h> of the residual state after `layer` blocks (0: the embedding).

        Indices are evaluation, input, token, twice. Where depth is infinite, depth is
        layer / layers.
        """
        return self._shaped(self._kernels["residual"][self._layer(layer, self.layers + 1)])

    def kernel_stderr(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """Standard error of `kernel(layer)` over populations, entry by entry."""
        return self._shaped(self._kernel_stderr[self._layer(layer, self.layers + 1)])

    def gradient_kernel(self, layer: int) -> Float[np.ndarray, "steps P S steps P S"]:
        """<g g> at the residual state after `layer` blocks, g = gamma_0 n df/dh.

        With several outputs g carries the errors: it is the gradient of minus the loss.
        """
        return self._shaped(self._kernels["gradient"][self._layer(layer, self.layers + 1)])

    def responses(
        self, layer: int, block: int = 0
    ) -> dict[str, Float[np.ndarray, "history history"]]:
        """The responses of a sub-block (0: the first of the layer), [K, K], K = steps fields.

        - "R_h", "R_g": of the stream to the sub-block's two sources; absent in the depth ODE.
        - "S_x", "S_p": E[x xi^T] and E[p xi^T], regressions on whitened innovations, where heads
          or neurons are sampled: the kernels of the sources are singular, and only products
          S L^+ y mean something. Where they are linear: R^v and R^p themselves.
        """
        index = self._layer(layer, self.layers)
        names = [n for n in ("R_h", "R_g", "S_x", "S_p") if n in self._kernels]
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
        """Feature movement <(h(t) - h(0))^2> / <h(0)^2> after `layer` blocks."""
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

        def labelled(dims: tuple[str, ...], values: Floats, name: str) -> Labelled:
            attrs = {"long_name": name, "units": "1", "reference": self.reference}
            return dims, np.asarray(values), attrs

        outputs = ("output",) if np.ndim(self.targets) == 2 else ()
        f_dims = ("time", "input", *outputs)
        pair = ("time", "input", "token", "time2", "input2", "token2")
        kernels = np.stack([self.kernel(layer) for layer in range(self.layers + 1)])
        gradients = np.stack([self.gradient_kernel(layer) for layer in range(self.layers + 1)])
        movement = np.stack([self.movement(layer) for layer in range(self.layers + 1)])
        data = {
            "predictions": labelled(f_dims, self.predictions, "predictions"),
            "stderr": labelled(f_dims, self.stderr, "standard error of the predictions"),
            "cell_error": labelled(f_dims, self.cell_error, "error of the depth cells"),
            "targets": labelled(f_dims[1:], self.targets, "targets"),
            "loss": labelled(("time",), self.loss, "loss"),
            "loss_stderr": labelled(("time",), self.loss_stderr, "standard error of the loss"),
            "ntk": labelled(("time", "input", "input2"), self.ntk, "neural tangent kernel"),
            "sharpness": labelled(("time",), self.sharpness, "sharpness"),
            "edge_ratio": labelled(("time",), self.edge_ratio, "distance to the edge of stability"),
            "kernel": labelled(("state", *pair), kernels, "residual kernel"),
            "gradient_kernel": labelled(("state", *pair), gradients, "gradient kernel"),
            "movement": labelled(("state", *pair[:3]), movement, "feature movement"),
        }
        if self._attention:
            laws = [self.score_law(layer) for layer in range(self.layers)]
            quantiles = np.stack([law.quantiles(PROBABILITIES) for law in laws])
            dims = ("layer", "probability", "time", "input", "query", "key")
            data["score_quantiles"] = labelled(dims, quantiles, "scores over heads")
            data["key_gradient"] = labelled(
                ("time", "layer"), self.key_gradient, "mean square gradient of keys and queries"
            )
        time = ("time", np.asarray(self.ts), {"long_name": "evaluation", "units": "updates"})
        coords: dict[str, tuple[object, ...]] = {"time": time}
        if self._attention:
            coords["probability"] = ("probability", list(PROBABILITIES))
        return xarray.Dataset(data, coords=coords, attrs={"failed_at": self.failed_at})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Predictions against updates with two standard errors, and their targets."""
        from translimit.figures import plot_predictions

        return plot_predictions(self.to_xarray(), ax)

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
        steps, S = len(self.ts), self._tokens
        P = len(kernel) // (steps * S)
        return kernel.reshape(steps, P, S, steps, P, S)
