r"""The byte model: a small GPT of bytes, trained on the packaged text by a plain loop.

Four pre-LN layers of width 64 with four heads, learned positions, GELU, tied readout, context 64.
Matrices start as N(0, 0.08^2), those that write to the stream smaller by (2 L)^(1/2), biases at 0;
AdamW at a constant rate on windows of the first nine tenths of the text. Written in GPT-2's own
layout, so that every reader of GPT-2 reads it. The packaged one is what

    python -m translimit.diagnose.byte_model FOLDER

writes: 1,000 steps of seed 0.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from translimit.core import ArgumentError, Key, Progress, named_key, require_count
from translimit.describe import Normalisation, read_stack
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import Layer, Parameters, shapes
from translimit.diagnose.passing import normalised, pass_layer
from translimit.diagnose.tensor_files import write_safetensors

#: The configuration, with GPT-2's keys.
CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 4,
    "n_embd": 64,
    "n_head": 4,
    "n_positions": 64,
    "n_ctx": 64,
    "vocab_size": 256,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.08,
    "tie_word_embeddings": True,
}
STEPS, BATCH, RATE, DECAY = 1000, 32, 2e-3, 0.01
#: The share of the text that it is trained on; the rest is held out.
TRAINED = 0.9


def held_out_windows(count: int) -> Int[np.ndarray, "count tokens"]:
    """Windows of the packaged text that the byte model was not trained on, evenly spaced.

    Args:
        count: how many.
    """
    from translimit.data import byte_text

    ids = np.asarray(byte_text(CONFIG["n_ctx"]).ids, np.int64)
    start, last = int(TRAINED * len(ids)), len(ids) - CONFIG["n_ctx"]
    places = np.linspace(start, last, require_count(count, "count", 1)).astype(int)
    return np.stack([ids[place : place + CONFIG["n_ctx"]] for place in places])


def packaged_folder() -> Path:
    """The folder of the packaged byte model: `config.json` and `model.safetensors`."""
    return Path(str(resources.files("translimit.diagnose").joinpath("files/byte_model")))


def train_byte_model(
    *,
    key: Key | int,
    steps: int = STEPS,
    keep: Sequence[int] = (),
    progress: Progress | None = None,
) -> dict[int, Checkpoint]:
    """Train the byte model; the checkpoints after the steps that are kept, and the last.

    Args:
        key: of the start and of the batches.
        steps: updates.
        keep: steps whose checkpoints are wanted as well, 0 for the start.
        progress: called with the fraction done.

    Raises:
        ArgumentError: steps to keep beyond the last.
    """
    from translimit.data import byte_text

    steps = require_count(steps, "steps", 0)
    wanted = {*(require_count(one, "keep", 0) for one in keep), steps}
    if max(wanted) > steps:
        raise ArgumentError("keep", f"has {max(wanted)}, beyond the end", f"pass at most {steps}")
    ids = np.asarray(byte_text(CONFIG["n_ctx"]).ids, np.int32)
    text = jnp.asarray(ids[: int(TRAINED * len(ids))])
    stack = read_stack(CONFIG).stack
    parameters = _start(named_key(key, "byte model", "start"), stack.layers)
    optimiser = optax.adamw(RATE, weight_decay=DECAY)
    update = _updater(optimiser, stack.layers, text)
    state, kept, batches = optimiser.init(parameters), {}, named_key(key, "byte model", "batches")
    for step in range(steps + 1):
        if step in wanted:
            kept[step] = _checkpoint(parameters, step)
        if step < steps:
            parameters, state, _ = update(parameters, state, jax.random.fold_in(batches, step))
            if progress is not None and step % 20 == 19:
                progress((step + 1) / steps)
    return kept


def write_byte_model(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a byte model in GPT-2's layout: `config.json` and `model.safetensors`.

    Args:
        folder: is made where it is not there.
        checkpoint: of `train_byte_model`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of = checkpoint.tensors
    tensors = {
        "transformer.wte.weight": of["token"],
        "transformer.wpe.weight": of["position"],
        "transformer.ln_f.weight": of["final.gain"],
        "transformer.ln_f.bias": of["final.bias"],
    }
    for place, layer in enumerate(checkpoint.layers):
        p, h = layer.parameters, f"transformer.h.{place}"
        packed = [np.concatenate([p[f"{k}_{n}"] for n in "QKV"], axis=-1) for k in "Wb"]
        for name, (weight, bias) in {
            "ln_1": (p["attention_in.gain"], p["attention_in.bias"]),
            "attn.c_attn": (packed[0], packed[1]),
            "attn.c_proj": (p["W_O"], p["b_O"]),
            "ln_2": (p["mlp_in.gain"], p["mlp_in.bias"]),
            "mlp.c_fc": (p["W_1"], p["b_1"]),
            "mlp.c_proj": (p["W_2"], p["b_2"]),
        }.items():
            tensors |= {f"{h}.{name}.weight": weight, f"{h}.{name}.bias": bias}
    write_safetensors(folder / "model.safetensors", {k: np.asarray(v) for k, v in tensors.items()})
    text = json.dumps(CONFIG, indent=1, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _start(key: Key, layers: Sequence[Any]) -> dict[str, Any]:
    """Parameters at the start, float32."""
    std, dim = CONFIG["initializer_range"], CONFIG["n_embd"]
    small = std / np.sqrt(2 * len(layers))

    def drawn(name: str, shape: tuple[int, ...], std: float) -> Array:
        return std * jax.random.normal(named_key(key, name), shape, jnp.float32)

    found: list[Parameters] = []
    for place, blocks in enumerate(layers):
        one: dict[str, Array] = {}
        for name, shape in shapes(blocks, dim).items():
            one[name] = drawn(f"{name} {place}", shape, small if name in ("W_O", "W_2") else std)
            one[f"b{name[1:]}"] = jnp.zeros(shape[1], jnp.float32)
        for norm in ("attention_in", "mlp_in"):
            one |= {f"{norm}.gain": jnp.ones(dim), f"{norm}.bias": jnp.zeros(dim)}
        found.append(one)
    return {
        "token": drawn("token", (CONFIG["vocab_size"], dim), std),
        "position": drawn("position", (CONFIG["n_ctx"], dim), std),
        "final.gain": jnp.ones(dim),
        "final.bias": jnp.zeros(dim),
        "layers": found,
    }


def _updater(
    optimiser: optax.GradientTransformation, layers: Sequence[Any], text: Int[Array, " length"]
) -> Callable[..., Any]:
    """One step of training, compiled."""
    tokens = CONFIG["n_ctx"]
    norm: Normalisation = layers[0][0].norm_in

    def logits(parameters: dict[str, PyTree], ids: Int[Array, " n"]) -> Float[Array, "n V"]:
        x = parameters["token"][ids] + parameters["position"]
        for blocks, own in zip(layers, parameters["layers"], strict=True):
            x = pass_layer(blocks, True, own, x).exit
        return normalised(norm, parameters, "final", x) @ parameters["token"].T

    def loss(
        parameters: dict[str, PyTree], windows: Int[Array, "batch length"]
    ) -> Float[Array, ""]:
        out = jax.vmap(logits, (None, 0))(parameters, windows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(out, windows[:, 1:]).mean()

    @jax.jit
    def update(
        parameters: dict[str, PyTree], state: optax.OptState, key: Key
    ) -> tuple[dict[str, PyTree], optax.OptState, Array]:
        places = jax.random.randint(key, (BATCH,), 0, len(text) - tokens)
        windows = text[places[:, None] + jnp.arange(tokens + 1)]
        value, slope = jax.value_and_grad(loss)(parameters, windows)
        step, state = optimiser.update(slope, state, parameters)
        moved = jax.tree.map(jnp.add, parameters, step)
        return moved, state, value

    return update


def _checkpoint(parameters: dict[str, Any], step: int) -> Checkpoint:
    stack = read_stack(CONFIG).stack
    plain = jax.tree.map(np.asarray, parameters)
    layers = zip(stack.layers, plain.pop("layers"), strict=True)
    return Checkpoint(
        family="gpt2",
        layers=tuple(Layer(blocks, True, own) for blocks, own in layers),
        tensors={**plain, "readout": plain["token"].T},
        norm_final=stack.norm_final,
        context=CONFIG["n_ctx"],
        source=f"the byte model after {step} steps",
    )


def main() -> None:
    """Train the packaged model and write it into the folder that is named."""
    trained = train_byte_model(key=0)
    write_byte_model(Path(sys.argv[1]), trained[STEPS])


if __name__ == "__main__":
    main()
