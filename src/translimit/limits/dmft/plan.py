"""The shape of a pass, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Array, Float

from translimit.limits.dmft.histories import Index
from translimit.limits.dmft.losses import AbstractLoss
from translimit.limits.dmft.units import AbstractUnit

#: The responses, by the symbols of the documentation; any may be switched off.
RESPONSES: tuple[str, ...] = ("R_v", "R_p", "R_h", "R_g")


@dataclass(frozen=True)
class Plan:
    """The shape of a pass; everything that compiles into the program.

    Attributes:
        inputs: P.
        tokens: S.
        rows: rows of outputs.
        outputs: of each row.
        columns: sources of the embedding.
        loss: what a row pays.
        slots: time steps that histories have room for.
        chunk_slots: time steps in a chunk of a history.
        layers: blocks, or cells of the depth ODE.
        units: the sub-blocks of a block.
        norm: whether sub-blocks normalise their input.
        fresh: whether sub-blocks add fresh sources to the stream.
        final_norm: whether the readout reads the normalised stream.
        folded: whether gradients carry the error, needed with several outputs of an input.
        centred: whether outputs at the start are subtracted.
        tied: whether the readout is the embedding of the first columns.
        tol: eigenvalues of a new block below this, relative to its mean variance, are null.
    """

    inputs: int
    tokens: int
    rows: int
    outputs: int
    columns: int
    loss: AbstractLoss
    slots: int
    chunk_slots: int
    layers: int
    units: tuple[AbstractUnit, ...]
    norm: bool
    fresh: bool
    final_norm: bool
    folded: bool
    centred: bool
    tied: bool
    tol: float

    @property
    def fields(self) -> int:
        """Inputs times tokens."""
        return self.inputs * self.tokens

    @property
    def history(self) -> int:
        """Rows of a history."""
        return self.slots * self.fields

    @property
    def sources(self) -> int:
        """Length of a coefficient row."""
        fresh = 2 * self.layers * len(self.units) * self.history if self.fresh else 0
        return self.first + fresh

    @property
    def first(self) -> int:
        """Sources of the embedding and of the readout, which come before those of blocks."""
        return self.columns + (0 if self.tied else self.outputs)

    def column(self, layer: Index, unit: int, side: int) -> Index:
        """First column of the sources u^O (side 0) or zeta (side 1) of a sub-block."""
        block = (layer * len(self.units) + unit) * 2 + side
        return self.first + block * self.history


class Numbers(NamedTuple):
    """Data and constants of a pass; another value compiles nothing.

    Attributes:
        start: coefficients of the stream's start on the sources of the embedding.
        source_cov: covariance of these.
        readout_var: of the sources of the readout.
        kx: kernel of what the embedding learns.
        features: which mean over fields each row is read from.
        y: what the loss compares outputs with.
        error_weights: of rows in the update.
        eps: beta_0 L^(-alpha_L).
        c: eta_0 gamma_0 beta_0 L^(alpha_L - 1).
        kappa: N^(-2 (1 - alpha_A)).
        scale: N^(-alpha_A).
        score_gain: factor of the scores at the start.
        score_gain_rate: its rate, relative to the others.
        rate: eta_0 gamma_0.
        gamma0: richness.
        momentum: of the heavy ball.
        block_ntk: beta_0^2 / L.
        norm_eps: of the normalisation.
        tol: variance of directions, relative to the mean of their fields, that are left out.
        keep: 1 for each response in the order of `RESPONSES`, 0 for one that is switched off.
    """

    start: Float[Array, "fields columns"]
    source_cov: Float[Array, "columns columns"]
    readout_var: Float[Array, ""]
    kx: Float[Array, "fields fields"]
    features: Float[Array, "rows fields"]
    y: Float[Array, "rows outputs"]
    error_weights: Float[Array, "slots rows"]
    eps: Float[Array, ""]
    c: Float[Array, ""]
    kappa: Float[Array, ""]
    scale: Float[Array, ""]
    score_gain: Float[Array, ""]
    score_gain_rate: Float[Array, ""]
    rate: Float[Array, ""]
    gamma0: Float[Array, ""]
    momentum: Float[Array, ""]
    block_ntk: Float[Array, ""]
    norm_eps: Float[Array, ""]
    tol: Float[Array, ""]
    keep: Float[Array, " responses"]
