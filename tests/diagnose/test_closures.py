"""Closures of attention with a network's own weights, against loops over tokens in NumPy."""

import numpy as np
import pytest
from tests.diagnose.test_surrogates import layer as post_norm_layer

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.diagnose import (
    closure_figures,
    diagnose,
    fit_closures,
    gaussian_concentration,
    in_layer,
    stream_of,
)
from translimit.diagnose.closures import concentrations, log_partitions

RNG = np.random.default_rng(0)
DIM = 12


def one_by_one(layer, x, atoms):
    """R^2 of all closures by the formulas, moments and matrices written out, token by token."""
    of, p = layer.attention, {k: np.asarray(v, float) for k, v in layer.parameters.items()}
    u = np.asarray(in_layer(layer, x).read)
    n, d, dv = len(x), of.head_dim, of.values
    branch = sum(np.asarray(one) for one in in_layer(layer, x).heads)
    found = {name: np.zeros_like(branch) for name in ("gaussian", "finite", "atoms")}
    for h in range(of.heads):
        W_Q, W_K = (p[f"W_{m}"][:, h * d : (h + 1) * d] for m in "QK")
        b_Q = p.get("b_Q", np.zeros(of.heads * d))[h * d : (h + 1) * d]
        W_V = p["W_V"][:, h * dv : (h + 1) * dv]
        b_V = p.get("b_V", np.zeros(of.heads * dv))[h * dv : (h + 1) * dv]
        W_O = p["W_O"][h * dv : (h + 1) * dv]
        for i in range(n):
            seen = np.arange(i + 1 if layer.causal else n)
            rest = np.array([j for j in seen if j not in atoms])
            tilt = of.score_scale * W_K @ (u[i] @ W_Q + b_Q)  # l(u), of width D
            for name in found:
                keys = rest if name == "atoms" and len(rest) else seen
                alpha, sigma = u[keys].mean(axis=0), np.cov(u[keys].T, bias=True)
                std, m = np.sqrt(tilt @ sigma @ tilt), len(keys)
                damp = 1.0 if name == "gaussian" else 1 - concentrations(m, np.array([std]))[0]
                value = alpha + damp * sigma @ tilt
                if name == "atoms" and len(rest):
                    kept = [j for j in atoms if j in seen]
                    logits = [tilt @ u[j] for j in kept]
                    logits.append(tilt @ alpha + log_partitions(m, np.array([std]))[0])
                    w = np.exp(np.array(logits) - max(logits))
                    w = w / w.sum()
                    value = sum(a * u[j] for a, j in zip(w, kept, strict=False)) + w[-1] * value
                elif name == "atoms":
                    value = u[seen[0]]
                found[name][i] += (value @ W_V + b_V) @ W_O
    many = slice(1, None) if layer.causal else slice(None)

    def r2(e):
        e, a = (e - branch)[many], branch[many]
        return 1 - ((e - e.mean(0)) ** 2).sum() / ((a - a.mean(0)) ** 2).sum()

    return {name: r2(e) for name, e in found.items()}


def test_closures_are_their_formulas_without_a_mask():
    one, x = post_norm_layer(), RNG.normal(size=(20, DIM))
    found = fit_closures(one, x)
    for name, told in one_by_one(one, x, (0, 19)).items():
        assert found[name].r2 == pytest.approx(told, abs=1e-10), name
    assert found["uniform"].r2 == pytest.approx(0, abs=1e-12)
    assert found["uniform"].share == pytest.approx(0, abs=1e-12)
    assert found["finite"].r2 > 0.5


def test_closures_are_their_formulas_under_a_mask(byte_model, windows):
    x = stream_of(byte_model, windows[0][:12])[1]
    found = fit_closures(byte_model.layers[1], x)
    for name, told in one_by_one(byte_model.layers[1], x, (0,)).items():
        assert found[name].r2 == pytest.approx(told, abs=1e-9), name


def test_the_finite_closure_is_exact_for_gaussian_keys_on_average():
    """Independent Gaussian keys under a fixed tilt, drawn: Stein's lemma with I_n."""
    n, draws, std = 24, 40_000, 2.0
    rng = np.random.default_rng(1)
    scores = std * rng.normal(size=(draws, n))
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    shift, squares = (p * scores).sum(axis=1), (p**2).sum(axis=1)
    told = concentrations(n, np.array([std]))[0]
    for rows, law in ((squares, told), (shift, (1 - told) * std**2)):
        assert abs(rows.mean() - law) < 4.5 * rows.std() / draws**0.5
    logs = np.log(np.exp(scores).sum(axis=1))
    law = log_partitions(n, np.array([std]))[0]
    assert abs(logs.mean() - law) < 4.5 * logs.std() / draws**0.5
    # The closure with infinitely many keys, far too large here.
    assert abs(shift.mean() - std**2) > 100 * shift.std() / draws**0.5


def test_the_table_is_the_integral_and_goes_on_beyond_it():
    from translimit.limits.signal import concentration

    for m in (8, 20, 37):
        stds = np.array([0.07, 0.6, 1.7, 4.3, 11.0])
        law = np.array([concentration(m, one) for one in stds])
        np.testing.assert_allclose(concentrations(m, stds), law, rtol=2e-3)
    far = concentrations(20, np.array([50.0, 100.0]))
    assert (1 - far[0]) == pytest.approx(2 * (1 - far[1]))
    slope = np.diff(log_partitions(20, np.array([2.0, 2.001])))[0] / 1e-3
    assert slope == pytest.approx(2.0 * (1 - concentrations(20, np.array([2.0]))[0]), rel=1e-3)


def test_in_a_diagnosis(byte_model, windows):
    found = diagnose(byte_model, windows[:3], key=0, null=None)
    rows = closure_figures(byte_model, [byte_model.embed(row) for row in windows[:3]])
    data = found.observables
    np.testing.assert_allclose(data["closure_atoms"].values[1:], rows["atoms"].mean(axis=0))
    assert np.isfinite(data["closure_atoms_error"].values[1:]).all()
    assert (data["closure_finite"].values[1:] > data["closure_uniform"].values[1:]).all()
    x = byte_model.embed(windows[0])
    law = gaussian_concentration(byte_model.layers[0], x)
    assert 0 < law < 1


def test_what_no_closure_covers():
    from dataclasses import replace

    one = post_norm_layer()
    capped = replace(one.attention, scores=replace(one.attention.scores, softcap=5.0))
    blocks = (replace(one.blocks[0], branches=(capped,)), one.blocks[1])
    with pytest.raises(NoSuchLimitError, match="not covered: capped scores"):
        fit_closures(replace(one, blocks=blocks), RNG.normal(size=(9, DIM)))
    with pytest.raises(ArgumentError, match="leave two at least"):
        fit_closures(one, RNG.normal(size=(3, DIM)), atoms=(0, 1))
    with pytest.raises(ArgumentError, match="has 7, of 3 tokens"):
        fit_closures(one, RNG.normal(size=(3, DIM)), atoms=(7,))
