"""`predict` on public configurations against networks with drawn weights, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from translimit.cli import main
from translimit.core import ArgumentError, ArgumentTypeError, NoSuchLimitError, named_key
from translimit.describe import read_architecture
from translimit.models import PreNormStack
from translimit.predict import predict
from translimit.predict.curves import crossing

CONFIGS = Path(__file__).parent / "configs"
TWIN = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "initializer_range": 0.08,
    "rms_norm_eps": 1e-5,
}


def agrees(prediction, networks):
    """One network's mean overlap is the prediction within the error printed, layer by layer.

    The error is one standard error of a single network, itself from 16 networks; the mean of
    `networks` of them is allowed 4.5 of its own.
    """
    curve, architecture = prediction.curves[0], prediction.architecture
    stack = PreNormStack(architecture)
    key = named_key(0, architecture.family, architecture.dim)
    tokens = stack.draw_tokens(prediction.tokens, replicas=networks, key=named_key(key, "tokens"))
    m = stack.simulate(tokens, replicas=networks, key=key).mean_overlaps
    single = np.array(curve.error)
    bias = np.array(curve.networks_mean) - np.array(curve.overlap)
    allowed = 4.5 * single / networks**0.5 + np.abs(bias)
    gap = np.abs(m.mean(axis=0) - np.array(curve.overlap))
    assert np.all(gap <= allowed), np.round(gap / allowed, 2)
    assert np.all(single[1:] < 0.1)  # an error so large that everything agrees says nothing


@pytest.fixture(scope="module")
def twin():
    return predict(TWIN, tokens=16)


def test_a_small_llama_agrees_with_networks_of_its_widths(twin):
    assert twin.covered == (
        "causal attention",
        "2 key/value heads for 8 heads",
        "rotary positions (32 of 32 entries)",
        "gated feed-forward block (silu)",
        "root mean square norm",
    )
    agrees(twin, 8)


def test_a_wrong_prediction_is_refuted(twin):
    # The same with a feed-forward block whose weights are half as large.
    block = twin.architecture.feed_forward
    smaller = replace(twin.architecture, feed_forward=replace(block, out_std=block.out_std / 2))
    with pytest.raises(AssertionError):
        agrees(replace(twin, architecture=smaller), 8)


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        pytest.param(name, networks, marks=pytest.mark.slow)
        for name, networks in {
            "gpt2": 4,
            "gpt2-medium": 3,
            "gpt2-large": 2,
            "gpt2-xl": 2,
            "llama-7b": 1,
            "mistral-7b": 1,
            "pythia-160m": 4,
            "qwen2-0.5b": 4,
            "tinyllama-1.1b": 2,
            "vit-base": 4,
        }.items()
    ],
)
def test_public_configurations_agree_with_networks_of_their_widths(name, networks):
    agrees(predict(CONFIGS / f"{name}.json"), networks)


def test_what_it_says(twin):
    text = str(twin)
    assert text.splitlines()[0] == twin.headline
    assert twin.headline.endswith("ignores: nothing that acts at initialisation")
    document = json.loads(json.dumps(twin.to_json()))
    assert document["curves"][0]["causal"] is True
    assert len(document["curves"][0]["overlap"]) == 5
    names = {one["name"] for one in document["mapping"]}
    assert names >= {"score_std", "branch_square", "first_step"}
    assert document["regime"]["regime"] == "discrete"
    values = {one.name: one.value for one in twin.mapping}
    assert values["first_step"] == pytest.approx(values["branch_square"] / values["initial_square"])
    assert twin.curves[0].collapse.layer == pytest.approx(
        crossing(np.array(twin.curves[0].overlap), 0.5)
    )
    assert twin.inapplicable[0][0].startswith("the Transformer PDE")
    # Larger tokens move slower.
    final = {one.name: one.overlap for one in twin.variants}
    assert final["tokens ten times as large"] < twin.curves[0].overlap[-1]
    ax = twin.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "mean overlap of two tokens")
    assert len(ax.get_lines()) == 3


def test_what_is_not_covered_is_said_first_and_warned_of():
    # The sizes of the twin, so that nothing is compiled again.
    scaled = {**TWIN, "rope_scaling": {"type": "linear", "factor": 2.0}}
    prediction = predict({**scaled, "initializer_range": 0.2}, tokens=16)
    assert "ignores: rope_scaling of type 'linear'" in str(prediction).splitlines()[0]
    document = prediction.to_json()
    assert document["ignored"] == list(prediction.architecture.ignored)
    assert any("score_std 10.24 lies beyond 3.2" in one for one in document["warnings"])
    assert any(one.startswith("ignored: rope_scaling") for one in document["warnings"])


def test_crossing():
    curve = np.array([0.1, 0.2, 0.6, 0.5])
    assert crossing(curve, 0.4) == pytest.approx(1.5)
    assert crossing(curve, 0.05) == 0.0
    assert crossing(curve, 0.7) is None


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_thresholds_outside_are_refused(threshold):
    with pytest.raises(ArgumentError, match="pass a number in"):
        predict(TWIN, threshold=threshold)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    with pytest.raises(ArgumentTypeError, match="threshold"):
        predict(TWIN, threshold="half")
    with pytest.raises(ArgumentError, match="tokens"):
        predict(TWIN, tokens=1)
    with pytest.raises(ArgumentError, match="at most the context, 8"):
        predict({**TWIN, "max_position_embeddings": 8}, tokens=9)
    with pytest.raises(NoSuchLimitError, match="post-LN"):
        predict(CONFIGS / "bert-base.json")


def test_the_command(tmp_path, capsys, monkeypatch, twin):
    monkeypatch.setattr("translimit.predict.predict", lambda config, **_: twin)
    config, plot = tmp_path / "config.json", tmp_path / "overlaps.png"
    assert main(["predict", str(config), "--json", "--plot", str(plot)]) == 0
    assert json.loads(capsys.readouterr().out)["headline"] == twin.headline
    assert plot.stat().st_size > 1000
    assert main(["predict", str(config)]) == 0
    assert capsys.readouterr().out.startswith("covers: causal attention")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "CONFIG: is missing"),
        (f"{CONFIGS}/bert-base.json", "'bert' normalises after the residual sum (post-LN)"),
        (f"{CONFIGS}/none.json", "none.json: cannot be read"),
        (f"{CONFIGS}/gpt2.json --threshold 1", "threshold: got 1.0; pass a number in (0, 1)"),
        (f"{CONFIGS}/gpt2.json --threshold x", "--threshold"),
        (f"{CONFIGS}/gpt2.json --plot x.gif", "name a .png, .pdf or .svg file"),
        (f"{CONFIGS}/gpt2.json --tokns 3", "did you mean '--tokens'"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(arguments, message, capsys):
    assert main(["predict", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_plot_that_cannot_be_written(tmp_path, capsys, monkeypatch, twin):
    monkeypatch.setattr("translimit.predict.predict", lambda config, **_: twin)
    assert main(["predict", "config.json", "--plot", str(tmp_path / "no" / "x.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_every_public_configuration_is_read():
    names = sorted(path.stem for path in CONFIGS.glob("*.json"))
    assert len(names) == 11
    for name in names:
        if name != "bert-base":
            assert read_architecture(CONFIGS / f"{name}.json").layers > 0
