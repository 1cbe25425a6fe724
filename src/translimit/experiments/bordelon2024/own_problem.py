r"""A configuration of one's own: other losses, language models, heads of today.

`translimit dmft CONFIG` reads it. A language model has outputs at every token, which predict the
word that follows, and learns positions. Its networks have what the limit has; `axis = "none"`
solves the limit alone.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from translimit import describe, limits, train
from translimit.core import ConfigError
from translimit.experiments.bordelon2024.particle_problem import ParticleProblem
from translimit.experiments.bordelon2024.tasks import (
    LANGUAGE_TASKS,
    TASKS,
    load_sentences,
)
from translimit.experiments.checked import Positive, Within

NotNegative = Annotated[float, Within(0, 1e12)]


@dataclass(frozen=True)
class OwnProblem(ParticleProblem):
    """Any problem of the limit, and its networks.

    Attributes:
        task: also "bytes" (the next byte of English prose), "copy" (sentences that say a block of
            random words twice), "recall" (the same, with targets where the block is known),
            "markov" (a chain of bytes), or the path of an `.npz` with `token_ids` and `targets`
            [P, S].
        vocabulary: words of "copy", "recall", "markov" and a file of token ids; 0 for real inputs.
        loss: "squared", "huber", "logistic" or "cross_entropy"; "" is cross-entropy for a
            language model, else squared.
        delta: of the Huber loss.
        temperature: of the logistic loss and of cross-entropy.
        smoothing: of labels under cross-entropy.
        readout_std: of the readout at the start.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding.
        position_std: of positions at the start, of a language model.
        position_rate: of positions, relative to that of words.
        final_norm: whether outputs are read from the normalised stream.
        qk_norm: "rms", "layer" or "none", of keys and queries.
        score_gain: factor of the scores.
        score_gain_rate: of that factor.
        rotary: base of rotary positions; 0 for none.
        mlp_ratio: neurons of the MLP for each coordinate of the stream.
    """

    vocabulary: Annotated[int, Within(0)] = 0
    loss: Literal["", "squared", "huber", "logistic", "cross_entropy"] = ""
    delta: Positive = 1.0
    temperature: Positive = 1.0
    smoothing: Annotated[float, Within(0, 1, below=True)] = 0.0
    readout_std: NotNegative = 1.0
    centred: bool = False
    tied: bool = False
    position_std: NotNegative = 1.0
    position_rate: NotNegative = 1.0
    final_norm: bool = False
    qk_norm: Literal["none", "rms", "layer"] = "none"
    score_gain: Positive = 1.0
    score_gain_rate: NotNegative = 0.0
    rotary: NotNegative = 0.0
    mlp_ratio: Positive = 1.0

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
        if self.language and self.loss not in ("", "cross_entropy"):
            raise ConfigError("loss", f"got {self.loss!r} of words", "pass cross_entropy")

    def require_networks(self) -> None:
        """Refuse what networks of this library do not have, where there are networks."""
        if self.axis != "none":
            super().require_networks()

    @property
    def language(self) -> bool:
        """Whether words are read and predicted."""
        return self.task in LANGUAGE_TASKS or self.vocabulary > 0

    def columns(self) -> int:
        """Of the embedding, at most."""
        return self.vocabulary + self.tokens if self.language else super().columns()

    @property
    def row_loss(self) -> limits.dmft.AbstractLoss:
        """What a row of outputs pays."""
        match self.loss or ("cross_entropy" if self.language else "squared"):
            case "huber":
                return limits.dmft.Huber(self.delta)
            case "logistic":
                return limits.dmft.Logistic(self.temperature)
            case "cross_entropy":
                return limits.dmft.CrossEntropy(self.smoothing, self.temperature)
            case _:
                return limits.dmft.SquaredError()

    def sentences(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Token ids, the words that follow, and the size of the vocabulary."""
        return load_sentences(self.task, self.inputs, self.tokens, self.vocabulary)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [P, S, D] or token ids [P, S], and targets; classes are integers."""
        if self.language:
            return self.sentences()[:2]
        x, y = super().data()
        if self.loss != "cross_entropy":
            return x, y
        if self.task in TASKS:  # two classes, 1 and -1
            return x, np.where(y > 0, 0, 1)
        labels = y.astype(np.int64)
        if y.ndim != 1 or np.any(labels != y) or labels.min() < 0:
            raise ConfigError(
                "loss",
                f"is cross_entropy, and targets of {self.task} are no classes",
                "save classes 0, 1, ... as targets [P]",
            )
        return x, labels

    def file_digest(self) -> str | None:
        """Of the data in a file; None for what is shipped."""
        return None if self.task in LANGUAGE_TASKS else super().file_digest()

    def more_of_architecture(self) -> dict[str, Any]:
        """Heads and norms of language models."""
        return super().more_of_architecture() | {
            "mlp_ratio": self.mlp_ratio,
            "final_norm": self.final_norm,
            "qk_norm": None if self.qk_norm == "none" else self.qk_norm,
            "score_gain": self.score_gain,
            "score_gain_rate": self.score_gain_rate,
            "rotary": self.rotary or None,
        }

    def what_is_learned(self) -> dict[str, Any]:
        """Data, words among them, the loss and how it is read out."""
        given: dict[str, Any] = {
            "loss": self.row_loss,
            "readout_std": self.readout_std,
            "centred": self.centred,
            "tied": self.tied,
            "optimizer": self.update,
        }
        if not self.language:
            return given | super().what_is_learned()
        ids, targets, vocabulary = self.sentences()
        return given | {
            "token_ids": ids,
            "targets": targets,
            "vocabulary": vocabulary,
            "position_std": self.position_std,
            "position_rate": self.position_rate,
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
            eta0=self.eta0,
            momentum=self.momentum,
            loss=self.row_loss,
            classes=dynamics.classes,
        )

    def data_of_shape(self) -> dict[str, Any]:
        """Arguments of `describe.TransformerShape` that the data decide."""
        if self.language:
            ids, _, size = self.sentences()
            found: dict[str, Any] = {"vocabulary": size, "outputs": size, "tied": self.tied}
            return {**found, "tokens": ids.shape[1], "positions": "learned", "pooled": False}
        found = super().data_of_shape()
        if self.loss == "cross_entropy":
            found["outputs"] = int(self.data()[1].max()) + 1
        return found

    def shape(
        self, heads: int, head_dim: int | None = None, layers: int | None = None
    ) -> describe.TransformerShape:
        """A network of the problem, other sizes where they are given."""
        found = super().shape(heads, head_dim, layers)
        turned = {"positions": "both" if self.language else "rotary", "rotary_base": self.rotary}
        return replace(
            found,
            mlp_ratio=self.mlp_ratio if found.hidden else 0.0,
            final_norm=(found.norm is not None or "rms") if self.final_norm else False,
            qk_norm=None if self.qk_norm == "none" else self.qk_norm,
            score_gain=self.score_gain_rate > 0,
            stream_activation=self.more_of_architecture()["activation_on_stream"],
            **(turned if self.rotary else {}),
        )

    def more_of_start(self) -> dict[str, Any]:
        """Readout, gains of scores and positions."""
        positions = {"position_std": self.position_std, "position_rate": self.position_rate}
        return {
            "readout_std": self.readout_std,
            "score_gain": self.score_gain,
            "score_gain_rate": self.score_gain_rate,
            **(positions if self.language else {}),
        }

    @property
    def network_optimizer(self) -> train.Optimizer:
        """How networks are trained: as the limit is."""
        match self.optimizer:
            case "adam":
                return train.Optimizer("adam", b1=self.b1, b2=self.b2, eps=self.eps)
            case "adamw":
                decay = self.weight_decay
                return train.Optimizer(
                    "adamw", b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=decay
                )
            case "sign":
                return train.Optimizer("sign", weight_decay=self.weight_decay)
            case _:
                return super().network_optimizer

    @property
    def network_loss(self) -> train.AbstractLoss:
        """What networks minimise: the same loss, of the trainer."""
        match self.loss or ("cross_entropy" if self.language else "squared"):
            case "huber":
                return train.Huber(self.delta)
            case "logistic":
                return train.Logistic(self.temperature)
            case "cross_entropy":
                return train.CrossEntropy(self.smoothing, self.temperature)
            case _:
                return train.SquaredError()

    @property
    def network_centred(self) -> bool:
        """Whether outputs of networks at the start are subtracted."""
        return self.centred
