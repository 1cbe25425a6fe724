"""Covariances of the plane at toy sizes, and the L2 kernel of the authors' scripts."""

import numpy as np
import pytest
from tests.experiments.checks import compute, draw_all, verdicts

from translimit.core import ConfigError, Verdict
from translimit.experiments import Cell, Found, get_experiment
from translimit.experiments.castin2025 import covariances, plane, script_kernel

EXPERIMENT = get_experiment("castin2025/covariances")
CONFIG = covariances.Config(side=4, max_steps=400)


def test_two_settings_of_the_plane():
    zero, diverging = (
        EXPERIMENT.compute_cell(CONFIG, Cell(f"{name}/softmax"), 0)
        for name in ("zero", "divergence")
    )
    assert set(zero["end"].values) == {"zero"}
    assert set(diverging["end"].values) == {"blow-up"}
    np.testing.assert_allclose(diverging["blow_up_time"], diverging["exact_time"], rtol=1e-6)


def test_the_published_l2_kernel_has_two_scales():
    kernel = EXPERIMENT.compute_cell(CONFIG, Cell("kernel/l2"), 0)
    found = Found(CONFIG, {"kernel/l2": kernel})
    checked = (one.check(found, "") for one in script_kernel.KERNEL_CLAIMS)
    claims = {claim.name: claim for (claim,) in checked}
    assert claims["l2-script-kernel"].verdict == Verdict.supported
    assert claims["l2-one-scale"].verdict == Verdict.refuted
    assert claims["l2-one-scale"].estimate.value > 0.1


def test_grids_are_covariances_of_trace_one():
    for setting in plane.SETTINGS.values():
        cov = setting.starts(setting.side)
        np.testing.assert_allclose(np.trace(cov, axis1=1, axis2=2), 1.0)
        assert np.linalg.eigvalsh(cov).min() > 0
    assert len(plane.SETTINGS["zero"].starts(10)) == 100


@pytest.mark.slow
def test_covariances_at_toy_size():
    results = compute(EXPERIMENT, CONFIG)
    assert draw_all(EXPERIMENT, CONFIG, results) == [*plane.SETTINGS, "eigenvalues"]
    found = verdicts(EXPERIMENT, CONFIG, results)
    assert tuple(found) == EXPERIMENT.claim_names(CONFIG)
    assert found["line-softmax"] == Verdict.supported
    # So few steps settle no line, and nothing is claimed from none.
    assert found["two-lines-softmax"] in (Verdict.supported, Verdict.underpowered)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ConfigError, match="side: got 1"):
        covariances.Config(side=1)
