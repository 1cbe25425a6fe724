"""Mutated configurations on the command line: an answer or one line, and never a traceback.

`python -m pytest -m slow tests/cli/test_fuzz.py` takes 300 of each command, from one seed.
"""

import contextlib
import copy
import json
import random
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.execute import thread_limits
from translimit.experiments import all_experiments

COUNT, SEED, PATIENCE = 300, 20261130, 60
VALUES = (
    *(0, 1, 2, 3, -1, 7, 2**31, 10**18, 0.0, 0.5, 1.5, -0.5, 1e-300, 1e300, 1e-9, 1e9),
    *("", "x", "nan", "0", "-1", "gelu", "rms", None, True, False, [], [1], [0, -1], {}, {"a": 1}),
    *(float("nan"), float("inf"), -float("inf")),
)
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 8,
    "vocab_size": 16,
    "activation_function": "gelu_new",
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,
    "scale_attn_weights": True,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "vocab_size": 16,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
}
OWN = {"kind": "pre-norm", "layers": 2, "dim": 8, "heads": 2, "init_std": 0.2}
DMFT = {
    "task": "synthetic",
    "inputs": 2,
    "tokens": 2,
    "dim": 4,
    "head_dim": 2,
    "layers": 1,
    "beta0": 1.0,
    "gamma0": 1.0,
    "eta0": 0.1,
    "steps": 3,
    "axis": "heads",
    "sizes": [2, 4],
    "seeds": 4,
    "samples": 40,
    "populations": 2,
    "tol": 0.5,
    "heads": 2,
    "alpha_A": 1.0,
    "alpha_L": 1.0,
    "mlp": "none",
    "norm": "none",
    "momentum": 0.0,
    "causal": False,
}
#: Experiments of every theory so small that they can be computed, and the sizes that make them so.
SMALL_RUNS = {
    "castin2025/rank-histograms": {"draws": 4, "max_steps": 600, "euler_steps": 300},
    "castin2025/sigmoid": {"sharpnesses": [2.0], "tokens": 30, "clouds": 6},
    "noci2023/weak-error": {
        "dims": [8, 16],
        "networks": 400,
        "gamma": 0.5,
        "tau0": 0.5,
        "kernel_dims": [50, 100],
    },
    "koubbi2026/collapse": {"cases": [[64, 16, 0.0, 1, 0.2]], "replicas": 8},
    "bordelon2024/dmft-rich-and-lazy": {"per_class": 2, "steps": 8},
}
#: How many of them; a run draws its figures, and so takes seconds.
RUNS = 150
SIZES = {"head_dim": 8, "heads": 4, "layers": 2, "kv_heads": 2, "mlp_ratio": 4}


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    for name, value in thread_limits(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)


class TookTooLongError(Exception):
    """A command did not end."""


@contextlib.contextmanager
def patience():
    """End what hangs."""

    def give_up(*_):
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(capsys, arguments):
    """Run a command in this process; its status, and what is wrong with how it ended."""
    capsys.readouterr()
    try:
        with patience():
            status = main([str(one) for one in arguments])
    except TookTooLongError:
        return -1, f"took more than {PATIENCE} s"
    except Exception as error:
        return -1, f"raised {type(error).__name__}: {error}"
    said = capsys.readouterr()
    return status, complaint(status, said.out, said.err)


def complaint(status, out, err):
    """What is wrong with what a command said, or nothing."""
    if "Traceback" in out + err:
        return "showed a traceback"
    if status not in (0, 1, 2):
        return f"ended with {status}"
    # Warnings of Python are a line of theirs and the line of code below it.
    lines = [line for line in err.splitlines() if "Warning: " not in line and line[:2] != "  "]
    refused = len(lines) == 1 and lines[0].startswith("translimit: ")
    if status and not (refused and err.endswith(f"{lines[0]}\n")):
        return f"did not refuse in one line: {err!r}"
    if status == 1 and not set(re.findall(r"\((\w+):", err)) <= OURS:
        return f"failed by an error that is not ours: {err!r}"
    if status == 2 and out:
        return f"said something before it refused: {out!r}"
    numbers = set(re.findall(r"[\w∞]+", out)) if status == 0 else set()
    if numbers & {"nan", "NaN", "inf", "Infinity", "∞"}:
        return f"printed what is no number: {out!r}"
    return ""


#: What is not left out, because the default takes minutes.
COSTLY = {"seeds", "samples", "steps", "populations", "sizes", "task"}.union(*SMALL_RUNS.values())
#: In this process, and each cell once.
SERIAL = ("--executor", "serial", "--retries", 0)
#: What a cell may end with: an error of ours, in one line.
OURS = {"ArgumentError", "ArgumentTypeError", "ConfigError", "MemoryLimitError", "SolveError"}


def mutated(rng, document):
    """A document with one or two changes: another value, another key, or one less."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(sorted(changed))
        kind, value = rng.random(), changed[key]
        if kind < 0.4 and isinstance(value, float):
            changed[key] = value * rng.choice([0.1, 0.5, 2.0, 10.0])
        elif kind < 0.4 and isinstance(value, int) and not isinstance(value, bool):
            changed[key] = value + rng.choice([-1, 1, 2])
        elif kind < 0.75:
            changed[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind < 0.85 and key not in COSTLY:
            del changed[key]
        elif kind < 0.95:
            changed[key] = -changed[key] if isinstance(changed[key], float) else [changed[key]]
        else:
            changed[f"{key}_"] = copy.deepcopy(rng.choice(VALUES))
        if not changed:
            break
    return changed


def commands(kind):
    """Commands of a kind, the same ones every time; files are written where the process is."""
    rng = random.Random(f"{SEED}, {kind}")
    experiments = all_experiments()
    for number in range(RUNS if kind == "run, computed" else COUNT):
        file = Path(f"{number}.json")
        if kind == "predict":
            file.write_text(json.dumps(mutated(rng, rng.choice([GPT2, LLAMA, OWN]))))
            yield ["predict", file, "--tokens", rng.choice([2, 4])]
        elif kind == "dmft":
            file.write_text(json.dumps(mutated(rng, DMFT)))
            yield ["dmft", file, *SERIAL, "--out", f"run{number}"]
        elif kind == "run, computed":
            name = rng.choice(sorted(SMALL_RUNS))
            file.write_text(json.dumps(mutated(rng, SMALL_RUNS[name])))
            yield ["run", name, "--config", file, *SERIAL, "--out", f"run{number}"]
        elif kind == "scale":
            sizes = [rng.choice([SIZES, mutated(rng, SIZES)]) for _ in range(2)]
            texts = [",".join(f"{k}={json.dumps(v)}" for k, v in one.items()) for one in sizes]
            optimizer = rng.choice(["sgd", "momentum", "adam", "adamw", "sign", "muon"])
            style = rng.choice(["canonical", "folded", "single_lr", "unit_init"])
            rest = ["--alpha-a", json.dumps(rng.choice([1.0, 0.5, 0.7, 1.0, 2.0, 1e300]))]
            pair = ["--base", texts[0], "--target", texts[1]]
            yield ["scale", *pair, "--optimizer", optimizer, "--style", style, *rest]
        else:
            name = rng.choice(sorted(experiments))
            fields = sorted(type(experiments[name].presets["demo"]).__dataclass_fields__)
            chosen = {
                rng.choice(fields): json.dumps(rng.choice(VALUES)) for _ in range(rng.randint(1, 2))
            }
            settings = [f"{key}={value}" for key, value in chosen.items()]
            yield ["run", name, "--plan", "--set", *settings]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # as on the command line, where they end nothing
@pytest.mark.parametrize("kind", ["predict", "dmft", "run", "run, computed", "scale"])
def test_mutated_configurations_end_in_an_answer_or_in_one_line(kind, capsys):
    wrong, statuses = [], Counter()
    for arguments in commands(kind):
        status, problem = call(capsys, arguments)
        statuses[status] += 1
        if kind == "run, computed" and status == 0 and not problem:
            _, problem = call(capsys, ["claims", arguments[-1]])
        if problem:
            files = [one for one in arguments if isinstance(one, Path)]
            wrong.append((problem, arguments, [one.read_text() for one in files]))
    assert wrong == [], "\n".join(str(one) for one in wrong)
    assert min(statuses[0], statuses[2]) > sum(statuses.values()) / 20, (
        statuses
    )  # both kinds were tried
