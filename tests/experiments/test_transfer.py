"""The arms between the rules and the ordinary parameterization."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit import train
from translimit.core import Verdict
from translimit.describe import Role
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.transfer import arms, embedding

TOY = replace(embedding.EXPERIMENT.presets["demo"], tokens=8, steps=12, probe=16, batch=4)


def test_arms_differ_in_the_rates_of_embeddings_alone() -> None:
    made = {arm: arms.parameterized(TOY, arms.At(arm, 4)).table() for arm in arms.ARMS}
    for one, other, factor in (("rules", "rules-emb", 1 / 4), ("sp", "sp+emb", 4.0)):
        for role, numbers in made[one].items():
            ratio = factor if role in ("token_embedding", "position_embedding") else 1.0
            assert made[other][role] == {**numbers, "lr": numbers["lr"] * ratio}, role
    assert made["rules"]["mlp_in"]["lr"] == 1 / 4
    assert made["sp"]["mlp_in"]["lr"] == 1.0
    assert all(one["readout"]["init"] == 0 for one in made.values())
    base = [arms.parameterized(TOY, arms.At(arm, 1)).table() for arm in arms.ARMS]
    assert all(one == base[0] for one in base)


def _losses(parameterization, rate):
    """Log losses of every update of one network in float64."""
    with jax.enable_x64(True):
        history = train.train(
            TOY.shape(4),
            parameterization,
            networks.windows("bytes", TOY.tokens),
            train.Training(
                steps=8,
                rates=(rate,),
                seeds=1,
                batch=4,
                optimizer=networks.optimizer("adamw"),
                precision="float64",
            ),
            key=jax.random.key(2),
            observe=(train.ProbeLoss(),),
            observe_at=range(9),
            probe=16,
        )
    return history["probe_loss"].ravel()


def test_the_embedding_s_rate_and_a_smaller_base_rate_are_the_rules_but_for_vectors_and_scores():
    """`sp+emb` at eta / m_d is `rules` at eta with vectors' rates over m_d and scores N^{-1/2}."""
    vectors = [role for role in Role if role.is_gain or role.is_bias]
    rules = arms.parameterized(TOY, arms.At("rules", 4))
    moved = rules.times(vectors, lr=1 / 4).changed(score_scale=16**-0.5)
    found = _losses(arms.parameterized(TOY, arms.At("sp+emb", 4)), 0.02 / 4)
    np.testing.assert_allclose(found, _losses(moved, 0.02), rtol=0, atol=1e-8)
    assert found[-1] < found[0] - 0.1
    assert np.abs(found - _losses(rules, 0.02)).max() > 1e-4  # vectors and scores do matter


@pytest.mark.slow
def test_the_drift_of_the_arms_is_told() -> None:
    experiment = embedding.EXPERIMENT
    results = compute(experiment, TOY)
    found = verdicts(experiment, TOY, results)
    assert set(found) == {f"drift-{arm}" for arm in arms.ARMS}
    assert found["drift-sp"] is not Verdict.refuted
    assert draw_all(experiment, TOY, results) == ["valleys", "arms"]
    assert len(experiment.claim_names(experiment.presets["standard"])) == 6
