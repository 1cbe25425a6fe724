"""Parameterizations in absolute numbers: the paper's formulas, and that they are `single_lr`."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translimit.core import ArgumentError
from translimit.describe import WITHOUT_RULE
from translimit.scaling import (
    Role,
    ShapeMismatchError,
    Size,
    paper_parameterization,
    rules,
    standard_parameterization,
)

sizes = st.builds(
    Size,
    head_dim=st.integers(1, 64),
    heads=st.integers(1, 64),
    layers=st.integers(1, 64),
    mlp_ratio=st.just(2.0),
)
exponents = st.floats(0.5, 1)


def close(one, other):
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9)


@given(sizes, sizes, exponents, exponents, st.sampled_from(["sgd", "momentum", "adam", "adamw"]))
@settings(max_examples=25)
def test_the_paper_is_the_single_rate_at_equal_exponents(base, target, aA, aL, optimizer):
    options = {"optimizer": optimizer, "alpha_A": aA, "alpha_L": aL}
    made = rules(base, target, style="single_lr", base_score_scale=base.head_dim**-aA, **options)
    constants = {"beta0": 4.0, "gamma0": 0.1, "eta0": 0.3, "pixels": 12}
    small = paper_parameterization(base, **constants, **options)
    large = paper_parameterization(target, **constants, **options)
    scaled = made.applied(small)
    assert close(scaled.score_scale, large.score_scale)
    assert close(scaled.residual, large.residual)
    for role in sorted(set(Role) - WITHOUT_RULE):
        for name, value in large.role(role).to_json().items():
            assert close(scaled.role(role).to_json()[name], value), (role, name)


@pytest.mark.parametrize("alphas", [(1.0, 1.0), (0.5, 0.5), (0.75, 0.6)])
def test_in_rescaled_variables_the_rates_are_those_of_the_theory(alphas):
    """W_K = N^{1 - alpha_A} K, E = L^{alpha_L - 1/2} e: rates kappa eta, L^{1 - 2 alpha_L} eta."""
    aA, aL = alphas
    N, H, L, beta0, gamma0, eta0, D = 8, 4, 6, 4.0, 0.1, 0.3, 12
    n = N * H
    made = paper_parameterization(
        Size(head_dim=N, heads=H, layers=L, mlp_ratio=1),
        alpha_A=aA,
        alpha_L=aL,
        beta0=beta0,
        gamma0=gamma0,
        eta0=eta0,
        pixels=D,
    )
    eta = eta0 * gamma0**2 * n * L ** (2 * aL - 1)
    expected = {  # role: effective multiplier of a unit Gaussian, rate of that Gaussian
        Role.PATCH_EMBEDDING: (D**-0.5, L ** (1 - 2 * aL) * eta),
        Role.TOKEN_EMBEDDING: (1.0, L ** (1 - 2 * aL) * eta),
        Role.QUERY: (n**-0.5, N ** (-2 * (1 - aA)) * eta),
        Role.KEY: (n**-0.5, N ** (-2 * (1 - aA)) * eta),
        Role.VALUE: (n**-0.5, eta),
        Role.ATTENTION_OUT: (n**-0.5, eta),
        Role.MLP_IN: (n**-0.5, eta),
        Role.MLP_OUT: (n**-0.5, eta),
        Role.READOUT: (1 / (gamma0 * n), L ** (1 - 2 * aL) * eta),
    }
    for role, (mult, lr) in expected.items():
        rule = made.role(role)
        assert close(rule.mult * rule.init, mult), role
        assert close(rule.lr / rule.init**2, lr), role
    assert close(made.score_scale, N**-aA)
    assert close(made.residual, beta0 * L**-aL)
    assert close(made.readout, made.role(Role.READOUT).mult)


def test_the_two_conventions_of_the_rate():
    size = Size(head_dim=8, heads=4, layers=6)
    squared = paper_parameterization(size, gamma0=0.25)
    table = paper_parameterization(size, gamma0=0.25, lr_convention="table")
    assert table.role("value").lr == pytest.approx(8 * 4 * 6)
    assert squared.role("value").lr == pytest.approx(8 * 4 * 6 / 16)
    adam = [
        paper_parameterization(size, optimizer="adam", gamma0=0.25, lr_convention=convention)
        for convention in ("gamma0_squared", "table")
    ]
    assert adam[0] == adam[1]
    assert hash(adam[0]) == hash(adam[1]) != hash(squared)
    assert adam[0].role("value").lr == pytest.approx((8 * 4) ** -0.5)


def test_the_standard_parameterization_and_its_transfer():
    base, target = Size(head_dim=8, heads=4, layers=2), Size(head_dim=16, heads=8, layers=4)
    standard = standard_parameterization(base, pixels=8)
    assert standard.role("value").init == pytest.approx(32**-0.5)
    assert standard.role("mlp_out").init == pytest.approx(128**-0.5)
    assert standard.role("patch_embedding").init == pytest.approx(8**-0.5)
    assert standard.role("position_embedding").init == 0.5
    assert standard.role("final_norm_gain").init == 1
    assert standard.role("mlp_in_bias").init == 0
    assert (standard.residual, standard.readout) == (1, 1)
    scaled = rules(base, target, optimizer="adamw").applied(standard)
    assert scaled.size == target
    # Hidden weights are the standard ones of the target; what differs is the rest.
    wider = standard_parameterization(target, pixels=8)
    for role in sorted(set(Role) - WITHOUT_RULE):
        if role.is_hidden_matrix:
            assert close(scaled.role(role).init, wider.role(role).init)
    assert (scaled.residual, scaled.readout) == (0.5, 0.25)
    assert scaled.table()["readout"]["init"] == pytest.approx(32**-0.5)


def test_only_rules_of_the_same_base_are_applied():
    base, target = Size(head_dim=8, heads=4, layers=2), Size(head_dim=16, heads=8, layers=4)
    paper = paper_parameterization(base)
    with pytest.raises(ShapeMismatchError, match="start: is of"):
        rules(target, base, optimizer="sgd").applied(paper)
    with pytest.raises(ShapeMismatchError, match=r"pass base_score_scale=0\.125"):
        rules(base, target, optimizer="sgd").applied(paper)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma0": 0.0}, "gamma0: got 0.0; pass a positive number"),
        ({"beta0": -1}, "beta0: got -1"),
        ({"eta0": math.nan}, "eta0: got nan"),
        ({"alpha_L": 0.4}, "alpha_L: got 0.4; pass a number in"),
        ({"lr_convention": "tabel"}, "did you mean 'table'?"),
        ({"optimizer": "muon"}, "optimizer: the paper has no 'muon'"),
        ({"pixels": 0}, "pixels: got 0"),
        ({"eta0": "big"}, "eta0: got 'big'; pass a positive number"),
    ],
)
def test_unusable_constants_are_refused(options, message):
    with pytest.raises(ArgumentError) as refused:
        paper_parameterization(Size(head_dim=8, heads=4, layers=2), **options)
    assert message in str(refused.value)


def test_roles_are_known_by_name():
    paper = paper_parameterization(Size(head_dim=8, heads=4, layers=2))
    assert paper.role("query") is paper.role(Role.QUERY)
    with pytest.raises(ArgumentError, match="did you mean 'query'"):
        paper.role("qury")
