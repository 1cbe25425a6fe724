"""Acceptance figures of trained checkpoints that ship inside Python packages.

`make test-slow` puts the packages, without their dependencies, into `.venv/checkpoints`; only their
files are read. Figures are deterministic: 2e-4.
"""

from dataclasses import dataclass, fields

import numpy as np
import pytest

from translimit import observe
from translimit.core import ConfigError, NoSuchLimitError
from translimit.diagnose import (
    Checkpoint,
    Null,
    along_depth,
    best_order,
    closed_flow,
    closure_figures,
    depth_cosines,
    diagnose,
    find_outliers,
    measure,
    packaged_checkpoint,
    packaged_inputs,
    predict_null,
    reaction_rows,
    read_checkpoint,
    stream_of,
    surrogate_figures,
    surrogate_flow,
)
from translimit.diagnose.statistics import sequence_error

pytestmark = pytest.mark.slow


def folder_of(name):
    try:
        return packaged_checkpoint(name)
    except ConfigError as error:
        pytest.skip(str(error))


FIGURES = {
    "overlap": [0.1484, 0.1588, 0.1891, 0.2269, 0.3156, 0.3800],
    "effective_rank": [24.950, 25.454, 23.727, 19.929, 12.204, 11.948],
    "entropy": [0.7962, 0.4600, 0.4801, 0.5993, 0.6024, 0.7720],
    "score_spread": [3.8445, 2.7160, 2.3613, 1.7497, 1.7647, 1.1795],
    "ratio_a": [0.3403, 0.4220, 0.4115, 0.3817, 0.3938, 0.4870],
    "ratio_f": [1.9919, 1.0171, 1.6265, 0.8268, 2.2062, 2.8171],
    "first": [0.0463, 0.3877, 0.3985, 0.3596, 0.3288, 0.2098],
    "head_eff": [4.950, 8.911, 9.168, 8.892, 8.452, 7.446],
    "head_var": [6.124, 9.225, 7.291, 4.146, 4.859, 2.032],
    "z_flip": [-0.964, 1.622, 1.242, 0.078, 0.151, 1.131],
}
LARGEST_ERROR = {
    "overlap": 0.0108,
    "effective_rank": 1.492,
    "entropy": 0.0083,
    "score_spread": 0.0520,
    "ratio_a": 0.0106,
    "ratio_f": 0.1911,
    "first": 0.0141,
    "head_eff": 0.361,
    "head_var": 0.689,
}


@pytest.fixture(scope="module")
def minilm():
    folder = folder_of("MiniLM")
    pytest.importorskip("tokenizers")
    checkpoint = read_checkpoint(folder)
    rows = packaged_inputs(checkpoint, folder).rows
    return checkpoint, [checkpoint.embed(row) for row in rows], rows


def test_minilm_has_the_figures_that_were_measured_before(minilm):
    checkpoint, entries, rows = minilm
    assert [len(row) for row in rows] == [45, 76, 72, 55, 63, 48, 67, 71, 39, 48, 49, 45]
    found = measure(checkpoint, entries)
    for name, told in FIGURES.items():
        mean = found.values[name].mean(axis=0)[1:]
        np.testing.assert_allclose(mean, told, rtol=2e-4, atol=6e-4, err_msg=name)
    for name, told in LARGEST_ERROR.items():
        places = slice(0 if name == "overlap" else 1, None)  # tokens that enter have an error too
        error = np.nanmax(sequence_error(found.values[name])[places])
        assert error == pytest.approx(told, rel=1e-3, abs=6e-5), name
    assert found.values["overlap"][:, 0].mean() == pytest.approx(0.0912, abs=1e-4)


def test_minilm_s_layers_are_smooth_in_depth(minilm):
    for found, told in zip(
        depth_cosines(minilm[0]),
        ([0.420, 0.615, 0.577, 0.546, 0.309], [0.214, 0.326, 0.281, 0.215, 0.069]),
        strict=True,
    ):
        np.testing.assert_allclose(np.diagonal(found, 1), told, atol=1e-3)
        assert best_order(found) == tuple(range(6))


def test_minilm_s_matched_null_is_predicted_and_collapses(minilm):
    checkpoint, entries, _ = minilm
    found = predict_null(checkpoint, Null.named("matched"), entries[:3], key=0)
    told = [0.3439, 0.5734, 0.7893, 0.9251, 0.9706, 0.9881]
    np.testing.assert_allclose(found.values["overlap"][1:], told, atol=2e-3)
    told = [0.9013, 0.9094, 0.9499, 0.9705, 0.9863, 0.9962]
    np.testing.assert_allclose(found.values["entropy"][1:], told, atol=2e-3)


def test_faults_planted_in_minilm_are_named(minilm):
    checkpoint, _, rows = minilm
    rows = [row[:39] for row in rows]

    def faults(changed):
        found = diagnose(changed, rows, key=0, draws=3, predict=False)
        return {(one.kind, one.layer) for one in found.faults}

    def planted(place, **parameters):
        layers = list(checkpoint.layers)
        layers[place] = layers[place].with_parameters(**parameters)
        return checkpoint.with_layers(layers)

    assert faults(checkpoint) == set()
    assert faults(planted(2, W_O=np.zeros((384, 384)))) == {("idle", 3)}
    of = checkpoint.layers[3].parameters
    heads = {
        n: copied(of[n], n != "W_O") for n in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
    }
    assert faults(planted(3, **heads)) == {("redundant heads", 4), ("same map", 4)}
    of = checkpoint.layers[4].parameters
    sharp = {name: 8 * of[name] for name in ("W_Q", "W_K", "b_Q", "b_K")}
    assert faults(planted(4, **sharp)) == {("one-hot", 5)}
    layers = [checkpoint.layers[place] for place in (0, 4, 2, 3, 1, 5)]
    assert faults(checkpoint.with_layers(layers)) == {("order", None)}
    # Embeddings nearly one vector; what follows from them in the layers is no further fault.
    entries = [checkpoint.embed(row) for row in rows]
    mean = np.concatenate(entries).mean(axis=0)
    found = diagnose(Shrunk.of(checkpoint, mean), rows, key=0, draws=3, predict=False)
    kinds = {(one.kind, one.layer) for one in found.faults}
    assert ("entry collapsed", 0) in kinds
    follow = {"uniform", "collapsed", "one-hot", "one vector"}
    assert {kind for kind, _ in kinds} <= {"entry collapsed", *follow}


def copied(value, columns):
    """The first head's block in the place of the second's."""
    block, found = len(value) // 12 if not columns else value.shape[-1] // 12, np.array(value)
    if columns:
        found[..., block : 2 * block] = found[..., :block]
    else:
        found[block : 2 * block] = found[:block]
    return found


@dataclass(frozen=True, eq=False)
class Shrunk(Checkpoint):
    """A checkpoint whose tokens enter drawn towards their mean."""

    mean: np.ndarray = None

    @classmethod
    def of(cls, checkpoint, mean):
        return cls(**{f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}, mean=mean)

    def embed(self, given):
        return self.mean + 0.07 * (super().embed(given) - self.mean)


def test_minilm_s_sub_blocks_beside_rotated_tokens(minilm):
    """Medians of z over eight windows; above 4 a sub-block reads more than two moments."""
    checkpoint, entries, _ = minilm
    found = surrogate_figures(checkpoint, entries[:8], key=0)
    attention, mlp = found["attention"].median_z, found["mlp"].median_z
    assert (np.abs(attention[:5]) < 3).all()
    assert attention[5] > 4
    assert (mlp[:3] > 8).all()
    assert (np.abs(mlp[3:]) < 4).all()


def test_minilm_stands_between_noise_and_a_flow(minilm):
    checkpoint, entries, _ = minilm
    found = along_depth(checkpoint, measure(checkpoint, entries))
    assert found.regime == "neither"
    assert 1.2 < found.straightness["attention"] < 3
    assert found.neighbours == pytest.approx(np.mean([0.420, 0.615, 0.577, 0.546, 0.309]), abs=1e-3)


def test_minilm_s_branches_by_its_closures(minilm):
    """A1, A2 and A3 token by token: one fixed formula, 3e-3."""
    checkpoint, entries, _ = minilm
    found = closure_figures(checkpoint, entries[:6])
    for name, told in {
        "uniform": [0, 0, 0, 0, 0, 0],
        "gaussian": [-1.042, -0.134, -0.164, -0.393, -0.045, 0.395],
        "finite": [0.510, 0.252, 0.200, 0.044, 0.237, 0.398],
        "atoms": [0.547, 0.429, 0.448, 0.558, 0.588, 0.458],
    }.items():
        np.testing.assert_allclose(found[name].mean(axis=0), told, atol=3e-3, err_msg=name)
    assert np.abs(found["uniform"]).max() < 1e-9


@pytest.fixture(scope="module")
def rxnmapper():
    folder = folder_of("rxnmapper")
    pytest.importorskip("torch")
    checkpoint, rows = read_checkpoint(folder), reaction_rows(folder)
    return checkpoint, [checkpoint.embed(row) for row in rows]


def test_rxnmapper_has_the_figures_that_were_measured_before(rxnmapper):
    checkpoint, entries = rxnmapper
    assert checkpoint.shared
    assert [len(one) for one in entries] == [23, 45, 35, 35, 61, 28, 41, 53]
    found = measure(checkpoint, entries)
    told = {
        "overlap": "1466 2000 2128 2207 2186 2130 2132 2153 2167 2225 2279 2324 2338",
        "entropy": "4787 4612 4797 4843 4829 4920 5080 5234 5444 5659 5853 6035",
    }
    for name, digits in told.items():
        mean = found.values[name].mean(axis=0)
        mean = mean[1:] if name == "entropy" else mean
        np.testing.assert_allclose(mean, [float(f".{one}") for one in digits.split()], atol=2e-4)
    spread = found.values["score_spread"].mean(axis=0)[1:]
    told = [7.5977, 5.9237, 4.3634, 3.7729, 3.6665, 3.4823, 3.2463, 3.0236, 2.7925, 2.6065]
    np.testing.assert_allclose(spread, [*told, 2.4468, 2.3282], rtol=2e-4)


def test_gaussian_tokens_with_rxnmapper_s_moments(rxnmapper):
    """Rotated tokens through all layers, and the law re-Gaussianised in each (three reactions).

    The first scatter by .02 over rotations and sequences; the second is deterministic but for the
    particles, and was measured by another program with other particles.
    """
    checkpoint, entries = rxnmapper
    flows = [surrogate_flow(checkpoint, one, key=0, draws=3).mean(axis=0) for one in entries[:6]]
    told = [0.29, 0.42, 0.46, 0.43, 0.41, 0.39, 0.38, 0.37, 0.36, 0.34, 0.33, 0.33]
    np.testing.assert_allclose(np.mean(flows, axis=0)[1:], told, atol=0.04)
    own = [measure(checkpoint, [one]).values["overlap"][0, 1:] for one in entries[:6]]
    assert (np.mean(flows, axis=0)[1:] > np.mean(own, axis=0) + 0.05).all()
    laws = [closed_flow(checkpoint, one, key=0) for one in entries[:3]]
    told = [0.64, 0.92, 1.02, 1.09, 1.12, 1.15]
    np.testing.assert_allclose(np.mean([x.cov_error for x in laws], axis=0)[1:7], told, atol=0.02)
    with pytest.raises(NoSuchLimitError, match="overshoots"):
        closed_flow(checkpoint, entries[0], key=0, closure="gaussian")


def test_rxnmapper_s_branches_by_its_closures(rxnmapper):
    found = closure_figures(*rxnmapper)
    for name, digits in {
        "gaussian": "-2914 -1391 -410 -245 -291 -292 -246 -178 -16 -6 65 103",
        "finite": "290 259 369 367 354 366 376 384 409 403 421 439",
        "atoms": "352 314 405 391 363 367 379 393 408 412 427 448",
    }.items():
        told = [int(one) / 1000 for one in digits.split()]
        np.testing.assert_allclose(found[name].mean(axis=0), told, atol=3e-3, err_msg=name)
    assert np.abs(found["uniform"]).max() < 1e-9


def test_smollm2_has_the_figures_that_were_measured_before():
    """Of a quantised file in another program's layout; a wrong order of pairs would show here."""
    path = folder_of("SmolLM2")
    pytest.importorskip("gguf")
    pytest.importorskip("tokenizers")
    checkpoint = read_checkpoint(path)
    rows = packaged_inputs(checkpoint, path).rows[:3]
    assert [len(row) for row in rows] == [45, 45, 62]
    found = measure(checkpoint, [checkpoint.embed(row) for row in rows], ids=rows)
    layers = [1, 5, 9, 13, 17, 21, 25, 29]
    for name, told in {
        "overlap": [0.2470, 0.5139, 0.5661, 0.5406, 0.6075, 0.5886, 0.6964, 0.7429],
        "entropy": [0.8256, 0.3762, 0.4293, 0.5354, 0.5308, 0.2422, 0.2572, 0.3920],
        "first": [0.0154, 0.3734, 0.3611, 0.4203, 0.3551, 0.7746, 0.7664, 0.5574],
        "score_spread": [1.142, 2.324, 2.460, 1.931, 2.709, 2.748, 2.205, 1.842],
    }.items():
        mean = found.values[name].mean(axis=0)[layers]
        np.testing.assert_allclose(mean, told, atol=2e-3, err_msg=name)
    assert found.losses.mean() < 4.5  # on Python's reference; bytes at random have log 49152
    closed = closure_figures(checkpoint, [checkpoint.embed(row[:40]) for row in rows[:2]])
    told = [0.89, 0.54, 0.62, 0.66, 0.60, 0.65, 0.53, 0.59]
    mean = closed["atoms"].mean(axis=0)[[one - 1 for one in layers]]
    np.testing.assert_allclose(mean, told, atol=0.01)
    # Its massive token is the first. Without it the other tokens share a mean, which stands for
    # the most part in two outlying coordinates.
    outlying = find_outliers(checkpoint, rows[:2])
    assert outlying.shared(20)[0] == (0,)
    assert outlying.values["mean_share"][20] < 0.1 < outlying.without["mean_share"][20]
    others = [observe.mean_share(stream_of(checkpoint, row)[20][1:]) for row in rows[:2]]
    assert 0.53 < np.mean(others) < 0.76
    assert len(outlying.shared(20)[1]) == 2
