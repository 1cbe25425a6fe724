"""Checkpoints read from their files, or from a module of PyTorch, by the records of families.

The configuration gives the stack (`describe`), the file the weights; what stands where follows from
both. Matrices are turned to map from their first axis to their second, packed ones are split, the
heads' factors of a branch are multiplied into it, and a model of neighbouring rotary pairs is
refused, so that one forward serves all.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from translimit.core import ArgumentTypeError, ConfigError, NoSuchLimitError, brief, config
from translimit.describe import FAMILIES, Family, PatchEmbedding, StackReading, read_stack
from translimit.describe import Layer as Blocks
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import (
    MATRICES,
    Layer,
    attention_of,
    require_plain,
    shapes,
    units_of,
)
from translimit.diagnose.tensor_files import TensorFile, open_tensors
from translimit.diagnose.tensor_names import (
    BLOCKS,
    BRANCH_GAINS,
    CLASSES,
    MATRIX_NAMES,
    NORM_NAMES,
    OUTSIDE,
    PACKED,
    PACKED_BY_HEAD,
    PACKED_GATE,
    plain_names,
)

#: Formats whose towers are read without a family's record.
TOWERS = ("timm", "open_clip")


def record_of(family: str) -> Family | None:
    """The record by which the weights of a family are read, or None.

    Args:
        family: its `model_type`; ALBERT's layer is that of BERT.
    """
    return FAMILIES.get("bert" if family == "albert" else family)


def read_checkpoint(source: object, *, weights: str | Path | None = None) -> Checkpoint:
    """A checkpoint with its weights.

    Args:
        source: a folder with a configuration and weights, nanoGPT's `ckpt.pt`, a `.gguf` of a
            Llama, or a module of transformers, whose `config` and tensors are read.
        weights: the file, where the folder holds several.

    Raises:
        ConfigError: the family has no reader, the configuration is not understood, a file is
            damaged, a tensor is missing.
        NoSuchLimitError: latent attention, experts, biases of scores: hooks give observables.
        ArgumentError: a tensor with entries that are not finite, or of another shape.
        MissingExtraError: a file of PyTorch, and torch is not installed.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        tensors = open_tensors(weights or path)
        if "config" in tensors.extra and tensors.where.endswith(".gguf"):
            values = dict(tensors.extra["config"])
        elif "model_args" in tensors.extra:
            values = _nano_config(tensors)
        else:
            values = _configuration(path)
        return _read(values, tensors, str(path))
    state, told = getattr(source, "state_dict", None), getattr(source, "config", None)
    if state is None or told is None or not hasattr(told, "to_dict"):
        remedy = "pass a folder, or a module of transformers; others go through hooks"
        raise ArgumentTypeError("source", f"got {brief(source)}", remedy)
    held = {name: (lambda one=one: one.detach().cpu().numpy()) for name, one in state().items()}
    return _read(told.to_dict(), TensorFile("module", held), type(source).__name__)


def _configuration(path: Path) -> dict[str, Any]:
    folder = path if path.is_dir() else path.parent
    names = ("config.json", "open_clip_config.json")
    found = next((folder / one for one in names if (folder / one).is_file()), None)
    if found is None:
        raise ConfigError(str(folder), "has no config.json", "give the folder of a checkpoint")
    return dict(config.read_file(found))


def _nano_config(tensors: TensorFile) -> dict[str, Any]:
    """The configuration of a file of nanoGPT, with GPT-2's keys."""
    args = tensors.extra["model_args"]
    keys = {"n_layer", "n_head", "n_embd", "block_size", "vocab_size"}
    if not keys <= set(args):
        missing = ", ".join(sorted(keys - set(args)))
        raise ConfigError(tensors.where, f"model_args lacks {missing}", "train and save it again")
    sizes = {key: args[key] for key in ("n_layer", "n_head", "n_embd", "vocab_size")}
    told = {"n_positions": args["block_size"], "activation_function": "gelu"}
    return {"model_type": "gpt2", **sizes, **told}


def _read(values: Mapping[str, Any], tensors: TensorFile, where: str) -> Checkpoint:
    family = str(values.get("model_type") or "")
    reading = read_stack(json.loads(json.dumps(_as_described(values, where), default=str)))
    family = family or reading.family
    record = record_of(reading.family)
    if reading.family not in TOWERS and (record is None or not record.diagnosed):
        names = (*(name for name, one in FAMILIES.items() if one.diagnosed), "albert", *TOWERS)
        known = ", ".join(names)
        raise ConfigError(
            where, f"{family} has no reader of weights; read are {known}", "use hooks"
        )
    return _Reader(family, reading, tensors, where).checkpoint()


def _as_described(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A configuration that `describe` reads: ALBERT's layer is that of BERT."""
    if values.get("model_type") != "albert":
        return dict(values)
    for key in ("num_hidden_groups", "inner_group_num"):
        if values.get(key, 1) != 1:
            raise ConfigError(where, f"{key} is {values[key]}", "one shared layer is read")
    return {
        "hidden_act": "gelu_new",
        **{k: v for k, v in values.items() if k != "architectures"},
        "model_type": "bert",
        "embedding_size": values.get("embedding_size", 128),
    }


class _Reader:
    """One checkpoint, while its tensors are found."""

    def __init__(self, family: str, reading: StackReading, tensors: TensorFile, where: str):
        self.family, self.reading, self.tensors, self.where = family, reading, tensors, where
        self.names = plain_names(tensors)
        record = record_of(reading.family)
        self.gain = 0.0 if record is None else record.gain_offset
        self.transposed = True

    def checkpoint(self) -> Checkpoint:
        reading, stack = self.reading, self.reading.stack
        embedding = stack.embedding
        patches = isinstance(embedding, PatchEmbedding)
        norm = getattr(embedding, "norm", None)
        outside = self._outside(patches)
        if norm is not None and "embedding.gain" not in outside:
            raise self._missing(OUTSIDE["embedding"])
        if "readout" not in outside and reading.tied and stack.causal and "token" in outside:
            outside["readout"] = outside["token"].T
        if self.family == "albert":
            layers = (self._layer(0, stack.layers[0]),) * len(stack.layers)
        else:
            layers = tuple(self._layer(n, blocks) for n, blocks in enumerate(stack.layers))
        padding = getattr(embedding, "padding", None)
        offset = {"opt": 2, "roberta": (padding or 0) + 1}.get(self.family, 0)
        context = reading.context
        if "position" in outside and not patches:
            context = len(outside["position"]) - offset
        return Checkpoint(
            family=self.family,
            layers=layers,
            tensors=outside,
            norm_embedding=norm,
            norm_final=stack.norm_final if "final.gain" in outside else None,
            multiplier=float(getattr(embedding, "multiplier", 1.0)),
            offset=offset,
            patches=patches,
            logit_scale=reading.logit_scale,
            context=context,
            source=self.where,
        )

    def _layer(self, number: int, blocks: Blocks) -> Layer:
        require_plain(blocks)
        block = self._block(number)
        units, of = units_of(blocks), attention_of(blocks)
        found: dict[str, np.ndarray] = {}
        found |= self._packed(block, blocks)
        wanted = [n for n in MATRICES if n in shapes(blocks, self.reading.dim) and n not in found]
        for name in wanted:
            plain = self._first([f"{block}.{one}.weight" for one in MATRIX_NAMES[name]])
            if plain is None:
                raise self._missing([f"{block}.{one}.weight" for one in MATRIX_NAMES[name]])
            found[name] = self._matrix(plain)
            bias = self._bias(plain)
            found |= {} if bias is None else {f"b{name[1:]}": bias}
        found |= self._norms(block, blocks)
        if of.qk_norm is not None:
            for name in "qk":
                plain = self._first([f"{block}.self_attn.{name}_norm.weight"])
                if plain is None:
                    raise self._missing([f"{block}.self_attn.{name}_norm.weight"])
                found[f"{name}.gain"] = self._get(plain) + self.gain
        folded = False
        for name, candidates in BRANCH_GAINS.items():
            plain = self._first([f"{block}.{one}" for one in candidates])
            if plain is not None:
                factor, folded = self._get(plain), True
                found[name] = found[name] * factor
                if f"b{name[1:]}" in found:
                    found[f"b{name[1:]}"] = found[f"b{name[1:]}"] * factor
        blocks = tuple(replace(one, branch=1.0) for one in blocks) if folded else blocks
        if units is not None and units.shift:
            raise NoSuchLimitError("blocks", "have a gate with a shift", "use hooks")
        try:
            return Layer(blocks, self.reading.stack.causal, found)
        except ValueError as error:
            raise ConfigError(
                self.where, f"layer {number + 1}: {error}", "check the files"
            ) from error

    def _packed(self, block: str, blocks: Blocks) -> dict[str, np.ndarray]:
        """Query, key and value, and gate and up, of packed tensors."""
        found: dict[str, np.ndarray] = {}
        of, dim = attention_of(blocks), self.reading.dim
        sizes = [shapes(blocks, dim)[f"W_{n}"][1] for n in "QKV"]
        for names, by_head in ((PACKED, False), (PACKED_BY_HEAD, True)):
            candidates = [f"{block}.{one}{end}" for one in names for end in (".weight", "_weight")]
            plain = self._first(candidates)
            if plain is None:
                continue
            if plain.endswith("c_attn.weight"):  # GPT-2's own files hold it as it multiplies
                self.transposed = self._get(plain).shape[0] != dim
            for kind, value in (("W", self._matrix(plain)), ("b", self._bias(plain))):
                if value is None:
                    continue
                if by_head:
                    heads = value.reshape(*value.shape[:-1], of.heads, 3, of.head_dim)
                    parts = [heads[..., i, :].reshape(*value.shape[:-1], -1) for i in range(3)]
                else:
                    parts = np.split(value, np.cumsum(sizes)[:-1], axis=-1)
                found |= {f"{kind}_{n}": part for n, part in zip("QKV", parts, strict=True)}
        gate = self._first([f"{block}.{one}.weight" for one in PACKED_GATE])
        if gate is not None:
            found["W_1"], found["W_up"] = np.split(self._matrix(gate), 2, axis=1)
        return found

    def _norms(self, block: str, blocks: Blocks) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        parallel = len(blocks[0].branches) == 2
        for part, of in zip(("attention", "mlp"), blocks, strict=False):
            for place, norm in (("in", of.norm_in), ("out", of.norm_out), ("post", of.norm_post)):
                if norm is None:
                    continue
                name = f"{part}_{place}"
                sandwiched = name == "mlp_in" and blocks[0].norm_out is not None
                self._norm(found, name, block, "mlp_in beside out" if sandwiched else name)
        if parallel and blocks[0].norm_in is not None:
            own = self._first([f"{block}.{one}.weight" for one in NORM_NAMES["mlp_in"]])
            if own is not None:
                self._norm(found, "mlp_in", block, "mlp_in")
        return found

    def _norm(self, found: dict[str, np.ndarray], name: str, block: str, key: str) -> None:
        candidates = [f"{block}.{one}.weight" for one in NORM_NAMES[key]]
        plain = self._first(candidates)
        if plain is None:
            raise self._missing(candidates)
        found[f"{name}.gain"] = self._get(plain) + self.gain
        bias = self._bias(plain)
        if bias is not None:
            found[f"{name}.bias"] = bias

    def _outside(self, patches: bool) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, candidates in OUTSIDE.items():
            whole = name in ("token", "position", "type")
            plain = self._first(list(candidates) if whole else [f"{c}.weight" for c in candidates])
            if plain is None:
                continue
            value = self._get(plain)
            if name == "position":
                value = value.reshape(-1, value.shape[-1])
            elif name == "type":
                value = value[0]
            elif name == "patch":
                value = value.reshape(len(value), -1).T
            elif name in ("embedding", "final"):
                found[f"{name}.gain"] = value + (self.gain if name == "final" else 0.0)
                bias = self._bias(plain)
                found |= {} if bias is None else {f"{name}.bias": bias}
                continue
            elif name in ("project", "readout"):
                value = value.T
            found[name] = value
            if not whole and (bias := self._bias(plain)) is not None:
                found[f"{name}.bias"] = bias
        if patches:
            rows = [self._first(list(one)) for one in CLASSES]
            classes = [self._get(one).reshape(-1, self.reading.dim) for one in rows if one]
            found |= {"classes": np.concatenate(classes)} if classes else {}
        needed = "patch" if patches else "token"
        if needed not in found:
            raise self._missing(OUTSIDE[needed])
        return found

    def _block(self, number: int) -> str:
        for one in BLOCKS:
            start = f"{one.format(number)}."
            if any(name.startswith(start) for name in self.names):
                return start[:-1]
        raise self._missing([one.format(number) for one in BLOCKS])

    def _first(self, candidates: list[str]) -> str | None:
        return next((one for one in candidates if one in self.names), None)

    def _get(self, plain: str) -> np.ndarray:
        value = np.asarray(self.tensors[self.names[plain]])
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(value.size - np.count_nonzero(np.isfinite(value)))
            told = f"{self.names[plain]} has {bad} entries that are not finite"
            raise ConfigError(self.where, told, "pass a checkpoint that did not diverge")
        return value

    def _matrix(self, plain: str) -> np.ndarray:
        value = self._get(plain)
        return value.T if self.transposed else value

    def _bias(self, plain: str) -> np.ndarray | None:
        name = plain.removesuffix("weight") + "bias"
        return self._get(name) if name in self.names else None

    def _missing(self, candidates: Any) -> ConfigError:
        told = " or ".join(list(candidates)[:3])
        return ConfigError(
            self.where, f"has no tensor {told}", f"is it {self.family}? check the files"
        )
