"""What a prediction covers, assumes and warns of, in words."""

from __future__ import annotations

from translimit.describe import Norm, PreNormArchitecture
from translimit.limits.homogenized import Regime
from translimit.predict.records import OverlapCurve, Quantity, StepSizes

#: A step below this counts as small.
TOLERANCE = 0.05
#: The largest sizes at which networks with drawn weights were held against the recursion.
VERIFIED = {"dim": 4096, "layers": 48, "tokens": 197, "score_std": 3.2, "hidden_std": 1.34}
#: Below this width 1 / dim is not small any more.
NARROW = 64

_STACKS = "networks with all weights drawn, widths 80 to 4096, score_std up to 3.2"


def covered_blocks(architecture: PreNormArchitecture) -> tuple[str, ...]:
    """The block types whose terms are in the recursion."""
    blocks = ["causal attention" if architecture.causal else "attention"]
    if architecture.kv_heads != architecture.heads:
        blocks.append(f"{architecture.kv_heads} key/value heads for {architecture.heads} heads")
    if architecture.rotary is not None:
        blocks.append(
            f"rotary positions ({architecture.rotary.dims} of {architecture.head_dim} entries)"
        )
    block = architecture.feed_forward
    if block is not None:
        gated = "gated " if block.gated else ""
        blocks.append(f"{gated}feed-forward block ({block.activation.value})")
        if architecture.parallel:
            blocks.append("parallel: both blocks read the same tokens")
    blocks.append(architecture.norm.value)
    return tuple(blocks)


def mapping(architecture: PreNormArchitecture) -> tuple[Quantity, ...]:
    """The pre-LN mapping."""
    weights = "independent centred Gaussian weights, zero biases, unit gains of the norms"
    first, others = architecture.initial_squares
    quantities = [
        Quantity("score_std", "beta_s = D sigma_0^2", architecture.score_std, weights, _STACKS),
        Quantity("branch_square", "Gamma", architecture.branch_square, weights, _STACKS),
        Quantity(
            "initial_square", "r_0^2", others, "independent tokens, see the assumptions", _STACKS
        ),
        Quantity(
            "first_step",
            "Delta tau_0 = Gamma / r_0^2",
            architecture.branch_square / others,
            "the first layer's attention alone",
            "follows from the two above",
        ),
        Quantity(
            "relative_fluctuation",
            "D^{-1/2}",
            architecture.dim**-0.5,
            "the order of the fluctuations between networks",
            "the printed errors measure it",
        ),
    ]
    if architecture.first_token_std is not None:
        quantities.append(
            Quantity("first_token_square", "r_0^2 of token 0", first, "a class token", _STACKS)
        )
    block = architecture.feed_forward
    if block is not None:
        quantities.append(
            Quantity(
                "hidden_std",
                "D^{1/2} sigma_1",
                architecture.dim**0.5 * block.in_std,
                weights,
                _STACKS,
            )
        )
    return tuple(quantities)


def step_sizes(architecture: PreNormArchitecture, curve: OverlapCurve) -> StepSizes:
    """The unit diffusive time of every layer's attention, and the regime that follows."""
    steps = [architecture.branch_square / square for square in curve.square[:-1]]
    small = [layer for layer, step in enumerate(steps) if step <= TOLERANCE]
    start = small[0] if small else None
    if sum(steps) <= TOLERANCE:
        regime, says = Regime.FROZEN, "attention does not move the overlaps at initialisation"
    elif start == 0:
        regime = Regime.DIFFUSIVE
        says = "steps are small from the first layer on: the SDE with common noise would apply"
    else:
        regime = Regime.DISCRETE
        end = "nowhere" if start is None else f"from layer {start} on"
        says = (
            "the first layers move overlaps by O(1), so that the recursion, not an equation in "
            f"continuous depth, describes them; steps are small {end}"
        )
    return StepSizes(regime, steps[0], steps[-1], start, says)


def inapplicable(
    architecture: PreNormArchitecture, where: StepSizes
) -> tuple[tuple[str, str], ...]:
    """Limits that do not apply, and why."""
    found = [
        (
            "the Transformer PDE (many tokens, weights smooth along depth)",
            "weights are drawn independently for every layer and centred: their mean effect is "
            "zero, and what remains is noise",
        ),
        (
            "the covariance SDE of shaped attention",
            "attention is not centred, has no identity of its own and the standard temperature: "
            "a layer changes overlaps by more than O(1 / D)",
        ),
        (
            "the training dynamics of infinite width (DMFT)",
            "the numbers here are of the network before its first step of training",
        ),
    ]
    if where.small_from != 0:
        found.append(
            (
                "the SDE with common noise on the sphere",
                f"the first layer's step {where.first_step:.3g} is not small",
            )
        )
    why = []
    if architecture.causal:
        why.append("the mask tells positions apart")
    if architecture.first_token_std is not None:
        why.append("tokens enter with different norms")
    if architecture.feed_forward is not None:
        why.append("there is a feed-forward block")
    if why:
        found.append(("the scalar closures (simplex, high temperature)", "; ".join(why)))
    return tuple(found)


def assumptions(architecture: PreNormArchitecture) -> tuple[str, ...]:
    """What every number assumes, then what this architecture's numbers assume."""
    norm = "removes the mean" if architecture.norm is Norm.LAYER else "keeps the mean"
    return (
        "the network at initialisation: nothing here speaks of trained weights",
        f"no dropout; biases are zero and gains of the norms one; the norm {norm}",
        *architecture.assumptions,
    )


def warnings(
    architecture: PreNormArchitecture, tokens: int, curve: OverlapCurve
) -> tuple[str, ...]:
    """What lies outside of what was verified."""
    block = architecture.feed_forward
    sizes = {
        "dim": architecture.dim,
        "layers": architecture.layers,
        "tokens": tokens,
        "score_std": architecture.score_std,
        "hidden_std": 0.0 if block is None else architecture.dim**0.5 * block.in_std,
    }
    found = [
        f"{name} {value:.4g} lies beyond {VERIFIED[name]:g}, the largest at which the recursion "
        "was held against networks with drawn weights"
        for name, value in sizes.items()
        if value > VERIFIED[name]
    ]
    if architecture.dim < NARROW:
        found.append(
            f"width {architecture.dim}: the recursion is of infinite width, see the errors"
        )
    if max(curve.error) > TOLERANCE:
        found.append(
            f"one network differs from the limit by up to {max(curve.error):.2g} (one standard "
            "error)"
        )
    found += [f"ignored: {text}" for text in architecture.ignored]
    return tuple(found)
