"""Records of optimisers: all names have one, and a stranger's works wherever ours do."""

from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from translimit.core import ArgumentError, ConfigError
from translimit.describe import (
    OPTIMIZERS,
    OptimizerKind,
    OptimizerName,
    Parameterization,
    Role,
    RoleRule,
    TransformerShape,
    Update,
    WeightDecay,
    optimizer_kind,
    standard_parameterization,
)
from translimit.scaling import (
    Rules,
    Size,
    UnsupportedModuleError,
    batch_rule,
    recipes,
    rules,
)
from translimit.scaling.adapters import optax as in_optax
from translimit.scaling.adapters import overrides
from translimit.train import Optimizer, Training, memory_need, tensor_rates, transformation

pytestmark = pytest.mark.usefixtures("as_user")

#: ArXiv 2302.06675, as a user would write it.
LION = OptimizerKind(
    "lion", Update.SIGN, lambda numbers: optax.scale_by_lion(numbers.b1, numbers.b2), slots=1
)
BASE = Size(head_dim=4, heads=2, layers=1, mlp_ratio=2)
TARGET = Size(head_dim=8, heads=4, layers=2, mlp_ratio=2)
SHAPE = TransformerShape(
    head_dim=2, heads=2, layers=2, tokens=3, outputs=3, patch_dim=4, mlp_ratio=2.0
)
B1, B2, STEPS = 0.8, 0.6, 3


def by_hand(weight, gradients, rate, decay):
    """Three steps of Lion in float64."""
    gathered = np.zeros_like(weight)
    for gradient in gradients:
        weight = weight - rate * (np.sign(B1 * gathered + (1 - B1) * gradient) + decay * weight)
        gathered = B2 * gathered + (1 - B2) * gradient
    return weight


def steps_of(method, weights, gradients):
    with jax.enable_x64(True):
        w = jax.tree.map(jnp.asarray, weights)
        state = method.init(w)
        for gradient in gradients:
            updates, state = method.update(jax.tree.map(jnp.asarray, gradient), state, w)
            w = jax.tree.map(jnp.add, w, updates)
        return {name: np.asarray(value) for name, value in w.items()}


def test_every_name_has_its_record():
    assert set(get_args(OptimizerName)) == set(OPTIMIZERS)
    for name, record in OPTIMIZERS.items():
        assert (record.name, optimizer_kind(name)) == (name, record)
        assert repr(record) == f"OptimizerKind({name!r})"


def test_rules_of_a_strangers_optimizer_follow_from_its_update():
    for style in ("canonical", "folded", "single_lr", "unit_init"):
        options = {"style": style, "alpha_A": 0.75, "alpha_L": 0.75}
        made = rules(BASE, TARGET, optimizer=LION, **options)
        assert made.table() == rules(BASE, TARGET, optimizer="sign", **options).table()
        assert made.table() != rules(BASE, TARGET, optimizer="adamw", **options).table()
        other = replace(LION, update=Update.GRADIENT)
        assert made.table() != rules(BASE, TARGET, optimizer=other, **options).table()


def test_its_rules_are_plain_data_that_name_it():
    made = rules(BASE, TARGET, optimizer=LION)
    told = made.to_json()
    assert told["question"]["optimizer"] == "lion"
    assert Rules.from_json(told, optimizers=(LION,)) == made
    assert made.digest != rules(BASE, TARGET, optimizer="sign").digest
    with pytest.raises(ConfigError, match=r"'lion', of which no record is here; pass optimizers="):
        Rules.from_json(told)


def test_it_moves_the_weights_of_the_adapter_of_optax():
    noise = np.random.default_rng(0)
    roles = {"q": Role.QUERY, "o": Role.ATTENTION_OUT, "out": Role.READOUT}
    weights = {name: noise.normal(size=(4, 3)) for name in roles}
    gradients = [{name: noise.normal(size=(4, 3)) for name in roles} for _ in range(STEPS)]
    made = rules(BASE, TARGET, optimizer=LION, style="folded")
    labels = {name: role.value for name, role in roles.items()}
    method = in_optax.transform(made, labels, lr=0.1, weight_decay=0.2, b1=B1, b2=B2)
    found = steps_of(method, weights, gradients)
    for name, role in roles.items():
        rule, mine = made.role(role), [one[name] for one in gradients]
        right = by_hand(weights[name], mine, 0.1 * rule.lr, 0.2 * rule.wd)
        np.testing.assert_allclose(found[name], right, rtol=1e-12, atol=1e-14)


def test_it_moves_the_weights_of_the_trainer():
    noise = np.random.default_rng(1)
    roles = {role: RoleRule(*noise.uniform(0.5, 1.5, 5)) for role in Role}
    numbers = Parameterization(SHAPE.size, roles, score_scale=0.8)
    specs = {spec.name: spec for spec in SHAPE.parameters}
    weights = {name: noise.normal(size=spec.shape) for name, spec in specs.items()}
    gradients = [
        {name: noise.normal(size=spec.shape) for name, spec in specs.items()} for _ in range(STEPS)
    ]
    settings = Optimizer(LION, b1=B1, b2=B2, weight_decay=0.2, decay_vectors=True)
    with jax.enable_x64(True):
        method = transformation(settings, SHAPE, tensor_rates(settings, SHAPE, numbers), 0.05)
    found = steps_of(method, weights, gradients)
    for name, spec in specs.items():
        rule, mine = numbers.role(spec.role), [one[name] for one in gradients]
        right = by_hand(weights[name], mine, 0.05 * rule.lr, 0.2 * rule.wd)
        np.testing.assert_allclose(found[name], right, rtol=1e-12, atol=1e-14, err_msg=name)


def test_its_slots_are_counted():
    def weights(name):
        training = Training(steps=1, rates=(0.1,), optimizer=Optimizer(name))
        return memory_need(SHAPE, training).weights

    assert weights(LION) - weights("sign") == 4 * SHAPE.parameter_count


def test_one_beside_another_has_a_rate_of_its_own():
    """Lion for the matrices of the blocks, SGD for all else."""
    noise = np.random.default_rng(2)
    both = replace(LION, name="lion-sgd", beside=OPTIMIZERS["sgd"])
    assert both.of(Role.QUERY) is both
    assert both.of(Role.QUERY_BIAS) is OPTIMIZERS["sgd"]
    made = rules(BASE, TARGET, optimizer=both, style="folded")
    with pytest.raises(TypeError, match="adam_lr"):
        in_optax.transform(made, {"w": "query"}, lr=0.1)
    labels = {"w": "query", "readout": "readout"}
    weights = {name: noise.normal(size=(4, 3)) for name in labels}
    gradient = {name: noise.normal(size=(4, 3)) for name in labels}
    method = in_optax.transform(made, labels, lr=0.1, adam_lr=0.3, b1=B1, b2=B2)
    found = steps_of(method, weights, [gradient])
    right = by_hand(weights["w"], [gradient["w"]], 0.1 * made.role("query").lr, 0.0)
    np.testing.assert_allclose(found["w"], right, rtol=1e-12)
    right = weights["readout"] - 0.3 * made.role("readout").lr * gradient["readout"]
    np.testing.assert_allclose(found["readout"], right, rtol=1e-12)

    settings = Optimizer(both, muon_other=0.5)
    numbers = standard_parameterization(SHAPE.size, pixels=4)
    rates = tensor_rates(settings, SHAPE, numbers)
    assert (rates.lr["query"], rates.lr["readout"]) == (1.0, 0.5)


def test_what_torch_does_not_have_is_refused_by_name():
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from translimit.scaling.adapters import torch as in_torch

    made = rules(BASE, TARGET, optimizer=LION, style="folded")
    with pytest.raises(ArgumentError, match="'lion' has no class of torch; train it in optax"):
        in_torch.apply(None, made, lr=0.1)

    class Lion:
        """Of some package."""

    with pytest.raises(ArgumentError, match="'lion' has no class of torch"):
        in_torch.require_class(Lion, made)
    known = rules(BASE, TARGET, optimizer=replace(LION, torch=("Lion",)), style="folded")
    in_torch.require_class(Lion, known)
    with pytest.raises(ArgumentError, match="is Adam, and the rules are for 'lion'; use Lion"):
        in_torch.require_class(type("Adam", (), {}), known)


def test_what_a_framework_does_not_have_is_refused_by_name():
    made = rules(BASE, TARGET, optimizer=LION, style="folded")
    with pytest.raises(ArgumentError, match="is 'lion', and the export to megatron covers"):
        overrides(made, "megatron", lr=0.1)


def test_a_name_without_a_record_is_refused():
    for ask in (lambda: rules(BASE, TARGET, optimizer="shampoo"), lambda: Optimizer("shampoo")):
        with pytest.raises(ArgumentError, match="unknown optimizer 'shampoo'"):
            ask()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "adamw"}, "is called 'adamw', which is another one here"),
        ({"name": ""}, "name: is empty"),
        ({"slots": -1}, "slots: got -1"),
    ],
)
def test_refused_records(changes, named):
    with pytest.raises(ArgumentError, match=named):
        rules(BASE, TARGET, optimizer=replace(LION, **changes))


def test_an_optimizer_without_decay_takes_none():
    bare = replace(LION, name="bare-lion", weight_decay=WeightDecay.NONE)
    assert rules(BASE, TARGET, optimizer=bare).role("query").wd is None
    with pytest.raises(ArgumentError, match="bare-lion has none"):
        Optimizer(bare, weight_decay=0.1)
    moved = batch_rule(batch=(32, 128), optimizer=bare)
    assert moved.decay is None
    assert not any("decay" in said or "remember" in said for said in moved.assumptions)
    assert batch_rule(batch=(32, 128), optimizer=LION).decay == pytest.approx(2.0)


def test_recipes_of_rules_take_a_new_record():
    """`standard` and sources name what they define; our rules define what the record says."""
    bare = replace(LION, name="bare-lion", weight_decay=WeightDecay.NONE)
    found = recipes.get("translimit").at(BASE, TARGET, LION)
    without = recipes.get("translimit").at(BASE, TARGET, bare)
    sign = recipes.get("translimit").at(BASE, TARGET, "sign")
    assert found.exponents == sign.exponents
    assert {name for name in found.exponents if name not in without.exponents} == {
        name for name in found.exponents if name.endswith(".decay")
    }
    assert not recipes.diff("translimit", "translimit", BASE, TARGET, LION)
    with pytest.raises(UnsupportedModuleError, match="'standard' does not define 'lion'"):
        recipes.get("standard").at(BASE, TARGET, LION)
    every = recipes.get("translimit").optimizers
    assert every == tuple(OPTIMIZERS)
    assert recipes.get("standard").optimizers == tuple(name for name in every if name != "muon")
