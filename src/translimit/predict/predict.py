"""One question: what do the limits say about this architecture at initialisation?

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from translimit.core import (
    ArgumentTypeError,
    ArrayInput,
    Bounds,
    ConfigError,
    JsonObject,
    Key,
    Progress,
    named_key,
    part_of,
    require_count,
    require_real,
)
from translimit.describe import Stack, StackReading, public_model, read_stack
from translimit.limits.signal import AT_ONCE
from translimit.predict import words
from translimit.predict.answer import Collapse
from translimit.predict.cost import Asked, Cost, cost_of
from translimit.predict.curves import Curve
from translimit.predict.inputs import Tokens, distinct_tokens, read_tokens
from translimit.predict.labels import depth_in_words, labels_of
from translimit.predict.loss import (
    Loss,
    LossAtTop,
    loss_at_top,
    loss_is_known,
    told_loss,
)
from translimit.predict.measures import Entered
from translimit.predict.module_kinds import Config, Module
from translimit.predict.prediction import Prediction
from translimit.predict.signals import INDEPENDENT, Effort, Signals, signals
from translimit.predict.variants import choices, variants
from translimit.scaling import read_size

#: What can be asked about.
Source: TypeAlias = str | Path | JsonObject | Stack | StackReading | Module

#: What each part of the work takes of it, where all are asked for.
PARTS = {"own": 5.0, "distinct": 1.0, "variants": 10.0}


def predict(
    source: Source,
    *,
    config: Config | None = None,
    text: str | Path | None = None,
    ids: str | Path | ArrayInput | None = None,
    image: str | Path | ArrayInput | None = None,
    gram: str | Path | ArrayInput | None = None,
    tokens: int | None = None,
    tokenizer: str | Path | None = None,
    threshold: float | int = 0.5,
    networks: int = 0,
    others: bool = False,
    fix: bool = False,
    forward: bool = False,
    whole: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    announce: Callable[[Cost], object] | None = None,
) -> Prediction:
    """What the limits say about an architecture, on a text, ids, an image or a sample of words.

    Args:
        source: a model's `config.json` or the folder that holds it, its content, a file in our own
            format, the name of a public model (of `describe.PUBLIC_MODELS`), sizes of GPT-2's block
            as `heads=12,head_dim=64,layers=12`, a `Stack`, what `read_stack` returned, or a
            `torch.nn.Module` of a known family, whose own weights tell what they were drawn from;
            see `read_module`.
        config: of a module that holds none: a file, a folder, or its content.
        text: a file of text, by the tokenizer beside the configuration, or byte by byte.
        ids: a file of whole numbers, or one row of them.
        image: a file, or an array.
        gram: C of the tokens [n, n], <x_i, x_j> / D, in a file or as an array.
        tokens: how many enter; of a text the first ones. Without any input a sample of the
            vocabulary by Zipf's law.
        tokenizer: `tokenizer.json`, where it is not beside the configuration.
        threshold: mean overlap of two tokens that counts as collapse, in (0, 1).
        networks: networks of the stack's own sizes that are simulated for the width's error and
            the spread, at least 2; 0 for the spread by one adjoint pass.
        others: whether other choices are solved as well.
        fix: whether other scales are looked for that keep the signal.
        forward: whether gradients are left out, which takes a third of the time.
        whole: whether of more than 256 tokens all is told that is told of fewer: besides values,
            gradients and the loss also the spread over networks by the adjoint pass, tokens that
            all differ, and a gradient that all tokens share.
        seed: of the Monte Carlo.
        progress: called with the share that is done.
        announce: called with what it will cost, before anything is solved.

    Raises:
        ConfigError: a configuration that is not understood; the message says what is missing, or
            lists what is understood.
        NoSuchLimitError: an architecture without such a limit.
        ArgumentError: an input that cannot be read; a threshold outside (0, 1); tokens below 2 or
            beyond the context; one network; a module that cannot be read, or is trained.
        ArgumentTypeError: a threshold that is no number, a count that is no integer, a
            configuration beside what is no module.
        MemoryLimitError: the pairs of so many tokens do not fit into memory.

    Examples:
        >>> small = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4}
        >>> prediction = predict(small, ids=[5, 3, 5, 9])
        >>> prediction.source
        '4 tokens of ids as given, 3 different'
        >>> len(prediction.curves["overlap"].value)
        3
    """
    threshold = require_real(threshold, "threshold", Bounds(0.0, 1.0, "()"))
    if networks:
        require_count(networks, "networks", 2)
    reading, folder = read_source(source, config)
    key = named_key(seed, "predict")
    entering = read_tokens(
        reading,
        text=text,
        ids=ids,
        image=image,
        gram=gram,
        tokens=tokens,
        tokenizer=tokenizer,
        folder=folder,
        key=named_key(key, "tokens"),
    )

    stack, kinds = reading.stack, entering.groups
    effort = Effort.of(stack, networks, entering.count)
    whole = whole or entering.count <= AT_ONCE
    repeated = entering.ids is not None and entering.different < entering.count and whole
    tops = {} if forward else dict(INDEPENDENT)
    if tops and whole:
        tops["shared"] = np.ones_like
    found_loss = _TopOfLoss(reading, entering, named_key(seed, "predict"))
    if tops and found_loss.possible:
        tops["loss"] = found_loss
    if announce is not None:
        count = len(list(choices(stack, entering.cov))) if others else 0
        asked = Asked(len(tops), whole, repeated, count)
        announce(cost_of(stack, entering.cov, effort, asked))
    told = _shares(progress, distinct=repeated, variants=others)
    own = signals(
        stack,
        entering.cov,
        kinds,
        effort,
        named_key(key, "own"),
        entered=Entered(entering.ids, entering.pixel_gram),
        tops=tops,
        adjoint=whole,
        progress=told["own"],
    )
    distinct: Mapping[str, Curve] = {}
    if repeated:
        other = distinct_tokens(reading, entering.count)
        distinct = signals(
            stack,
            other.cov,
            other.groups,
            effort,
            named_key(key, "own"),
            tops={},
            errors=False,
            like=own.curves,
            progress=told["distinct"],
        ).curves
    found = ()
    if others:
        found = variants(
            stack, entering.cov, kinds, effort, named_key(key, "variants"), told["variants"]
        )
    design = None
    if fix:
        from translimit.predict.fixes import fix as look_for  # it loads an optimiser

        design = look_for(stack, entering.cov, kinds, effort, named_key(key, "fix"))
    return Prediction(
        reading=reading,
        tokens=entering.count,
        source=entering.source,
        networks=networks,
        covered=words.covered_blocks(stack),
        quantities=words.quantities(stack, entering.cov, own.curves),
        curves=own.curves,
        distinct=distinct,
        shared=own.others["shared"]["gradient"] if "shared" in tops else None,
        loss=found_loss.told(own),
        labels=labels_of(stack, entering.count, own.curves),
        depth=depth_in_words(stack, entering.count),
        collapse=Collapse.of(own.curves["overlap"], threshold),
        variants=found,
        fix=design,
        inapplicable=words.inapplicable(stack, own.curves),
        assumptions=words.assumptions(reading),
        warnings=(
            *entering.warnings,
            *words.warnings(reading, entering.count, own.curves, networks),
            *words.left_out(entering.count, whole=whole, networks=networks),
        ),
    )


def read_source(source: Source, config: Config | None = None) -> tuple[StackReading, Path | None]:
    """What is read, and the folder where its configuration is.

    Args:
        source: see `predict`.
        config: of a module.

    Raises:
        ConfigError: a configuration that is not understood.
        NoSuchLimitError: an architecture without such a limit.
        ArgumentError: a module that cannot be read, or whose weights are no fresh draw.
        ArgumentTypeError: a configuration beside what is no module.
    """
    if isinstance(source, Module):
        from translimit.predict.modules import read_module  # and what knows of other frameworks

        beside = config if isinstance(config, (str, Path)) else None
        return read_module(source, config), None if beside is None else _folder(Path(beside))
    if config is not None:
        raise ArgumentTypeError(
            "config", "is given beside what is no torch.nn.Module", "pass the module first"
        )
    if isinstance(source, StackReading):
        return source, None
    if isinstance(source, Stack):
        return StackReading(family="stack", stack=source), None
    if isinstance(source, Mapping):
        return read_stack(source), None
    if isinstance(source, str) and "=" in source and not Path(source).exists():
        return _of_sizes(source), None
    if public_model(source) is not None:
        return read_stack(source), None
    return read_stack(Path(source)), _folder(Path(source))


def _of_sizes(text: str) -> StackReading:
    """GPT-2's block at other sizes: `heads=12,head_dim=64,layers=12`."""
    size = read_size(text).size
    if size.groups != size.heads:
        raise ConfigError("kv_heads", f"got {size.kv_heads}", "write a config.json with them")
    if size.dim is not None:
        problem = f"got {size.dim} with {size.heads} heads of {size.head_dim}"
        raise ConfigError("width", problem, "write a config.json with it")
    units = size.mlp_ratio * size.width
    if units != int(units):
        problem = f"got {size.mlp_ratio} times {size.width}, no whole number of units"
        raise ConfigError("mlp_ratio", problem, "pass a ratio that gives one")
    sizes = {"n_layer": size.layers, "n_embd": size.width, "n_head": size.heads}
    found = read_stack({"model_type": "gpt2", **sizes, "n_inner": int(units)})
    return replace(
        found,
        family=f"GPT-2's block with {size.heads} heads of dimension {size.head_dim}",
        assumptions=(
            *found.assumptions,
            "sizes alone name neither a vocabulary nor a context: tokens that all differ enter, "
            "and there is no loss (the public model is `gpt2`)",
        ),
    )


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


class _TopOfLoss:
    """What the loss sends to the top, found when C there is known."""

    def __init__(self, reading: StackReading, entering: Tokens, key: Key):
        self._reading, self._entering, self._key = reading, entering, key
        self._found: LossAtTop | None = None

    @property
    def possible(self) -> bool:
        """Whether there is a readout, and words to come."""
        return loss_is_known(self._reading, self._entering)

    def __call__(self, cov: np.ndarray) -> np.ndarray:
        """B at the top."""
        self._found = loss_at_top(self._reading, self._entering, cov, self._key)
        assert self._found is not None
        return self._found.gradient

    def told(self, own: Signals) -> Loss | None:
        """The loss and its gradients, if they were sent back."""
        if not self.possible:
            return None
        if self._found is None:
            self(own.cov)
            assert self._found is not None
        return told_loss(self._found, own.others.get("loss", {}))


def _shares(progress: Progress | None, **asked: bool) -> dict[str, Progress | None]:
    """The progress of every part of the work that is asked for."""
    parts = {name: size for name, size in PARTS.items() if asked.get(name, True)}
    ends = np.cumsum(list(parts.values())) / sum(parts.values())
    starts = (0.0, *ends[:-1])
    return {
        name: part_of(progress, float(start), float(end))
        for name, start, end in zip(parts, starts, ends, strict=True)
    }
