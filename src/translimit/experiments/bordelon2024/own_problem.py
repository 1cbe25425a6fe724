r"""A configuration of one's own: other losses, language models, heads of today.

`translimit dmft CONFIG` reads it. A language model has outputs at every token, which predict the
word that follows, and learns positions. Its networks have what the limit has; `axis = "none"`
solves the limit alone.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from translimit import describe, limits
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.tasks import (
    LANGUAGE_TASKS,
    TASKS,
    load_sentences,
    load_task,
)
from translimit.experiments.bordelon2024.weighted_problem import WeightedProblem
from translimit.experiments.checked import Count, Distinct, Entries, OneOf, Positive, Within

NotNegative = Annotated[float, Within(0, 1e12)]


@dataclass(frozen=True)
class OwnProblem(WeightedProblem):
    """Any problem of the limit, and its networks.

    Attributes:
        task: "digits", "text", "synthetic" or "ring", with one output; of words "bytes" (the next
            byte of English prose), "copy" (sentences that say a block of random words twice),
            "recall" (the same, with targets where the block is known) or "markov" (a chain of
            bytes); or the path of an `.npz`, with `inputs` or `token_ids`, and `targets`.
        vocabulary: words of "copy", "recall", "markov" and a file of token ids; 0 for real inputs.
        classes: outputs under cross-entropy; 0 for the vocabulary where tokens have outputs, else
            for the largest class and those below it.
        readout_std: of the readout at the start.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding.
        position_std: of positions at the start, in units of the words'; by default 1 for a language
            model, else 0 (none).
        position_rate: of positions, relative to that of words.
        final_norm: whether outputs are read from the normalised stream.
        qk_norm: "rms", "layer" or "none", of keys and queries.
        score_gain: factor of the scores.
        score_gain_rate: of that factor.
        rotary: base of rotary positions; 0 for none.
        mlp_ratio: neurons of the MLP for each coordinate of the stream.
        queries_per_key: heads of queries that share a head of keys and values.
        norm_eps: added to the mean square inside every normalisation.
        infinite_sizes: "head_dim" and "layers" that are infinite, where the limit is alone (axis
            "none").
    """

    vocabulary: Annotated[int, Within(0)] = 0
    classes: Annotated[int, Within(0)] = 0
    readout_std: NotNegative = 1.0
    centred: bool = False
    tied: bool = False
    position_std: Annotated[float | None, Within(0, 1e12)] = None
    position_rate: NotNegative = 1.0
    final_norm: bool = False
    qk_norm: Literal["none", "rms", "layer"] = "none"
    score_gain: Positive = 1.0
    score_gain_rate: NotNegative = 0.0
    rotary: NotNegative = 0.0
    mlp_ratio: Positive = 1.0
    queries_per_key: Count = 1
    norm_eps: Positive = 1e-5
    infinite_sizes: Annotated[
        tuple[str, ...], Entries(0), OneOf(("head_dim", "layers")), Distinct()
    ] = ()

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.classes == 1:
            raise ConfigError("classes", "got 1", "pass at least 2, or 0 for those of the targets")
        shared, heads = self.queries_per_key, self.sizes if self.axis == "heads" else (self.heads,)
        if self.axis != "none" and any(count % shared for count in heads):
            raise ConfigError(
                "queries_per_key",
                f"got {shared}, and networks have {', '.join(map(str, heads))} heads",
                "pass a divisor of all of them",
            )
        if self.infinite_sizes and self.axis != "none":
            raise ConfigError(
                "infinite_sizes",
                f"got {self.infinite_sizes} with axis {self.axis!r}",
                'pass axis = "none": no network is that large',
            )
        for name, exponent in (("head_dim", "alpha_A"), ("layers", "alpha_L")):
            if name in self.infinite_sizes and getattr(self, exponent) < 1:
                raise ConfigError(
                    "infinite_sizes",
                    f"has {name}, which has no limit at {exponent} = {getattr(self, exponent):g}",
                    f"pass {exponent} = 1",
                )
        if not self.of_a_file:
            tokens = (self.fields() // self.inputs,) if self.language else ()
            self.require_weights((self.inputs, *tokens))

    def require_data(self) -> None:
        """Refuse a task that cannot be; a file is not looked at."""
        if not self.language:
            super().require_data()
        elif self.task not in LANGUAGE_TASKS and not self.task.endswith(".npz"):
            names = ", ".join(LANGUAGE_TASKS)
            raise ConfigError(
                "task",
                f"got {self.task!r} with a vocabulary",
                f"pass {names}, or the path of an .npz file with token_ids and targets",
            )
        elif self.task in ("copy", "recall") and (self.tokens % 2 or self.vocabulary < 2):
            raise ConfigError(
                "task",
                f"got {self.task} with {self.tokens} tokens out of {self.vocabulary} words",
                "pass an even number of tokens, and a vocabulary of at least 2",
            )
        elif self.task == "markov" and self.vocabulary < 2:
            raise ConfigError("vocabulary", f"got {self.vocabulary}", "pass at least 2 for markov")
        if self.task in LANGUAGE_TASKS and not self.classed:
            raise ConfigError("loss", f"got {self.loss!r} of words", "pass cross_entropy")

    def require_networks(self) -> None:
        """Refuse what networks of this library do not have, where there are networks."""
        if self.axis != "none":
            super().require_networks()

    @property
    def language(self) -> bool:
        """Whether words are read and predicted."""
        return self.task in LANGUAGE_TASKS or self.vocabulary > 0

    @property
    def of_a_file(self) -> bool:
        """Whether the data are in a file."""
        return self.task not in (*TASKS, *LANGUAGE_TASKS)

    @property
    def classed(self) -> bool:
        """Whether targets are classes."""
        return self.chosen_loss == "cross_entropy"

    @property
    def chosen_loss(self) -> str:
        """Cross-entropy for a language model, else squared error, unless told."""
        return self.loss or ("cross_entropy" if self.language else "squared")

    @property
    def positions(self) -> float:
        """Of positions at the start; 0 for none."""
        return float(self.language) if self.position_std is None else self.position_std

    def columns(self) -> int:
        """Of the embedding, at most."""
        if self.language:
            return self.vocabulary + self.tokens
        return super().columns() + self.tokens * (self.positions > 0)

    def exact(self) -> bool:
        """Whether nothing is sampled."""
        if "head_dim" in self.infinite_sizes:
            return not self.particles and self.mlp in ("none", "linear")
        return super().exact()

    def require_samples(self, *, unseen: int = 0) -> None:
        """Refuse too few, where any are sampled."""
        if not self.exact():
            super().require_samples(unseen=unseen)

    @property
    def infinitely_deep(self) -> bool:
        """Whether the limit has infinitely many layers."""
        return super().infinitely_deep or "layers" in self.infinite_sizes

    def limit(
        self, *, head_dim: int | float | None = None, layers: int | float | None = None
    ) -> limits.dmft.TrainingDynamics:
        """The training problem of the limit, other sizes where they are given."""
        infinite = {name: math.inf for name in self.infinite_sizes}
        return super().limit(
            head_dim=infinite.get("head_dim", head_dim), layers=infinite.get("layers", layers)
        )

    def sentences(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Token ids, the words that follow, and the size of the vocabulary."""
        return load_sentences(self.task, self.inputs, self.tokens, self.vocabulary)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [P, S, D] or token ids [P, S], and targets; classes are integers."""
        if self.language:
            x, y, _ = self.sentences()
        else:
            x, y = load_task(self.task, self.inputs, self.tokens, self.dim)
        y = self.labels(y) if self.classed else y.astype(np.float64)
        self.rows_of(x, y)
        return x, y

    def labels(self, y: np.ndarray) -> np.ndarray:
        """Targets as classes.

        Raises:
            ConfigError: numbers that are none.
        """
        if self.task in TASKS:  # two classes, 1 and -1
            return np.where(y > 0, 0, 1)
        with np.errstate(invalid="ignore"):
            found = y.astype(np.int64)
        if y.ndim > 2 or np.any(found != y) or found.min() < -1:
            raise ConfigError(
                "loss",
                f"is cross_entropy, and targets of {self.task} are no classes",
                "save classes 0, 1, ... as targets [P], or [P, tokens] where tokens have outputs",
            )
        return found

    def file_digest(self) -> str | None:
        """Of the data in a file, whose weights are now known to fit; None for what is shipped."""
        if self.task in LANGUAGE_TASKS:
            return None
        if self.of_a_file:
            self.require_weights(self.rows_of(*self.data()))
        return super().file_digest()

    def more_of_architecture(self) -> dict[str, Any]:
        """Heads and norms of language models."""
        return super().more_of_architecture() | {
            "mlp_ratio": self.mlp_ratio,
            "final_norm": self.final_norm,
            "qk_norm": None if self.qk_norm == "none" else self.qk_norm,
            "score_gain": self.score_gain,
            "score_gain_rate": self.score_gain_rate,
            "rotary": self.rotary or None,
            "queries_per_key": self.queries_per_key,
            "norm_eps": self.norm_eps,
        }

    def what_is_learned(self) -> dict[str, Any]:
        """Data, words among them, the loss and how it is read out."""
        given: dict[str, Any] = {
            "loss": self.row_loss,
            "classes": self.classes or None,
            "readout_std": self.readout_std,
            "centred": self.centred,
            "tied": self.tied,
            "optimizer": self.update,
            "position_std": self.position_std,
            "position_rate": self.position_rate,
            **self.of_the_limit,
        }
        if not self.language:
            return given | super().what_is_learned()
        ids, targets = self.data()
        return given | {
            "token_ids": ids,
            "targets": targets,
            "vocabulary": self.sentences()[2],
        }

    @property
    def has_lazy_limit(self) -> bool:
        """Not of tied readouts, which are not independent of each other."""
        return not self.tied

    def lazy(
        self, dynamics: limits.dmft.TrainingDynamics, ntk: Float[np.ndarray, "rows rows"]
    ) -> Float[np.ndarray, "steps rows *outputs"]:
        """Predictions with the kernel of the start; NaN where that is not known.

        It is the kernel of gradient descent: other updates have no lazy limit of this form.
        """
        shape = dynamics.equations.targets
        if self.optimizer != "sgd" or not np.isfinite(ntk).all():
            return np.full((self.steps, *shape.y.shape), np.nan)
        rows = shape.given.reshape(len(ntk), *shape.given.shape[len(shape.rows) :])
        return limits.dmft.lazy_predictions(
            ntk,
            rows,
            steps=self.steps,
            eta0=dynamics.rate,
            momentum=self.momentum,
            weights=dynamics.weights.reshape(self.steps, -1),
            schedule=dynamics.schedule,
            loss=self.row_loss,
            classes=shape.y.shape[1] if self.classed else None,
        )

    def data_of_shape(self) -> dict[str, Any]:
        """Arguments of `describe.TransformerShape` that the data decide."""
        x, y = self.data()
        found: dict[str, Any] = {
            "tokens": x.shape[1],
            "pooled": len(self.rows_of(x, y)) == 1,
            "positions": "learned" if self.language or self.positions > 0 else None,
            "outputs": self.shown()[1].shape[-1],
        }
        if self.language:
            found |= {"vocabulary": self.sentences()[2], "tied": self.tied}
        else:
            found |= {"patch_dim": x.shape[2]}
        if self.classed:
            by_word = self.language and (self.tied or not found["pooled"])
            most = found["vocabulary"] if by_word else int(y.max()) + 1
            found["outputs"] = self.classes or most
        return found

    def shape(
        self, heads: int, head_dim: int | None = None, layers: int | None = None
    ) -> describe.TransformerShape:
        """A network of the problem, other sizes where they are given."""
        found = super().shape(heads, head_dim, layers)
        turned = {"positions": "both" if found.positions else "rotary", "rotary_base": self.rotary}
        return replace(
            found,
            mlp_ratio=self.mlp_ratio if found.hidden else 0.0,
            final_norm=(found.norm is not None or "rms") if self.final_norm else False,
            qk_norm=None if self.qk_norm == "none" else self.qk_norm,
            score_gain=self.score_gain_rate > 0,
            norm_eps=self.norm_eps,
            kv_heads=None if self.queries_per_key == 1 else heads // self.queries_per_key,
            stream_activation=self.more_of_architecture()["activation_on_stream"],
            **(turned if self.rotary else {}),
        )

    def more_of_start(self) -> dict[str, Any]:
        """Readout, gains of scores and positions."""
        positions = {"position_std": self.positions, "position_rate": self.position_rate}
        return {
            "readout_std": self.readout_std,
            "score_gain": self.score_gain,
            "score_gain_rate": self.score_gain_rate,
            **(positions if self.language or self.positions > 0 else {}),
        }

    @property
    def network_centred(self) -> bool:
        """Whether outputs of networks at the start are subtracted."""
        return self.centred
