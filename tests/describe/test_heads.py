"""Laws of heads: moments of their samples, temperatures under their names, refusals."""

import jax
import numpy as np
import pytest

from translimit.core import ArgumentError, ArgumentTypeError
from translimit.describe import (
    FiniteHeads,
    GaussianHeads,
    SampledHeads,
    ShiftedHeads,
    WideHeads,
)

LAWS = {
    "gaussian": GaussianHeads(dim=6, beta=1.3, sigma_v=0.4, sigma_a=0.7, head_dim=3),
    "square": GaussianHeads(dim=6, beta=0.5, sigma_a=0.9),
    "wide": WideHeads(dim=6, score_std=1.7, sigma_v=0.3),
}


@pytest.mark.parametrize("name", LAWS)
def test_scores_and_values_have_the_stated_deviations(name):
    """20 000 heads: the variance of a score (kurtosis below 6) is known to 1.6 %."""
    law = LAWS[name]
    keys = jax.random.split(jax.random.key(1), 20_000)
    V, A = jax.vmap(law.sample)(keys)
    x, y = np.eye(6)[0], np.ones(6) / np.sqrt(6)
    score = float(law.beta) * np.asarray(A @ x) @ y
    stderr = score.std() ** 2 * np.sqrt(8 / 20_000)
    assert abs(score.var() - float(law.score_std) ** 2) < 4.5 * stderr
    assert abs(np.asarray(V).std() - float(law.sigma_v)) < 4.5 * float(law.sigma_v) / np.sqrt(1.4e6)


def test_the_two_temperatures_and_the_variance_proxy():
    law = GaussianHeads(dim=64, beta=1.0, sigma_v=1 / 8, sigma_a=64**-0.25)
    assert float(law.score_std) == pytest.approx(1.0)
    assert float(law.beta_operator) == pytest.approx(8.0)
    assert float(law.variance_proxy) == pytest.approx(63 / 64)
    assert float(GaussianHeads.of_score_std(1.5, dim=8, head_dim=4).score_std) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: GaussianHeads(dim=1, beta=1.0, sigma_a=1.0), "dim"),
        (lambda: GaussianHeads(dim=2.0, beta=1.0, sigma_a=1.0), "dim"),
        (lambda: GaussianHeads(dim=2, beta=-1.0, sigma_a=1.0), "beta"),
        (lambda: GaussianHeads(dim=2, beta=np.nan, sigma_a=1.0), "beta"),
        (lambda: GaussianHeads(dim=2, beta=1.0, sigma_a=-1.0), "sigma_a"),
        (lambda: GaussianHeads(dim=2, beta=1.0, sigma_a=1.0, head_dim=0), "head_dim"),
        (lambda: WideHeads(dim=2, score_std=[1.0]), "score_std"),
        (lambda: ShiftedHeads(mean_v=np.eye(2), mean_a=np.eye(3), beta=1.0), "mean_a"),
        (lambda: ShiftedHeads(mean_v=np.ones(2), mean_a=np.eye(2), beta=1.0), "mean_v"),
        (lambda: FiniteHeads(V=np.eye(2), A=np.eye(2), beta=1.0), "V"),
        (lambda: FiniteHeads(V=np.eye(2)[None], A=np.eye(2), beta=1.0), "A"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_refusals(build, argument):
    with pytest.raises(ArgumentError) as caught:
        build()
    assert caught.value.argument == argument


@pytest.mark.usefixtures("as_user")
def test_a_sampler_must_be_a_function():
    options = {"dim": 2, "beta": 1.0, "variance_proxy": 1.0}
    with pytest.raises(ArgumentTypeError, match="sampler"):
        SampledHeads(sampler=3, centred=True, **options)
    with pytest.raises(ArgumentTypeError, match="centred"):
        SampledHeads(sampler=lambda key: key, centred="yes", **options)
