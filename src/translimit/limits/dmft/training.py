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
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

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
    MemoryLimitError,
    Outcome,
    Progress,
    Times,
    as_float64,
    available_memory,
    brief,
    calls_at_once,
    is_traced,
    named_key,
    require_count,
    require_real,
    side_by_side,
)
from translimit.describe import Activation
from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.heads import InfiniteHeads, SampledHeads
from translimit.limits.dmft.histories import slots_in_chunk
from translimit.limits.dmft.memory import pass_bytes
from translimit.limits.dmft.methods import CausalSampling, LinearAlgebra
from translimit.limits.dmft.neurons import LinearNeurons, SampledNeurons
from translimit.limits.dmft.passes import Trace, causal_pass
from translimit.limits.dmft.plan import RESPONSES, Numbers, Plan
from translimit.limits.dmft.remarks import (
    warn_of_heavy_tails,
    warn_of_instability,
    warn_of_the_floor,
)
from translimit.limits.dmft.requirements import require_limit, require_readout
from translimit.limits.dmft.resume import checkpoints_of
from translimit.limits.dmft.solution import TrainingSolution
from translimit.limits.dmft.summaries import (
    failure,
    largest_kurtosis,
    richardson,
    stderr_of_mean,
)
from translimit.limits.dmft.units import AbstractUnit

#: Relative eigenvalue below which a direction of a new kernel block is null.
TOLERANCE = {"float64": 1e-9, "float32": 1e-6}


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
    inputs: Any
    targets: Any
    steps: int = eqx.field(static=True)
    eta0: Any
    momentum: Any
    weights: Any
    schedule: Any
    lr_convention: str = eqx.field(static=True)
    optimizer: str = eqx.field(static=True)
    t1: Any

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
        self.t1 = np.float64(self.steps - 1)

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs.shape[0] * self.inputs.shape[1]

    @property
    def input_kernel(self) -> np.ndarray:
        """K^x = x . x / dim [fields, fields]."""
        x = self.inputs.reshape(self.fields, -1)
        return x @ x.T / x.shape[1]

    @property
    def rate(self) -> float:
        """eta_0 in the convention of the limit."""
        return self.eta0 / (self.architecture.gamma0**2 if self.lr_convention == "table" else 1.0)

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        """`LinearAlgebra` where every unit is linear, `CausalSampling` where one can be sampled."""
        a = self.architecture
        heads = a.attention and not math.isinf(a.head_dim)
        exact = not heads and a.mlp in (None, Activation.LINEAR)
        sampled = heads or a.mlp is not None
        return (LinearAlgebra,) * exact + (CausalSampling,) * sampled

    def default_method(self) -> AbstractMethod:
        """`LinearAlgebra` where it applies, else `CausalSampling`."""
        if LinearAlgebra in self.methods:
            return LinearAlgebra()
        return CausalSampling()

    def default_times(self) -> np.ndarray:
        """Every evaluation."""
        return np.arange(self.steps, dtype=np.float64)

    def plan(self, method: LinearAlgebra | CausalSampling, layers: int) -> Plan:
        """The shape of one pass at finitely many layers or cells."""
        a, (P, S) = self.architecture, self.inputs.shape[:2]
        together = slots_in_chunk(P * S, self.steps)
        slots = -(-self.steps // together) * together
        units: list[AbstractUnit] = []
        precision = "float64"
        shape = {"inputs": P, "tokens": S, "slots": slots}
        sampling: dict[str, Any] = {}
        heads = neurons = 0
        if isinstance(method, CausalSampling):
            heads, neurons = method.counts(a, self.fields, self.steps)
            precision = method.precision
            rows = together * self.fields
            sampling = {"matched": method.moment_matching, "rows": rows, "dtype": precision}
        if a.attention and math.isinf(a.head_dim):
            units.append(InfiniteHeads(**shape, causal=a.causal))
        elif a.attention:
            dims = {"head_dim": int(a.head_dim), "causal": a.causal}
            units.append(SampledHeads(**shape, samples=heads, **sampling, **dims))
        if a.mlp is not None and isinstance(method, LinearAlgebra):
            units.append(LinearNeurons(**shape))
        elif a.mlp is not None:
            units.append(SampledNeurons(**shape, samples=neurons, **sampling, activation=a.mlp))
        return Plan(
            **shape,
            outputs=self._outputs,
            chunk_slots=together,
            layers=layers,
            units=tuple(units),
            norm=a.norm is not None,
            fresh=not math.isinf(a.layers),
            folded=self._outputs > 1,
            tol=TOLERANCE[precision],
        )

    def numbers(self, method: LinearAlgebra | CausalSampling, layers: int, slots: int) -> Numbers:
        """Data and constants of one pass."""
        a = self.architecture
        error_weights = np.zeros((slots, len(self.inputs)))
        error_weights[: self.steps] = self.schedule[:, None] * self.weights
        infinite = math.isinf(a.head_dim)
        return Numbers(
            kx=self.input_kernel,
            y=self.targets.reshape(len(self.inputs), -1),
            error_weights=error_weights,
            eps=a.beta0 * layers**-a.alpha_L,
            c=self.rate * a.gamma0 * a.beta0 * layers ** (a.alpha_L - 1),
            kappa=1.0 if infinite else a.head_dim ** (-2 * (1 - a.alpha_A)),
            scale=1.0 if infinite else a.head_dim**-a.alpha_A,
            rate=self.rate * a.gamma0,
            gamma0=a.gamma0,
            momentum=self.momentum,
            block_ntk=a.beta0**2 / layers,
            norm_eps=a.norm_eps,
            keep=np.array([float(name not in method.omit) for name in RESPONSES]),
        )

    def memory(
        self, method: LinearAlgebra | CausalSampling | None = None, times: int | None = None
    ) -> int:
        """Bytes that a solve needs at its peak, about; nothing is computed.

        Every evaluation is kept, whatever `times` says. It is that of the passes that `at_once`
        asks for, else of one: more run side by side only where they take at most half of the
        memory that is free.
        """
        method = method or self.default_method()  # pyright: ignore[reportAssignmentType]
        plan = self.plan(method, self._depths(method)[0])  # pyright: ignore[reportArgumentType]
        together = method.at_once if isinstance(method, CausalSampling) else None
        return pass_bytes(plan) * (together or 1)

    def run(
        self,
        method: LinearAlgebra | CausalSampling,
        *,
        ts: Times,
        key: Key | None,
        keep: Keep,
        progress: Progress | None,
    ) -> TrainingSolution:
        """One causal pass for each population, and at each number of cells."""
        if not np.array_equal(np.asarray(ts), self.default_times()):
            raise ArgumentError("save", "every evaluation is kept", "leave it out")
        depths = self._depths(method)
        populations, at_once = 1, 1
        if isinstance(method, CausalSampling):
            populations, at_once = method.populations, method.at_once
        need, there = pass_bytes(self.plan(method, depths[0])), available_memory()
        passes = populations * len(depths)
        at_once = min(passes, at_once or calls_at_once(passes, need, there))
        need *= at_once
        if need > there:
            raise MemoryLimitError(
                "steps" if isinstance(method, LinearAlgebra) else "heads",
                f"histories need {need / 2**30:.2f} GiB, and {there / 2**30:.2f} GiB are free",
                "take fewer inputs, tokens, steps, heads, neurons or passes at_once, or "
                "precision='float32'",
            )
        start = jax.random.key(0) if key is None else key
        keys = [named_key(start, "population", number) for number in range(populations)]
        calls = [
            self._pass(method, layers, own, number * len(depths) + place)
            for number, own in enumerate(keys)
            for place, layers in enumerate(depths)
        ]
        found = side_by_side(calls, at_once, progress)
        traces = [found[i : i + len(depths)] for i in range(0, passes, len(depths))]
        starts: list[np.ndarray] = []
        if self._outputs > 1:
            starts = [self._start_kernel(method, depths[0], own) for own in keys]
        solution = self._solution(method, traces, starts)
        warn_of_instability(solution.edge_ratio)
        warn_of_heavy_tails(largest_kurtosis(solution))
        floor = method.floor if isinstance(method, CausalSampling) else None
        warn_of_the_floor(float(np.max(solution.stderr)), floor)
        return solution

    def _pass(
        self,
        method: LinearAlgebra | CausalSampling,
        layers: int,
        key: PRNGKeyArray,
        number: int,
    ) -> Callable[[Callable[[float], object]], Trace]:
        """One pass, to be called with a function of its progress."""
        kept = method.heads_kept if isinstance(method, CausalSampling) else 1

        def call(report: Callable[[float], object]) -> Trace:
            plan = self.plan(method, layers)
            numbers = self.numbers(method, layers, plan.slots)
            stored = checkpoints_of(
                method.folder,
                method.every,
                number,
                key=key,
                plan=plan,
                numbers=numbers,
                steps=self.steps,
                kept=kept,
            )
            return causal_pass(plan, numbers, self.steps, key, kept, report, stored)

        return call

    def _depths(self, method: LinearAlgebra | CausalSampling) -> tuple[int, ...]:
        """Numbers of layers of the passes, the finest first."""
        if not math.isinf(self.architecture.layers):
            return (int(self.architecture.layers),)
        cells = method.cells
        return (cells, cells // 2, cells // 4) if method.extrapolate else (cells,)

    @property
    def _outputs(self) -> int:
        return 1 if self.targets.ndim == 1 else self.targets.shape[1]

    def _start_kernel(
        self, method: LinearAlgebra | CausalSampling, layers: int, key: PRNGKeyArray
    ) -> np.ndarray:
        """Tangent kernel of one output at the start [inputs, inputs], with the same units.

        With several outputs gradients carry the errors. At the start outputs have independent
        readouts and nothing else of their own: the kernel is this one for each of them, and zero
        between two.
        """
        one = TrainingDynamics(
            architecture=self.architecture,
            inputs=self.inputs,
            targets=self.targets[:, 0],
            steps=1,
            eta0=self.eta0,
            weights=self.weights[:1],
            lr_convention=self.lr_convention,  # pyright: ignore[reportArgumentType]
        )
        if isinstance(method, CausalSampling):
            heads, neurons = method.counts(self.architecture, self.fields, self.steps)
            method = replace(method, heads=heads, neurons=neurons)
        plan = one.plan(method, layers)
        return causal_pass(plan, one.numbers(method, layers, plan.slots), 1, key, 1).ntk[0]

    def _solution(
        self,
        method: LinearAlgebra | CausalSampling,
        traces: list[list[Trace]],
        starts: list[np.ndarray],
    ) -> TrainingSolution:
        """Means over populations, extrapolated in the cells."""
        a, finest = self.architecture, [row[0] for row in traces]
        values = np.stack([[trace.f for trace in row] for row in traces])  # [pop, depths, ...]
        f, gap = richardson(values)
        n = len(traces)
        mean = f.mean(axis=0)
        losses = self._loss(f)
        ntk = np.mean([trace.ntk for trace in finest], axis=0)
        if starts:  # only the start has a kernel of one output
            ntk = np.full_like(ntk, np.nan)
            ntk[0] = np.mean(starts, axis=0)
        sharpness = self._sharpness(ntk)
        failures = [failure(trace, self.plan(method, 1)) for trace in finest]
        failed = next((words for words in failures if words), "")
        shape = (self.steps, *self.targets.shape)
        kernels = {
            name: np.mean([trace.kernels[name] for trace in finest], axis=0)
            for name in finest[0].kernels
        }
        return TrainingSolution(
            ts=self.default_times(),
            predictions=mean.reshape(shape),
            stderr=stderr_of_mean(f).reshape(shape),
            cell_error=np.abs(gap.mean(axis=0)).reshape(shape),
            loss=self._loss(mean[None])[0],
            loss_stderr=stderr_of_mean(losses),
            ntk=ntk,
            sharpness=sharpness,
            edge_ratio=self.rate * self.schedule * sharpness / (2 * (1 + self.momentum)),
            key_gradient=np.mean([trace.key_gradient for trace in finest], axis=0),
            targets=self.targets,
            outcome=Outcome.non_finite if failed else Outcome.successful,
            failed_at=failed,
            discretisation=_largest(gap.mean(axis=0)),
            samples=n,
            _scores=np.concatenate([trace.scores for trace in finest], axis=2),
            _kernels=kernels,
            _kernel_stderr=stderr_of_mean(
                np.stack([trace.kernels["residual"] for trace in finest])
            ),
            _tokens=self.inputs.shape[1],
            _attention=a.attention,
            _causal=a.causal,
        )

    def _loss(self, f: np.ndarray) -> np.ndarray:
        """Losses [populations, steps] of predictions [populations, steps, inputs, outputs]."""
        y = self.targets.reshape(len(self.inputs), -1)
        return np.einsum("tp,ntpo->nt", self.weights, (y - f) ** 2) / 2

    def _sharpness(self, ntk: np.ndarray) -> np.ndarray:
        """lambda_max of W^(1/2) K W^(1/2) at every evaluation [steps]."""
        root = np.sqrt(self.weights)
        weighted = root[:, :, None] * ntk * root[:, None, :]
        finite = np.isfinite(weighted).all(axis=(1, 2))
        largest = np.linalg.eigvalsh(np.where(finite[:, None, None], weighted, 0.0))[:, -1]
        return np.where(finite, largest, np.nan)


def _largest(errors: np.ndarray) -> float:
    """The largest error that is a number; NaN without one."""
    known = np.abs(errors[np.isfinite(errors)])
    return float(known.max()) if known.size else math.nan
