"""Tiled attention against the naive n x n evaluation and torch: seconds, and peak resident memory.

    python benchmarks/attention.py [--quick] [--tiles | --torch] [--out FILE]

Times are medians of interleaved repeats in one process and are compared as ratios within a run,
so that a busy machine slows both sides. Memory is the peak resident set of a fresh process that
makes one call through the public interface, interpreter and compiler included.

The peer with a mask is `torch.nn.functional.scaled_dot_product_attention(is_causal=True)` on the
CPU: float32, one head of 64, no gradient, all cores; results are compared in the run. Ours takes
positions, torch the order of the tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from support.memory import peak_gib
from translimit.attention import Softmax, log_of_weights
from translimit.attention.tiles import softmax_average

DIM = 64
#: Naive seconds over tiled seconds: no slower at 4,096 tokens. At 1,024 both are one dense tile,
#: and the ratio shows the noise.
RATIO_TARGET = {4096: 1.0}
#: Seconds of torch over ours, with a mask: no slower at these sizes.
TORCH_TARGET = {4096: 1.0, 16384: 1.0}
#: Peak resident memory in GiB by tokens: for 65,536 the naive scores alone are 16 GiB in float32.
MEMORY_TARGET = {16384: 1.0, 65536: 1.0, 200000: 2e9 / 2**30}


def make_attention(dtype: str, causal: bool) -> Softmax:
    rng = np.random.default_rng(0)
    maps = (rng.normal(size=(DIM, DIM)).astype(dtype) / np.sqrt(DIM) for _ in range(3))
    return Softmax(*maps, score_scale=np.asarray(DIM**-0.5, dtype), causal=causal)


def make_cloud(tokens: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [tokens, dim] and positions in increasing order [tokens]."""
    cloud = np.random.default_rng(1).normal(size=(tokens, DIM)).astype(dtype)
    return cloud, (np.arange(tokens) / tokens).astype(dtype)


def naive_velocity(attention: Softmax, cloud: Any, positions: Any) -> Any:
    """Every score at once, normalised as a matrix: the formula as it stands."""
    scores = attention.score_scale * (cloud @ attention.Q.T) @ (cloud @ attention.K.T).T
    if attention.causal:
        scores = jnp.where(positions[None, :] <= positions[:, None], scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=1) @ (cloud @ attention.V.T)


def tiled_velocity(attention: Softmax, cloud: Any, positions: Any) -> Any:
    at = positions if attention.causal else None
    return attention.velocity(cloud, cloud, log_of_weights(None, cloud), at, at)


def medians(functions: dict[Any, Callable[..., Any]], args: Any, repeats: int) -> dict[Any, float]:
    """Median seconds of each function, repeats interleaved, compilation left out."""
    for function in functions.values():
        jax.block_until_ready(function(*args))
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*args))
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(tokens: int, dtype: str, causal: bool, repeats: int) -> dict[str, Any]:
    """Naive and tiled in one process; also how far their results are apart."""
    with jax.enable_x64(dtype == "float64"):
        attention = jax.tree.map(
            lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a,
            make_attention(dtype, causal),
        )
        args = tuple(jnp.asarray(a) for a in make_cloud(tokens, dtype))
        functions: dict[Any, Callable[..., Any]] = {
            "naive": jax.jit(lambda cloud, at: naive_velocity(attention, cloud, at)),
            "tiled": jax.jit(lambda cloud, at: tiled_velocity(attention, cloud, at)),
        }
        seconds = medians(functions, args, repeats)
        gap = float(jnp.abs(functions["naive"](*args) - functions["tiled"](*args)).max())
    ratio = seconds["naive"] / seconds["tiled"]
    return {
        "tokens": tokens,
        "dtype": dtype,
        "causal": causal,
        "repeats": repeats,
        "naive_seconds": seconds["naive"],
        "tiled_seconds": seconds["tiled"],
        "ratio": ratio,
        "largest_difference": gap,
        "pass": ratio >= RATIO_TARGET[tokens] if tokens in RATIO_TARGET else None,
    }


def against_torch(tokens: int, causal: bool, repeats: int) -> dict[str, Any]:
    """Torch and ours in one process, on the same queries, keys and values of one head."""
    import torch

    rng = np.random.default_rng(0)
    arrays = tuple(rng.normal(size=(tokens, DIM)).astype(np.float32) for _ in range(3))
    for_torch = [torch.from_numpy(a)[None, None] for a in arrays]
    at = jnp.arange(tokens, dtype=jnp.float32) if causal else None

    @jax.jit
    def ours(queries: Any, keys: Any, values: Any) -> Any:
        queries = queries / DIM**0.5
        return softmax_average(queries, keys, values, jnp.zeros(tokens), at, at)

    def peer(*_: Any) -> Any:
        with torch.no_grad():
            attention = torch.nn.functional.scaled_dot_product_attention
            query, key, value = for_torch
            return attention(query, key, value, is_causal=causal)[0, 0].numpy()

    args = tuple(jnp.asarray(a) for a in arrays)
    gap = float(np.abs(np.asarray(ours(*args)) - peer()).max())
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    processor: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for name, function in (("ours", ours), ("peer", peer)):
            start, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(function(*args))
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - cpu)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["peer"] / medians["ours"]
    return {
        "tokens": tokens,
        "causal": causal,
        "repeats": repeats,
        "torch_seconds": medians["peer"],
        "tiled_seconds": medians["ours"],
        "torch_least": min(seconds["peer"]),
        "tiled_least": min(seconds["ours"]),
        "torch_processor_seconds": statistics.median(processor["peer"]),
        "tiled_processor_seconds": statistics.median(processor["ours"]),
        "ratio": ratio,
        "largest_difference": gap,
        "pass": ratio >= TORCH_TARGET[tokens] and gap < 1e-5 if causal else None,
    }


def torch_table(quick: bool) -> list[dict[str, Any]]:
    """Both sizes, with and without a mask; the target is for those with."""
    print("torch against tiled, float32, one head of 64; target with a mask: ratio >= 1")
    print("  tokens  causal   torch ms (least,    cpu)   tiled ms (least,    cpu)   ratio  differ")
    rows = []
    for tokens, causal in itertools.product(TORCH_TARGET, (True, False)):
        row = against_torch(tokens, causal, (5 if quick else 25) if tokens == 4096 else 5)
        rows.append(row)
        times = "  ".join(
            f"{row[f'{name}_seconds'] * 1e3:9.1f} ({row[f'{name}_least'] * 1e3:5.0f}, "
            f"{row[f'{name}_processor_seconds'] * 1e3:6.0f})"
            for name in ("torch", "tiled")
        )
        print(
            f"{tokens:8d}  {causal!s:6}  {times}  {row['ratio']:6.2f}  "
            f"{row['largest_difference']:.1e}  {verdict(row)}",
            flush=True,
        )
    return rows


def alone(tokens: int, causal: bool) -> dict[str, Any]:
    """One call in a process of its own: seconds (with compilation) and peak resident memory."""
    command = [sys.executable, __file__, "--child", str(tokens), *(["--causal"] * causal)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(out)
    result["target_gib"] = MEMORY_TARGET[tokens]
    result["pass"] = result["peak_gib"] <= result["target_gib"]
    return result


def child(tokens: int, causal: bool) -> dict[str, Any]:
    attention = make_attention("float32", causal)
    jnp.zeros(1).block_until_ready()  # the runtime starts before the first reading
    before = peak_gib()
    cloud, at = make_cloud(tokens, "float32")
    kwargs = {"x_positions": at, "positions": at} if causal else {}
    start = time.perf_counter()
    field = attention(cloud, cloud, **kwargs)
    seconds = time.perf_counter() - start
    return {
        "tokens": tokens,
        "dtype": "float32",
        "causal": causal,
        "seconds": seconds,
        "finite": bool(np.isfinite(field).all()),
        "before_gib": before,
        "peak_gib": peak_gib(),
    }


def tile_table(repeats: int) -> list[dict[str, Any]]:
    """Seconds over tile sizes at n = 4,096: how the defaults were chosen."""
    rows = []
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            cloud = jnp.asarray(make_cloud(4096, dtype)[0])
            args = (cloud / DIM**0.25, cloud / DIM**0.25, cloud, log_of_weights(None, cloud))
            sizes = list(itertools.product((256, 512, 1024), (512, 1024, 2048)))
            functions: dict[Any, Callable[..., Any]] = {
                size: jax.jit(
                    lambda *a, s=size: softmax_average(*a, query_tile=s[0], key_tile=s[1])
                )
                for size in sizes
            }
            at = jnp.arange(4096, dtype=dtype)
            functions |= {
                (*size, "causal"): jax.jit(
                    lambda q, k, v, b, s=size, at=at: softmax_average(
                        q, k, v, b, at, at, query_tile=s[0], key_tile=s[1]
                    )
                )
                for size in sizes
            }
            for (query, key, *mask), seconds in medians(functions, args, repeats).items():
                row = {"dtype": dtype, "query_tile": query, "key_tile": key, "seconds": seconds}
                rows.append(row | {"causal": bool(mask)})
                print(
                    f"{dtype}  {query:5d} x {key:5d}  {'causal' if mask else '':6}  "
                    f"{seconds * 1e3:8.1f} ms",
                    flush=True,
                )
    return rows


def verdict(row: dict[str, Any]) -> str:
    return {True: "pass", False: "MISS", None: "no target"}[row["pass"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, at most 16,384 tokens")
    parser.add_argument("--tiles", action="store_true", help="only the table over tile sizes")
    parser.add_argument("--torch", action="store_true", help="only the comparison with torch")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--causal", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.causal)))
        return 0
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "dim": DIM}
    repeats = 5 if options.quick else 15
    if options.tiles:
        results["tiles"] = tile_table(repeats)
    elif options.torch:
        results["torch"] = torch_table(options.quick)
    else:
        print(f"tiled against naive, tokens in R^{DIM}; target: ratio >= 1 at 4,096")
        print("  tokens  dtype    causal     naive ms    tiled ms    ratio  largest difference")
        results["ratios"] = []
        cases = itertools.product((1024, 4096), ("float32", "float64"), (False, True))
        for tokens, dtype, causal in cases:
            row = compare(tokens, dtype, causal, repeats * (10 if tokens == 1024 else 1))
            results["ratios"].append(row)
            print(
                f"{tokens:8d}  {dtype}  {causal!s:6}  {row['naive_seconds'] * 1e3:11.2f} "
                f"{row['tiled_seconds'] * 1e3:11.2f} {row['ratio']:8.2f}  "
                f"{row['largest_difference']:.1e}  {verdict(row)}",
                flush=True,
            )
        print()
        results["torch"] = torch_table(options.quick)
        print("\ntiled alone, float32, one call in a fresh process (compilation included)")
        print("  tokens  causal     seconds   peak GiB  target GiB  (before the call)")
        results["alone"] = []
        sizes = (16384,) if options.quick else (65536, 200000)
        for tokens, causal in itertools.product(sizes, (False, True)):
            row = alone(tokens, causal)
            results["alone"].append(row)
            print(
                f"{tokens:8d}  {causal!s:6}  {row['seconds']:10.1f}  {row['peak_gib']:9.2f}  "
                f"{row['target_gib']:10.2f}  {row['before_gib']:6.2f}  {verdict(row)}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
