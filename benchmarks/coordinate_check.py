"""Coordinate checks beside the `mup` package's own, and which planted faults each detects.

    python benchmarks/coordinate_check.py [--repeats R] [--out FILE]

One causal transformer of 4 layers, 4 heads and T = 32 tokens from a vocabulary of 128, one
sequence a batch (updates of more tokens than the narrowest network is wide are not coherent yet),
widths 32 to 256, Adam, 3 seeds: mup 1.0.0's `get_coord_data` on its own parameterization of the
model, ours on the folded rules of the same model. Both record the networks after 0 to 4 updates.
mup records before an update, in a fifth step whose update nobody sees; ours takes a forward pass
without one. Both run in this process, one after the other and alternating, with one thread and with
all of torch's; wall and processor seconds of each are the least of several repeats, after one that
is not counted. mup records the mean absolute output of every module, ours root mean squares of
fields, of their changes and of what each map learned, at fixed inputs.

The faults: the readout's rate, the score scale N^{-1/2}, a missing factor of depth, an epsilon that
is not scaled, a packed projection in the group of vectors. mup has no verdict, so it gets one here:
a module's fitted exponent that differs from the correct model's by more than 0.25 after the last
update. It has no axis of depth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from translimit import data
from translimit.checks import TorchModel, Trial, coordinate_check
from translimit.core import Verdict
from translimit.describe import Role, Size
from translimit.scaling import rules
from translimit.scaling.adapters import matches
from translimit.scaling.adapters.torch import apply

WIDTHS = (32, 64, 128, 256)
HEADS, LAYERS, TOKENS, BATCH, VOCABULARY = 4, 4, 32, 1, 128
STEPS, SEEDS, RATE = 4, 3, 0.003
BASE = Size(head_dim=WIDTHS[0] // HEADS, heads=HEADS, layers=LAYERS)
#: Names of what the model calls its own way.
NAMES: dict[str, Any] = {
    "qkv.weight": (Role.QUERY, Role.KEY, Role.VALUE),
    "layers.*.o.weight": Role.ATTENTION_OUT,
    "layers.*.up.weight": Role.MLP_IN,
    "layers.*.down.weight": Role.MLP_OUT,
}
FAULTS = {
    "readout rate": "the readout's rate times m_d^(1/2)",
    "score scale": "logits times N^(-1/2) instead of 1/N",
    "depth factor": "branches without 1/m_L (axis: layers)",
    "epsilon": "one epsilon for all instead of one that falls with width",
    "packed QKV": "the packed projection in the group of vectors: its rate without 1/m_d",
}


class Block(nn.Module):
    """Pre-LN attention and MLP."""

    def __init__(self, width: int, scaling: float):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.scaling = scaling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One block."""
        q, k, v = self.qkv(self.ln_1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scaling)
        x = x + self.o(y.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.ln_2(x))))


class Model(nn.Module):
    """The decoder; the readout is mup's or a linear map."""

    def __init__(self, width: int, layers: int, scaling: float, readout: Any):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, width), nn.Embedding(TOKENS, width)
        self.layers = nn.ModuleList(Block(width, scaling) for _ in range(layers))
        self.norm, self.readout = nn.LayerNorm(width), readout(width, VOCABULARY, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of all tokens in one row [batch * tokens, vocabulary]."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.layers:
            x = block(x)
        return self.readout(self.norm(x)).flatten(0, 1)


def drawn(model: Model, width: int) -> Model:
    """Starts of fan-in at a width; the readout at zero."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            fan_in = 1 if "wte" in name or "wpe" in name else width
            fan_in = 4 * width if "down" in name else fan_in
            nn.init.normal_(parameter, std=fan_in**-0.5)
    nn.init.zeros_(model.readout.weight)
    return model


def text() -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of English prose in ASCII, and what follows each byte."""
    ids = np.asarray(data.byte_text(TOKENS).ids, dtype=np.int64)
    starts = np.random.default_rng(0).integers(0, len(ids) - TOKENS, BATCH)
    rows = np.stack([ids[start : start + TOKENS + 1] for start in starts]) % VOCABULARY
    return torch.tensor(rows[:, :-1]), torch.tensor(rows[:, 1:]).flatten()


def ours(fault: str = "", first: int = 0, seeds: Any = SEEDS) -> Any:
    """Our check along the axis that the fault has; the result.

    Args:
        fault: a key of `FAULTS`, or none.
        first: times 1000, added to all seeds.
        seeds: at its looks.
    """
    batch = text()

    def factory(trial: Trial) -> TorchModel:
        torch.manual_seed(1000 * first + trial.seed)
        size = trial.size
        model = drawn(Model(size.width, size.layers, size.head_dim**-0.5, nn.Linear), BASE.width)
        made = rules(trial.base, size, optimizer="adam", style="folded", packed_qkv=True)
        groups = apply(model, made, lr=trial.rate, names=NAMES, start="fixed")
        numbers = {id(p): group for group in groups for p in group["params"]}
        table = {name: match.parts for name, match in matches(model, NAMES).items()}
        m_d, m_L = size.width / BASE.width, size.layers / BASE.layers
        split = []
        for name, parameter in model.named_parameters() if fault else ():
            group = {k: numbers[id(parameter)][k] for k in ("lr", "eps", "weight_decay")}
            if fault == "readout rate" and "readout" in name:
                group["lr"] *= m_d**0.5
            if fault == "packed QKV" and "qkv" in name:
                group["lr"] *= m_d
            if fault == "epsilon":
                group["eps"] = 1e-8
            if fault == "depth factor" and name.endswith(("o.weight", "down.weight")):
                group["lr"] *= m_L
                parameter.data.mul_(m_L)
            split.append({"params": [parameter], **group})
        if fault == "score scale":
            for block in model.layers:
                block.scaling = size.head_dim**-0.5  # pyright: ignore
        return TorchModel(
            model=model,
            optimizer=torch.optim.Adam(split or groups, betas=(0.9, 0.999)),
            batch=lambda step: batch,
            loss=lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
            rules=made,
            roles=table,
        )

    axis = "layers" if fault == "depth factor" else "head_dim"
    sizes = [width // HEADS for width in WIDTHS] if axis == "head_dim" else [4, 8, 16]
    steps = range(STEPS + 1)
    return coordinate_check(factory, axis, sizes, base=BASE, rate=RATE, seeds=seeds, steps=steps)


def theirs(fault: str = "") -> Any:
    """Records of mup at the same widths, seeds and steps, as a data frame."""
    from mup import MuReadout, coord_check, set_base_shapes
    from mup.optim import MuAdam

    def model(width: int) -> Model:
        head_dim = width // HEADS
        c = BASE.head_dim**0.5 / head_dim  # N_0^{-1/2} at the base, then 1/N
        if fault == "score scale":
            c = head_dim**-0.5
        return Model(width, LAYERS, c, MuReadout)

    def lazy(width: int) -> Any:
        def make() -> Model:
            made = model(width)
            set_base_shapes(made, model(WIDTHS[0]), delta=model(2 * WIDTHS[0]))
            return drawn(made, width)

        return make

    def optimizer(made: Model) -> Any:
        adam = MuAdam(made.parameters(), lr=RATE)
        m_d = made.norm.weight.numel() / WIDTHS[0]
        wrong = {"readout rate": ("readout", m_d**0.5), "packed QKV": ("qkv", m_d)}
        if fault in wrong:
            word, factor = wrong[fault]
            for name, parameter in made.named_parameters():
                if word in name:
                    for group in adam.param_groups:
                        rest = [p for p in group["params"] if p is not parameter]
                        if len(rest) < len(group["params"]):
                            fixed = {k: v for k, v in group.items() if k != "params"}
                            group["params"] = rest
                            fixed["lr"] = group["lr"] * factor
                            adam.add_param_group({**fixed, "params": [parameter]})
                            break
        return adam

    loader = [text()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return coord_check._get_coord_data(
            {width: lazy(width) for width in WIDTHS},
            loader,
            optimizer,
            nsteps=STEPS + 1,
            nseeds=SEEDS,
            cuda=False,
            show_progress=False,
        )


def mup_exponents(frame: Any) -> dict[str, float]:
    """Fitted exponents of all modules after the last update, from means over seeds."""
    last = frame[frame["t"] == STEPS + 1]
    found = {}
    for name, rows in last.groupby("module"):
        means = rows.groupby("width")["l1"].mean()
        if len(means) == len(WIDTHS) and np.all(means > 0):
            found[str(name)] = float(np.polyfit(np.log(means.index), np.log(means), 1)[0])
    return found


def seconds(call: Any) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def least(calls: dict[str, Any], repeats: int) -> dict[str, np.ndarray]:
    """The least wall and processor seconds of each of several calls, which alternate."""
    rows = [[seconds(call) for call in calls.values()] for _ in range(repeats + 1)]
    return dict(zip(calls, np.array(rows[1:]).min(axis=0), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    calls = {"ours": ours, "mup": theirs}
    try:
        import mup  # noqa: F401
    except ImportError as error:
        print(f"mup cannot be imported ({error}): only our own check is timed")
        del calls["mup"]
    print(f"widths {WIDTHS}, {SEEDS} seeds, {STEPS} updates, best of {options.repeats}")
    print("threads   wall s: ours   mup  ratio   processor s: ours   mup  ratio")
    timings = []
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        found = least(calls, options.repeats)
        (wall, cpu), (other_wall, other_cpu) = found["ours"], found.get("mup", (np.nan, np.nan))
        timings.append(
            {
                "threads": threads,
                "ours_wall_s": wall,
                "mup_wall_s": other_wall,
                "ours_processor_s": cpu,
                "mup_processor_s": other_cpu,
            }
        )
        print(
            f"{threads:7d}{wall:15.2f}{other_wall:6.2f}{wall / other_wall:7.2f}"
            f"{cpu:20.2f}{other_cpu:6.2f}{cpu / other_cpu:7.2f}"
        )
    if "mup" not in calls:
        return 0

    frame = theirs()
    right, check = mup_exponents(frame), ours()
    print(f"  mup: {len(frame)} records, no verdict; ours: {check.overall().value}, ", end="")
    print(f"{len(check.expected)} promises")
    rows = []
    for fault, what in FAULTS.items():
        found = ours(fault)
        named = found.lint()
        off = {}
        if fault != "depth factor" and fault != "epsilon":
            wrong = mup_exponents(theirs(fault))
            off = {n: wrong[n] - right[n] for n in right if abs(wrong[n] - right[n]) > 0.25}
        seen = max(off, key=lambda name: abs(off[name])) if off else ""
        told = (
            f"{len(off)} modules, most {seen or 'the output'} ({off[seen]:+.2f})" if off else "no"
        )
        if fault == "depth factor":
            told = "cannot be asked: base and model must have the same depth"
        if fault == "epsilon":
            told = "no: records no numbers of the optimiser; the fields do not change"
        refuted = [one for one in found.refuted() if "update of" not in one]
        rows.append(
            {
                "fault": fault,
                "what": what,
                "ours": found.overall() is Verdict.refuted,
                "ours_named": named,
                "ours_coordinates": len(found.refuted()),
                "mup": bool(off),
                "mup_told": told,
            }
        )
        print(f"  {fault}: {what}")
        print(f"    ours: {found.overall().value}; {'; '.join(named) or 'nothing named'}")
        print(f"      coordinates: {refuted[0] if refuted else 'none off'}")
        print(f"    mup:  {told}")
    if options.out:
        document = {"timings": timings, "faults": rows}
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
