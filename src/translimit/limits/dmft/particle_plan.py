"""The shape of a pass with particles, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Array, Float

from translimit.describe import Activation
from translimit.limits.dmft.conditioned import Rule
from translimit.limits.dmft.losses import AbstractLoss
from translimit.limits.dmft.optimizers import AbstractOptimizer


@dataclass(frozen=True)
class ParticlePlan:
    """The shape of a pass; everything that compiles into the program.

    Attributes:
        units: coordinates of the stream, of the heads of a layer together, neurons of a layer.
        inputs: P.
        tokens: S.
        steps: T.
        layers: L.
        attention: whether blocks attend.
        mlp: activation of their MLP, or None.
        head_dim: N.
        ratio: neurons for each coordinate of the stream.
        norm: "rms", "layer" or None, before each sub-block.
        final_norm: whether the readout reads the normalised stream.
        activation: of the stream where sub-blocks read it, or None.
        causal: whether tokens see only themselves and those before them.
        qk_norm: "rms", "layer" or None.
        rotary: base of the angles, or None.
        loss: what a row pays.
        optimizer: what an update makes of a gradient.
        folded: whether gradients carry the errors.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding of the first columns.
        columns: of the embedding.
        outputs: of a row.
        rule: how fields are split.
        kept_heads: heads whose scores are reported.
    """

    units: int
    inputs: int
    tokens: int
    steps: int
    layers: int
    attention: bool
    mlp: Activation | None
    head_dim: int
    ratio: float
    norm: str | None
    final_norm: bool
    activation: Activation | None
    causal: bool
    qk_norm: str | None
    rotary: float | None
    loss: AbstractLoss
    optimizer: AbstractOptimizer
    folded: bool
    centred: bool
    tied: bool
    columns: int
    outputs: int
    rule: Rule
    kept_heads: int

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def history(self) -> int:
        """Steps times fields."""
        return self.steps * self.fields

    @property
    def kinds(self) -> tuple[str, ...]:
        """The sub-blocks of a block, by name."""
        return ("attention",) * self.attention + ("MLP",) * (self.mlp is not None)

    @property
    def innovations(self) -> dict[str, int]:
        """The most that a pass draws on each population."""
        own = {"attention": 4, "MLP": 2}
        stream = self.layers * sum(own[kind] for kind in self.kinds) * self.history
        readout = 0 if self.tied else self.outputs
        names = {"attention": "heads", "MLP": "neurons"}
        found = {names[kind]: own[kind] * self.history for kind in self.kinds}
        return {"stream": self.columns + readout + stream} | found


class ParticleNumbers(NamedTuple):
    """Data and constants of a pass; other values compile nothing.

    Attributes:
        phi: columns of the embedding.
        column_rates: their rates, relative to the others.
        features: which mean over fields each row is read from.
        y: what the loss compares outputs with.
        weights: of rows in the errors.
        schedule: factors of the learning rate of elementwise updates; 1 for gradient descent,
            where the errors have them.
        readout_std: of the readout at the start.
        eps: beta_0 L^(-alpha_L).
        outer_rate: of embedding and readout.
        rate: of the matrices of blocks.
        key_ratio: rate of keys and queries relative to it.
        decay: eta_0 weight_decay.
        scale: N^(-alpha_A).
        score_gain: factor of the scores at the start.
        gain_rate: its rate.
        gamma0: richness.
        block_ntk: beta_0^2 / L.
        ntk_keys: N^(-2 (1 - alpha_A)).
        ntk_gain: rate of the gain relative to the others.
        norm_eps: of normalisations.
        keep: 1 for each response in the order of `RESPONSES`, 0 for one that is left out.
    """

    phi: Float[Array, "fields columns"]
    column_rates: Float[Array, " columns"]
    features: Float[Array, "rows fields"]
    y: Float[Array, "rows outputs"]
    weights: Float[Array, "steps rows"]
    schedule: Float[Array, " steps"]
    readout_std: Float[Array, ""]
    eps: Float[Array, ""]
    outer_rate: Float[Array, ""]
    rate: Float[Array, ""]
    key_ratio: Float[Array, ""]
    decay: Float[Array, ""]
    scale: Float[Array, ""]
    score_gain: Float[Array, ""]
    gain_rate: Float[Array, ""]
    gamma0: Float[Array, ""]
    block_ntk: Float[Array, ""]
    ntk_keys: Float[Array, ""]
    ntk_gain: Float[Array, ""]
    norm_eps: Float[Array, ""]
    keep: Float[Array, " responses"]
