"""One training problem, solved in the limit and trained in networks of any size.

Both sides are labelled datasets of the same quantities, so that they can be compared: predictions,
the pooled residual kernel, losses, and one logit over heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from translimit import core, data, describe, limits, models, scaling, train
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.tasks import REFERENCE, TASKS, load_task, require_task
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Exponent,
    Momentum,
    OneOf,
    Positive,
    Two,
    Within,
)
from translimit.experiments.ensembles import PROCESS_BYTES, ensemble_bytes

if TYPE_CHECKING:
    import xarray as xr

#: What an MLP may be: "none", or the name of a `describe.Activation`.
MLPS = ("none", "gelu", "gelu_new", "relu", "silu", "tanh", "linear")
#: The entry of attention whose law over heads is followed: input, query, key.
PLACE = (0, 1, 0)


@dataclass(frozen=True)
class Problem(CheckedConfig):
    """Data, architecture and gradient descent; what the limit and its networks have in common.

    Attributes:
        task: "digits", "text", "synthetic", or the path of an `.npz` with `inputs` [P, S, D] and
            `targets` [P] or [P, outputs].
        readout: "pooled", where targets in a file have as many columns as there are tokens: they
            are outputs of the mean over tokens. "" where that is clear.
        inputs: P, all of them in every update.
        tokens: S of "text" and "synthetic".
        dim: D of "text" and "synthetic".
        head_dim: N.
        layers: L.
        alpha_A: exponent of the logits.
        alpha_L: exponent of the branches.
        beta0: branch multiplier.
        gamma0: richness.
        attention: whether blocks attend.
        mlp: activation of an MLP as wide as the stream, by the names of `describe.Activation`;
            "none" for no MLP.
        norm: "rms", "layer" or "none", before each sub-block.
        causal: whether tokens see only those before.
        momentum: of the heavy ball.
        steps: evaluations, one more than updates.
        eta0: learning rate.
        samples: sampled heads of a population of the limit; 0 for the solver's default.
        neurons: sampled neurons of a population of the limit; 0 for the solver's default.
        populations: populations of the limit, for its standard error.
    """

    task: str = "digits"
    readout: Literal["", "pooled"] = ""
    inputs: Count = 4
    tokens: Two = 4
    dim: Count = 16
    head_dim: Count = 2
    layers: Count = 1
    alpha_A: Exponent = 1.0
    alpha_L: Exponent = 1.0
    beta0: Positive = 1.5
    gamma0: Positive = 1.5
    attention: bool = True
    mlp: Annotated[str, OneOf(MLPS)] = "none"
    norm: Literal["none", "rms", "layer"] = "none"
    causal: bool = False
    momentum: Momentum = 0.0
    steps: Count = 12
    eta0: Positive = 0.1
    samples: Annotated[int, Within(0)] = 4000
    neurons: Annotated[int, Within(0)] = 0
    populations: Two = 8

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_task(self.task, self.inputs)
        if not self.attention and self.mlp == "none":
            raise ConfigError(
                "attention", 'is false where mlp is "none"', "leave one of the two in the blocks"
            )

    def require_networks(self) -> None:
        """Refuse a problem that no network of this library can have.

        Raises:
            ConfigError: blocks without attention.
        """
        if not self.attention:
            raise ConfigError(
                "attention", "is false", "leave it true: networks of this library attend"
            )

    def require_samples(self, *, unseen: int = 0) -> None:
        """Refuse fewer sampled heads or neurons than moment matching needs.

        Args:
            unseen: inputs of the limit besides those that are trained.

        Raises:
            ConfigError: see `CausalSampling.counts`; of a file the tokens are not known.
        """
        if self.task not in TASKS:
            return
        history = self.steps * (self.fields() + unseen * self.fields() // self.inputs)
        heads = 4 * history // self.head_dim + 1 if self.attention else 0
        neurons = 2 * history + 1 if self.mlp != "none" else 0
        for name, least in (("samples", heads), ("neurons", neurons)):
            if 0 < getattr(self, name) < least:
                these = f"inputs, {'unseen, ' if unseen else ''}tokens, steps and head_dim"
                remedy = f"pass at least {least} for these {these}, or 0 for the default"
                raise ConfigError(name, f"got {getattr(self, name)}", remedy)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [P, S, D] and targets [P] or [P, outputs].

        Raises:
            ConfigError: targets of a file that can be read in two ways.
        """
        x, y = load_task(self.task, self.inputs, self.tokens, self.dim)
        if not self.readout and y.ndim == 2 and y.shape[1] == x.shape[1]:
            raise ConfigError(
                "readout",
                f"is missing, and {self.task} has as many outputs as tokens, {y.shape[1]}",
                'add readout = "pooled": they are outputs of the mean over tokens',
            )
        return x, y

    def file_digest(self) -> str | None:
        """Of the data in a file, so that another file is another run; None for what is shipped."""
        if self.task in TASKS:
            return None
        x, y = self.data()
        return core.config.digest([x.tolist(), y.tolist()])

    def activation(self) -> Any:
        """The activation of the MLP, or None."""
        if self.mlp == "none":
            return None
        return describe.Activation(self.mlp)

    def limit(self, *, head_dim: float | None = None, layers: float | None = None) -> Any:
        """The training problem of the limit, other sizes where they are given."""
        x, y = self.data()
        architecture = limits.dmft.Architecture(
            head_dim=self.head_dim if head_dim is None else head_dim,
            layers=self.layers if layers is None else layers,
            alpha_A=self.alpha_A,
            alpha_L=self.alpha_L,
            beta0=self.beta0,
            gamma0=self.gamma0,
            attention=self.attention,
            mlp=self.activation(),
            norm=None if self.norm == "none" else self.norm,
            causal=self.causal,
        )
        return limits.dmft.TrainingDynamics(
            architecture=architecture,
            inputs=x,
            targets=y,
            steps=self.steps,
            eta0=self.eta0,
            momentum=self.momentum,
            readout=self.readout or None,
        )

    def method(self, problem: Any, **options: Any) -> Any:
        """The exact method where there is one, else sampling."""
        if limits.dmft.LinearAlgebra in problem.methods:
            return limits.dmft.LinearAlgebra(**options)
        return limits.dmft.CausalSampling(
            heads=self.samples or None,
            neurons=self.neurons or None,
            populations=self.populations,
            **options,
        )

    def fields(self) -> int:
        """Inputs times tokens, without reading any file."""
        return self.inputs * (4 if self.task == "digits" else self.tokens)

    def limit_seconds(self, *, cells: int | None = None) -> float:
        """Roughly what the limit needs on one core."""
        history = self.steps * self.fields()
        blocks = (cells or self.layers) * (int(self.attention) + int(self.mlp != "none"))
        heads = (self.samples or 8 * history) * self.head_dim
        return 6 + self.populations * blocks * history**2 * (6e-9 * heads + 2e-9 * history)

    def limit_bytes(self, *, cells: int | None = None) -> float:
        """The process of a cell that solves the limit: leading terms of `TrainingDynamics.memory`.

        The method itself needs JAX, which a plan does not load.
        """
        fields, history = self.fields(), self.steps * self.fields()
        layers = cells or self.layers
        blocks = layers * (int(self.attention) + int(self.mlp != "none"))
        doubles = history**2 * (2 * blocks * (4 * blocks + 2) + 6 * blocks)
        if self.attention:
            samples = self.samples or 8 * history
            wide = samples * self.head_dim
            weights = fields**2 / self.inputs * samples
            doubles += layers * (8 * history * wide + 12 * fields * wide + 3 * weights)
            doubles += 24 * fields * wide + 12 * weights
        if self.mlp != "none":
            neurons = self.neurons or 8 * history
            doubles += 4 * layers * history * neurons + 20 * fields * neurons
        return PROCESS_BYTES + 1.4 * 8 * doubles

    def networks_bytes(
        self, heads: int, seeds: int, *, head_dim: int | None = None, layers: int | None = None
    ) -> float:
        """The process of a cell that trains networks of one size."""
        return ensemble_bytes(
            (head_dim or self.head_dim, heads, layers or self.layers),
            members=seeds,
            batch=self.inputs,
            tokens=self.fields() // self.inputs,
            outputs=1,
            mlp_ratio=float(self.mlp != "none"),
            slots=int(self.momentum > 0),
        )

    def networks_seconds(
        self, heads: int, seeds: int, *, head_dim: int | None = None, layers: int | None = None
    ) -> float:
        """Roughly what networks of one size need on one core."""
        width = heads * (head_dim or self.head_dim)
        blocks = (layers or self.layers) * (1 + 0.5 * (self.mlp != "none"))
        each = 2.5e-5 + 5e-7 * width + 3e-9 * width**2
        return 3 + blocks * seeds * self.steps * self.fields() * each


def solve_limit(
    problem: Problem, key: Any, *, omit: str | None = None, **sizes: float
) -> xr.Dataset:
    """The limit of a problem: predictions, pooled kernel, loss, and a logit over heads."""
    import xarray as xr

    limit = problem.limit(**sizes)
    method = problem.method(limit, omit=(omit,) if omit else ())
    solution = core.solve(limit, method, key=key if method.random else None)
    end = solution.layers
    # Entries of the kernel move together at worst: their mean error bounds that of the mean.
    kernel, kernel_stderr = (
        np.einsum("tptq->tpq", x.mean(axis=(2, 5)))
        for x in (solution.kernel(end), solution.kernel_stderr(end))
    )
    stderr = np.hypot(solution.stderr, solution.cell_error)
    shape = (*solution.predictions.shape[:2], -1)
    values: dict[str, Any] = {
        "predictions": (("step", "sample", "output"), solution.predictions.reshape(shape)),
        "predictions_stderr": (("step", "sample", "output"), stderr.reshape(shape)),
        "kernel": (("step", "sample", "sample2"), kernel),
        "kernel_stderr": (("step", "sample", "sample2"), kernel_stderr),
        "loss": (("step",), solution.loss),
        "sharpness": (("step",), solution.sharpness),
    }
    if problem.attention:
        values["score"] = (("step", "head"), solution.score_law(0).scores[:, :, *PLACE])
    return xr.Dataset(values, attrs={"reference": REFERENCE})


def train_networks(
    problem: Problem,
    key: Any,
    *,
    heads: int,
    seeds: int,
    head_dim: int | None = None,
    layers: int | None = None,
    shown: tuple[np.ndarray, np.ndarray] | None = None,
) -> xr.Dataset:
    """Networks of one size, seed by seed, on the data of the problem.

    Args:
        problem: data, architecture and gradient descent.
        key: of the starts.
        heads: H.
        seeds: how many networks.
        head_dim: N, that of the problem by default.
        layers: L, that of the problem by default.
        shown: inputs and targets that are observed; those that are trained by default.
    """
    import xarray as xr

    x, y = problem.data()
    y = y.reshape(len(y), -1)
    source: Any = data.Examples(x, y)
    if shown is not None:
        source = data.Observed(source, data.Examples(shown[0], shown[1].reshape(len(shown[1]), -1)))
        y = shown[1].reshape(len(shown[1]), -1)
    N, L = head_dim or problem.head_dim, layers or problem.layers
    mlp = problem.activation()
    problem.require_networks()
    shape = describe.TransformerShape(
        head_dim=N,
        heads=heads,
        layers=L,
        tokens=x.shape[1],
        outputs=y.shape[1],
        patch_dim=x.shape[2],
        mlp_ratio=0.0 if mlp is None else 1.0,
        activation=mlp or describe.Activation.GELU,
        norm=None if problem.norm == "none" else problem.norm,
        norm_eps=1e-5,
        final_norm=False,
        gains=False,
        biases=False,
        positions=None,
        causal=problem.causal,
    )
    numbers = scaling.paper_parameterization(
        shape.size,
        alpha_A=problem.alpha_A,
        alpha_L=problem.alpha_L,
        beta0=problem.beta0,
        gamma0=problem.gamma0,
        eta0=problem.eta0,
        pixels=x.shape[2],
    )
    heavy = problem.momentum > 0
    run = train.Training(
        steps=problem.steps - 1,
        rates=(1.0,),
        seeds=seeds,
        batch=len(x),
        optimizer=train.Optimizer(
            name="momentum" if heavy else "sgd", momentum=problem.momentum or 0.9
        ),
        loss="mse",
    )
    history = train.train(
        shape,
        numbers,
        source,
        run,
        key=key,
        observe=(train.Predictions(), train.StreamKernel(), train.AttentionLaw(places=(PLACE,))),
        observe_at=tuple(range(problem.steps)),
        probe=len(y),
    )
    f = np.moveaxis(history["predictions"][:, :, 0], 0, 1)
    kernel = np.moveaxis(history["stream_kernel"][:, :, 0, -1], 0, 1)
    logit = np.moveaxis(history["score"][:, :, 0, 0, :, 0], 0, 1)
    loss = np.mean(np.sum((y - f) ** 2, axis=-1), axis=-1) / 2
    return xr.Dataset(
        {
            "predictions": (("seed", "step", "sample", "output"), f),
            "kernel": (("seed", "step", "sample", "sample2"), kernel),
            "loss": (("seed", "step"), loss),
            "score": (("seed", "step", "head"), logit),
        },
        attrs={
            "reference": REFERENCE,
            "heads": heads,
            "head_dim": N,
            "layers": L,
            "model": models.Transformer.__name__,
        },
    )


def distances(networks: xr.Dataset, limit: xr.Dataset) -> np.ndarray:
    """Rms distance of each network's predictions from the limit [seeds]."""
    gap = networks["predictions"].values - limit["predictions"].values
    return np.sqrt(np.mean(gap**2, axis=(1, 2, 3)))


def extrapolated_gap(
    fine: xr.Dataset, coarse: xr.Dataset, limit: xr.Dataset, name: str
) -> Estimate:
    """2 mean(fine) - mean(coarse) minus the limit, averaged before its error is taken.

    Predictions are averaged with the signs of the limit's last ones, kernels relative to the sum
    of their sizes: entries of one network are nearly one common mode.
    """
    value = limit[name].values
    if name == "predictions":
        weights = np.where(value[-1] < 0, -1.0, 1.0) * np.ones_like(value) / value.size
    else:
        weights = np.sign(value) / np.sum(np.abs(value))
    axes = tuple(range(1, weights.ndim + 1))
    finer, coarser = (np.sum(net[name].values * weights, axis=axes) for net in (fine, coarse))
    gap = 2 * finer.mean() - coarser.mean() - np.sum(value * weights)
    variance = 4 * finer.var(ddof=1) / finer.size + coarser.var(ddof=1) / coarser.size
    floor = float(np.sum(limit[f"{name}_stderr"].values * np.abs(weights)))
    return Estimate(float(gap), math.hypot(math.sqrt(variance), floor), finer.size)


def spread_gap(networks: xr.Dataset, limit: xr.Dataset) -> Estimate:
    """Relative difference of the 10-90 % spreads of the logit at the end, bootstrap over seeds."""

    def spread(logits: np.ndarray) -> float:
        low, high = np.quantile(logits, (0.1, 0.9))
        return float(high - low)

    ends = networks["score"].values[:, -1]
    target = spread(limit["score"].values[-1])
    draws = np.random.default_rng(0).integers(len(ends), size=(200, len(ends)))
    spreads = np.array([spread(ends[draw]) for draw in draws])
    heads = limit["score"].shape[1]
    # A quantile spread of n heads has a relative error of about 1.2 / sqrt(n).
    stderr = np.hypot(spreads.std(ddof=1) / target, 1.2 / heads**0.5)
    return Estimate(spread(ends) / target - 1, float(stderr), len(ends))
