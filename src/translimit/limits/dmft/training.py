r"""The training problem: an infinite transformer, its data, and gradient descent on them.

Full-batch gradient descent (weights may select minibatches) with the heavy ball, at the learning
rate eta = eta_0 gamma_0^2 N H L^(2 alpha_L - 1) of the paper's parameterisation, under the loss
sum over rows of w l(f, y). A row is an input, or a token with outputs of its own. Or else an update
that works entry by entry, at the rate eta_0 (N H)^(-1/2) L^(alpha_L - 1) of its table.

!!! warning "Erratum candidate"
    The paper's table prints the learning rate without gamma_0^2; its Result 1 needs the factor.
    `lr_convention="table"` means the printed one: eta_0 / gamma_0^2 here.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, Result 1; documentation, "Training
dynamics".
"""

from __future__ import annotations

import math
from typing import Literal, cast

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from translimit.core import (
    NOT_NEGATIVE,
    POSITIVE,
    AbstractMethod,
    AbstractProblem,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Bounds,
    Keep,
    Key,
    Number,
    Progress,
    Times,
    brief,
    is_traced,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe import Activation
from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.embedding import Embedding, of_features, of_tokens
from translimit.limits.dmft.equations import TrainingEquations, pooled_features
from translimit.limits.dmft.losses import AbstractLoss, SquaredError
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra, Method, PopulationSampling
from translimit.limits.dmft.optimizers import SGD, AbstractOptimizer
from translimit.limits.dmft.population_solver import (
    PopulationCost,
    population_cost,
    solve_populations,
)
from translimit.limits.dmft.requirements import (
    require_features,
    require_limit,
    require_loss,
    require_optimizer,
    require_tied,
    require_tokens,
)
from translimit.limits.dmft.setup import solve_bytes, solve_seconds
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.solver import solve_training
from translimit.limits.dmft.targets import read_schedule, read_targets, read_weights


class TrainingDynamics(AbstractProblem[TrainingSolution]):
    """Training of a multi-head transformer with infinitely many heads.

    Runs in float64 whatever the calling program has set. Cost of a sampled pass with M heads, n
    sub-blocks and r directions of each field, of which there are far fewer than K = steps fields:
    O(steps n fields r M head_dim) time and about 128 n r M head_dim bytes. Where nothing is
    sampled O(n^2 K^3) time and 64 n^2 K^2 bytes.

    Args:
        architecture: the transformer.
        inputs: x [inputs, tokens, dim]; or else
        token_ids: integers [inputs, tokens], embedded as tokens and positions.
        vocabulary: how many tokens there are; required with `token_ids`.
        position_std: of the embeddings of positions at the start, in units of the tokens'; by
            default 1 with `token_ids`, 0 (none) with `inputs`.
        position_rate: learning rate of the positions relative to the tokens; 0 freezes them.
        loss: `SquaredError()`, `Huber()`, `Logistic()` or `CrossEntropy()`.
        targets: real numbers [inputs] or [inputs, outputs], -1 and 1 for `Logistic`, and classes
            as integers [inputs] for `CrossEntropy`, -1 where there is no target. Where tokens
            have outputs of their own they have an axis of tokens after that of inputs.
        classes: outputs under `CrossEntropy`; by default the vocabulary where tokens are
            predicted, else the largest class and those below it.
        readout: "pooled": outputs are read from the mean over tokens; "token": every token has
            its own. It must be given where real targets have as many columns as there are
            tokens, which can be read in both ways.
        readout_std: of the readout at the start; 0 for one that starts at zero.
        centred: whether outputs at the start are subtracted from those of all times. Where the
            readout is not tied they are zero in the limit, and it changes networks only.
        tied: whether the readout is the embedding of the tokens.
        steps: evaluations; `loss[steps - 1]` follows steps - 1 updates.
        eta0: learning rate.
        momentum: of the heavy ball, in [0, 1).
        weights: w of each row in the loss, [inputs] or [inputs, tokens], or with an axis of
            steps before (a minibatch has its own at each step); 0 for test points. By default
            the same for all rows with a target, 1 in sum.
        schedule: factors of the learning rate [steps]; 1 by default.
        lr_convention: "table" is the paper's printed table. At the others gamma0 -> 0 at fixed eta0
            is lazy: "gamma0_squared" of gradient descent, its default, and "gamma0" of updates
            that work entry by entry, whose default is the table.
        optimizer: `SGD()` by default, `Adam()`, `AdamW()` or `Sign()`.

    Raises:
        ArgumentError: shapes that do not match, numbers out of range, tied readouts of another
            size than the vocabulary.
        ArgumentTypeError: traced values; steps that is no integer; both or none of `inputs` and
            `token_ids`; an optimiser that is none of `limits.dmft`.
        NoSuchLimitError: infinite head_dim at alpha_A < 1, infinite layers at alpha_L < 1; where
            updates work entry by entry: infinite sizes, exponents other than 1, tied readouts,
            trained gains and MLPs wider than the stream, of which nothing was verified.

    Examples:
        >>> import math
        >>> from translimit import solve
        >>> from translimit.limits.dmft import Architecture
        >>> wide = Architecture(head_dim=math.inf, layers=2, beta0=1.0, gamma0=1.0)
        >>> x = [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]]
        >>> problem = TrainingDynamics(
        ...     architecture=wide, inputs=x, targets=[1.0, -1.0], steps=5, eta0=0.2
        ... )
        >>> solve(problem).predictions.shape
        (5, 2)

    Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712.
    """

    architecture: Architecture = eqx.field(static=True)
    inputs: Float[np.ndarray, "inputs tokens dim"] | None
    token_ids: Int[np.ndarray, "inputs tokens"] | None
    vocabulary: int | None = eqx.field(static=True)
    position_std: float
    position_rate: float
    targets: Float[np.ndarray, "inputs ..."] | Int[np.ndarray, "inputs ..."]
    loss: AbstractLoss = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    readout: str = eqx.field(static=True)
    readout_std: float
    centred: bool = eqx.field(static=True)
    tied: bool = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    eta0: float
    momentum: float
    weights: Float[np.ndarray, "steps inputs ..."]
    schedule: Float[np.ndarray, " steps"]
    lr_convention: str = eqx.field(static=True)
    optimizer: AbstractOptimizer = eqx.field(static=True)
    t1: Number

    def __init__(
        self,
        *,
        architecture: Architecture,
        inputs: ArrayInput | None = None,
        token_ids: ArrayInput | None = None,
        vocabulary: int | None = None,
        position_std: float | int | None = None,
        position_rate: float | int = 1.0,
        targets: ArrayInput,
        loss: AbstractLoss | None = None,
        classes: int | None = None,
        readout: str | None = None,
        readout_std: float | int = 1.0,
        centred: bool = False,
        tied: bool = False,
        steps: int,
        eta0: float,
        momentum: float = 0.0,
        weights: ArrayInput | None = None,
        schedule: ArrayInput | None = None,
        lr_convention: Literal["gamma0_squared", "gamma0", "table"] | None = None,
        optimizer: AbstractOptimizer | None = None,
    ):
        if not isinstance(architecture, Architecture):
            raise ArgumentTypeError(
                "architecture", f"got {brief(architecture)}", "pass limits.dmft.Architecture"
            )
        if is_traced(inputs, token_ids, targets, eta0, momentum, weights, schedule):
            raise ArgumentTypeError(
                "inputs", "some values are traced (jit, vmap or grad)", "pass concrete numbers"
            )
        self.momentum = require_real(momentum, "momentum", Bounds(0.0, 1.0, "[)"))
        optimizer = SGD() if optimizer is None else optimizer
        self.optimizer = require_optimizer(optimizer, self.momentum, tied=tied)
        require_limit(architecture, self.optimizer)
        self.architecture = architecture
        self.steps = require_count(steps, "steps", 1)
        if (inputs is None) == (token_ids is None):
            raise ArgumentTypeError(
                "inputs",
                f"and token_ids are {'both missing' if inputs is None else 'both given'}",
                "pass inputs [inputs, tokens, dim], or token_ids [inputs, tokens]",
            )
        self.inputs, self.token_ids, self.vocabulary = None, None, None
        if inputs is not None:
            self.inputs = require_features(inputs)
            P, S = self.inputs.shape[:2]
        else:
            assert token_ids is not None
            self.token_ids, self.vocabulary = require_tokens(token_ids, vocabulary)
            P, S = self.token_ids.shape
        std = float(inputs is None) if position_std is None else position_std
        self.position_std = require_real(std, "position_std", NOT_NEGATIVE)
        self.position_rate = require_real(position_rate, "position_rate", NOT_NEGATIVE)
        self.loss = SquaredError() if loss is None else require_loss(loss)
        self.classes = None if classes is None else require_count(classes, "classes", 2)
        if classes is None and (tied or np.ndim(targets) == 2):
            self.classes = self.vocabulary
        read = read_targets(targets, self.loss, readout, P, S, self.classes)
        self.targets, self.readout = read.given, "token" if read.token else "pooled"
        self.readout_std = require_real(readout_std, "readout_std", NOT_NEGATIVE)
        self.centred, self.tied = require_flag(centred, "centred"), require_flag(tied, "tied")
        if self.tied:
            require_tied(
                tokens=self.token_ids is not None,
                readout_std=self.readout_std,
                outputs=read.y.shape[1],
                vocabulary=self.vocabulary,
                loss=self.loss,
            )
        self.eta0 = require_real(eta0, "eta0", POSITIVE)
        self.weights = read_weights(weights, read, self.steps)
        self.schedule = read_schedule(schedule, self.steps)
        elementwise = self.optimizer.elementwise
        known = ("table", "gamma0") if elementwise else ("gamma0_squared", "table")
        if lr_convention not in (None, *known):
            raise ArgumentError(
                "lr_convention",
                f"got {brief(lr_convention)} under {self.optimizer}",
                f"pass {' or '.join(known)}",
            )
        self.lr_convention = lr_convention or known[0]
        self.t1 = float(self.steps - 1)

    @property
    def tokens(self) -> int:
        """S."""
        data = self.token_ids if self.inputs is None else self.inputs
        assert data is not None
        return data.shape[1]

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return len(self.targets) * self.tokens

    @property
    def embedding(self) -> Embedding:
        """What the stream starts from, and what the embedding learns."""
        std, rate = self.position_std, self.position_rate
        if self.inputs is not None:
            return of_features(self.inputs, std, rate)
        assert self.token_ids is not None
        assert self.vocabulary is not None
        return of_tokens(self.token_ids, self.vocabulary, std, rate, tied=self.tied)

    @property
    def input_kernel(self) -> Float[np.ndarray, "fields fields"]:
        """K^x, of the stream at the start: x . x / dim, or of tokens and positions."""
        return self.embedding.kernel

    @property
    def rate(self) -> float:
        """eta_0 in the convention of the limit: of gradient descent that of gamma0_squared, of
        updates that work entry by entry that of the table.
        """
        gamma0, table = self.architecture.gamma0, self.lr_convention == "table"
        if self.optimizer.elementwise:
            return self.eta0 * (1.0 if table else gamma0)
        return self.eta0 / (gamma0**2 if table else 1.0)

    @property
    def equations(self) -> TrainingEquations:
        """What the limit sees of the problem; `limits.dmft.solver` solves these."""
        P, S = len(self.targets), self.tokens
        targets = read_targets(self.targets, self.loss, self.readout, P, S, self.classes)
        return TrainingEquations(
            architecture=self.architecture,
            embedding=self.embedding,
            tokens=self.tokens,
            features=np.eye(P * S) if targets.token else pooled_features(P, S),
            targets=targets,
            loss=self.loss,
            weights=self.weights.reshape(self.steps, -1),
            schedule=self.schedule,
            rate=self.rate,
            momentum=self.momentum,
            readout_std=self.readout_std,
            centred=self.centred,
            tied=self.tied,
            optimizer=self.optimizer,
        )

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """`LinearAlgebra` where every unit is linear, `CausalSampling` where one can be sampled.

        Both need a stream that is linear in its sources; `PopulationSampling` needs finite sizes.
        """
        a = self.architecture
        heads = a.attention and not math.isinf(a.head_dim)
        exact = not heads and a.mlp in (None, Activation.LINEAR)
        sampled = heads or a.mlp is not None
        finite = (heads or not a.attention) and not math.isinf(a.layers)
        finite = finite and a.queries_per_key == 1
        if a.activation_on_stream is not None or self.optimizer.elementwise:
            exact = sampled = False
        return (
            *(LinearAlgebra,) * exact,
            *(CausalSampling,) * sampled,
            *(PopulationSampling,) * finite,
        )

    def default_method(self) -> Method:
        """The first of `methods`."""
        return cast("type[Method]", self.methods[0])()

    def default_times(self) -> Times:
        """Every evaluation."""
        return np.arange(self.steps, dtype=np.float64)

    def memory(self, method: Method | None = None, times: int | None = None) -> int:
        """Bytes that a solve needs at its peak, about; nothing is computed.

        Every evaluation is kept, whatever `times` says. It is that of the passes that `at_once`
        asks for, else of one: more run side by side only where they take at most half of the
        memory that is free.
        """
        method = method or self.default_method()
        if isinstance(method, PopulationSampling):
            return population_cost(self.equations, method).bytes
        return solve_bytes(self.equations, method)

    def cost(self, method: PopulationSampling | None = None) -> PopulationCost:
        """Units, innovations, bytes and seconds of `PopulationSampling`; nothing is computed.

        Raises:
            ArgumentTypeError: another method, whose memory `memory` tells.
        """
        method = PopulationSampling() if method is None else method
        if PopulationSampling not in self.methods or not isinstance(method, PopulationSampling):
            raise ArgumentTypeError(
                "method", f"got {type(method).__name__}", "pass PopulationSampling, or see memory"
            )
        return population_cost(self.equations, method)

    def seconds(self, method: Method | None = None) -> float:
        """Seconds that a solve needs on one core, about, beside compilation; nothing is computed.

        Histories are compressed, and by how much is known only afterwards: it is told for the
        ranks that are usual at these sizes, and for a processor of today.
        """
        method = method or self.default_method()
        if isinstance(method, PopulationSampling):
            return population_cost(self.equations, method).seconds
        return solve_seconds(self.equations, method)

    def run(
        self,
        method: Method,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> TrainingSolution:
        """Called by `solve`; refuses times other than all evaluations."""
        if not np.array_equal(np.asarray(ts), self.default_times()):
            raise ArgumentError("save", "every evaluation is kept", "leave it out")
        if isinstance(method, PopulationSampling):
            assert key is not None
            return solve_populations(self.equations, method, key, progress)
        return solve_training(self.equations, method, key, progress)
