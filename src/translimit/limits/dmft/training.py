r"""The training problem: an infinite transformer, its data, and gradient descent on them.

Full-batch gradient descent (weights may select minibatches) with the heavy ball, at the learning
rate eta = eta_0 gamma_0^2 N H L^(2 alpha_L - 1) of the paper's parameterisation, under the loss
sum over inputs of w (y - f)^2 / 2.

!!! warning "Erratum candidate"
    The paper's table prints the learning rate without gamma_0^2; its Result 1 needs the factor.
    `lr_convention="table"` means the printed one: eta_0 / gamma_0^2 here.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712, Result 1; documentation, "Training
dynamics".
"""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
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
    as_float64,
    brief,
    is_traced,
    require_count,
    require_real,
)
from translimit.describe import Activation
from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.equations import TrainingEquations
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra, Method
from translimit.limits.dmft.requirements import require_limit, require_readout
from translimit.limits.dmft.setup import solve_bytes
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.solver import solve_training


class TrainingDynamics(AbstractProblem[TrainingSolution]):
    """Training of a multi-head transformer with infinitely many heads.

    Runs in float64 whatever the calling program has set. Cost of a pass with K = steps fields,
    M heads and n sub-blocks: O(n M head_dim K^2) time and 64 n M head_dim K bytes for the heads,
    O(n^2 K^3) time and 64 n^2 K^2 bytes for the stream.

    Args:
        architecture: the transformer.
        inputs: x [inputs, tokens, dim].
        targets: y [inputs], or [inputs, outputs].
        readout: "pooled": outputs are read from the mean over tokens. It must be given where
            targets have as many columns as there are tokens, which could be meant for one output
            of every token: such a readout, "token", has no limit here yet and is refused.
        steps: evaluations; `loss[steps - 1]` follows steps - 1 updates.
        eta0: learning rate.
        momentum: of the heavy ball, in [0, 1).
        weights: w of each input in the loss, [inputs] or [steps, inputs] (a minibatch has its
            own at each step); 0 for test points; 1 / inputs by default.
        schedule: factors of the learning rate [steps]; 1 by default.
        lr_convention: "gamma0_squared", where gamma0 -> 0 at fixed eta0 is lazy, or "table",
            the paper's printed table.
        optimizer: "sgd"; any other is refused.

    Raises:
        ArgumentError: shapes that do not match, numbers out of range.
        ArgumentTypeError: traced values; steps that is no integer.
        NoSuchLimitError: infinite head_dim at alpha_A < 1, infinite layers at alpha_L < 1, an
            optimiser other than gradient descent, a readout of single tokens.

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
    inputs: Float[np.ndarray, "inputs tokens dim"]
    targets: Float[np.ndarray, "inputs ..."]
    steps: int = eqx.field(static=True)
    eta0: float
    momentum: float
    weights: Float[np.ndarray, "steps inputs"]
    schedule: Float[np.ndarray, " steps"]
    lr_convention: str = eqx.field(static=True)
    optimizer: str = eqx.field(static=True)
    t1: Number

    def __init__(
        self,
        *,
        architecture: Architecture,
        inputs: ArrayInput,
        targets: ArrayInput,
        steps: int,
        eta0: float,
        momentum: float = 0.0,
        weights: ArrayInput | None = None,
        schedule: ArrayInput | None = None,
        lr_convention: Literal["gamma0_squared", "table"] = "gamma0_squared",
        optimizer: str = "sgd",
        readout: str | None = None,
    ):
        if not isinstance(architecture, Architecture):
            raise ArgumentTypeError(
                "architecture", f"got {brief(architecture)}", "pass limits.dmft.Architecture"
            )
        if is_traced(inputs, targets, eta0, momentum, weights, schedule):
            raise ArgumentTypeError(
                "inputs", "some values are traced (jit, vmap or grad)", "pass concrete numbers"
            )
        require_limit(architecture, optimizer)
        self.architecture, self.optimizer = architecture, optimizer
        self.steps = require_count(steps, "steps", 1)
        self.inputs = np.asarray(as_float64(inputs, "inputs"))
        if self.inputs.ndim != 3 or 0 in self.inputs.shape:
            raise ArgumentError(
                "inputs", f"has shape {self.inputs.shape}", "pass [inputs, tokens, dim]"
            )
        P = len(self.inputs)
        self.targets = np.asarray(as_float64(targets, "targets"))
        if self.targets.ndim not in (1, 2) or len(self.targets) != P or not self.targets.size:
            raise ArgumentError(
                "targets", f"has shape {self.targets.shape}", f"pass [{P}] or [{P}, outputs]"
            )
        require_readout(readout, self.targets, self.inputs.shape[1])
        self.eta0 = require_real(eta0, "eta0", POSITIVE)
        self.momentum = require_real(momentum, "momentum", Bounds(0.0, 1.0, "[)"))
        w = np.full(P, 1 / P) if weights is None else np.asarray(as_float64(weights, "weights"))
        if w.shape not in ((P,), (self.steps, P)) or np.any(w < 0):
            raise ArgumentError(
                "weights",
                f"has shape {w.shape} and least entry {np.min(w, initial=0):g}",
                f"pass numbers of at least 0, [{P}] or [{self.steps}, {P}]",
            )
        self.weights = np.broadcast_to(w, (self.steps, P)).copy()
        rates = np.ones(self.steps) if schedule is None else as_float64(schedule, "schedule")
        self.schedule = np.asarray(rates)
        if self.schedule.shape != (self.steps,) or np.any(self.schedule < 0):
            raise ArgumentError(
                "schedule",
                f"has shape {self.schedule.shape} and least entry "
                f"{np.min(self.schedule, initial=0):g}",
                f"pass factors of at least 0, [{self.steps}]",
            )
        if lr_convention not in ("gamma0_squared", "table"):
            raise ArgumentError(
                "lr_convention", f"got {brief(lr_convention)}", "pass gamma0_squared or table"
            )
        self.lr_convention = lr_convention
        self.t1 = float(self.steps - 1)

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs.shape[0] * self.inputs.shape[1]

    @property
    def input_kernel(self) -> Float[np.ndarray, "fields fields"]:
        """K^x = x . x / dim."""
        x = self.inputs.reshape(self.fields, -1)
        return x @ x.T / x.shape[1]

    @property
    def rate(self) -> float:
        """eta_0 in the convention of the limit."""
        return self.eta0 / (self.architecture.gamma0**2 if self.lr_convention == "table" else 1.0)

    @property
    def equations(self) -> TrainingEquations:
        """What the limit sees of the problem; `limits.dmft.solver` solves these."""
        return TrainingEquations(
            architecture=self.architecture,
            kx=self.input_kernel,
            tokens=self.inputs.shape[1],
            targets=self.targets,
            weights=self.weights,
            schedule=self.schedule,
            rate=self.rate,
            momentum=self.momentum,
        )

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """`LinearAlgebra` where every unit is linear, `CausalSampling` where one can be sampled."""
        a = self.architecture
        heads = a.attention and not math.isinf(a.head_dim)
        exact = not heads and a.mlp in (None, Activation.LINEAR)
        sampled = heads or a.mlp is not None
        return (LinearAlgebra,) * exact + (CausalSampling,) * sampled

    def default_method(self) -> Method:
        """`LinearAlgebra` where it applies, else `CausalSampling`."""
        if LinearAlgebra in self.methods:
            return LinearAlgebra()
        return CausalSampling()

    def default_times(self) -> Times:
        """Every evaluation."""
        return np.arange(self.steps, dtype=np.float64)

    def memory(self, method: Method | None = None, times: int | None = None) -> int:
        """Bytes that a solve needs at its peak, about; nothing is computed.

        Every evaluation is kept, whatever `times` says. It is that of the passes that `at_once`
        asks for, else of one: more run side by side only where they take at most half of the
        memory that is free.
        """
        return solve_bytes(self.equations, method or self.default_method())

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
        return solve_training(self.equations, method, key, progress)
