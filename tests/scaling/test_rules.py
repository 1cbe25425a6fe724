"""The rules against the printed tables, the acceptance figures, and the styles' own formulas."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.core import NoSuchLimitError
from translimit.describe import BESIDE_BLOCKS, WITHOUT_RULE
from translimit.scaling import OPTIMIZERS, STYLES, Axis, Role, Rules, Size, Update, rules

#: Roles for which there is a rule.
VERIFIED = [role for role in Role if role not in WITHOUT_RULE]
BASE = Size(head_dim=16, heads=4, layers=2)
TARGET = Size(head_dim=32, heads=8, layers=8)

MATRICES = {Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT}
MATRICES |= {Role.EXPERT_IN, Role.EXPERT_OUT}  # with as many experts in the target
LOGIT_MATRICES = {Role.QUERY, Role.KEY}
LOGIT_VECTORS = {
    *(Role.QUERY_BIAS, Role.KEY_BIAS, Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN, Role.QK_GAIN),
}
BLOCK_VECTORS = {
    Role.BLOCK_NORM_GAIN,
    Role.BLOCK_NORM_BIAS,
    Role.VALUE_BIAS,
    Role.ATTENTION_OUT_BIAS,
    Role.MLP_IN_BIAS,
    Role.MLP_GATE_BIAS,
    Role.MLP_OUT_BIAS,
    Role.SHAPED_GAIN,
    Role.BRANCH_GAIN,
    Role.EXPERT_IN_BIAS,
    Role.EXPERT_OUT_BIAS,
}
EMBEDDINGS = {
    Role.TOKEN_EMBEDDING,
    Role.PATCH_EMBEDDING,
    Role.POSITION_EMBEDDING,
    Role.PATCH_BIAS,
}
FINAL = {Role.FINAL_NORM_GAIN, Role.FINAL_NORM_BIAS}
EMBEDDING_NORM = {
    Role.EMBEDDING_NORM_GAIN,
    Role.EMBEDDING_NORM_BIAS,
    Role.READOUT_DENSE_BIAS,
}
ROWS = [
    MATRICES,
    LOGIT_MATRICES,
    LOGIT_VECTORS,
    BLOCK_VECTORS,
    EMBEDDINGS,
    FINAL,
    {Role.READOUT},
    {Role.READOUT_BIAS},
    {Role.QK_GAIN_SHARED, Role.QK_BIAS_SHARED},
    {Role.ROUTER},
    {Role.ROUTER_BIAS},
    {Role.READOUT_DENSE},
    EMBEDDING_NORM,
]

exponents = st.floats(0.5, 1.0)
counts = st.integers(1, 64)


@st.composite
def questions(draw):
    """Base, target and exponents; grouped queries of a fixed group size, one MLP ratio."""
    group, ratio = draw(st.integers(1, 4)), draw(st.floats(0.5, 8))

    def size():
        kv_heads = draw(counts)
        return Size(
            head_dim=draw(counts),
            heads=group * kv_heads,
            layers=draw(counts),
            kv_heads=kv_heads,
            mlp_ratio=ratio,
        )

    return size(), size(), draw(exponents), draw(exponents)


def printed(optimizer, m_N, m_d, m_L, aA, aL):
    """Section by section what is printed: row -> (init, lr, eps) in canonical style."""
    q, t, b = m_N ** (aA - 1), m_L ** (aL - 1), m_L**-aL
    adam = [
        (m_d**-0.5, t / m_d, b / m_d),
        (m_d**-0.5, q * t / m_d, b / m_d / q),
        (1, q * t, b / m_d / q),
        (1, t, b / m_d),
        (1, 1, 1 / m_d),
        (1, 1, 1 / m_d),
        (1, 1, 1 / m_d),
        (1, 1, 1),
        (1, q * t, b / m_N / q),
        (m_d**-0.5, t / m_d, b),
        (1, t, b),
        (m_d**-0.5, 1 / m_d, 1 / m_d),
        (1, 1, 1 / m_d),
    ]
    s, Q = m_L ** (2 * aL - 1), m_N ** (2 * aA - 2)
    sgd = [
        (m_d**-0.5, s, None),
        (m_d**-0.5, Q * s, None),
        (1, m_d * Q * s, None),
        (1, m_d * s, None),
        (1, m_d, None),
        (1, m_d, None),
        (1, m_d, None),
        (1, 1, None),
        (1, m_N * Q * s, None),
        (m_d**-0.5, s / m_d, None),
        (1, s, None),
        (m_d**-0.5, 1, None),
        (1, m_d, None),
    ]
    if optimizer in ("sgd", "momentum"):
        return sgd
    if optimizer == "sign":
        return [(init, lr, None) for init, lr, _ in adam]
    if optimizer == "muon":
        made = [(m_d**-0.5, t, None), (m_d**-0.5, q * t, None), *adam[2:]]
        made[-2] = (m_d**-0.5, 1, None)  # a hidden matrix too
        return made
    return adam


def close(one, other):
    return (one is None and other is None) or math.isclose(one, other, rel_tol=1e-9)


def test_the_rows_cover_every_role_with_a_rule_once():
    assert sorted(role for row in ROWS for role in row) == sorted(set(Role) - WITHOUT_RULE)


@pytest.mark.parametrize("role", sorted(WITHOUT_RULE - BESIDE_BLOCKS - {Role.UNSCALED}))
def test_roles_without_a_verified_rule_are_refused(role):
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    with pytest.raises(NoSuchLimitError, match=r"no scaling rule of a|the sizes have no"):
        made.role(role)
    assert role.value not in made.table()


@given(questions(), st.sampled_from(list(OPTIMIZERS)))
@settings(max_examples=25)
def test_the_canonical_table_is_the_printed_one(question, optimizer):
    base, target, aA, aL = question
    made = rules(base, target, optimizer=optimizer, alpha_A=aA, alpha_L=aL)
    m_N, m_L = target.head_dim / base.head_dim, target.layers / base.layers
    m_d = target.width / base.width
    for row, expected in zip(ROWS, printed(optimizer, m_N, m_d, m_L, aA, aL), strict=True):
        for role in row:
            rule = made.role(role)
            assert all(map(close, (rule.init, rule.lr, rule.eps), expected)), role
            assert close(rule.mult, 1 / m_d if role is Role.READOUT else 1.0)
            assert close(rule.wd, None if optimizer == "adam" else 1 / rule.lr)
    assert close(made.residual, m_L**-aL)
    assert close(made.readout, 1 / m_d)
    assert close(made.score_scale, base.head_dim**-0.5 * m_N**-aA)


# The acceptance figures.


def test_adamw_canonical():
    made = rules(BASE, TARGET, optimizer="adamw")
    for role in MATRICES | LOGIT_MATRICES:
        rule = made.role(role)
        assert (rule.mult, rule.init, rule.lr, rule.eps, rule.wd) == (1, 0.5, 0.25, 0.0625, 4)
    assert (made.residual, made.score_scale, made.readout) == (0.25, 0.125, 0.25)
    gain, embedding = made.role("block_norm_gain"), made.role("token_embedding")
    assert (gain.lr, gain.eps, embedding.lr, embedding.eps) == (1, 0.0625, 1, 0.25)


def test_adamw_folded():
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    for role in (Role.ATTENTION_OUT, Role.MLP_OUT):
        rule = made.role(role)
        assert (rule.mult, rule.init, rule.lr, rule.eps, rule.wd) == (1, 0.125, 0.0625, 0.25, 16)
    rule = made.role(Role.READOUT)
    assert (rule.mult, rule.init, rule.lr, rule.eps, rule.wd) == (1, 0.25, 0.25, 1, 4)
    assert (made.residual, made.readout, made.needs_multipliers) == (1, 1, ())


def test_adamw_folded_at_half():
    made = rules(BASE, TARGET, optimizer="adamw", style="folded", alpha_A=0.5, alpha_L=0.5)
    assert made.role("query").lr == pytest.approx(0.0883883, abs=1e-6)
    assert made.role("query").eps == pytest.approx(0.1767767, abs=1e-6)
    assert (made.role("value").lr, made.role("value").eps) == (0.125, 0.125)
    rule = made.role("attention_out")
    assert (rule.init, rule.lr, rule.eps) == pytest.approx((0.25, 0.0625, 0.25), abs=1e-6)
    assert made.role("block_norm_gain").lr == 0.5
    assert made.score_scale == pytest.approx(0.1767767, abs=1e-6)


def test_sgd_canonical():
    made = rules(BASE, TARGET, optimizer="sgd")
    assert {made.role(role).lr for role in MATRICES | LOGIT_MATRICES} == {4}
    assert made.role("block_norm_gain").lr == 16
    assert {made.role(r).lr for r in (*EMBEDDINGS, *FINAL, Role.READOUT)} == {4}
    assert made.role("readout_bias").lr == 1
    assert rules(BASE, TARGET, optimizer="momentum").table() == made.table()


def test_sgd_single_lr_at_half():
    made = rules(BASE, TARGET, optimizer="sgd", style="single_lr", alpha_A=0.5, alpha_L=0.5)
    assert {made.role(role).lr for role in VERIFIED} == {4} == {made.global_lr}
    for role, expected in [
        ("query", (0.3535534, 1.4142136)),
        ("value", (0.5, 1)),
        ("token_embedding", (1, 1)),
    ]:
        rule = made.role(role)
        assert (rule.mult, rule.init) == pytest.approx(expected, abs=1e-6)
    assert made.readout == pytest.approx(0.25)


def test_adamw_single_lr_at_half():
    made = rules(BASE, TARGET, optimizer="adamw", style="single_lr", alpha_A=0.5, alpha_L=0.5)
    assert {made.role(role).lr for role in VERIFIED} == {0.25} == {made.global_lr}
    for role, expected in [("token_embedding", (4, 0.25)), ("readout", (1, 0.25))]:
        rule = made.role(role)
        assert (rule.mult, rule.init) == expected
    assert (made.role("value").mult, made.role("value").init) == (0.5, 1)
    assert len({made.role(role).wd for role in VERIFIED}) == 1
    assert len({made.role(role).eps for role in VERIFIED}) > 1


# The printed formulas of the styles.


@given(questions())
@settings(max_examples=25)
def test_single_lr_has_the_printed_multipliers(question):
    base, target, aA, aL = question
    m_N, m_H = target.head_dim / base.head_dim, target.heads / base.heads
    m_L, m_d = target.layers / base.layers, target.width / base.width
    for optimizer in ("sgd", "adam"):
        made = rules(base, target, optimizer=optimizer, alpha_A=aA, alpha_L=aL, style="single_lr")
        extra = 1 if optimizer == "sgd" else m_d**0.5
        outer = m_L ** (0.5 - aL) if optimizer == "sgd" else m_d**0.5 * m_L ** (1 - aL)
        expected = {
            Role.TOKEN_EMBEDDING: (outer, 1 / outer),
            Role.READOUT: (outer / m_d, 1 / outer),
            Role.QUERY: (m_N ** (aA - 1.5) * m_H**-0.5, m_N ** (1 - aA)),
            Role.KEY: (m_N ** (aA - 1.5) * m_H**-0.5, m_N ** (1 - aA)),
            Role.BLOCK_NORM_GAIN: (extra, 1 / extra),
            Role.VALUE_BIAS: (extra, 1 / extra),
        } | {role: (m_d**-0.5, 1.0) for role in MATRICES}
        for role, (mult, init) in expected.items():
            assert close(made.role(role).mult, mult), role
            assert close(made.role(role).init, init), role


@given(questions())
@settings(max_examples=25)
def test_folded_has_the_printed_rates(question):
    base, target, aA, aL = question
    m_L, m_d = target.layers / base.layers, target.width / base.width
    adam = rules(base, target, optimizer="adamw", alpha_A=aA, alpha_L=aL, style="folded")
    out = adam.role(Role.ATTENTION_OUT)
    assert close(out.init, m_d**-0.5 * m_L**-aL)
    assert close(out.lr, 1 / (m_d * m_L))  # for every alpha_L
    assert close(out.eps, 1 / m_d)
    sgd = rules(base, target, optimizer="sgd", alpha_A=aA, alpha_L=aL, style="folded")
    assert close(sgd.role(Role.ATTENTION_OUT).lr, 1 / m_L)
    assert close(sgd.role(Role.READOUT).lr, 1 / m_d)


def test_unit_init_keeps_every_start():
    for optimizer in OPTIMIZERS:
        made = rules(BASE, TARGET, optimizer=optimizer, style="unit_init", alpha_A=0.7)
        assert {made.role(role).init for role in VERIFIED} == {1.0}


# Tied embeddings, grouped queries, folded scores, Muon, decay.


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_tied_embeddings_are_one_tensor(style, optimizer):
    target = Size(head_dim=28, heads=12, layers=6)
    made = rules(BASE, target, optimizer=optimizer, style=style, tied=True, alpha_L=0.6)
    embedding, readout = made.role(Role.TOKEN_EMBEDDING), made.role(Role.READOUT)
    for name in ("init", "lr", "eps", "wd"):
        assert getattr(embedding, name) == getattr(readout, name)
    assert made.readout == (
        1.0 if style == "folded" else pytest.approx(embedding.mult * BASE.width / target.width)
    )


def test_tied_and_folded_puts_the_readout_into_the_final_norm():
    adam = rules(BASE, TARGET, optimizer="adamw", style="folded", tied=True)
    for role in FINAL:
        rule = adam.role(role)
        assert (rule.init, rule.lr, rule.eps, rule.wd) == (0.25, 0.25, 1, 4)
    sgd = rules(BASE, TARGET, optimizer="sgd", style="folded", tied=True)
    assert sgd.role(Role.FINAL_NORM_GAIN).lr == 0.25
    assert sgd.needs_multipliers == ()


def test_grouped_queries_that_change():
    # Two queries a key in the base, eight in the target: m_H / m_G = 4.
    base = Size(head_dim=8, heads=4, layers=2, kv_heads=2)
    target = Size(head_dim=8, heads=16, layers=2, kv_heads=2)
    fixed = Size(head_dim=8, heads=16, layers=2, kv_heads=8)
    for optimizer, lr, eps in [("sgd", 1 / 4, None), ("adamw", 1, 4), ("muon", 1 / 2, None)]:
        one = rules(base, fixed, optimizer=optimizer)
        other = rules(base, target, optimizer=optimizer)
        for role in (Role.KEY, Role.VALUE):
            assert other.role(role).lr == pytest.approx(lr * one.role(role).lr)
            if eps is not None:
                assert other.role(role).eps == pytest.approx(eps * one.role(role).eps)
        assert other.role(Role.QUERY) == one.role(Role.QUERY)
        assert not one.warnings
        assert "derived" in other.warnings[0]


@given(questions(), st.floats(0.01, 10))
@settings(max_examples=25)
def test_folded_scores_move_the_scale_into_the_query(question, c_0):
    base, target, aA, aL = question
    options = {"alpha_A": aA, "alpha_L": aL, "style": "folded", "base_score_scale": c_0}
    for optimizer, rate in [("adamw", 1), ("sgd", 2)]:
        free = rules(base, target, optimizer=optimizer, **options)
        fixed = rules(base, target, optimizer=optimizer, fold_scores=True, **options)
        kappa = free.score_scale * target.head_dim**0.5
        assert close(fixed.score_scale, target.head_dim**-0.5)
        for role in (Role.QUERY, Role.QUERY_BIAS):
            one, other = free.role(role), fixed.role(role)
            assert close(other.init, kappa * one.init)
            assert close(other.lr, kappa**rate * one.lr)
            assert one.eps is None or close(other.eps, one.eps / kappa)
        assert free.role(Role.KEY) == fixed.role(Role.KEY)


def test_the_score_scale_of_mup():
    made = rules(BASE, TARGET, optimizer="adamw", base_score_scale=8 / BASE.head_dim)
    assert made.score_scale == 8 / TARGET.head_dim


def test_muon_with_other_implementations():
    def lr(role, **options):
        return rules(BASE, TARGET, optimizer="muon", **options).role(role).lr

    assert lr("mlp_in") == lr("mlp_out") == lr("query") == lr("value") == 1  # no width factor
    assert lr("mlp_in", muon_adjust="none") == 1
    for role in ("mlp_in", "mlp_out", "query"):  # m_d^{-1/2} = 1 / 2
        assert lr(role, muon_adjust="match_rms_adamw") == pytest.approx(0.5)
    # Head by head: (m_N / m_d)^{1/2} = m_H^{-1/2}.
    for role in ("query", "key", "value"):
        assert lr(role, muon_heads="separate") == pytest.approx(2**-0.5)
    assert lr("attention_out", muon_heads="separate") == 1
    # Head dimensions that grow by 3 and heads by 5: only the heads count, m_H^{-1/2}, and with
    # the other adjustment m_d^{-1/2} like every matrix.
    other = Size(head_dim=48, heads=20, layers=2)

    def separate(role, **options):
        made = rules(BASE, other, optimizer="muon", muon_heads="separate", **options)
        return made.role(role).lr

    for role in ("query", "key", "value"):
        assert separate(role) == pytest.approx(5**-0.5)
        assert separate(role, muon_adjust="none") == pytest.approx(5**-0.5)
        assert separate(role, muon_adjust="match_rms_adamw") == pytest.approx(5**-0.5 * 15**-0.5)
    assert separate("attention_out") == 1
    made = rules(BASE, TARGET, optimizer="muon")
    assert made.update(Role.MLP_IN) is Update.ORTHOGONAL
    assert made.update(Role.READOUT) is made.update(Role.MLP_IN_BIAS) is Update.ADAM
    adam = rules(BASE, TARGET, optimizer="adamw")
    for role in VERIFIED:
        if not role.is_hidden_matrix:
            assert made.role(role) == adam.role(role)


def test_other_decays():
    independent = rules(BASE, TARGET, optimizer="adamw", style="folded", decay="independent")
    assert {independent.role(role).wd for role in VERIFIED} == {1.0}
    wider = Size(head_dim=32, heads=8, layers=2)
    root = rules(BASE, wider, optimizer="adamw", decay="sqrt_width")
    assert root.role(Role.MLP_IN).wd == 2.0  # m_d^{1/2}
    assert root.role(Role.TOKEN_EMBEDDING).wd == 1.0
    assert rules(BASE, wider, optimizer="adamw").role(Role.MLP_IN).wd == 4.0
    inverse = rules(BASE, wider, optimizer="adamw", decay="inverse_width")
    assert inverse.role(Role.MLP_IN).wd == 1.0  # eta lambda falls like 1 / m_d
    assert inverse.role(Role.TOKEN_EMBEDDING).wd == 1.0
    scale = rules(BASE, wider, optimizer="adamw", decay="timescale")
    assert scale.table() == rules(BASE, wider, optimizer="adamw").table()  # at one horizon


def test_another_mlp_ratio_returns_through_a_random_output_map():
    base = Size(head_dim=8, heads=4, layers=2, mlp_ratio=4)
    target = Size(head_dim=8, heads=4, layers=2, mlp_ratio=16)  # the hidden axis alone, x 4
    adam = rules(base, target, optimizer="adamw", change_mlp_ratio=True)
    assert (adam.role("mlp_out").init, adam.role("mlp_out").lr) == (0.5, 0.25)
    assert (adam.role("mlp_in").init, adam.role("mlp_in").lr) == (1, 1)
    assert adam.role("query") == rules(base, base, optimizer="adamw").role("query")
    assert "is a large change" in adam.warnings[-1]
    # By fan-in alone the epsilon would be 1/4 and the rate of SGD 4.
    assert (adam.role("mlp_in").eps, adam.role("mlp_out").eps) == (0.5, 1)
    assert (adam.role("mlp_in_bias").lr, adam.role("mlp_in_bias").eps) == (1, 0.5)
    sgd = rules(base, target, optimizer="sgd", change_mlp_ratio=True)
    assert [sgd.role(name).lr for name in ("mlp_in", "mlp_in_bias", "mlp_out")] == [2, 2, 0.25]
    assert sgd.role("mlp_gate").lr == 2


def test_the_base_is_the_identity():
    for optimizer in OPTIMIZERS:
        for style in STYLES:
            made = rules(BASE, BASE, optimizer=optimizer, style=style, alpha_A=0.6, alpha_L=0.8)
            for rule in made.table().values():
                assert set(rule.values()) <= {1.0, None}
            assert (made.residual, made.readout) == (1, 1)
            assert made.score_scale == BASE.head_dim**-0.5


def test_groups_are_a_partition():
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    groups = made.groups()
    told = sorted(role for roles in groups.values() for role in roles)
    assert told == sorted(set(Role) - WITHOUT_RULE)
    assert all(made.role(role) == rule for rule, roles in groups.items() for role in roles)
    assert len(groups) == 9


def test_rules_of_two_steps_are_the_rules_of_one():
    middle = Size(head_dim=24, heads=4, layers=6)
    for optimizer in OPTIMIZERS:
        one = rules(BASE, TARGET, optimizer=optimizer, alpha_A=0.7, alpha_L=0.6)
        first = rules(BASE, middle, optimizer=optimizer, alpha_A=0.7, alpha_L=0.6)
        second = rules(middle, TARGET, optimizer=optimizer, alpha_A=0.7, alpha_L=0.6)
        for role in VERIFIED:
            both = first.role(role).times(second.role(role))
            for name, value in one.role(role).to_json().items():
                assert close(value, getattr(both, name))


def test_axes():
    size = Size(head_dim=4, heads=6, layers=1, kv_heads=2, mlp_ratio=3)
    lengths = {axis: axis.length(size) for axis in Axis}
    assert lengths == {
        Axis.FIXED: 1,
        Axis.STREAM: 24,
        Axis.QUERIES: 24,
        Axis.KEYS: 8,
        Axis.HIDDEN: 72,
        Axis.HEAD_DIM: 4,
        Axis.VALUES: 24,
        Axis.QUERY_RANK: 1,  # what a size without latents lacks
        Axis.KV_RANK: 1,
        Axis.KEYS_AND_VALUES: 48,
        Axis.HEADS: 6,
    }
    latents = Size(
        head_dim=6, heads=4, layers=1, dim=40, kv_rank=5, query_rank=7, rope_dim=2, value_dim=3
    )
    found = {axis.name: axis.length(latents) for axis in Axis}
    assert (found["STREAM"], found["QUERIES"], found["VALUES"]) == (40, 24, 12)
    assert (found["KV_RANK"], found["QUERY_RANK"], found["KEYS_AND_VALUES"]) == (5, 7, 28)


@given(questions(), st.sampled_from(list(OPTIMIZERS)), st.sampled_from(STYLES), st.booleans())
@settings(max_examples=25)
def test_json_round_trip(question, optimizer, style, tied):
    base, target, aA, aL = question
    made = rules(base, target, optimizer=optimizer, style=style, tied=tied, alpha_A=aA, alpha_L=aL)
    copy = Rules.from_json(made.to_json())
    assert copy == made
    assert hash(copy) == hash(made)
    assert (copy.digest, copy.table()) == (made.digest, made.table())
    other = rules(
        base, target, optimizer=optimizer, style=style, tied=not tied, alpha_A=aA, alpha_L=aL
    )
    assert other != made
    assert other.digest != made.digest
