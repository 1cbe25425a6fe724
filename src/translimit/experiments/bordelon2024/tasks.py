"""What the networks of these experiments learn: two classes of digits, cut into four patches."""

from __future__ import annotations

import numpy as np

from translimit import data

#: Digits that are told apart, +1 and -1.
CLASSES = (0, 1)
REFERENCE = "Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712"


def two_digits(per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised digits [inputs, 4, 16] and their targets, +1 or -1 [inputs]."""
    digits = data.digit_patches((4, 4))
    labels = np.asarray(digits.targets)
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in CLASSES]
    patches, found = digits.take(np.concatenate(chosen))
    return patches, np.where(found == CLASSES[0], 1.0, -1.0)
