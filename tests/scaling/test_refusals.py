"""What the rules refuse, and what they only remark upon."""

import math
import pickle

import pytest

from translimit.core import ArgumentError, ArgumentTypeError, ConfigError
from translimit.scaling import (
    ConversionError,
    DegenerateInitError,
    Role,
    Rules,
    ShapeMismatchError,
    Size,
    UnsupportedModuleError,
    require_live_start,
    rules,
)

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=16, heads=4, layers=2)
TARGET = Size(head_dim=32, heads=8, layers=8)


@pytest.mark.parametrize(
    ("sizes", "kind", "message"),
    [
        ({"head_dim": 0}, ArgumentError, "head_dim: got 0; pass at least 1"),
        ({"heads": -4}, ArgumentError, "heads: got -4"),
        ({"layers": 2.0}, ArgumentTypeError, "layers: got 2.0"),
        ({"layers": True}, ArgumentTypeError, "layers: got True"),
        ({"kv_heads": 3}, ArgumentError, "kv_heads: 3 does not divide 4 heads"),
        ({"kv_heads": 0}, ArgumentError, "kv_heads: got 0"),
        ({"mlp_ratio": 0}, ArgumentError, "mlp_ratio: got 0"),
        ({"mlp_ratio": math.nan}, ArgumentError, "mlp_ratio: got nan"),
        ({"mlp_ratio": "4"}, ArgumentTypeError, "mlp_ratio: got '4'"),
    ],
)
def test_sizes(sizes, kind, message):
    with pytest.raises(kind) as refused:
        Size(**{"head_dim": 16, "heads": 4, "layers": 2, **sizes})
    assert message in str(refused.value)
    assert isinstance(refused.value, ValueError)


def test_heads_must_divide_the_width():
    assert Size.of_width(64, heads=4, layers=2) == BASE
    with pytest.raises(ArgumentError, match="width: 6 heads do not divide 64"):
        Size.of_width(64, heads=6, layers=2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"alpha_A": 0.4}, ArgumentError, "alpha_A: got 0.4; pass a number in [1/2, 1]"),
        ({"alpha_L": 1.1}, ArgumentError, "alpha_L: got 1.1"),
        ({"alpha_L": math.nan}, ArgumentError, "alpha_L: got nan"),
        ({"alpha_A": math.nan, "unsafe": True}, ArgumentError, "alpha_A: got nan"),
        ({"alpha_A": "1"}, ArgumentTypeError, "alpha_A: got '1'"),
        ({"optimizer": "adma"}, ArgumentError, "did you mean 'adam'? known: adam, adamw, momentum"),
        ({"style": "fold"}, ArgumentError, "did you mean 'folded'?"),
        ({"decay": "coupled"}, ArgumentError, "coupled L2 inside Adam is not covered"),
        ({"decay": "none"}, ArgumentError, "unknown decay 'none'"),
        ({"decay": "sqrt_width", "optimizer": "sgd"}, ArgumentError, "got 'sqrt_width' with"),
        ({"muon_adjust": "rms"}, ArgumentError, "unknown muon_adjust 'rms'"),
        ({"muon_heads": "both"}, ArgumentError, "unknown muon_heads 'both'"),
        ({"base_score_scale": 0.0}, ArgumentError, "base_score_scale: got 0.0"),
        ({"base": 3}, ArgumentTypeError, "base: got 3; pass a Size"),
        (
            {"target": Size(head_dim=32, heads=8, layers=8, mlp_ratio=3)},
            ShapeMismatchError,
            "mlp_ratio: is 4 in the base and 3 in the target",
        ),
        (
            {"style": "folded", "tied": True, "final_norm_gain": False},
            UnsupportedModuleError,
            "no gain in the final norm",
        ),
        ({"packed_qkv": True, "alpha_A": 0.5}, UnsupportedModuleError, "split the projection"),
        (
            {"packed_qkv": True, "fold_scores": True, "style": "folded"},
            UnsupportedModuleError,
            "split the projection",
        ),
        ({"fold_scores": True}, UnsupportedModuleError, "use style='folded'"),
        (
            {"fold_scores": True, "style": "folded", "qk_norm": True},
            UnsupportedModuleError,
            "undoes what is folded into W_Q",
        ),
    ],
)
def test_questions(options, kind, message):
    with pytest.raises(kind) as refused:
        rules(**{"base": BASE, "target": TARGET, "optimizer": "adamw", **options})
    assert message in str(refused.value)
    assert isinstance(refused.value, ValueError)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_what_is_refused_only_where_it_matters():
    made = rules(BASE, TARGET, optimizer="adamw", alpha_A=0.3, alpha_L=1.2, unsafe=True)
    assert made.residual == pytest.approx(4**-1.2)
    rules(BASE, TARGET, optimizer="adamw", packed_qkv=True)  # equal rules at alpha_A = 1
    deeper = Size(head_dim=16, heads=4, layers=8)
    rules(BASE, deeper, optimizer="adamw", packed_qkv=True, alpha_A=0.5)  # and at equal N
    rules(BASE, TARGET, optimizer="adamw", tied=True, final_norm_gain=False)  # a multiplier


def test_a_conversion_into_a_style_without_a_place_is_refused():
    made = rules(BASE, TARGET, optimizer="adamw", tied=True, final_norm_gain=False)
    with pytest.raises(UnsupportedModuleError, match="no gain in the final norm"):
        made.to_style("folded")
    folded = rules(BASE, TARGET, optimizer="adamw", style="folded", fold_scores=True)
    with pytest.raises(UnsupportedModuleError, match="has the score scale as a multiplier"):
        folded.to_style("canonical")
    with pytest.raises(ArgumentError, match="did you mean 'folded'"):
        made.to_style("foldet")


def test_clipping_ties_a_training_to_its_style():
    made = rules(BASE, TARGET, optimizer="sgd", clipping=True)
    assert made.warnings == ()
    assert made.to_style("canonical") == made
    with pytest.raises(ConversionError, match="clipped global gradient norm trains another"):
        made.to_style("single_lr")
    (said,) = rules(BASE, TARGET, optimizer="sgd", clipping=True, style="folded").warnings
    assert "clip" in said


def test_plain_modules_carry_folded_rules_only():
    rules(BASE, TARGET, optimizer="adamw", style="folded").require_plain_module()
    rules(BASE, TARGET, optimizer="adamw", style="folded", tied=True).require_plain_module()
    with pytest.raises(UnsupportedModuleError, match="multipliers at readout, residual"):
        rules(BASE, TARGET, optimizer="adamw").require_plain_module()
    for style in ("single_lr", "unit_init"):
        with pytest.raises(UnsupportedModuleError, match="query"):
            rules(BASE, TARGET, optimizer="adamw", style=style).require_plain_module()


@pytest.mark.parametrize(
    ("base", "target", "optimizer", "words"),
    [
        (BASE, Size(head_dim=32, heads=8, layers=1), "adamw", "layers shrinks from 2 to 1"),
        (BASE, Size(head_dim=8, heads=8, layers=2), "adamw", "head_dim shrinks from 16 to 8"),
        (Size(head_dim=2, heads=4, layers=2), BASE, "adamw", "head dimension below 4"),
        (Size(head_dim=4, heads=4, layers=2), BASE, "momentum", "narrower than 32 (this one is 16"),
    ],
)
def test_finite_sizes_are_remarked_upon(base, target, optimizer, words):
    made = rules(base, target, optimizer=optimizer)
    assert any(words in sentence for sentence in made.warnings)
    assert made.to_json()["warnings"] == list(made.warnings)
    assert rules(BASE, TARGET, optimizer=optimizer).warnings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "kind is 'other'"),
        ({"schema": 99}, "schema is 99"),
        ({"question": 3}, "question is 3"),
        ({"question": {"base": {}}}, "missing key"),
        ({"question": {"bsae": {}}}, "did you mean 'base'?"),
        ({"roles": {}}, "the table is not the one"),
    ],
)
def test_foreign_or_edited_documents(change, message):
    document = rules(BASE, TARGET, optimizer="adamw").to_json()
    with pytest.raises(ConfigError) as refused:
        Rules.from_json({**document, **change})
    assert message in str(refused.value)


def test_an_edited_rate_is_seen():
    document = rules(BASE, TARGET, optimizer="adamw").to_json()
    document["roles"]["query"]["lr"] *= 2
    with pytest.raises(ConfigError, match="was edited"):
        Rules.from_json(document)


def test_unknown_roles():
    with pytest.raises(ArgumentError, match="did you mean 'query'"):
        rules(BASE, TARGET, optimizer="adamw").role("qeury")


def test_dead_starts():
    require_live_start({Role.READOUT, Role.QUERY, Role.VALUE})
    for pair in (
        (Role.QUERY, Role.KEY),
        (Role.VALUE, Role.ATTENTION_OUT),
        (Role.MLP_IN, Role.MLP_OUT),
    ):
        with pytest.raises(DegenerateInitError, match=f"{pair[0]} and {pair[1]} both start"):
            require_live_start(pair)
