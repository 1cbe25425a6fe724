"""What `translimit scale` and `translimit recipes` do: rules, batches, and published recipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from translimit.cli.flags import facts_of, told_as_options
from translimit.cli.model_arguments import RecipesCommand, ScaleCommand
from translimit.cli.output import print_json, print_table
from translimit.cli.terminal import say
from translimit.cli.verdicts import scale_verdict
from translimit.core import ConfigError, nearest
from translimit.describe import OptimizerName

if TYPE_CHECKING:
    from translimit.describe import Size
    from translimit.scaling import BatchRule, Rules, VerifiedHorizon
    from translimit.scaling.recipes import Difference

#: Rows that a note names before it counts.
_TOLD = 8


def do_scale(command: ScaleCommand) -> None:
    """Print the rules between two sizes."""
    with told_as_options(command):
        _scale(command)


def _scale(command: ScaleCommand) -> None:
    from translimit.scaling import completed, roles_without_parameters, rules_for

    if command.recipe is not None:
        _recipe_between(command)
        return
    made = rules_for(
        command.base,
        command.target,
        allow=command.allow,
        optimizer=command.optimizer,
        alpha_A=command.alpha_a,
        alpha_L=command.alpha_l,
        style=command.style,
        decay=command.decay,
        tied=True if command.tied else None,
        fold_scores=command.fold_scores,
        clipping=command.clipping,
        muon_adjust=command.muon_adjust,
        change_mlp_ratio=command.change_mlp_ratio,
        unsafe=command.unsafe,
        **facts_of(command.facts),
    )
    batch = _batch(command)
    if command.export is not None:
        _export(command, made)
        return
    horizons = _horizons(command, made)
    if command.json:
        answer = {**made.to_json(), "horizons": [one.to_json() for one in horizons]}
        print_json(answer if batch is None else {**answer, "batch": batch.to_json()})
        return
    from translimit.cli.tables import rules_table

    _, target, free = completed(command.base, command.target)
    without = roles_without_parameters(target)
    groups = {
        rule: [role for role in roles if role not in without]
        for rule, roles in made.groups().items()
    }
    groups = {rule: roles for rule, roles in groups.items() if roles}
    print_table(rules_table(groups, command.lr))
    scores = "as in the base" if free else f"{made.score_scale:.6g} q . k (absolute)"
    say(f"scores: {scores}; branches: {made.residual:.6g}")
    say("all else is target over base; rates multiply the schedule of the base")
    for sentence in made.warnings:
        say(f"note: {sentence}")
    if batch is not None:
        _tell_batch(batch, command)
    for one in horizons:
        say(f"horizon: {one}")
    say(f"verdict: {scale_verdict(made, command.lr)}")


def _horizons(command: ScaleCommand, made: Rules) -> tuple[VerifiedHorizon, ...]:
    """What the shipped ledger, and one of the user's own, say of the axes that change."""
    from translimit.scaling import read_horizons, shipped_horizons, verified_horizons

    if command.ledger is None:
        return verified_horizons(made)
    return verified_horizons(made, (*shipped_horizons(), *read_horizons(command.ledger)))


def _export(command: ScaleCommand, made: Rules) -> None:
    from translimit.scaling.adapters import overrides, to_yaml

    if command.export is None or command.lr is None:
        raise ConfigError("--lr", "is missing", "give the rate tuned at the base")
    table = overrides(
        made,
        command.export,
        lr=command.lr,
        min_lr=command.min_lr,
        eps=command.eps,
        weight_decay=command.weight_decay,
        adam_lr=command.adam_lr,
    )
    if command.json:
        print_json(table)
    else:
        sys.stdout.write(to_yaml(table))


def _batch(command: ScaleCommand) -> BatchRule | None:
    """What another batch or number of steps asks for, where one is told."""
    if command.batch is None and command.steps is None:
        return None
    from translimit.scaling import batch_rule

    batch = (1.0, 1.0) if command.batch is None else _pair("--batch", command.batch)
    decay = command.decay if command.decay in ("timescale", "independent") else "constant"
    return batch_rule(
        optimizer=command.optimizer,
        batch=batch,
        steps=None if command.steps is None else _pair("--steps", command.steps),
        betas=command.betas,
        momentum=command.momentum,
        memory=command.memory,
        duration=_duration(command.duration),
        dataset=command.dataset,
        unsafe=command.unsafe,
        decay=decay,
        critical=command.critical,
        clipping=command.clipping,
    )


def _duration(text: str) -> Literal["keep", "sqrt"] | float:
    if text == "keep" or text == "sqrt":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            "--duration", f"got {text!r}", "write keep, sqrt or a power of the examples, as -0.3"
        ) from None


def _pair(option: str, text: str) -> tuple[float, float]:
    first, _, second = text.partition(":")
    try:
        return float(first), float(second)
    except ValueError:
        raise ConfigError(
            option, f"got {text!r}", "write the base's and the target's as 256:1024"
        ) from None


def _tell_batch(rule: BatchRule, command: ScaleCommand) -> None:
    (B_0, B), (T_0, T) = rule.batch, rule.steps
    told = [f"rate times {rule.lr:.4g}"]
    if rule.betas is not None:
        told.append(f"betas {rule.betas[0]:.4g} {rule.betas[1]:.4g}")
    if rule.momentum is not None:
        told.append(f"momentum {rule.momentum:.4g}")
    if rule.eps is not None:
        told.append(f"epsilon times {rule.eps:.4g}")
    if rule.decay is not None:
        told.append(f"weight decay times {rule.decay:.4g}")
    told.append(f"steps of warm-up times {rule.warmup:.4g}")
    say(f"batch {B_0:g} to {B:g}, steps {T_0:g} to {T:g}: {', '.join(told)}")
    say("these multiply the rates, epsilons and decays above")
    if command.steps is not None and command.lr is not None and command.weight_decay:
        decay = 1.0 if rule.decay is None else rule.decay
        share = T * command.lr * rule.lr * command.weight_decay * decay
        say(f"the run is {share:.3g} time scales of the decay long")
    for sentence in (*rule.assumptions, *rule.warnings):
        say(f"note: {sentence}")


def _recipe_between(command: ScaleCommand) -> None:
    from translimit.scaling import recipes, rules

    base, target = _sizes(command.base, command.target)
    made = recipes.get(command.recipe or "").at(
        base, target, command.optimizer, force=command.force
    )
    found = recipes.diff(made, "translimit", base, target, command.optimizer, force=command.force)
    ruled = made.name in ("translimit", "completep")
    horizons = _horizons(command, rules(base, target, optimizer=command.optimizer)) if ruled else ()
    if command.json:
        numbers = {number: made[number] for number in made}
        print_json(
            {
                "recipe": made.name,
                "numbers": numbers,
                "differences": [one.to_json() for one in found],
                "horizons": [one.to_json() for one in horizons],
            }
        )
        return
    from translimit.cli.recipe_tables import recipe_table

    print_table(recipe_table(made))
    for one in horizons:
        say(f"horizon: {one}")
    if not ruled:
        say(f"horizon: no verified horizon; the ledger has none of {made.name}")
    _tell_differences(found, (), made.name, "translimit")


def do_recipes(command: RecipesCommand) -> None:
    """List recipes, show one, or print where two differ."""
    with told_as_options(command):
        _recipes(command)


def _recipes(command: RecipesCommand) -> None:
    from translimit.cli.recipe_tables import recipe_table, recipes_table
    from translimit.scaling import recipes

    known = {"list": 0, "show": 1, "diff": 2}
    what, *names = command.words or ("list",)
    if what not in known:
        raise ConfigError("recipes", f"unknown action {what!r}", nearest(what, known))
    if len(names) != known[what]:
        raise ConfigError(
            "recipes",
            f"{what} takes {known[what]} names, and {len(names)} are given",
            f"known: {', '.join(recipes.RECIPES)}",
        )
    if what == "list":
        if command.json:
            listed = [
                {"name": one.name, "source": one.source, "optimizers": list(one.optimizers)}
                for one in recipes.RECIPES.values()
            ]
            print_json({"recipes": listed})
        else:
            print_table(recipes_table(recipes.RECIPES.values()))
        return
    base, target = _sizes(command.base, command.target)
    if what == "show":
        optimizer = _optimizer(command, names)
        made = recipes.get(names[0]).at(base, target, optimizer, force=command.force)
        if command.json:
            print_json({"recipe": made.name, "numbers": made.table()})
        else:
            print_table(recipe_table(made))
        return
    first, second = names
    asked = (first, second, base, target, _optimizer(command, names))
    found = recipes.diff(*asked, force=command.force)
    apart = recipes.not_compared(*asked, force=command.force)
    if command.json:
        differences = [one.to_json() for one in found]
        print_json({"recipes": names, "differences": differences, "not_compared": list(apart)})
        return
    _tell_differences(found, apart, first, second)


def _optimizer(command: RecipesCommand, names: Sequence[str]) -> OptimizerName:
    """The one that is asked for; else adamw where all recipes define it, or the first they do."""
    from translimit.scaling import recipes

    if command.optimizer is not None:
        return command.optimizer
    known = get_args(OptimizerName)
    shared = [one for one in known if all(one in recipes.get(n).optimizers for n in names)]
    return "adamw" if "adamw" in shared or not shared else shared[0]


def _tell_differences(
    found: tuple[Difference, ...], apart: tuple[str, ...], one: str, other: str
) -> None:
    rows = list(dict.fromkeys(number.partition(".")[0] for number in apart))
    if rows:
        more = f" and {len(rows) - _TOLD} more" if len(rows) > _TOLD else ""
        say(f"note: not compared, for {other} has no such row: {', '.join(rows[:_TOLD])}{more}")
    if not found:
        say(f"verdict: {one} and {other} train the same network between these sizes")
        return
    alike: dict[str, list[str]] = {}
    for each in found:
        alike.setdefault(f"{each.ratio} = {each.value:.4g}", []).append(each.number)
    for ratio, numbers in alike.items():
        say(f"{one} over {other}, {ratio}: {', '.join(numbers)}")
    say(f"verdict: {one} differs from {other} in {len(found)} numbers")


def _sizes(base: str, target: str) -> tuple[Size, Size]:
    from translimit.scaling import completed, read_size

    small, large, _ = completed(base, target)
    return read_size(str(small)).size, read_size(str(large)).size
