r"""Tokens as they enter the first layer: rows of a table, or patches of an image.

    words    C_ij = mu^2 s^2 1[t_i = t_j] + s_P^2 1[i = j] + s_T^2
    patches  C_ij = s^2 <p_i, p_j> + s_P^2 1[i = j]

C_ij is <x_i, x_j> over the dimension, and an embedding norm acts on it as on tokens. Fixed
sinusoidal positions add their own inner products. Rows of r entries that a matrix of standard
deviation s_M maps to the stream have r s_M^2 times the C of the rows, as their norm leaves them.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from translimit.core import ArgumentError, Record, require_count, require_number
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.sinusoids import Sinusoids


@dataclass(frozen=True)
class Embedding(Record):
    """Tokens as they enter the first layer: C_ij = mu^2 s^2 1[t_i = t_j] + s_P^2 1[i = j] + s_T^2.

    Attributes:
        std: s, of the entries of the table.
        multiplier: mu.
        position_std: s_P, of learned positions.
        type_std: s_T, of one row that all tokens share.
        padding: the id whose row is zero, or None.
        norm: of the sum, or None.
        sinusoids: fixed positions that are added, or None.
        inner: r, entries of all these rows, where a matrix maps them to the stream after the norm;
            None where they have those of the stream.
        inner_std: s_M, of the entries of that matrix.

    Raises:
        ArgumentError: a negative number; fixed positions beside a norm or a matrix.
    """

    std: float
    multiplier: float = 1.0
    position_std: float = 0.0
    type_std: float = 0.0
    padding: int | None = None
    norm: Normalisation | None = None
    sinusoids: Sinusoids | None = None
    inner: int | None = None
    inner_std: float = 0.0

    def __post_init__(self) -> None:
        for name in ("std", "multiplier", "position_std", "type_std", "inner_std"):
            require_number(getattr(self, name), name)
        if self.padding is not None:
            require_count(self.padding, "padding", 0)
        if self.inner is not None:
            require_count(self.inner, "inner", 2)
        if self.sinusoids is not None and (self.norm or self.inner or self.sinusoids.plane):
            raise ArgumentError(
                "sinusoids",
                "are given beside a norm or a matrix of the embedding, or in a plane",
                "describe positions in a row, of an embedding without these",
            )

    def width(self, dim: int) -> int:
        """Entries of its rows.

        Args:
            dim: of the stream.
        """
        return dim if self.inner is None else self.inner

    def fixed(self, n: int, *, centred: bool) -> Float[np.ndarray, "n n"] | None:
        """The part of C that is the same in every network; None where all is drawn.

        Args:
            n: tokens.
            centred: whether the mean of the entries of each token is taken away.
        """
        if self.sinusoids is None:
            return None
        return self.sinusoids.cov(np.arange(n)[:, None], centred=centred)

    def cov(self, ids: Int[np.ndarray, " n"], centring: float = 1.0) -> Float[np.ndarray, "n n"]:
        """<x_i, x_j> over the dimension, of tokens with these ids; see the class.

        Args:
            ids: of the tokens.
            centring: by which a norm that removes the mean divides less.
        """
        same = (ids[:, None] == ids[None, :]).astype(float)
        if self.padding is not None:
            same[ids == self.padding] = 0.0
        cov = (self.multiplier * self.std) ** 2 * same
        cov = cov + self.position_std**2 * np.eye(len(ids)) + self.type_std**2
        if self.inner is not None:
            layer = self.norm is not None and self.norm.kind is Norm.LAYER
            own = self.inner / (self.inner - 1) if layer else 1.0
            return self.inner * self.inner_std**2 * _normalised(cov, self.norm, own) / own
        fixed = self.fixed(len(ids), centred=centring > 1)
        cov = _normalised(cov, self.norm, centring)
        return cov if fixed is None else cov + centring * fixed


@dataclass(frozen=True)
class PatchEmbedding(Record):
    """Patches of an image as they enter the first layer: C_ij = s^2 <p_i, p_j> + s_P^2 1[i = j].

    p_i are the pixels of patch i. Class tokens stand in front, C_ii = s_c^2 + s_P^2, without an
    overlap with the patches or with each other.

    Attributes:
        std: s, of the entries of the matrix that reads pixels.
        rows: of patches.
        columns: of patches.
        patch: pixels along a side of a patch.
        channels: numbers in a pixel.
        position_std: s_P, of learned positions.
        class_stds: s_c, one a class token.
        norm: of the sum, or None.
        registers: tokens of zeros after the class tokens, which have no positions.
        sinusoids: fixed positions of the patches, by row and column, or None.

    Raises:
        ArgumentError: a count below 1, a negative number; fixed positions beside a norm, or not in
            a plane.
    """

    std: float
    rows: int
    columns: int
    patch: int
    channels: int = 3
    position_std: float = 0.0
    class_stds: tuple[float, ...] = ()
    norm: Normalisation | None = None
    registers: int = 0
    sinusoids: Sinusoids | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "patch", "channels"):
            require_count(getattr(self, name), name, 1)
        require_number(self.std, "std")
        require_number(self.position_std, "position_std")
        require_count(self.registers, "registers", 0)
        for one in self.class_stds:
            require_number(one, "class_stds")
        if self.sinusoids is not None and (self.norm or not self.sinusoids.plane):
            raise ArgumentError(
                "sinusoids",
                "are given beside a norm of the embedding, or not in a plane",
                "describe positions in a plane, of an embedding without a norm",
            )

    @property
    def patches(self) -> int:
        """The number of patches."""
        return self.rows * self.columns

    @property
    def entries(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.patch**2

    @property
    def tokens(self) -> int:
        """The number of tokens: class tokens, registers and patches."""
        return len(self.class_stds) + self.registers + self.patches

    def fixed(self, n: int, *, centred: bool) -> Float[np.ndarray, "n n"] | None:
        """The part of C that is the same in every network; None where all is drawn.

        Args:
            n: tokens; nothing is known of another number than an image has.
            centred: whether the mean of the entries of each token is taken away.
        """
        if self.sinusoids is None or n != self.tokens:
            return None
        places = np.stack(np.divmod(np.arange(self.patches), self.columns), axis=1)
        cov, first = np.zeros((n, n)), n - self.patches
        cov[first:, first:] = self.sinusoids.cov(places, centred=centred)
        return cov

    def cov(
        self, pixels: Float[np.ndarray, "patches entries"] | None = None, centring: float = 1.0
    ) -> Float[np.ndarray, "n n"]:
        """<x_i, x_j> over the dimension, of the tokens of an image; see the class.

        Args:
            pixels: of every patch; independent pixels of variance one by default.
            centring: by which a norm that removes the mean divides less.

        Raises:
            ArgumentError: pixels of another shape, or not finite.
        """
        if pixels is None:
            inner = self.entries * np.eye(self.patches)
        else:
            pixels = np.asarray(pixels, float)
            if pixels.shape != (self.patches, self.entries) or not np.isfinite(pixels).all():
                raise ArgumentError(
                    "pixels",
                    f"have shape {pixels.shape}, or are not finite",
                    f"pass finite numbers [{self.patches}, {self.entries}], a row for each patch",
                )
            inner = pixels @ pixels.T
        classes, first = len(self.class_stds), self.tokens - self.patches
        cov = np.zeros((self.tokens, self.tokens))
        cov[:classes, :classes] = np.diag(np.square(self.class_stds))
        cov[first:, first:] = self.std**2 * inner
        positions = np.full(self.tokens, self.position_std**2)
        positions[classes:first] = 0.0
        cov = _normalised(cov + np.diag(positions), self.norm, centring)
        fixed = self.fixed(self.tokens, centred=centring > 1)
        return cov if fixed is None else cov + centring * fixed


def _normalised(
    cov: Float[np.ndarray, "n n"], norm: Normalisation | None, centring: float
) -> Float[np.ndarray, "n n"]:
    """After a norm of every token; tokens that are zero stay so."""
    if norm is None:
        return cov
    total = np.diagonal(cov) / centring + norm.norm_eps
    s = norm.gain * np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
    return s[:, None] * s[None, :] * cov
