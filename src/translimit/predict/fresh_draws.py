r"""Whether a matrix of weights is a fresh draw: independent centred entries of one variance.

Statistics of a matrix M [m, n] whose entries have root mean square s, each with its law for a draw:

    mean            (m n)^{1/2} mean(M) / s                                       N(0, 1)
    rows, columns   chi^2 = sum_i (r_i / s^2 - 1)^2 n / (kappa - 1)               chi^2 of m
    edge            (lambda - e^2) / (e (m^{-1/2} + n^{-1/2})^{1/3}),
                    e = m^{1/2} + n^{1/2}                                         Tracy-Widom

with r_i the mean square of row i, kappa the kurtosis of the entries, which is measured, and lambda
the largest squared singular value of M / s. Only the variance of entries enters the theory: normal,
uniform and cut normal entries all pass. Training leaves singular values beyond the edge and rows of
unequal size; a map that keeps angles, like an orthogonal one, lies below the edge.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import one_blas_thread

#: Standard errors beyond which a mean speaks against a draw.
MEAN_ERRORS = 5.0
#: The same for the sizes of rows and columns, and for two layers' inner product.
SIZE_ERRORS = 6.0
#: Widths of the Tracy-Widom law to both sides of the edge; it leaves 1e-7 outside.
EDGE_WIDTHS = 8.0
#: Rows and columns of the block whose largest singular value is taken.
BLOCK = 1024
#: Entries that are summed at once: they fit into a core's cache.
_CHUNK = 2**16
#: Below so many rows or columns their sizes, or the edge, are not looked at.
_FEW = 16
_FEWEST = 4


@dataclass(frozen=True)
class Finding:
    """What speaks against a fresh draw.

    Attributes:
        excess: how far beyond its bound a statistic is, 1 at the bound.
        says: the evidence.
    """

    excess: float
    says: str


@dataclass(frozen=True)
class Draw:
    """The law of a matrix's entries, as far as it is told by them.

    Attributes:
        std: their root mean square.
        entries: how many.
        kurtosis: of them.
        findings: what speaks against a fresh draw.
        block: at most 1024 evenly spaced rows and columns.
    """

    std: float
    entries: int
    kurtosis: float
    findings: tuple[Finding, ...]
    block: Float[np.ndarray, "rows columns"]

    @property
    def error(self) -> float:
        """Standard error of log std^2."""
        return math.sqrt(max(self.kurtosis - 1.0, 0.1) / self.entries)


def measure_draw(matrix: Float[np.ndarray, "m n"]) -> Draw:
    """The law of a matrix's entries, with all that speaks against a fresh draw.

    Entries that are all zero are a draw of standard deviation 0.

    Args:
        matrix: of weights.

    >>> draws = np.random.default_rng(0).normal(size=(64, 96))
    >>> measure_draw(draws).findings
    ()
    >>> measure_draw(draws + 0.5).findings[0].says
    'its entries have mean 0.498, 35 errors from zero'
    """
    rows, columns = matrix.shape
    row_squares, column_squares = np.zeros(rows), np.zeros(columns)
    total = fourth = 0.0
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        part = np.asarray(matrix[start : start + step], np.float64)
        squares = part * part
        total += float(part.sum())
        fourth += float(np.einsum("ij,ij->", squares, squares))
        row_squares[start : start + step] = squares.mean(axis=1)
        column_squares += squares.sum(axis=0) / rows
    square, entries = float(row_squares.mean()), matrix.size
    block = _block(matrix)
    if square == 0 or not math.isfinite(square):
        return Draw(math.sqrt(square), entries, 3.0, (), block)
    std, kurtosis = math.sqrt(square), fourth / entries / square**2
    found = [
        _mean(total / entries, std, entries),
        _sizes("rows", row_squares / square, columns, kurtosis),
        _sizes("columns", column_squares / square, rows, kurtosis),
        _edge(block / std),
    ]
    return Draw(std, entries, kurtosis, tuple(one for one in found if one is not None), block)


def same_entries(one: Draw, other: Draw) -> Finding | None:
    """What speaks against two matrices being independent of each other; None where nothing does.

    Args:
        one: the first.
        other: the second; of another shape it is taken as independent.
    """
    if one.block.shape != other.block.shape or one.std * other.std == 0:
        return None
    cosine = float((one.block * other.block).mean()) / (one.std * other.std)
    errors = abs(cosine) * math.sqrt(one.block.size)
    if errors <= SIZE_ERRORS:
        return None
    return Finding(
        errors / SIZE_ERRORS,
        f"its entries have correlation {cosine:.2g} with those of the layer before",
    )


def pooled_stds(draws: Sequence[Draw]) -> list[float]:
    """The standard deviation of each matrix: one for all where they agree within their errors.

    Args:
        draws: matrices of one role, layer by layer.
    """
    stds = [one.std for one in draws]
    weights = np.array([one.entries for one in draws], float)
    common = math.sqrt(float(np.average(np.square(stds), weights=weights)))
    if common == 0:
        return stds
    agree = all(
        one.std > 0 and abs(2 * math.log(one.std / common)) <= MEAN_ERRORS * one.error
        for one in draws
    )
    return [common] * len(stds) if agree else stds


def _mean(mean: float, std: float, entries: int) -> Finding | None:
    errors = abs(mean) / std * math.sqrt(entries)
    if errors <= MEAN_ERRORS:
        return None
    says = f"its entries have mean {mean:.3g}, {errors:.0f} errors from zero"
    return Finding(errors / MEAN_ERRORS, says)


def _sizes(
    name: str, ratios: Float[np.ndarray, " rows"], length: int, kurtosis: float
) -> Finding | None:
    """Whether mean squares of rows differ by more than a draw's do.

    The cube root of a chi^2 over its count is normal (Wilson and Hilferty); the count is corrected
    for rows that are short.
    """
    count = len(ratios)
    if count < _FEW or length < _FEW:
        return None
    # What is as good as constant, like signs, is given a little room.
    variance = max(kurtosis - 1.0, 0.1) / length
    ratio = float(np.mean((ratios - 1.0) ** 2)) / variance
    width = 2.0 * (1.0 + 6.0 / length) / (9.0 * count)
    errors = (ratio ** (1 / 3) - (1.0 - width)) / math.sqrt(width)
    if errors <= SIZE_ERRORS:
        return None
    told = math.sqrt(ratio)
    says = f"the sizes of its {name} differ {told:.3g} times as much as those of a draw"
    return Finding(errors / SIZE_ERRORS, says)


def _edge(block: Float[np.ndarray, "rows columns"]) -> Finding | None:
    """Whether the largest singular value of entries of variance one is away from its edge."""
    if min(block.shape) < _FEWEST:
        return None
    ratio, widths = edge(block)
    if abs(widths) <= EDGE_WIDTHS:
        return None
    says = f"its largest singular value is {ratio:.3g} times that of independent entries"
    return Finding(abs(widths) / EDGE_WIDTHS, says)


def edge(matrix: Float[np.ndarray, "m n"]) -> tuple[float, float]:
    """The largest singular value over m^{1/2} + n^{1/2}, and how many widths its square is away.

    The second follows the Tracy-Widom law (of mean -1.21 and deviation 1.27) for large m and n.

    Args:
        matrix: of entries of variance one.
    """
    roots = [math.sqrt(one) for one in matrix.shape]
    end = sum(roots)
    width = end * sum(1 / one for one in roots) ** (1 / 3)
    largest = largest_singular_value(matrix)
    return largest / end, (largest**2 - end**2) / width


def largest_singular_value(matrix: Float[np.ndarray, "m n"]) -> float:
    """The largest singular value; where the matrix is not small to 1e-5, by Lanczos iteration.

    Args:
        matrix: any.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    if min(matrix.shape) <= 64:
        return float(np.linalg.norm(matrix, 2))
    # In float32, whose rounding is far below the width of the edge. A product with a vector gains
    # nothing by a second thread, and loses much where another process holds the other core.
    single = np.asarray(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T, np.float32)
    size = len(single)

    def squared(vector: np.ndarray) -> np.ndarray:
        return single @ (single.T @ vector)

    square = LinearOperator((size, size), matvec=squared, dtype=np.float32)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).normal(size=size).astype(np.float32)
    with one_blas_thread():
        found = eigsh(square, k=1, tol=1e-4, v0=start, return_eigenvectors=False)  # pyright: ignore[reportArgumentType]
    return math.sqrt(float(np.asarray(found).item()))


def _block(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "rows columns"]:
    rows, columns = (
        np.linspace(0, size - 1, min(size, BLOCK)).round().astype(int) for size in matrix.shape
    )
    return np.ascontiguousarray(matrix[rows][:, columns], np.float64)
