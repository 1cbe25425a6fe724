"""Training dynamics: the compiled solver against plain NumPy, its cost, and finite networks.

    python benchmarks/dmft.py [--part 1] [--heads M] [--steps T] [--out FILE]

1. One pass at m = 16 fields, T = 30, N = 4, L = 2 and 2,000 heads, innovations drawn inside the
   timer, without the pass that tells the error of compression: compiled (compilation apart) and in
   NumPy, each in both precisions of the populations, by turns, the fastest of three; on one core
   and on two, each in a fresh process. The NumPy pass works on whole blocks of the past, one
   stacked product for each purpose, without a loop over heads. Beside the seconds: the standard
   error of the solver, and the distance of the two in their joint standard errors, which has to be
   about one.
2. Growth of the cost with fields and with steps.
3. Error and time of finite networks at growing heads, by the NumPy update batched over seeds, and
   the heads and time at which they would reach the solver's error, extrapolated by both fitted
   rates: an extrapolation, not a measurement.
4. Peak resident memory at m T = 2,000 (N = 4, L = 2, 4,000 heads, moment matching on), in a fresh
   process, against what `TrainingDynamics.memory` says before the solve.
5. Part 1's pass, and growth, on an accelerator, where JAX sees one: python benchmarks/dmft.py
   --part 5 with `jax[cuda]` installed.
6. Compressed histories at four fields and growing steps, the learning rate falling with them: the
   solver in both precisions, the same algorithm in NumPy (at most as many new directions as there
   are, no padding), and whole histories in NumPy, with the standard deviations of a population.
   And what a tolerance changes, in the same population. `told` is what `problem.seconds` says.
7. Particles against networks of equal cost, at N = 2, L = 1 and gradient descent, where the limit
   is known from compressed histories: root mean square errors and processor seconds of pairs of
   passes (M and 2 M units, extrapolated) and of networks, and at the cost of each pair the error
   that networks have there, by the power law through theirs.

Without --part all but the large one (4) run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from support import dmft_compressed_numpy
from support.dmft_networks import network_errors, timed, trained_networks
from support.dmft_numpy import Setting
from support.dmft_numpy import solve as solve_numpy
from support.memory import peak_gib
from translimit import core, models, solve
from translimit.limits.dmft import (
    Architecture,
    CausalSampling,
    PopulationSampling,
    TrainingDynamics,
)

ETA0, BETA0, GAMMA0 = 0.02, 1.5, 1.0
#: Repeats of part 1, and at how many joint standard errors it says that the two disagree.
TURNS, AGREEMENT = 3, 4.5


def problem(
    inputs: int, tokens: int, steps: int, head_dim: int = 4, layers: int = 2
) -> TrainingDynamics:
    """Gaussian tokens and random signs."""
    rng = np.random.default_rng(0)
    return TrainingDynamics(
        architecture=Architecture(head_dim=head_dim, layers=layers, beta0=BETA0, gamma0=GAMMA0),
        inputs=rng.standard_normal((inputs, tokens, 32)),
        targets=rng.choice([-1.0, 1.0], inputs),
        steps=steps,
        eta0=ETA0,
    )


def one_pass(
    training: TrainingDynamics, heads: int, precision: Any = "float64"
) -> tuple[float, Any]:
    """Seconds of one population, after a solve that compiles."""
    method = CausalSampling(heads=heads, populations=2, precision=precision)
    solve(training, method, key=jax.random.key(0))
    start = time.perf_counter()
    solution = solve(training, method, key=jax.random.key(1))
    return (time.perf_counter() - start) / method.populations, solution


def against_numpy(heads: int, steps: int) -> dict[str, float]:
    """Part 1."""
    training = problem(4, 4, steps)
    setting = Setting(
        kx=training.input_kernel,
        y=training.targets[:, None],
        steps=steps,
        layers=2,
        head_dim=4,
        eta0=ETA0,
        beta0=BETA0,
        gamma0=GAMMA0,
    )
    row: dict[str, float] = {"heads": heads, "steps": steps}
    for precision in ("float64", "float32"):
        ours, theirs, predictions, plain = [], [], [], []
        method = CausalSampling(
            heads=heads, populations=2, precision=precision, check_tol=False, at_once=1
        )
        solution = solve(training, method, key=jax.random.key(0))  # compiles
        for turn in range(TURNS):
            seconds, solution = timed(
                lambda turn=turn, method=method: solve(
                    training, method, key=jax.random.key(1 + turn)
                )
            )
            ours.append(np.array(seconds) / method.populations)
            predictions.append((solution.predictions, solution.stderr))
            seconds, solved = timed(
                lambda turn=turn, precision=precision: solve_numpy(
                    setting, heads=heads, seed=turn, dtype=np.dtype(precision)
                )
            )
            theirs.append(seconds)
            plain.append(solved.f[..., 0])
        (seconds, cpu), (numpy_seconds, numpy_cpu) = np.min(ours, axis=0), np.min(theirs, axis=0)
        stderr = float(np.sqrt(np.mean([error**2 for _, error in predictions])))
        # Each mean is over `TURNS` runs; one NumPy pass is one population.
        apart = np.mean([found for found, _ in predictions], axis=0) - np.mean(plain, axis=0)
        joint = stderr * np.sqrt((1 + method.populations) / TURNS)
        row |= {
            f"{precision}_s": seconds,
            f"{precision}_cpu_s": cpu,
            f"{precision}_numpy_s": numpy_seconds,
            f"{precision}_numpy_cpu_s": numpy_cpu,
            f"{precision}_ratio": numpy_seconds / seconds,
            f"{precision}_cpu_ratio": numpy_cpu / cpu,
            f"{precision}_stderr": stderr,
            # Predictions before the first update are known exactly.
            f"{precision}_standard_errors_apart": float(np.sqrt(np.mean(apart[1:] ** 2)) / joint),
        }
        if row[f"{precision}_standard_errors_apart"] > AGREEMENT:
            raise SystemExit(f"the solver and the NumPy pass do not agree: {row}")
    return row


def growth(heads: int) -> list[dict[str, float]]:
    """Part 2."""
    rows = []
    for inputs, tokens, steps in ((2, 2, 16), (4, 2, 16), (4, 4, 16), (4, 4, 32)):
        seconds, _ = one_pass(problem(inputs, tokens, steps), heads)
        rows.append({"fields": inputs * tokens, "steps": steps, "seconds": seconds})
    return rows


def finite_networks(sizes: tuple[int, ...] = (32, 64, 128, 256, 512)) -> dict[str, Any]:
    """Part 3: one network each step of the ladder, several seeds, float32."""
    training = problem(2, 2, 12, head_dim=2, layers=1)
    method = CausalSampling(heads=4000, populations=4)
    seconds, solution = one_pass(training, 4000)
    solution = solve(training, method, key=jax.random.key(2))
    floor = float(np.sqrt(np.mean(solution.stderr**2)))
    errors, times = [], []
    for heads in sizes:
        go, seeds = trained_networks(training, heads, steps=11, seeds=32)
        history = go()
        start = time.perf_counter()
        go()
        times.append((time.perf_counter() - start) / seeds)
        f = np.moveaxis(history["predictions"][:, :, 0, :, 0], 0, 1)
        errors.append(np.sqrt(np.mean((f - solution.predictions) ** 2, axis=(1, 2))))
    fit = core.fit_rate(sizes, errors)
    rms = np.array([np.sqrt(np.mean(e**2)) for e in errors])
    cost = np.polyfit(np.log(sizes[1:]), np.log(times[1:]), 1)
    needed = [(floor / fit.constant) ** (1 / rate) for rate in (fit.rate, *fit.interval)]
    return {
        "model": models.Transformer.__name__,
        "heads": list(sizes),
        "rms_error": rms.tolist(),
        "seconds_a_network": times,
        "rate": fit.rate,
        "rate_interval": list(fit.interval),
        "solver_stderr": floor,
        "solver_seconds_a_population": seconds,
        "heads_at_rate_one_half": float(np.mean(rms**2 * np.array(sizes)) / floor**2),
        "extrapolated_heads": needed[0],
        "extrapolated_heads_interval": sorted(needed[1:]),
        "extrapolated_seconds": float(np.exp(np.polyval(cost, np.log(needed[0])))),
    }


def particles(
    units: tuple[int, ...] = (322, 644), sizes: tuple[int, ...] = (64, 128, 256, 512)
) -> dict[str, Any]:
    """Part 7."""
    training = problem(2, 2, 8, head_dim=2, layers=1)
    exact = solve(
        training, CausalSampling(heads=8000, populations=4, tol=1e-8), key=jax.random.key(2)
    )
    limit, floor = exact.predictions, float(np.sqrt(np.mean(exact.stderr**2)))
    pairs = []
    for count in units:
        method = PopulationSampling(units=count, populations=8)
        solve(training, method, key=jax.random.key(0))
        (_, cpu), found = timed(
            lambda method=method: solve(training, method, key=jax.random.key(1))
        )
        scatter = float(np.sqrt(method.populations * np.mean(found.stderr**2)))
        off = float(np.sqrt(np.mean((found.predictions - limit) ** 2)))
        row = {"units": count, "cpu_s": cpu / method.populations, "rms_error": scatter}
        pairs.append(row | {"mean_off": off, "mean_stderr": scatter / method.populations**0.5})
    nets = [network_errors(training, heads, limit, steps=7) for heads in sizes]
    cost, errors = (np.log([row[name] for row in nets]) for name in ("cpu_s", "rms_error"))
    slope, level = np.polyfit(cost, errors, 1)
    for row in pairs:
        row["networks_there"] = float(np.exp(level + slope * np.log(row["cpu_s"])))
        row["gain"] = row["networks_there"] / row["rms_error"]
    return {"limit_stderr": floor, "pairs": pairs, "networks": nets, "slope": float(slope)}


def large() -> None:
    """Part 4, in a process of its own."""
    training = problem(4, 4, 125)
    method = CausalSampling(heads=4000, populations=2)
    start = time.perf_counter()
    solution = solve(training, method, key=jax.random.key(0))
    row = {
        "steps_fields": training.steps * training.fields,
        "told_gib": training.memory(method) / 2**30,
        "peak_gib": peak_gib(),
        "seconds_a_population": (time.perf_counter() - start) / 2,
        "stderr": float(np.max(solution.stderr)),
    }
    print(json.dumps(row))


def on_cores(cores: int, heads: int, steps: int) -> dict[str, float]:
    """Part 1 in a fresh process that has this many cores and threads, compiled and NumPy alike."""
    names = ("PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    given = os.environ | {name: str(cores) for name in names} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--inner", "against-numpy", "--cores", str(cores)]
    command += ["--heads", str(heads), "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
    return json.loads(done.stdout)


def accelerator(steps: int) -> dict[str, Any] | None:
    """Part 5: one population on the first device that is no CPU; None where JAX sees none."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    rows = []
    for heads in (2000, 20_000):
        for precision in ("float64", "float32"):
            seconds, solution = one_pass(problem(4, 4, steps), heads, precision)
            stderr = float(np.sqrt(np.mean(solution.stderr**2)))
            row = {"heads": heads, "precision": precision, "seconds": seconds, "stderr": stderr}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return {"device": device.device_kind, "steps": steps, "rows": rows, "growth": growth(2000)}


def compressed(heads: int, sizes: tuple[int, ...] = (25, 50, 100, 200)) -> list[dict[str, float]]:
    """Part 6: seconds of a population, and how far predictions scatter over them."""
    rows = []
    for steps in sizes:
        training = long_problem(steps)
        row: dict[str, float] = {"steps": steps, "told_s": 0.0}
        for precision in ("float64", "float32"):
            method = CausalSampling(
                heads=heads, populations=4, precision=precision, check_tol=False, at_once=1
            )
            solve(training, method, key=jax.random.key(0))
            (seconds, cpu), solution = timed(
                lambda training=training, method=method: solve(
                    training, method, key=jax.random.key(1)
                )
            )
            row |= {
                f"{precision}_s": seconds / method.populations,
                f"{precision}_cpu_s": cpu / method.populations,
                f"{precision}_scatter": float(2 * np.sqrt(np.mean(solution.stderr**2))),
                "largest_rank": solution.largest_rank,
                "told_s": training.seconds(method) / method.populations,
            }
        common: dict[str, Any] = {"kx": training.input_kernel, "steps": steps, "head_dim": 2}
        common |= {"eta0": training.eta0, "beta0": BETA0, "gamma0": GAMMA0}
        setting = dmft_compressed_numpy.Setting(**common, y=training.targets, tokens=2)
        for name, dtype in (("numpy", np.float64), ("numpy_float32", np.float32)):
            (seconds, cpu), found = timed(
                lambda setting=setting, dtype=dtype: [
                    dmft_compressed_numpy.solve(setting, heads, 1, seed, dtype=dtype)[0]
                    for seed in range(4)
                ]
            )
            row |= {f"{name}_s": seconds / 4, f"{name}_cpu_s": cpu / 4}
            row[f"{name}_scatter"] = float(np.sqrt(np.mean(np.var(found, axis=0, ddof=1))))
        if steps <= 100:
            whole = Setting(**common, y=training.targets[:, None], layers=1)
            enough = max(heads, 8 * steps + 1)
            (seconds, cpu), found = timed(
                lambda whole=whole, enough=enough: [
                    solve_numpy(whole, heads=enough, seed=seed).f for seed in range(4)
                ]
            )
            row |= {"histories_numpy_s": seconds / 4, "histories_numpy_cpu_s": cpu / 4}
            row["histories_numpy_scatter"] = float(np.sqrt(np.mean(np.var(found, 0, ddof=1))))
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def long_problem(steps: int) -> TrainingDynamics:
    """Two inputs of two tokens, trained for the same time in any number of steps."""
    rng = np.random.default_rng(0)
    return TrainingDynamics(
        architecture=Architecture(head_dim=2, layers=1, beta0=BETA0, gamma0=GAMMA0),
        inputs=rng.standard_normal((2, 2, 32)),
        targets=np.array([1.0, -1.0]),
        steps=steps,
        eta0=1.2 / steps,
    )


def tolerances(heads: int, steps: int = 50) -> list[dict[str, float]]:
    """Part 6: the change of predictions of one population from a tolerance of 1e-10."""
    found = {}
    for tol in (1e-10, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        method = CausalSampling(heads=heads, populations=2, tol=tol)
        solution = solve(long_problem(steps), method, key=jax.random.key(0))
        found[tol] = solution
    exact = found[1e-10].predictions
    return [
        {
            "tol": tol,
            "rms_change": float(np.sqrt(np.mean((one.predictions - exact) ** 2))),
            "told": float(np.sqrt(np.mean(one.compression_error**2))),
            "largest_rank": one.largest_rank,
            "stderr": float(np.sqrt(np.mean(one.stderr**2))),
        }
        for tol, one in found.items()
    ]


def restrict(cores: int) -> None:
    """Keep this process on the first cores it may use, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--part", "--parts", default="1,2,3,5,6,7", help="1, 2, ... or 1,3")
    parser.add_argument("--cores", type=int, default=0, help="keep to this many cores")
    parser.add_argument("--inner", choices=("against-numpy", "large"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    restrict(arguments.cores)
    if arguments.inner == "large":
        large()
        return
    if arguments.inner == "against-numpy":
        print(json.dumps(against_numpy(arguments.heads, arguments.steps)))
        return
    parts = arguments.part.split(",")
    results: dict[str, Any] = {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}
    if "1" in parts:
        for cores in (1, 2):
            results[f"against_numpy_{cores}_cores"] = on_cores(
                cores, arguments.heads, arguments.steps
            )
    if "2" in parts:
        results["growth"] = growth(arguments.heads)
    if "3" in parts:
        results["finite_networks"] = finite_networks()
    if "4" in parts:
        command = [sys.executable, __file__, "--inner", "large"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results["large"] = json.loads(done.stdout)
    if "5" in parts:
        results["accelerator"] = accelerator(arguments.steps) or "JAX sees none"
    if "6" in parts:
        results["compressed"] = compressed(arguments.heads)
        results["tolerances"] = tolerances(arguments.heads)
    if "7" in parts:
        results["particles"] = particles()
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
