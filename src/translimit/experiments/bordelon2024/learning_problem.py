"""One training problem of the limit and of its networks: data, architecture, gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from translimit import core, data, describe, limits, train
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.tasks import TASKS, load_task, require_task
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

#: What an MLP may be: "none", or the name of a `describe.Activation`.
MLPS = ("none", "gelu", "gelu_new", "relu", "silu", "tanh", "linear")


@dataclass(frozen=True)
class LearningProblem(CheckedConfig):
    """Data, architecture and gradient descent; what the limit and its networks have in common.

    Attributes:
        task: "digits", "text", "synthetic", "ring", or the path of an `.npz` with `inputs`
            [P, S, D] and `targets` [P] or [P, outputs].
        readout: where targets in a file have as many columns as there are tokens: "pooled" for
            outputs of the mean over tokens, "token" for one of each. "" where that is clear.
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
    readout: Literal["", "pooled", "token"] = ""
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
        self.require_data()
        if not self.attention and self.mlp == "none":
            raise ConfigError(
                "attention", 'is false where mlp is "none"', "leave one of the two in the blocks"
            )

    def require_data(self) -> None:
        """Refuse a task that cannot be; a file is not looked at.

        Raises:
            ConfigError: see `require_task`.
        """
        require_task(self.task, self.inputs)

    def require_networks(self) -> None:
        """Refuse a problem that no network of this library can have.

        Raises:
            ConfigError: blocks without attention.
        """
        if not self.attention:
            raise ConfigError("attention", "is false", "leave it true: networks here attend")

    def require_samples(self, *, unseen: int = 0) -> None:
        """Refuse fewer sampled heads or neurons than fields and steps could need.

        Args:
            unseen: inputs of the limit besides those that are trained.

        Raises:
            ConfigError: too few; of a file the tokens are not known.
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
        self.rows_of(x, y)
        return x, y

    def rows_of(self, x: np.ndarray, y: np.ndarray) -> tuple[int, ...]:
        """The axes of rows of outputs, [inputs] or [inputs, tokens].

        Args:
            x: inputs or token ids [P, S, ...].
            y: targets; classes as integers.

        Raises:
            ConfigError: targets of a file that can be read in two ways.
        """
        classes = y.dtype.kind in "iu"
        if not self.readout and not classes and y.ndim == 2 and y.shape[1] == x.shape[1]:
            raise ConfigError(
                "readout",
                f"is missing, and {self.task} has as many outputs as tokens, {y.shape[1]}",
                'add readout = "pooled" for outputs of the mean over tokens, or "token"',
            )
        by_token = self.readout == "token"
        if not self.readout:
            by_token = y.ndim == (2 if classes else 3)
        return x.shape[: 1 + by_token]

    def source(self) -> data.AbstractSource:
        """What networks are trained on, all of it in every batch."""
        return data.FullBatch(*self.shown())

    def shown(
        self, given: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets as networks take them: real targets have an axis of outputs.

        Args:
            given: inputs and targets; the problem's by default.
        """
        x, y = self.data() if given is None else given
        if y.dtype.kind in "iu":
            return x, y
        return x, y.reshape(*self.rows_of(x, y), -1)

    def row_weights(self) -> Float[np.ndarray, "steps inputs ..."] | None:
        """Weights of all rows at all steps; None where all rows with a target have the same."""
        return None

    @property
    def network_schedule(self) -> train.Schedule:
        """Of the learning rate of networks."""
        return train.Schedule()

    @property
    def network_rate(self) -> float:
        """eta_0 as `scaling.limit_parameterization` takes it."""
        return self.eta0

    def shape(
        self, heads: int, head_dim: int | None = None, layers: int | None = None
    ) -> describe.TransformerShape:
        """A network of the problem, other sizes where they are given."""
        mlp = self.activation()
        return describe.TransformerShape(
            head_dim=head_dim or self.head_dim,
            heads=heads,
            layers=layers or self.layers,
            mlp_ratio=0.0 if mlp is None else 1.0,
            activation=mlp or describe.Activation.GELU,
            norm=None if self.norm == "none" else self.norm,
            norm_eps=1e-5,
            final_norm=False,
            gains=False,
            biases=False,
            causal=self.causal,
            **self.data_of_shape(),
        )

    def data_of_shape(self) -> dict[str, Any]:
        """Arguments of `describe.TransformerShape` that the data decide."""
        x, y = self.shown()
        sizes = {"tokens": x.shape[1], "patch_dim": x.shape[2], "outputs": y.shape[-1]}
        return {**sizes, "positions": None, "pooled": len(self.rows_of(*self.data())) == 1}

    @property
    def network_loss(self) -> train.AbstractLoss:
        """What networks minimise."""
        return train.SquaredError()

    @property
    def network_centred(self) -> bool:
        """Whether outputs of networks at the start are subtracted."""
        return False

    @property
    def network_optimizer(self) -> train.Optimizer:
        """How networks are trained."""
        heavy = self.momentum > 0
        return train.Optimizer("momentum" if heavy else "sgd", momentum=self.momentum or 0.9)

    @property
    def has_lazy_limit(self) -> bool:
        """Whether the kernel of the start is known, and with it the lazy limit."""
        return True

    def more_of_start(self) -> dict[str, Any]:
        """Arguments of `scaling.limit_parameterization` besides those that every problem has."""
        return {}

    def lazy(
        self, dynamics: limits.dmft.TrainingDynamics, ntk: Float[np.ndarray, "rows rows"]
    ) -> Float[np.ndarray, "steps rows *outputs"]:
        """Predictions with the kernel of the start."""
        return limits.dmft.lazy_predictions(
            ntk,
            dynamics.targets,
            steps=self.steps,
            eta0=self.eta0,
            momentum=self.momentum,
        )

    def file_digest(self) -> str | None:
        """Of the data in a file, so that another file is another run; None for what is shipped."""
        if self.task in TASKS:
            return None
        x, y = self.data()
        return core.config.digest([x.tolist(), y.tolist()])

    def activation(self) -> describe.Activation | None:
        """The activation of the MLP, or None."""
        if self.mlp == "none":
            return None
        return describe.Activation(self.mlp)

    def limit(
        self, *, head_dim: int | float | None = None, layers: int | float | None = None
    ) -> limits.dmft.TrainingDynamics:
        """The training problem of the limit, other sizes where they are given."""
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
            **self.more_of_architecture(),
        )
        return limits.dmft.TrainingDynamics(
            architecture=architecture,
            steps=self.steps,
            eta0=self.eta0,
            momentum=self.momentum,
            readout=self.readout or None,
            **self.what_is_learned(),
        )

    def more_of_architecture(self) -> dict[str, Any]:
        """Arguments of `limits.dmft.Architecture` besides those that every problem has."""
        return {}

    def what_is_learned(self) -> dict[str, Any]:
        """Data and loss, as arguments of `limits.dmft.TrainingDynamics`."""
        inputs, targets = self.data()
        return {"inputs": inputs, "targets": targets}

    def method(
        self,
        problem: limits.dmft.TrainingDynamics,
        *,
        omit: str | None = None,
        heads_kept: int = 2000,
    ) -> limits.dmft.LinearAlgebra | limits.dmft.CausalSampling | limits.dmft.PopulationSampling:
        """The exact method where there is one, else sampling.

        Args:
            problem: see `limit`.
            omit: a response that is left out.
            heads_kept: heads of each population whose scores are kept.
        """
        omitted = (omit,) if omit else ()
        if limits.dmft.LinearAlgebra in problem.methods:
            return limits.dmft.LinearAlgebra(omit=omitted)
        return limits.dmft.CausalSampling(
            heads=self.samples or None,
            neurons=self.neurons or None,
            populations=self.populations,
            heads_kept=heads_kept,
            omit=omitted,
        )

    def fields(self) -> int:
        """Inputs times tokens, without reading any file."""
        return self.inputs * {"digits": 4, "ring": 2}.get(self.task, self.tokens)
