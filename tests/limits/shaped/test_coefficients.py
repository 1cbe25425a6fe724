"""Drift and diffusion of the covariance SDE against reference values, index sums and Itô."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    ShapedGains,
    ShapedMLP,
    StructurePreserving,
    correlation_drift,
    covariance_drift,
    diffusion,
    explosion_probability,
    linear_log_det_law,
    linear_norm_law,
    linear_second_moments,
    linear_variance,
    log_det_drift,
    two_token_expectation,
)
from translimit.limits.shaped.methods import attention_rate

STAR = np.array([[1.0, 0.5, 0.1], [0.5, 1.2, -0.3], [0.1, -0.3, 0.8]])

BLOCK, LINEAR = Block(gamma=0.5, tau0=1.0), Block(gamma=0.5, tau0=np.inf)


def entries(matrix: np.ndarray, *pairs: str) -> list[float]:
    return [matrix[tuple(int(i) for i in pair)] for pair in pairs]


def random_covariance(tokens: int, seed: int = 0) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(tokens, tokens + 1))
    return factor @ factor.T / tokens


def test_drift_of_attention() -> None:
    b = covariance_drift(Block(gamma=0.6, tau0=0.7), STAR)
    expected = [0.1082993197, 0.0350476190, 0.0090340136, 0.1593469388, -0.0426122449, 0.1506394558]
    np.testing.assert_allclose(entries(b, "00", "01", "02", "11", "12", "22"), expected, rtol=1e-8)
    np.testing.assert_allclose(b, b.T, rtol=1e-14)


def test_drift_of_equal_orthogonal_tokens() -> None:
    b = covariance_drift(Block(gamma=1.0, tau0=1.0), np.eye(5))
    np.testing.assert_allclose(b, 0.16 * np.eye(5), atol=1e-14)


def test_attention_part_of_the_diffusion() -> None:
    # The difference between one and infinitely many heads, freed of its factor.
    block = Block(gamma=0.6, tau0=0.7)
    linear = diffusion(Block(gamma=0.6, tau0=np.inf), STAR)
    part = (diffusion(block, STAR) - linear) * 0.7**2 / 0.6**4
    expected = [0.1354074074, 0.1389629630, 0.2568814815, -0.1103333333, -0.2488296296]
    got = entries(part, "0000", "0001", "0101", "0112", "1222")
    np.testing.assert_allclose(got, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            Block(gamma=0.6, tau0=0.7, lam=0.8),
            [1.2166138776, 0.9240225306, 0.0507604898, -0.0352163265],
        ),
        (
            Block(gamma=0.6, tau0=0.7, lam=0.8, heads=4, projection=True),
            [1.4489534694, 1.0609856327, 0.0699301224, -0.0431480816],
        ),
    ],
)
def test_diffusion(block: Block, expected: list[float]) -> None:
    got = entries(diffusion(block, STAR), "0000", "0101", "0012", "0122")
    np.testing.assert_allclose(got, expected, rtol=1e-8)


def test_drift_of_the_mlp() -> None:
    b = covariance_drift(ShapedMLP(gamma=0.7, c_plus=0.0, c_minus=-1.0), STAR)
    expected = [0.0332433481, 0.0579391396, 0.1167708227]
    np.testing.assert_allclose(entries(b, "01", "02", "12"), expected, rtol=1e-8)
    np.testing.assert_array_equal(np.diag(b), 0.0)


def test_unnormalised_mlp_has_the_norm_drift_of_cancelling_slopes() -> None:
    cancelling = ShapedMLP(gamma=0.7, c_plus=1.0, c_minus=-1.0)
    plain = ShapedMLP(gamma=0.7, c_plus=1.0, c_minus=-1.0, normalised=False)
    np.testing.assert_allclose(
        covariance_drift(plain, STAR) - covariance_drift(cancelling, STAR), 0.49 * STAR
    )


def test_causal_drift() -> None:
    b = covariance_drift(Block(gamma=0.6, tau0=0.7, causal=True), STAR)
    expected = [0, 0, -0.0208979592, 0.0793469388, -0.0273877551, 0.1506394558]
    got = entries(b, "00", "01", "02", "11", "12", "22")
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)


def test_drift_of_log_det() -> None:
    got = log_det_drift(Block(gamma=0.6, tau0=0.7, lam=0.8), STAR)
    np.testing.assert_allclose(got, -3.2984816327, rtol=1e-8)


@pytest.mark.parametrize("tokens", [2, 3, 4, 5])
def test_closed_form_equals_the_index_form(tokens: int) -> None:
    m, cov, gamma, tau0 = tokens, random_covariance(tokens, tokens), 0.6, 0.7
    row, all_ = cov.mean(axis=1), cov.mean()
    span = range(m)

    def s1(a: int, d: int, b: int, w: int) -> float:
        return cov[a, b] * (cov[d, w] - row[d] - row[w] + all_)

    def s2(a: int, d: int) -> float:
        return cov[a, a] * (cov[d, d] - 2 * row[d] + 2 * all_ - np.trace(cov) / m)

    expected = np.array(
        [
            [
                sum(cov[k, i] * s1(a, k, b, i) for k in span for i in span) / m**2
                + sum(cov[b, k] * s2(a, k) + cov[a, k] * s2(b, k) for k in span) / (2 * m)
                for b in span
            ]
            for a in span
        ]
    )
    block = Block(gamma=gamma, tau0=tau0)
    np.testing.assert_allclose(
        covariance_drift(block, cov), (gamma / tau0) ** 2 * expected, rtol=1e-12
    )

    part = diffusion(block, cov) - diffusion(Block(gamma=gamma, tau0=np.inf), cov)
    for a, b, d, w in itertools.islice(itertools.product(span, repeat=4), 0, None, 7):
        summed = (
            sum(
                cov[b, k] * cov[w, i] * s1(a, k, d, i)
                + cov[b, k] * cov[d, i] * s1(a, k, w, i)
                + cov[a, k] * cov[w, i] * s1(b, k, d, i)
                + cov[a, k] * cov[d, i] * s1(b, k, w, i)
                for k in span
                for i in span
            )
            / m**2
        )
        expected_entry = gamma**4 / tau0**2 * summed
        np.testing.assert_allclose(part[a, b, d, w], expected_entry, rtol=1e-11, atol=1e-13)


BLOCKS = [
    Block(gamma=0.6, tau0=0.7),
    Block(gamma=0.5, tau0=0.9, heads=3, projection=True, value_ratio=2.0, growth_rate=0.3),
    Block(gamma=0.5, tau0=0.9, heads=2, causal=True),
    Block(gamma=0.5, tau0=1.0, mlp=ShapedMLP(gamma=0.4, hidden_ratio=4.0)),
    Block(
        gamma=0.5, tau0=1.0, lam=0.8**0.5, shaped_gains=ShapedGains(0.8944271909999159, 1.7, 1.7)
    ),
    ShapedMLP(gamma=0.7, c_plus=0.5, c_minus=-1.0),
]


@pytest.mark.parametrize("block", BLOCKS)
def test_ito_formula_gives_the_drifts_of_log_det_and_correlation(block: Block) -> None:
    # Independent of the closed forms: derivatives of the functions by finite differences.
    cov = random_covariance(3, 5)
    b, sigma = covariance_drift(block, cov), diffusion(block, cov)
    upper = [(i, j) for i in range(3) for j in range(i, 3)]

    def ito(function) -> float:
        def at(values: np.ndarray) -> float:
            matrix = np.zeros((3, 3))
            for value, (i, j) in zip(values, upper, strict=True):
                matrix[i, j] = matrix[j, i] = value
            return function(matrix)

        x = np.array([cov[pair] for pair in upper])
        h, eye = 2e-4, np.eye(len(upper))
        slope = [(at(x + h * e) - at(x - h * e)) / (2 * h) for e in eye]
        curve = [
            [
                (
                    at(x + h * (e + f))
                    - at(x + h * (e - f))
                    - at(x - h * (e - f))
                    + at(x - h * (e + f))
                )
                / (4 * h * h)
                for f in eye
            ]
            for e in eye
        ]
        first = sum(s * b[pair] for s, pair in zip(slope, upper, strict=True))
        second = sum(
            curve[p][q] * sigma[(*upper[p], *upper[q])]
            for p in range(len(upper))
            for q in range(len(upper))
        )
        return first + second / 2

    by_hand = ito(lambda v: np.linalg.slogdet(v)[1])
    np.testing.assert_allclose(log_det_drift(block, cov), by_hand, rtol=2e-5, atol=1e-5)
    by_hand = ito(lambda v: v[0, 2] / np.sqrt(v[0, 0] * v[2, 2]))
    np.testing.assert_allclose(correlation_drift(block, cov, (0, 2)), by_hand, rtol=2e-5, atol=1e-5)


def test_parts_of_a_full_block_add() -> None:
    attention, mlp = Block(gamma=0.5, tau0=0.8), ShapedMLP(gamma=0.3)
    full = Block(gamma=0.5, tau0=0.8, mlp=mlp)
    np.testing.assert_allclose(
        covariance_drift(full, STAR),
        covariance_drift(attention, STAR) + covariance_drift(mlp, STAR),
    )
    both = diffusion(attention, STAR) + diffusion(mlp, STAR)
    np.testing.assert_allclose(diffusion(full, STAR), both)
    assert linear_variance(mlp) == pytest.approx(2 * 0.3**2)


def test_heads_enter_the_noise_of_attention_only() -> None:
    one, four = Block(gamma=0.5, tau0=0.8), Block(gamma=0.5, tau0=0.8, heads=4)
    linear = diffusion(Block(gamma=0.5, tau0=np.inf), STAR)
    np.testing.assert_array_equal(covariance_drift(one, STAR), covariance_drift(four, STAR))
    part = diffusion(one, STAR) - linear
    np.testing.assert_allclose(diffusion(four, STAR) - linear, part / 4, atol=1e-15)


def test_one_token_has_no_attention_terms() -> None:
    np.testing.assert_array_equal(covariance_drift(Block(gamma=0.5, tau0=0.1), [[2.0]]), [[0.0]])


def test_a_stated_growth_rate_lets_the_weights_leave_criticality() -> None:
    block = Block(gamma=0.5, tau0=1.0, lam=0.9, growth_rate=2.0)
    extra = covariance_drift(block, STAR) - covariance_drift(Block(gamma=0.5, tau0=1.0), STAR)
    np.testing.assert_allclose(extra, 2.0 * STAR)
    assert Block(gamma=0.6, tau0=1.0, growth_rate=2.0).lam_at(100) == pytest.approx(0.66**0.5)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (Block(gamma=0.5, tau0=1.0, shaped_gains=ShapedGains(1.0, 1.0, 0.0)), "centring gain 0"),
        (
            Block(gamma=0.5, tau0=1.0, shaped_gains=ShapedGains(0.0, 1.0, 1.0)),
            "identity.2 gamma.2 = 0.75",
        ),
        (
            Block(gamma=0.5, tau0=1.0, mlp=ShapedMLP(gamma=0.5, normalised=False)),
            "no limit: its drift is of order sqrt",
        ),
    ],
)
def test_blocks_without_a_limit_say_so(block: Block, words: str) -> None:
    with pytest.raises(NoSuchLimitError, match=words):
        covariance_drift(block, STAR)
    with pytest.raises(NoSuchLimitError, match=words):
        CovarianceSDE(block=block, initial=STAR, t1=1.0)


def test_covariances_that_are_none_are_refused(as_user: None) -> None:
    block = Block(gamma=0.5, tau0=1.0)
    for cov, words in [
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalue"),
        ([[1.0, 0.5], [0.4, 1.0]], "not symmetric"),
        ([[1.0, np.nan], [np.nan, 1.0]], "NaN"),
        ([1.0, 2.0], "shape"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            covariance_drift(block, cov)
        with pytest.raises(ArgumentError, match=words):
            CovarianceSDE(block=block, initial=cov, t1=1.0)
    with pytest.raises(ArgumentError, match="norm zero"):
        covariance_drift(ShapedMLP(gamma=0.5), [[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ArgumentTypeError, match="block"):
        covariance_drift("block", STAR)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Block(gamma=0.5, tau0="hot"),
            ArgumentTypeError,
            "tau0: got 'hot'; pass a positive",
        ),
        (lambda: Block(gamma=np.inf, tau0=1.0), ArgumentError, "gamma: got inf; pass a finite"),
        (lambda: Block(gamma=0.5, tau0=1.0, heads=1.5), ArgumentTypeError, "heads: got 1.5; pass"),
        (lambda: Block(gamma=0.5, tau0=1.0, mlp=3), ArgumentTypeError, "mlp: got int; pass a Shap"),
        (
            lambda: Block(gamma=0.5, tau0=1.0, projection=True, value_ratio=0.0),
            ArgumentError,
            "value_ratio: got 0.0; pass a positive number",
        ),
        (
            lambda: Block(gamma=0.5, tau0=1.0, growth_rate=-8.0).lam_at(4),
            ArgumentError,
            r"growth_rate: got -8: lam\^2 = 1 - gamma\^2 \+ growth_rate / 4 = -1.25 is negative",
        ),
        (lambda: log_det_drift(LINEAR, np.ones((2, 2))), ArgumentError, "cov: is singular; pass"),
        (
            lambda: correlation_drift(LINEAR, np.eye(2), (0, 2)),
            ArgumentError,
            r"pair: got \(0, 2\); pass two different tokens from 0 to 1",
        ),
        (
            lambda: correlation_drift(LINEAR, np.diag([1.0, 0.0])),
            ArgumentError,
            "cov: a token of the pair has norm zero; pass a pair of positive norm",
        ),
        (
            lambda: linear_norm_law(Block(gamma=0.5, tau0=np.inf, growth_rate=1.0), 1.0, 1.0),
            NoSuchLimitError,
            "block: has growth_rate = 1; pass one with growth_rate = 0",
        ),
        (lambda: linear_norm_law(LINEAR, 0.0, 1.0), ArgumentError, "norm: got 0.0; pass a positi"),
        (lambda: linear_norm_law(LINEAR, 1.0, -1.0), ArgumentError, "t: got -1.0; pass a time of"),
        (lambda: linear_log_det_law(LINEAR, np.ones((2, 2)), 1.0), ArgumentError, "cov: is singul"),
        (
            lambda: linear_second_moments(LINEAR, np.eye(3), 1.0),
            ArgumentError,
            r"cov: has shape \(3, 3\); pass that of two tokens",
        ),
        (lambda: StructurePreserving(paths=1.5), ArgumentTypeError, "paths: got 1.5; pass an inte"),
        (
            lambda: StructurePreserving(max_step=-1.0),
            ArgumentError,
            "max_step: got -1.0; pass a positive",
        ),
        (lambda: explosion_probability(BLOCK, 1.0, 0.0), ArgumentError, "t1: got 0.0; pass a posi"),
        (
            lambda: two_token_expectation(BLOCK, 0.0, 1.0, np.sqrt, at_explosion=0.0),
            ArgumentError,
            "t1: got 1.0 at distance 0.0; pass positive numbers",
        ),
        (
            lambda: two_token_expectation(BLOCK, 1.0, 1.0, np.sqrt, at_explosion=0.0, nodes=9),
            ArgumentError,
            "nodes: got 9; pass at least 100",
        ),
    ],
)
def test_every_other_refusal_says_what_to_pass(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_rate_of_attention_noise_is_its_mean_square_relative_to_the_covariance() -> None:
    # R(V) = E |L^-1 (gamma^2 alpha beta / sqrt(H)) A_1 L|^2 over 20,000 scores, with
    # A_1 = L G L^T C / (m tau0).
    block = Block(gamma=0.6, tau0=0.7, heads=3, projection=True)
    factor = np.linalg.cholesky(STAR)
    normal = np.random.default_rng(0).standard_normal((20_000, 3, 3))
    centring = np.eye(3) - 1 / 3
    strength = 0.6**2 * block.shaped_gains.identity * block.shaped_gains.attention / 3**0.5
    relative = strength * normal @ factor.T @ centring @ factor / (3 * 0.7)
    squares = np.sum(relative**2, axis=(1, 2))
    with jax.enable_x64(True):
        rate = float(attention_rate(block, jnp.asarray(factor)))
        none = float(attention_rate(ShapedMLP(gamma=0.5), jnp.asarray(factor)))
    assert abs(squares.mean() - rate) < 4.5 * squares.std() / 20_000**0.5
    assert squares.std() / 20_000**0.5 < 0.01 * rate
    assert none == 0
