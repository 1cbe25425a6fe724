"""What simple models reach on the same data: the floors of every loss plot.

- images: the linear model of all pixels, by least squares or by softmax regression;
- text: the entropy of a token alone (unigram) and given the one before (bigram), in nats.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Integer

from translimit.core import POSITIVE, require_real


def linear_mse(
    inputs: Float[np.ndarray, "examples ..."], targets: Float[np.ndarray, "examples outputs"]
) -> float:
    """Least value of mean_i |y_i - W x_i - b|^2 / 2 over affine maps, on the given examples."""
    design = _design(inputs)
    coefficients = np.linalg.lstsq(design, targets, rcond=None)[0]
    return float(np.mean(np.sum((targets - design @ coefficients) ** 2, axis=1)) / 2)


def linear_cross_entropy(
    inputs: Float[np.ndarray, "examples ..."],
    labels: Int[np.ndarray, " examples"],
    *,
    ridge: float = 1e-4,
) -> float:
    """Cross-entropy in nats of softmax regression, fitted to the given examples.

    Args:
        inputs: [examples, ...], flattened.
        labels: classes from 0.
        ridge: weight of |W|^2 / 2 while fitting, so that separable examples have a fit; the number
            returned is without it.

    Raises:
        ArgumentError: a ridge that is not positive.
    """
    from scipy.optimize import minimize  # scipy is not loaded until it is needed
    from scipy.special import log_softmax, softmax

    require_real(ridge, "ridge", POSITIVE)
    design, classes = _design(inputs), int(labels.max()) + 1
    hot = np.eye(classes)[labels]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, classes)
        logits = design @ weights
        loss = -np.mean(np.sum(hot * log_softmax(logits, axis=1), axis=1))
        gradient = design.T @ (softmax(logits, axis=1) - hot) / len(design) + ridge * weights
        return loss + ridge * float(np.sum(weights**2)) / 2, gradient.ravel()

    fitted = minimize(objective, np.zeros(design.shape[1] * classes), jac=True, method="L-BFGS-B")
    logits = design @ fitted.x.reshape(-1, classes)
    return float(-np.mean(np.sum(hot * log_softmax(logits, axis=1), axis=1)))


def unigram_entropy(ids: Integer[np.ndarray, " length"]) -> float:
    """Entropy in nats of a token of the text."""
    frequencies = np.bincount(ids) / len(ids)
    seen = frequencies[frequencies > 0]
    return float(-np.sum(seen * np.log(seen)))


def bigram_entropy(ids: Integer[np.ndarray, " length"]) -> float:
    """Entropy in nats of a token of the text given the one before it."""
    vocabulary = int(ids.max()) + 1
    pairs = np.bincount(ids[:-1].astype(np.int64) * vocabulary + ids[1:])
    joint = pairs[pairs > 0] / pairs.sum()
    return float(-np.sum(joint * np.log(joint))) - unigram_entropy(ids[:-1])


def _design(inputs: np.ndarray) -> np.ndarray:
    flat = np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
