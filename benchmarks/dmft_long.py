"""Whole long solves of the DMFT with compressed histories, and passes of many fields beside NumPy.

    python benchmarks/dmft_long.py steps  [--steps 5000]
    python benchmarks/dmft_long.py copy   [--steps 300] [--precision float32] [--tol 1e-3]
    python benchmarks/dmft_long.py large  [--steps 50] [--heads 6000] [--populations 2]
    python benchmarks/dmft_long.py fields [--inputs 8] [--tokens 8] [--steps 6] [--layers 1]

`steps`: two inputs of two tokens, attention and a GELU MLP, N = 2, trained for one time in any
number of steps. `copy`: eight sentences that say a block of four tokens twice, 64 fields, N = 4,
tanh MLP, norms and QK-norm, eta_0 T = 8. `large`: the same with 20 sentences of 16 tokens, 320
fields, one population after another, without the pass that tells the error of compression. All
print seconds told and taken, ranks and the memory at the peak. `fields`: two populations of inputs
times tokens fields, compiled passes apart from compilation, beside the NumPy transcription of the
same algorithm, processor seconds of each.
"""

from __future__ import annotations

import argparse
import resource
import time

import jax
import numpy as np

import dmft
from support import dmft_compressed_numpy
from support.dmft_networks import timed
from translimit import solve
from translimit.describe import Activation
from translimit.limits.dmft import Architecture, CausalSampling, CrossEntropy, TrainingDynamics

#: Blocks of four tokens out of eight words, said twice; what follows is known from the fourth on.
BLOCKS = ("6542", "2000", "1657", "4475", "5447", "2650", "3640", "6561")
#: Sentences and tokens of a block, in the large one.
LARGE = (20, 8)


def many_steps(steps: int) -> TrainingDynamics:
    rng = np.random.default_rng(0)
    return TrainingDynamics(
        architecture=Architecture(
            head_dim=2, layers=1, beta0=dmft.BETA0, gamma0=dmft.GAMMA0, mlp=Activation.GELU
        ),
        inputs=rng.standard_normal((2, 2, 32)),
        targets=np.array([1.0, -1.0]),
        steps=steps,
        eta0=1.2 / steps,
    )


def copy_task(steps: int, large: bool = False) -> TrainingDynamics:
    blocks = np.array([[int(one) for one in block] for block in BLOCKS])
    if large:
        blocks = np.random.default_rng(0).integers(8, size=LARGE)
    ids, size = np.tile(blocks, 2), blocks.shape[1]
    unknown = np.full((len(ids), size - 1), -1)
    targets = np.concatenate([unknown, ids[:, size:], ids[:, :1]], axis=1)
    return TrainingDynamics(
        architecture=Architecture(
            head_dim=4,
            beta0=2.0,
            gamma0=1.0,
            mlp=Activation.TANH,
            norm="rms",
            final_norm=True,
            causal=True,
            qk_norm="rms",
            score_gain=2.0,
        ),
        token_ids=ids,
        vocabulary=8,
        targets=targets,
        loss=CrossEntropy(),
        steps=steps,
        eta0=8.0 / steps,
    )


def whole(training: TrainingDynamics, method: CausalSampling) -> None:
    told, memory = training.seconds(method), training.memory(method) / 2**30
    wall, cpu = time.perf_counter(), time.process_time()
    solution = solve(training, method, key=jax.random.key(0))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{wall:.0f} s on the wall, {cpu:.0f} processor s ({told:.0f} told), largest rank "
        f"{solution.largest_rank}, {peak:.1f} GiB at the peak ({memory:.1f} told)"
    )


def fields(inputs: int, tokens: int, steps: int, layers: int, head_dim: int) -> None:
    training = dmft.problem(inputs, tokens, steps, head_dim, layers)
    setting = dmft_compressed_numpy.Setting(
        kx=training.input_kernel,
        y=training.targets,
        steps=steps,
        tokens=tokens,
        head_dim=head_dim,
        layers=layers,
        beta0=dmft.BETA0,
        gamma0=dmft.GAMMA0,
        eta0=dmft.ETA0,
    )
    for precision in ("float64", "float32"):
        method = CausalSampling(
            heads=2000, populations=2, precision=precision, check_tol=False, at_once=1
        )
        solve(training, method, key=jax.random.key(0))
        (_, own), _ = timed(lambda method=method: solve(training, method, key=jax.random.key(1)))
        (_, plain), _ = timed(
            lambda precision=precision: [
                dmft_compressed_numpy.solve(setting, 2000, 1, seed, dtype=np.dtype(precision))
                for seed in range(2)
            ]
        )
        print(f"{precision}: {own / 2:.2f} processor s a population, NumPy {plain / 2:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Long solves of the DMFT.")
    parser.add_argument("case", choices=("steps", "copy", "large", "fields"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--precision", choices=("float64", "float32"))
    parser.add_argument("--tol", type=float)
    parser.add_argument("--heads", type=int, default=6000)
    parser.add_argument("--populations", type=int, default=2)
    for name, value in (("inputs", 8), ("tokens", 8), ("layers", 1), ("head-dim", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    if given.case == "fields":
        fields(given.inputs, given.tokens, given.steps or 6, given.layers, given.head_dim)
    elif given.case == "steps":
        method = CausalSampling(precision=given.precision or "float64", tol=given.tol or 1e-4)
        whole(many_steps(given.steps or 5000), method)
    elif given.case == "large":
        method = CausalSampling(
            heads=given.heads,
            precision=given.precision or "float32",
            tol=given.tol or 1e-3,
            populations=given.populations,
            check_tol=False,
            at_once=1,
        )
        whole(copy_task(given.steps or 50, large=True), method)
    else:
        method = CausalSampling(precision=given.precision or "float32", tol=given.tol or 1e-3)
        whole(copy_task(given.steps or 300), method)


if __name__ == "__main__":
    main()
