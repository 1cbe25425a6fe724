"""Entropy and effective sample size: elementary weights, the Gaussian limits by quadrature."""

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.observe import (
    attention_entropy,
    effective_sample_size,
    gaussian_entropy_deficit,
    gaussian_sample_fraction,
)

MEAN, COV = np.array([0.5, -0.3]), np.array([[0.8, 0.2], [0.2, 0.5]])
B = np.array([[0.3, 0.1], [0.1, 0.7]])
TILTS = np.array([[0.0, 0.0], [0.4, -0.9], [1.2, 0.7]])


def by_quadrature(tilt, mean, cov, confinement):
    """E[r log r] and 1 / E[r^2] for r = e^s / E e^s, s = <l, y> - <By, y>, y ~ N(mean, cov)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    values, basis = np.linalg.eigh(cov)
    y = mean + grid @ (basis * np.sqrt(np.maximum(values, 0.0))).T
    density = np.exp(y @ tilt - np.einsum("ni,ij,nj->n", y, confinement, y))
    density /= mass @ density
    return mass @ (density * np.log(density)), 1 / (mass @ density**2)


def test_elementary_weights():
    equal = np.zeros((2, 7))
    np.testing.assert_allclose(attention_entropy(equal), np.log(7))
    np.testing.assert_allclose(effective_sample_size(equal), 7)
    # Two keys of weights 3/4 and 1/4, one that is switched off, and any constant.
    logits = np.array([np.log(3.0), 0.0, -np.inf]) + 900.0
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    np.testing.assert_allclose(attention_entropy(logits), entropy)
    np.testing.assert_allclose(effective_sample_size(logits), 1 / (9 / 16 + 1 / 16))
    # One key far above the others: one token, no entropy, and nothing overflows.
    sharp = np.array([0.0, -1e4, -1e300])
    assert attention_entropy(sharp) == 0.0
    assert effective_sample_size(sharp) == 1.0
    # Weights of the tokens go into the logits: three copies are one token of threefold weight.
    copies, weighted = np.array([0.2, 0.2, 0.2, -0.4]), np.array([0.2 + np.log(3.0), -0.4])
    p = np.exp(weighted) / np.exp(weighted).sum()
    np.testing.assert_allclose(attention_entropy(weighted), -(p * np.log(p)).sum())
    np.testing.assert_allclose(attention_entropy(copies), -(p * np.log(p)).sum() + p[0] * np.log(3))


@pytest.mark.parametrize("confinement", [np.zeros((2, 2)), B], ids=["softmax", "L2"])
@pytest.mark.parametrize("cov", [COV, np.outer([0.8, 0.5], [0.8, 0.5])], ids=["full", "singular"])
def test_gaussian_limits_by_quadrature(confinement, cov):
    law = {"mean": MEAN, "confinement": confinement}
    expected = [by_quadrature(tilt, MEAN, cov, confinement) for tilt in TILTS]
    deficit, fraction = np.transpose(expected)
    found = gaussian_entropy_deficit(TILTS, cov, **law)
    np.testing.assert_allclose(found, deficit, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(gaussian_sample_fraction(TILTS, cov, **law), fraction, rtol=1e-9)


def test_softmax_limits_are_those_of_the_documentation():
    """|Sigma^(1/2) A x|^2 / 2 and e^{-|Sigma^(1/2) A x|^2}, whatever the mean."""
    spread = np.einsum("qi,ij,qj->q", TILTS, COV, TILTS)
    for mean in (None, MEAN):
        deficit = gaussian_entropy_deficit(TILTS, COV, mean=mean)
        np.testing.assert_allclose(deficit, spread / 2, atol=1e-14)
        fraction = gaussian_sample_fraction(TILTS, COV, mean=mean)
        np.testing.assert_allclose(fraction, np.exp(-spread))
    # Batches of laws.
    covs = np.stack([COV, 2 * COV])[:, None]
    np.testing.assert_allclose(gaussian_entropy_deficit(TILTS, covs)[1], spread, atol=1e-14)


def test_many_keys_have_the_limits():
    """40 clouds of 4000 keys: within 4.5 standard errors and the O(1 / n); Sigma^-1 would miss."""
    noise = np.random.default_rng(0).standard_normal((40, 4000, 2))
    keys = noise @ np.linalg.cholesky(COV).T
    logits = np.einsum("cni,qi->cqn", keys, TILTS[1:2])
    for found, limit in (
        (np.log(4000) - attention_entropy(logits), gaussian_entropy_deficit(TILTS[1:2], COV)),
        (effective_sample_size(logits) / 4000, gaussian_sample_fraction(TILTS[1:2], COV)),
    ):
        error = found.std(axis=0, ddof=1) / np.sqrt(40)
        gap = np.abs(found.mean(axis=0) - limit)
        assert np.all(gap < 4.5 * error + 4 / 4000), gap / error
    wrong = gaussian_sample_fraction(TILTS[1:2], np.linalg.inv(COV))
    assert np.all(np.abs(found.mean(axis=0) - wrong) > 20 * error)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("observable", [attention_entropy, effective_sample_size])
def test_probabilities_are_not_taken_for_scores(observable):
    scores = np.random.default_rng(3).standard_normal((2, 3, 5))
    scores[0, 0, 4] = -np.inf
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    for probabilities in (weights, weights[0, 0], np.float32(weights), np.eye(3), [[0.2, 0.8]]):
        with pytest.raises(ArgumentError, match=r"^scores: .*probabilities.* the softmax takes"):
            observable(np.asarray(probabilities))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(observable(np.log(weights)), observable(scores))
    # Rows that are no distribution are scores, and one key has the weight one.
    mixed = np.array([[0.5, 0.5], [0.5, 0.6]])
    assert observable(mixed).shape == (2,)
    assert observable(np.ones((2, 1))).tolist() == observable(np.zeros((2, 1))).tolist()


@pytest.mark.usefixtures("as_user")
def test_refusals():
    for scores, message in (
        ([np.nan, 0.0], "NaN"),
        ([[0.0, 1.0], [-np.inf, -np.inf]], "a row without a key"),
        ([[]], "has shape"),
    ):
        for observable in (attention_entropy, effective_sample_size):
            with pytest.raises(ArgumentError, match=f"^scores: .*{message}"):
                observable(np.array(scores))
    with pytest.raises(ArgumentError, match="confinement: has shape"):
        gaussian_sample_fraction(TILTS, COV, confinement=np.eye(3))
    with pytest.raises(ArgumentError, match="mean: has shape"):
        gaussian_entropy_deficit(TILTS, COV, mean=np.zeros(3))
