"""Verified horizons: what a ledger says of a question, and what the shipped one may say."""

import json
from dataclasses import replace

import pytest

from translimit.cli import main
from translimit.core import ConfigError
from translimit.scaling import (
    Horizon,
    Rules,
    Size,
    horizons_from_json,
    horizons_to_json,
    read_horizons,
    rules,
    rules_for,
    shipped_horizons,
    verified_horizons,
)

ONE = Horizon(
    data="digits",
    optimizer="adamw",
    axis="layers",
    schedule="constant",
    steps=60,
    multiple=4.0,
    optimum_drift=-0.06,
    optimum_drift_error=0.04,
    regret=0.0,
    regret_error=0.02,
    seeds=8,
    epochs=0.53,
    verdict="supported",
    digest="0123456789ab",
)
LONG = replace(ONE, steps=240, optimum_drift=-0.19, regret=0.11, verdict="underpowered")
COSINE = replace(ONE, steps=240, schedule="cosine", optimum_drift=-0.05, regret=0.01)


def asked(base="layers=2", target="layers=8", **changed):
    return rules_for(base, target, **{"optimizer": "adamw", **changed})


def test_the_largest_supported_number_of_steps_is_told_by_schedule():
    constant, cosine = verified_horizons(asked(), (LONG, ONE, COSINE))
    assert (constant.steps, constant.schedule) == (60, "constant")
    assert (cosine.steps, cosine.schedule) == (240, "cosine")
    assert str(cosine) == (
        "layers x4 under cosine decay: verified on digits up to 240 steps (drift -0.05 ± 0.04 "
        "decades, regret 0.01 ± 0.02 nats at 4 times the base, 8 seeds, 0.53 epochs)"
    )


def test_every_data_must_support_it():
    text = replace(ONE, data="bytes", verdict="underpowered")
    (told,) = verified_horizons(asked(), (ONE, text))
    assert told.steps == 0
    assert "no verified horizon" in str(told)
    (told,) = verified_horizons(asked(), (ONE, replace(text, verdict="supported")))
    assert [one.data for one in told.horizons] == ["digits", "bytes"]


def test_what_is_refuted_ends_the_horizon():
    early = replace(ONE, steps=30, verdict="refuted")
    (told,) = verified_horizons(asked(), (early, ONE))
    assert told.steps == 0
    assert "refuted on digits up to 30 steps" in str(told)


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "layers=16"},  # a larger multiple than the ledger has
        {"base": "layers=8", "target": "layers=2"},  # shrinking
        {"optimizer": "sgd"},
        {"alpha_L": 0.5},
        {"base": "head_dim=8,heads=4,layers=2", "target": "head_dim=8,heads=8,layers=2"},
    ],
)
def test_nothing_is_extrapolated(changed):
    (told,) = verified_horizons(asked(**changed), (ONE, COSINE))
    assert told.steps == 0
    assert "no verified horizon" in str(told)
    assert "expect the best rate to fall with the number of steps" in str(told)


def test_a_smaller_growth_is_within_and_axes_are_told_one_by_one():
    made = asked("head_dim=8,heads=4,layers=2", "head_dim=16,heads=4,layers=4")
    head_dim, layers = verified_horizons(made, (ONE,))
    assert (head_dim.axis, head_dim.steps) == ("head_dim", 0)
    assert (layers.axis, layers.ratio, layers.steps) == ("layers", 2, 60)
    assert verified_horizons(asked("layers=2", "layers=2"), (ONE,)) == ()


def test_a_stream_that_grows_alone_and_latents_have_no_horizon():
    text = "head_dim=8,heads=4,layers=2"
    wider = asked(f"{text},width=16", f"{text},width=64")
    assert [(one.axis, one.ratio, one.steps) for one in verified_horizons(wider, (ONE,))] == [
        ("width", 4.0, 0)
    ]
    assert "width x4 under any schedule: no verified horizon" in str(verified_horizons(wider)[0])
    deeper = (f"{text},kv_rank=4", "head_dim=8,heads=4,layers=4,kv_rank=4")
    (told,) = verified_horizons(asked(*deeper), (ONE,))
    assert (told.axis, told.steps) == ("layers", 0)
    assert verified_horizons(asked(text, "head_dim=8,heads=4,layers=4"), (ONE,))[0].steps == 60


def test_experts_and_another_mlp_ratio_have_no_horizon():
    """Records are of dense networks."""
    base = Size(head_dim=16, heads=4, layers=2, experts=4, active_experts=2)
    wide = replace(base, head_dim=32)
    dense = [replace(one, experts=None, active_experts=None) for one in (base, wide)]
    assert any(one.steps for one in verified_horizons(rules(*dense, optimizer="adamw")))
    assert not any(one.steps for one in verified_horizons(rules(base, wide, optimizer="adamw")))
    more = replace(base, experts=16)
    said = verified_horizons(rules(base, more, optimizer="adamw"))
    assert [(one.axis, one.ratio, one.steps) for one in said] == [("experts", 4, 0)]
    assert str(said[0]).startswith("experts x4 under any schedule: no verified horizon")
    ratio = [dense[0], replace(dense[0], mlp_ratio=8)]
    said = verified_horizons(rules(*ratio, optimizer="adamw", change_mlp_ratio=True))
    assert [one.axis for one in said] == ["mlp_ratio"]


def test_the_shipped_ledger_says_what_its_numbers_allow():
    told = shipped_horizons()
    assert told
    for one in told:
        assert one.allowed(0.15, 0.05), one
        assert one.seeds >= 6
        assert len(one.digest) == 12
    cells = {(o.data, o.optimizer, o.axis, o.schedule, o.steps, o.multiple) for o in told}
    assert len(cells) == len(told)


def test_verdicts_beyond_their_numbers_are_seen():
    assert ONE.allowed(0.15, 0.05)
    assert not replace(LONG, verdict="supported", optimum_drift_error=0.08).allowed(0.15, 0.05)
    assert not replace(LONG, verdict="refuted").allowed(0.15, 0.05)
    far = replace(LONG, optimum_drift=-0.5, regret=0.6, verdict="refuted")
    assert far.allowed(0.15, 0.05)


def test_a_ledger_of_ones_own(tmp_path, capsys):
    file = tmp_path / "mine.json"
    mine = replace(ONE, data="my data", steps=9000, multiple=1000.0)
    file.write_text(json.dumps(horizons_to_json([mine])))
    assert read_horizons(file) == (mine,)
    words = ["scale", "--base", "layers=2", "--target", "layers=1000", "--optimizer", "adamw"]
    assert main([*words, "--ledger", str(file)]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "verified on my data up to 9000 steps" in said
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["horizons"][0]["steps"] == 0
    assert "no verified horizon" in answer["horizons"][0]["in_words"]
    assert Rules.from_json(answer) == asked(target="layers=1000")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "has the format"),
        ({"format": 2}, "has the format 2; pass format 1"),
        ({"format": 1}, "has no list of horizons"),
        ({"format": 1, "horizons": [{"data": "digits"}]}, "missing key"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_what_is_no_ledger_is_refused(data, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        horizons_from_json(data, "it")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_horizons(tmp_path / "none.json")
