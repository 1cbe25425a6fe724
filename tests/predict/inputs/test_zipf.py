"""The sample of a vocabulary against its law."""

from __future__ import annotations

import numpy as np

from translimit.core import named_key
from translimit.predict.inputs.zipf import zipf_ids, zipf_shares

VOCABULARY, COUNT = 2000, 200_000


def test_counts_are_those_of_the_law_and_not_of_its_neighbours() -> None:
    ids = zipf_ids(COUNT, VOCABULARY, None, named_key(0))
    counts = np.bincount(ids, minlength=VOCABULARY)

    def excess(shares: np.ndarray) -> float:
        """Chi-square over the ranks, less its mean, in standard errors (2 (V - 1))^(1/2)."""
        expected = COUNT * shares
        square = ((counts - expected) ** 2 / expected).sum()
        return float((square - VOCABULARY + 1) / (2 * (VOCABULARY - 1)) ** 0.5)

    ranks = np.arange(1, VOCABULARY + 1)
    assert abs(excess(zipf_shares(VOCABULARY))) < 4
    assert excess((1 / ranks) / (1 / ranks).sum()) > 100  # without Mandelbrot's shift
    steeper = (ranks + 2.7) ** -1.1
    assert excess(steeper / steeper.sum()) > 100
    assert zipf_shares(VOCABULARY)[3] / zipf_shares(VOCABULARY)[0] == 3.7 / 6.7


def test_the_padding_id_is_never_drawn() -> None:
    ids = zipf_ids(20_000, 50, 0, named_key(1))
    assert set(np.unique(ids)) == set(range(1, 50))
