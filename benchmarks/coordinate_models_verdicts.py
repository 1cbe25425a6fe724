"""Correct models and planted faults under coordinate checks at their defaults: how often, how long.

    python benchmarks/coordinate_models_verdicts.py --repeats R [--out FILE] [--models A B]

Each of seven families is checked along heads, head dimension and depth at 1, 2, 4 and 8 times its
base, with the default looks; a repeat has seeds of its own. The faults are the five of
coordinate_check.py, the router's rate without 1/m_d, and a branch's factor in front of a norm; one
is named if a sentence of the linter has its parameter or the score scale. Every finished check is
in the file, and is not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import coordinate_check as one_model
from coordinate_models import (
    BASES,
    CONFIGS,
    RATES,
    factory,
    with_factor_in_front_of_norm,
    with_router_at_base_rate,
)
from translimit.checks import CoordinateCheck, coordinate_check

AXES = ("head_dim", "heads", "layers")
MULTIPLES = (1, 2, 4, 8)
#: What a sentence must have to name a fault.
NAMED = {
    "readout rate": "readout.weight",
    "score scale": "score scale",
    "depth factor": "o.weight",
    "epsilon": "epsilon",
    "packed QKV": "qkv.weight",
    "router rate": "mlp.gate.weight",
    "factor before norm": "o_proj.weight",
}


def checked(kind: str, axis: Any, make: Any) -> CoordinateCheck:
    """One check of a family."""
    base = BASES[kind]
    sizes = [getattr(base, axis) * multiple for multiple in MULTIPLES]
    return coordinate_check(make, axis, sizes, base=base, rate=RATES[kind])


def faulty(fault: str, repeat: int) -> CoordinateCheck:
    """The check of a model with a planted fault."""
    if fault == "router rate":
        return checked("Mixtral", "head_dim", with_router_at_base_rate(repeat))
    if fault == "factor before norm":
        return checked("Olmo2", "layers", lambda t: with_factor_in_front_of_norm(t, repeat))
    return one_model.ours(fault, repeat)


def interval(count: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    from scipy.special import betaincinv

    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, 0.025))
    high = 1.0 if count == of else float(betaincinv(count + 1, of - count, 0.975))
    return low, high


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("coordinate-verdicts.json"))
    parser.add_argument("--models", nargs="*", default=list(CONFIGS))
    parser.add_argument("--no-faults", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if options.out.is_file():
        found = json.loads(options.out.read_text(encoding="utf-8"))

    def kept(name: str, run: Callable[[], CoordinateCheck]) -> None:
        if name in found:
            return
        begun = time.process_time()
        check = run()
        found[name] = {
            "verdict": check.overall().value,
            "in_words": check.in_words(),
            "lint": check.lint(),
            "seeds": check.seeds,
            "sizes": list(check.sizes),
            "promises": check.levels.promises,
            "processor_s": time.process_time() - begun,
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {found[name]['in_words']} ({found[name]['processor_s']:.0f} s)", flush=True)

    for repeat in range(options.repeats):
        for kind in options.models:
            for axis in AXES:
                make = factory(kind, repeat)
                kept(f"{kind} {axis} {repeat}", lambda k=kind, a=axis, m=make: checked(k, a, m))
        for fault in () if options.no_faults else NAMED:
            kept(f"fault {fault} {repeat}", lambda f=fault, r=repeat: faulty(f, r))
    for kind in (*options.models, *(f"fault {fault}" for fault in NAMED)):
        rows = {name: one for name, one in found.items() if name.startswith(f"{kind} ")}
        fault = kind.startswith("fault ")
        for axis in ("",) if fault else AXES:
            these = [one for name, one in rows.items() if name.startswith(f"{kind} {axis}".strip())]
            if not these:
                continue
            word = NAMED[kind.removeprefix("fault ")] if fault else ""
            hits = sum(
                one["verdict"] == "refuted" and any(word in said for said in one["lint"])
                if fault
                else one["verdict"] == "supported"
                for one in these
            )
            refuted = sum(one["verdict"] == "refuted" for one in these)
            low, high = interval(hits, len(these))
            seconds = sorted(one["processor_s"] for one in these)
            print(
                f"{kind} {axis}: {hits} of {len(these)} {'named' if fault else 'supported'} "
                f"[{low:.2f}, {high:.2f}], {refuted} refuted, "
                f"{math.ceil(seconds[len(seconds) // 2])} s (median), {seconds[-1]:.0f} s at most"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
