"""Distances between measures, against POT, closed forms and their own axioms."""

import jax
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    bures,
    conditional_wasserstein2,
    sliced_wasserstein2,
    wasserstein2,
)

KEY = jax.random.key(0)
seeds = st.integers(0, 2**32 - 1)


def normal_cloud(seed: int, tokens: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, dim))


def random_cov(seed: int, dim: int, rank: int | None = None) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(dim, rank or dim))
    return factor @ factor.T


# Exact W2 between clouds.


@pytest.mark.parametrize(("tokens", "dim"), [(1, 1), (7, 1), (40, 2), (30, 5)])
def test_wasserstein2_agrees_with_the_network_simplex_of_pot(tokens: int, dim: int) -> None:
    x, y = normal_cloud(1, tokens, dim), 2 * normal_cloud(2, tokens, dim) + 0.3
    uniform = np.full(tokens, 1 / tokens)
    expected = np.sqrt(ot.emd2(uniform, uniform, ot.dist(x, y, metric="sqeuclidean")))
    np.testing.assert_allclose(wasserstein2(x, y), expected, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, tokens=st.integers(1, 12), dim=st.integers(1, 4))
def test_wasserstein2_is_a_metric_on_clouds(seed: int, tokens: int, dim: int) -> None:
    x, y, z = (normal_cloud(seed + i, tokens, dim) for i in range(3))
    permuted = np.random.default_rng(seed).permutation(x)
    assert wasserstein2(x, permuted) == 0.0
    np.testing.assert_allclose(wasserstein2(x, y), wasserstein2(y, x), rtol=1e-12)
    assert wasserstein2(x, z) <= wasserstein2(x, y) + wasserstein2(y, z) + 1e-12


def test_wasserstein2_under_translation_and_scaling() -> None:
    x, y = normal_cloud(1, 25, 3), normal_cloud(2, 25, 3)
    shift = np.array([3.0, -1.0, 0.5])
    # A translation adds its square and the cross term with the difference of the means.
    moved = wasserstein2(x, x + shift)
    np.testing.assert_allclose(moved, np.linalg.norm(shift), rtol=1e-12)
    gap = x.mean(axis=0) - y.mean(axis=0)
    expected = wasserstein2(x, y) ** 2 + shift @ shift - 2 * shift @ gap
    np.testing.assert_allclose(wasserstein2(x, y + shift) ** 2, expected, rtol=1e-10)
    np.testing.assert_allclose(wasserstein2(-2.5 * x, -2.5 * y), 2.5 * wasserstein2(x, y))
    # The optimal map of a dilation about the mean of a cloud is the dilation itself.
    centred = x - x.mean(axis=0)
    rms = np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    np.testing.assert_allclose(wasserstein2(centred, 3 * centred), 2 * rms, rtol=1e-12)


def test_distances_take_jax_arrays_and_float32_and_return_python_floats() -> None:
    x = normal_cloud(1, 6, 2)
    y = (x + 1).astype(np.float32)
    result = wasserstein2(jax.numpy.asarray(x, dtype="float32"), y)
    assert type(result) is float
    np.testing.assert_allclose(result, np.sqrt(2), rtol=1e-6)


# Gaussians.


def test_bures_of_the_theory_note() -> None:
    mean, cov = np.array([0.5, -0.3]), np.array([[0.8, 0.2], [0.2, 0.5]])
    squared = bures(mean, cov, np.zeros(2), np.eye(2)) ** 2
    assert squared == pytest.approx(0.4777223398, rel=1e-9)  # acceptance row 14


def test_bures_agrees_with_pot() -> None:
    cov1, cov2 = random_cov(1, 4), random_cov(2, 4)
    mean1, mean2 = normal_cloud(3, 2, 4)
    expected = ot.gaussian.bures_wasserstein_distance(mean1, mean2, cov1, cov2)
    np.testing.assert_allclose(bures(mean1, cov1, mean2, cov2), expected, rtol=1e-9)


@pytest.mark.parametrize(("rank1", "rank2"), [(2, 4), (2, 1), (1, 1)])
def test_bures_of_singular_covariances(rank1: int, rank2: int) -> None:
    # tr (cov1^(1/2) cov2 cov1^(1/2))^(1/2) is the sum of the roots of the eigenvalues of
    # cov1 cov2, that is the nuclear norm of F1^T F2 for any factors F.
    factor1, factor2 = normal_cloud(1, rank1, 4).T, normal_cloud(2, rank2, 4).T
    cov1, cov2 = factor1 @ factor1.T, factor2 @ factor2.T
    cross = np.linalg.norm(factor1.T @ factor2, ord="nuc")
    expected = np.sqrt(np.trace(cov1) + np.trace(cov2) - 2 * cross)
    np.testing.assert_allclose(bures(np.zeros(4), cov1, np.zeros(4), cov2), expected, rtol=1e-7)


def test_bures_closed_forms() -> None:
    # On the line it is the distance of (mean, standard deviation); likewise if covariances commute.
    one, two = (np.array([1.0]), np.array([[4.0]])), (np.array([-2.0]), np.array([[36.0]]))
    np.testing.assert_allclose(bures(*one, *two), np.hypot(3, 4))
    first, second = np.array([1.0, 4.0, 0.0]), np.array([9.0, 0.25, 1.0])
    expected = np.linalg.norm(np.sqrt(first) - np.sqrt(second))
    rotation = np.linalg.qr(normal_cloud(5, 3, 3))[0]
    cov1, cov2 = (rotation @ np.diag(v) @ rotation.T for v in (first, second))
    zero = np.zeros(3)
    # A zero eigenvalue is known to rounding, so its root to about 1e-8.
    np.testing.assert_allclose(bures(zero, cov1, zero, cov2), expected, rtol=1e-7)


def test_bures_resolves_close_gaussians() -> None:
    cov, zero = random_cov(1, 3), np.zeros(3)
    assert bures(zero, cov, zero, cov) < 1e-14 * np.trace(cov)
    # Scaling the random variable by 1 + h moves every point by h: W2 = h sqrt(tr cov). The
    # textbook formula loses this to cancellation at h = 1e-9.
    near = bures(zero, cov, zero, cov * (1 + 1e-9) ** 2)
    np.testing.assert_allclose(near, 1e-9 * np.sqrt(np.trace(cov)), rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, dim=st.integers(1, 5), data=st.data())
def test_bures_is_a_metric_on_gaussians(seed: int, dim: int, data: st.DataObject) -> None:
    ranks = [data.draw(st.integers(1, dim)) for _ in range(3)]
    a, b, c = (
        (normal_cloud(seed + i, 1, dim)[0], random_cov(seed + i, dim, rank))
        for i, rank in enumerate(ranks)
    )
    np.testing.assert_allclose(bures(*a, *b), bures(*b, *a), rtol=1e-6, atol=1e-7)
    assert bures(*a, *c) <= bures(*a, *b) + bures(*b, *c) + 1e-7


def test_an_affine_image_of_a_cloud_meets_the_gaussian_distance() -> None:
    # x -> T x with T symmetric positive definite is optimal, for clouds as for Gaussians.
    x = normal_cloud(1, 60, 2)
    stretch = np.array([[1.5, 0.4], [0.4, 0.7]])
    y = x @ stretch
    moments = [(z.mean(axis=0), np.cov(z.T, bias=True)) for z in (x, y)]
    np.testing.assert_allclose(wasserstein2(x, y), bures(*moments[0], *moments[1]), rtol=1e-9)


# Sliced W2.


def test_sliced_on_the_line_is_exact_for_different_sizes() -> None:
    x, y = normal_cloud(1, 12, 1), normal_cloud(2, 18, 1) * 2
    expected = np.sqrt(ot.wasserstein_1d(x[:, 0], y[:, 0], p=2))
    estimate = sliced_wasserstein2(x, y, directions=2, key=KEY)
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-10)
    assert estimate.stderr < 1e-12


@pytest.mark.parametrize("sizes", [(30, 30), (30, 45), (7, 64)])
def test_sliced_agrees_with_pot_on_the_same_directions(sizes: tuple[int, int]) -> None:
    x, y = normal_cloud(1, sizes[0], 3), normal_cloud(2, sizes[1], 3) + 0.5
    normals = np.asarray(jax.random.normal(KEY, (64, 3), dtype="float32"), dtype=np.float64)
    projections = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).T
    expected = ot.sliced_wasserstein_distance(x, y, projections=projections)
    estimate = sliced_wasserstein2(x, y, directions=64, key=KEY)
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-10)
    assert estimate.count == 64


def test_sliced_of_a_translation_and_its_standard_error() -> None:
    # SW2^2 = |shift|^2 E u_1^2 = |shift|^2 / dim; the mean over 400 keys of (SW2 - truth) / stderr
    # is normal with standard deviation 1/20 (the bias of the root, O(1/256), is far below it).
    x = normal_cloud(1, 5, 4)
    y = x + np.array([2.0, 0.0, 0.0, 0.0])
    truth = 2.0 / np.sqrt(4)
    estimates = [sliced_wasserstein2(x, y, key=jax.random.key(i)) for i in range(400)]
    scores = np.array([(e.value - truth) / e.stderr for e in estimates])
    assert abs(scores.mean()) < 5 / np.sqrt(400)
    # The standard deviation of the scores is 1 with standard error about 1 / sqrt(2 * 400), to
    # which heavier tails of the ratio add little; a wrong factor of 2 misses it by 14 of them.
    assert abs(scores.std(ddof=1) - 1) < 5 / np.sqrt(2 * 400)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, tokens=st.integers(2, 10), dim=st.integers(1, 3))
def test_sliced_is_symmetric_and_below_w2(seed: int, tokens: int, dim: int) -> None:
    x, y = normal_cloud(seed, tokens, dim), normal_cloud(seed + 1, tokens, dim)
    there = sliced_wasserstein2(x, y, directions=16, key=KEY)
    back = sliced_wasserstein2(y, x, directions=16, key=KEY)
    np.testing.assert_allclose(there.value, back.value, rtol=1e-10)
    # Every direction alone is below W2: a projection contracts.
    assert there.value <= wasserstein2(x, y) + 1e-12


def test_sliced_directions_do_not_depend_on_the_64_bit_mode() -> None:
    x, y = normal_cloud(1, 9, 2), normal_cloud(2, 8, 2)
    without = sliced_wasserstein2(x, y, key=KEY)
    with jax.enable_x64(True):
        assert sliced_wasserstein2(x, y, key=KEY) == without


def test_sliced_of_a_cloud_with_itself_is_zero_with_no_error() -> None:
    x = normal_cloud(1, 9, 2)
    estimate = sliced_wasserstein2(x, x, key=KEY)
    assert estimate.value == 0.0
    assert estimate.stderr == 0.0


# Conditional W2.


def test_conditional_with_one_token_a_position_is_the_root_mean_square() -> None:
    x, y = normal_cloud(1, 20, 2), normal_cloud(2, 20, 2)
    positions = np.random.default_rng(3).permutation(20) / 20
    rms = np.sqrt(np.mean(np.sum((x - y) ** 2, axis=1)))
    np.testing.assert_allclose(conditional_wasserstein2(x, positions, y, positions), rms)
    order = np.random.default_rng(4).permutation(20)
    shuffled = conditional_wasserstein2(x, positions, y[order], positions[order])
    np.testing.assert_allclose(shuffled, rms)


def test_conditional_matches_groups_and_lies_above_w2() -> None:
    x, y = normal_cloud(1, 24, 2), normal_cloud(2, 24, 2)
    positions = np.repeat([0.0, 0.25, 1.0], [6, 6, 12])
    parts = [positions == s for s in (0.0, 0.25, 1.0)]
    expected = np.sqrt(sum(part.mean() * wasserstein2(x[part], y[part]) ** 2 for part in parts))
    result = conditional_wasserstein2(x, positions, y, positions)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert result >= wasserstein2(x, y)
    # At one position it is W2 itself.
    same = np.zeros(24)
    np.testing.assert_allclose(conditional_wasserstein2(x, same, y, same), wasserstein2(x, y))


# Refusals.


@pytest.mark.usefixtures("as_user")
def test_wasserstein2_refuses() -> None:
    x = normal_cloud(1, 5, 2)
    with pytest.raises(
        ArgumentError, match=r"y: has 4 tokens where x has 5; .*sliced_wasserstein2"
    ):
        wasserstein2(x, x[:4])
    large = np.zeros((4001, 1))
    with pytest.raises(ArgumentError, match=r"x: has 4001 tokens.*sliced_wasserstein2"):
        wasserstein2(large, large)
    with pytest.raises(ArgumentError, match=r"y: has shape \(5, 1\); pass \[tokens, 2\]"):
        wasserstein2(x, x[:, :1])
    with pytest.raises(ArgumentError, match=r"x: has shape \(5,\)"):
        wasserstein2(x[:, 0], x)
    with pytest.raises(ArgumentError, match=r"x: has shape \(0, 2\)"):
        wasserstein2(x[:0], x[:0])
    with pytest.raises(ArgumentError, match=r"y: has NaN or infinity in 1 of 10 entries"):
        wasserstein2(x, np.where(x == x[0, 0], np.nan, x))
    with pytest.raises(ArgumentTypeError, match=r"x: is traced"):
        jax.jit(wasserstein2)(x, x)


@pytest.mark.usefixtures("as_user")
def test_bures_refuses() -> None:
    zero, eye = np.zeros(2), np.eye(2)
    with pytest.raises(ArgumentError, match=r"mean1: has shape \(1, 2\)"):
        bures(zero[None], eye, zero, eye)
    with pytest.raises(ArgumentError, match=r"mean2: has shape \(3,\)"):
        bures(zero, eye, np.zeros(3), eye)
    with pytest.raises(ArgumentError, match=r"cov2: has shape \(3, 3\)"):
        bures(zero, eye, zero, np.eye(3))
    with pytest.raises(ArgumentError, match=r"cov1: is not symmetric"):
        bures(zero, [[1.0, 0.5], [0.0, 1.0]], zero, eye)
    with pytest.raises(ArgumentError, match=r"cov2: has the negative eigenvalue -1"):
        bures(zero, eye, zero, np.diag([1.0, -1.0]))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("directions", [1, 0, -3, 2.5, True])
def test_sliced_refuses_directions(directions: object) -> None:
    x = normal_cloud(1, 5, 2)
    with pytest.raises(ArgumentError, match=r"directions: got .*; pass (an integer|at least 2)"):
        sliced_wasserstein2(x, x, directions=directions, key=KEY)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("as_user")
def test_conditional_refuses() -> None:
    x, positions = normal_cloud(1, 4, 2), np.array([0.0, 0.0, 0.5, 0.5])
    infinite = r"positions_y: the position marginals of the two clouds differ.*infinite"
    with pytest.raises(ArgumentError, match=infinite):
        conditional_wasserstein2(x, positions, x, positions + 0.1)
    with pytest.raises(ArgumentError, match=infinite):
        conditional_wasserstein2(x, positions, x, np.array([0.0, 0.5, 0.5, 0.5]))
    with pytest.raises(ArgumentError, match=r"y: has 2 tokens where x has 4"):
        conditional_wasserstein2(x, positions, x[:2], np.array([0.0, 0.5]))
    with pytest.raises(ArgumentError, match=r"positions_x: has shape \(3,\)"):
        conditional_wasserstein2(x, positions[:3], x, positions)
    large = np.zeros((4001, 1))
    with pytest.raises(ArgumentError, match=r"positions_x: 4001 tokens share a position"):
        conditional_wasserstein2(large, large[:, 0], large, large[:, 0])


# Scales.


@settings(max_examples=40, deadline=None)
@given(seed=seeds, exponent=st.integers(-900, 900))
def test_distances_are_homogeneous_over_the_range_of_float64(seed: int, exponent: int) -> None:
    """A factor that is a power of two changes no digit, and none is lost to squares."""
    c = 2.0**exponent
    x, y = normal_cloud(seed, 8, 2), normal_cloud(seed + 1, 8, 2)
    positions = np.arange(8) // 2
    assert wasserstein2(c * x, c * y) == c * wasserstein2(x, y)
    assert conditional_wasserstein2(c * x, positions, c * y, positions) == c * (
        conditional_wasserstein2(x, positions, y, positions)
    )
    sliced, other = (sliced_wasserstein2(s * x, s * y, directions=4, key=KEY) for s in (c, 1.0))
    assert (sliced.value, sliced.stderr) == (c * other.value, c * other.stderr)
    root = 2.0 ** (exponent // 2)
    cov1, cov2 = random_cov(seed, 2), random_cov(seed + 1, 2, 1)
    found = bures(root * x[0], root * root * cov1, root * y[0], root * root * cov2)
    np.testing.assert_allclose(found, root * bures(x[0], cov1, y[0], cov2), rtol=1e-12)


def test_a_distance_beyond_float64_is_refused() -> None:
    assert wasserstein2([[1e308]], [[0.0]]) == 1e308
    with pytest.raises(ArgumentError, match=r"x: the result, .* is beyond float64"):
        wasserstein2([[1.7e308]], [[-1.7e308]])


def test_no_distance_is_lost_below_float64() -> None:
    assert wasserstein2([[0.0]], [[1e-200]]) == 1e-200
    assert wasserstein2([[5e-324]], [[0.0]]) == 5e-324
