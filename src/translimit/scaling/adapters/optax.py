"""The rules in optax: labels of any tree of parameters, and one transformation a label.

Trees of flax (linen and nnx), equinox or plain dictionaries; leaves are named by their path.
Adam is blind to the size of its gradients, so that rates and epsilons belong to the
transformation of a label, never to a scaling of gradients before it. Nothing here knows what was
applied before: trees are values, and `start` returns another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from translimit.core import ArgumentError, ArgumentTypeError, Floats, nearest
from translimit.describe import (
    BESIDE_BLOCKS,
    Hyperparameters,
    NameTable,
    Role,
    Update,
    WeightDecay,
)
from translimit.scaling.adapters.names import match_names
from translimit.scaling.engine import Rules
from translimit.scaling.live_start import require_live_start

#: A tree of parameters, and the role of every leaf as text.
Parameters = PyTree[Floats]
Labels = PyTree[str]

#: A rate, or a schedule of rates by step.
Rate = float | int | optax.Schedule

#: From rate, epsilon and decay to an optimiser.
Make = Callable[[Rate, float | None, float], optax.GradientTransformation]


def labels(params: Parameters, names: Mapping[str, Role | str]) -> Labels:
    """The same tree with the role of every leaf, as text.

    Args:
        params: arrays; a leaf is named by its path, `blocks.0.query.kernel`.
        names: `{pattern: role}`; a pattern matches the end of a path, `*` stands for one part.

    Raises:
        UnmatchedParameterError: leaves without a role, or patterns without a leaf.
        AmbiguousRuleError: a leaf with two roles.
    """
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    listed = [_path(path) for path, _ in paths]
    found = match_names(NameTable("optax", {}).extended(names), listed)
    return jax.tree_util.tree_unflatten(tree, [found[name].role.value for name in listed])


def transform(
    rules: Rules,
    labels: Labels | Callable[[Parameters], Labels],
    *,
    lr: Rate,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    adam_lr: Rate | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    momentum: float | None = None,
    nesterov: bool | None = None,
    decay_vectors: bool = False,
    make: Make | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the target: one transformation a role, with what the rules give it.

    Args:
        rules: of the target; in folded style for modules without multipliers.
        labels: the role of every leaf, or a function from parameters to them.
        lr: tuned at the base, or its schedule; every role multiplies it by its ratio.
        eps: of Adam, at the base.
        weight_decay: at the base; decoupled, or L2 under SGD.
        adam_lr: of the AdamW beside Muon, tuned at the base.
        b1: of Adam and Lion.
        b2: of Adam and Lion.
        momentum: mu of the optimisers that gather gradients; their record's own by default, 0.9
            of `momentum` and 0.95 of Muon.
        nesterov: Nesterov's form of it; the record's own by default: Muon has it.
        decay_vectors: let gains and biases decay too.
        make: from rate, epsilon and decay to another optimiser of the same kind.

    Returns:
        an optax transformation for trees like `labels`.

    Raises:
        ArgumentError: a label that is no role, or Muon with a shape factor that optax lacks.
        ArgumentTypeError: Muon without the rate beside it.
        UnsupportedModuleError: rules that need multipliers; scale inside the model instead, and
            ask for them with `rules.to_style("folded")`.

    Equation: eta = lr r_lr, epsilon = eps r_eps, lambda = weight_decay r_wd for every label; with
    rules of decay="independent" the rate does not multiply lambda.
    """
    rules.require_plain_module()
    question, kind = rules.question, rules.question.kind
    if kind.beside is not None and adam_lr is None and make is None:
        raise ArgumentTypeError("adam_lr", "is missing", "give the rate of AdamW beside Muon")
    if kind.update is Update.ORTHOGONAL and question.muon_adjust != "none":
        raise ArgumentError(
            "muon_adjust",
            f"is {question.muon_adjust!r}, and optax's scale_by_muon has no shape factor",
            "ask for rules with muon_adjust='none'",
        )

    def of(role: Role) -> optax.GradientTransformation:
        rule, part = rules.role(role), kind.of(role)
        decays = rule.wd is not None and (
            decay_vectors or not (role.is_gain or role.is_bias or role.is_factor)
        )
        decay = weight_decay * (rule.wd or 0.0) if decays else 0.0
        epsilon = None if rule.eps is None else eps * rule.eps
        if make is not None:
            return make(_times(lr, rule.lr), epsilon, decay)
        update = part.optax(
            Hyperparameters(
                momentum=part.momentum if momentum is None else momentum,
                nesterov=part.nesterov if nesterov is None else nesterov,
                b1=b1,
                b2=b2,
                eps=epsilon or 0.0,
            )
        )
        rate = lr if part is kind or adam_lr is None else adam_lr
        descent = optax.scale_by_learning_rate(_times(rate, rule.lr))
        match part.weight_decay:
            case WeightDecay.COUPLED:
                step = optax.chain(update, descent)
                return optax.chain(optax.add_decayed_weights(decay), step) if decay else step
            case WeightDecay.DECOUPLED if question.decay == "independent":
                return optax.chain(update, descent, optax.add_decayed_weights(-decay))
            case WeightDecay.DECOUPLED | WeightDecay.NONE:
                return optax.chain(update, optax.add_decayed_weights(decay), descent)
            case _:
                assert_never(part.weight_decay)

    # A tree of equinox may be callable itself; a function is a leaf.
    if callable(labels) and jax.tree_util.all_leaves([labels]):
        without = rules.question.without_rule - BESIDE_BLOCKS
        verified = [role for role in Role if role not in without]
        return optax.partition({role.value: of(role) for role in verified}, labels)
    used = {str(label) for label in jax.tree_util.tree_leaves(labels)}
    if unknown := sorted(used - {role.value for role in Role}):
        raise ArgumentError(
            "labels", f"unknown role {unknown[0]!r}", nearest(unknown[0], (r.value for r in Role))
        )
    return optax.partition({name: of(Role(name)) for name in used}, lambda _: labels)


def stds(params: Parameters, labels: Labels) -> dict[Role, float]:
    """The root mean square of every role: standard deviations, or the constants of gains."""
    sums: dict[Role, tuple[float, int]] = {}
    for leaf, label in _pairs(params, labels):
        total, count = sums.get(Role(label), (0.0, 0))
        sums[Role(label)] = total + float(jnp.sum(jnp.square(leaf))), count + leaf.size
    return {role: (total / count) ** 0.5 for role, (total, count) in sums.items()}


def start(
    params: Parameters, labels: Labels, rules: Rules, base: Mapping[Role | str, float]
) -> Parameters:
    """Freshly drawn parameters of the target, with the spread that the rules want.

    Args:
        params: of the target, as the library draws them.
        labels: the role of every leaf.
        rules: of the target.
        base: the base's standard deviations by role, `stds` of its parameters.

    Returns:
        a tree like `params`, every random leaf multiplied.

    Raises:
        ArgumentError: a role that the base does not have.
        DegenerateInitError: matrices at zero that no gradient leaves.

    Equation: w <- (s_base r_init / s_now) w, over all leaves of a role together.
    """
    now, told = stds(params, labels), {Role(role): float(std) for role, std in base.items()}
    require_live_start({role for role, std in now.items() if std == 0})
    if missing := sorted(role.value for role in now.keys() - told.keys()):
        raise ArgumentError(
            "base", f"has no {', '.join(missing)}", "give the standard deviation of each"
        )

    def factor(label: str) -> float:
        role = Role(label)
        wanted = told[role] * rules.role(role).init
        return wanted / now[role] if now[role] else 1.0

    return jax.tree_util.tree_map(lambda leaf, label: leaf * factor(label), params, labels)


def _times(rate: Rate, ratio: float) -> Rate:
    if callable(rate):
        return lambda count: ratio * rate(count)
    return ratio * rate


def _pairs(params: Parameters, labels: Labels) -> list[tuple[Floats, str]]:
    leaves, names = (jax.tree_util.tree_leaves(tree) for tree in (params, labels))
    if len(leaves) != len(names):
        raise ArgumentError(
            "labels",
            f"has {len(names)} leaves for {len(leaves)} parameters",
            "label every leaf of this tree",
        )
    return list(zip(leaves, names, strict=True))


def _path(path: jax.tree_util.KeyPath) -> str:
    """`blocks.0.query.kernel`; the `value` in which flax.nnx wraps a leaf is left out."""
    parts = [
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    ]
    wrapped = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and parts[-1] == "value"
    return ".".join(parts[:-1] if wrapped else parts)
