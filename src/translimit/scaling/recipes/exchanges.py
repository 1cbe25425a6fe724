r"""What two tensors exchange without effect, and the choice among such forms.

(start, rate, epsilon) x (theta, theta^p, 1 / theta) on one tensor, biases of its output with it,
and x 1 / theta on the other train the same network, to the last decay, for

| the one | the other | chosen so that the one starts at |
|---|---|---|
| gain of a norm | all maps that read it | 1 |
| query | the scale of the scores | m_d^{-1/2} |
| key | query | m_d^{-1/2} |
| value | attention output | m_d^{-1/2} |
| input of a gated MLP | its output | m_d^{-1/2} |

and with the same theta for embedding, positions and all ends of branches (or the gains of branches,
where there are such), where every reader has a norm: the embedding starts at 1. The scale of a map
that a norm follows is no number at all: it starts at 1 here, so that its rate and epsilon are those
over its start. A start that is not told, as that of zeros, leaves its pair as it is.

Reference: documentation, "Scaling rules", recipes; held against training in
`tests/scaling/test_exchanges.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from translimit.scaling.recipes.monomials import Monomial

_ONE, _FAN = Monomial(), Monomial.of("d-1/2")
_GATED = "mlp_gate.rate"
_READ = (
    *("query", "key", "value", "query_down", "key_value_down", "head_gate"),
    *("mlp_in", "mlp_gate", "router", "expert_in"),
)
#: Maps, and the biases of what they write.
_BIASES = {
    "query": "query_bias",
    "key": "key_bias",
    "value": "value_bias",
    "attention_out": "attention_out_bias",
    "mlp_in": "block_bias",
    "mlp_out": "end_bias",
    "expert_in": "expert_in_bias",
    "expert_out": "expert_out_bias",
    "patch_embedding": "patch_bias",
    "block_gain": "block_norm_bias",
    "final_gain": "final_norm_bias",
}
_ENDS = ("attention_out", "mlp_out", "expert_out")


def canonical(
    exponents: Mapping[str, Monomial], powers: Mapping[str, int], normed: Collection[str] = ()
) -> dict[str, Monomial]:
    """Numbers of the same network, with the exchanges of the table made.

    Args:
        exponents: by `row.number`, and `scores`.
        powers: p by row, 1 where none is told.
        normed: rows whose map a norm follows.
    """
    made = dict(exponents)

    def scale(row: str, theta: Monomial, bias: bool = True) -> None:
        p = powers.get(row, 1)
        moved = {"start": theta, "rate": theta**p, "epsilon": theta**-1}
        for key, power in made.items():
            of, _, number = key.partition(".")
            if of == row and (by := moved.get(number.partition(" ")[0])) is not None:
                made[key] = power * by
        if bias and row in _BIASES:
            scale(_BIASES[row], theta)

    def to(row: str, start: Monomial) -> Monomial:
        """The factor that was taken from a row to let it start there."""
        found = made.get(f"{row}.start")
        if found is None:
            return _ONE
        scale(row, start / found)
        return found / start

    for gain, readers in (("block_gain", _READ), ("final_gain", ("readout",))):
        taken = to(gain, _ONE)
        for row in readers:
            scale(row, taken, bias=False)
    if not {"query", "key"} & set(normed):
        scale("query", to("key", _FAN))
        if "scores" in made:
            made["scores"] *= to("query", _FAN)
    scale("attention_out", to("value", _FAN), bias=False)
    if _GATED in made:
        scale("mlp_out", to("mlp_in", _FAN), bias=False)
    if {"block_gain.rate", "final_gain.rate"} <= made.keys():
        unit = to("embedding", _ONE) ** -1
        ends = ("branch_gain",) if "branch_gain.rate" in made else _ENDS
        for row in ("position_embedding", "patch_embedding", *ends):
            scale(row, unit)
    for row in normed:
        to(row, _ONE)
    return made
