r"""Recipes as read in public code, one record each: exponents of m_d, m_N and m_L.

| name | where |
|---|---|
| `translimit`, `completep` | the rules of this library at (1, 1) |
| `translimit-half` | the same at alpha_L = 1/2 |
| `mup` | mup 1.0.0 |
| `nanogpt-mup` | EleutherAI/nanoGPT-mup, b2a5e60; its branch `moe`: `nanogpt-mup-moe`, f986d57 |
| `nanogpt-completep` | EleutherAI/nanoGPT-mup, CompleteP, 6f8bc3b; at alpha = 1/2 `-half` |
| `megatron` | Megatron-LM, `--use-mup`, d98e8a6 |
| `archscale-mup++` | ArchScale, c2ec1d6; with its experts, `archscale-mup++-moe` |
| `nanochat` | nanochat, 00255c1 and 025c432 |
| `u-mup` | unit-scaling, in part |
| `hf-45848` | a description for transformers, in part |
| `standard` | PyTorch's ordinary practice |

The tables were written down from the code that is named, and none is made from another one. `mup`
and `standard` treat a tensor by its shape alone, and so have rows of gates, positions and biases;
Megatron and ArchScale have gates. Rows that a recipe lacks are not compared, which
`recipes.not_compared` tells. A number that its source does not scale is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from translimit.core import ArgumentError, nearest
from translimit.describe import (
    OPTIMIZERS,
    OptimizerKind,
    OptimizerName,
    Size,
    Update,
    WeightDecay,
    optimizer_kind,
)
from translimit.scaling.engine import rules
from translimit.scaling.errors import UnsupportedModuleError
from translimit.scaling.recipes.invariants import ROWS, Invariants, counted, of_rules
from translimit.scaling.recipes.monomials import Monomial

Row = Mapping[str, str]
_BLOCK_MATRICES = ("query", "key", "value", "attention_out", "mlp_in", "mlp_out")
_MORE_VECTORS = (
    *("block_norm_bias", "query_bias", "key_bias", "value_bias", "attention_out_bias"),
    *("mlp_gate_bias", "final_norm_bias"),
)
_VECTORS = ("block_gain", "block_bias", "end_bias", "final_gain", *_MORE_VECTORS)
_ENDS = ("attention_out", "mlp_out", "end_bias", "attention_out_bias")


@dataclass(frozen=True)
class Recipe:
    """A recipe: what it scales, and for which optimisers.

    Attributes:
        name: as `get` takes it.
        source: repository and commit, or where else.
        tables: by optimiser, row to `mult`, `init`, `lr`, `eps` and `decay` (of eta lambda) as
            texts such as "d-1 L-1/2"; of the rules of this library none.
        branch: factor of every branch.
        scores: of the scale of the scores; None where it normalises queries and has none.
        depth: whether it has a rule of depth.
        partial: whether its source was read in part only.
        alpha_L: of the rules that it is, or is near to.
    """

    name: str
    source: str
    tables: Mapping[str, Mapping[str, Row]]
    branch: str = ""
    scores: str | None = "N-1"
    depth: bool = False
    partial: bool = False
    alpha_L: float = 1.0

    @property
    def optimizers(self) -> tuple[str, ...]:
        """Those that it defines; the rules of this library also take a record of one's own."""
        return tuple(self.tables or OPTIMIZERS)

    def at(
        self,
        base: Size,
        target: Size,
        optimizer: OptimizerName | OptimizerKind,
        *,
        force: bool = False,
    ) -> Invariants:
        """Its numbers between two sizes.

        Args:
            base: the tuned size.
            target: the other one.
            optimizer: one of `optimizers`.
            force: tell what it does along depth although it has no rule there.

        Raises:
            UnsupportedModuleError: an optimiser that it does not define, or another depth without
                a rule of depth.
        """
        kind = optimizer_kind(optimizer)
        if self.tables and kind.name not in self.tables:
            raise UnsupportedModuleError(
                "optimizer",
                f"{self.name!r} does not define {kind.name!r}",
                f"ask for {' or '.join(self.optimizers)}",
            )
        if base.layers != target.layers and not self.depth and not force:
            raise UnsupportedModuleError(
                "target",
                f"has {target.layers} layers for {base.layers}, and {self.name!r} has no rule of "
                "depth",
                "keep the depth, or pass force=True to see what it does",
            )
        if not self.tables:
            made = rules(base, target, optimizer=kind, alpha_L=self.alpha_L)
            return of_rules(made, self.name)
        branch = Monomial.of(self.branch)
        found = {} if self.scores is None else {"scores": Monomial.of(self.scores)}
        normed = frozenset(("query", "key") if self.scores is None else ())
        powers: dict[str, int] = {}
        for row, texts in self.tables[kind.name].items():
            moved = kind.of(ROWS[row])
            powers[row] = moved.update.power
            told = {name: Monomial.of(text) for name, text in texts.items()}
            if moved.update is not Update.ADAM:
                told.pop("eps", None)
            if moved.weight_decay is WeightDecay.NONE or row in _VECTORS:
                told.pop("decay", None)
            if row.endswith("bias"):
                told.pop("init", None)  # biases start at zero, whatever multiplies them
            numbers = counted(told, moved.update, branch if row in _ENDS else Monomial())
            found |= {f"{row}.{name}": power for name, power in numbers.items()}
        return Invariants(self.name, base, target, found, powers, normed)


def _table(
    hidden: Row,
    *,
    end: Row | None = None,
    vectors: Row,
    embedding: Row,
    readout: Row,
    final: Row | None = None,
    by_shape: bool = False,
    gate: bool = False,
    **others: Row,
) -> dict[str, Row]:
    """Rows by kind of tensor; `end` says what the last maps of branches have instead.

    `by_shape`: whether nothing but the shape of a tensor counts; `gate`: whether it has gates.
    """
    one = {"init": "", "eps": "", "decay": ""}
    ends = {**hidden, **(end or {})}
    rows: dict[str, Row] = {"embedding": {**one, **embedding}}
    rows |= {name: {**one, **(ends if name in _ENDS else hidden)} for name in _BLOCK_MATRICES}
    rows |= {name: {**one, **vectors} for name in ("block_gain", "block_bias", "end_bias")}
    rows |= {"final_gain": {**one, **(vectors if final is None else final)}}
    rows |= {"readout": {**one, **readout}}
    if gate or by_shape:
        rows["mlp_gate"] = {**one, **hidden}
    if by_shape:
        rows |= {name: {**one, **embedding} for name in ("position_embedding", "patch_embedding")}
        rows |= {name: {**one, **vectors} for name in _MORE_VECTORS}
    return rows | {name: {**one, **row} for name, row in others.items()}


_FAN = "d-1/2"
_ONE = {"lr": ""}
_MUP = _table(
    {"init": _FAN, "lr": "d-1"},
    vectors=_ONE,
    embedding=_ONE,
    readout={"mult": "d-1", "lr": ""},
    by_shape=True,
)
_NANOGPT = _table(
    {"init": _FAN, "lr": "d-1", "decay": "d-1"},
    end={"init": "d-1/2 L-1/2"},
    vectors=_ONE,
    embedding=_ONE,
    readout={"mult": "d-1", "lr": ""},
)
_COMPLETEP = _table(
    {"init": _FAN, "lr": "d-1", "eps": "d-1 L-1"},
    vectors={"lr": "", "eps": "d-1 L-1"},
    embedding={"lr": "", "eps": "d-1 L-1"},
    readout={"mult": "d-1", "lr": "", "eps": "d-1 L-1"},
)
_COMPLETEP_HALF = _table(
    {"init": _FAN, "lr": "d-1 L-1/2", "eps": "d-1 L-1/2", "decay": "L-1/2"},
    vectors={"lr": "L-1/2", "eps": "d-1 L-1/2"},
    embedding={"lr": "", "eps": "d-1 L-1/2"},
    readout={"mult": "d-1", "lr": "", "eps": "d-1 L-1/2"},
    final={"lr": "", "eps": "d-1 L-1/2"},
)
_MEGATRON = _table(
    {"init": _FAN, "lr": "d-1", "eps": "d-1", "decay": "d-1"},
    end={"init": "d-1/2 L-1/2"},
    vectors=_ONE,
    embedding=_ONE,
    readout={"mult": "d-1", "lr": ""},
    gate=True,
)
_MEGATRON_SGD = _table(
    {"init": _FAN, "lr": ""},
    end={"init": "d-1/2 L-1/2"},
    vectors={"lr": "d"},
    embedding={"lr": "d"},
    readout={"mult": "d-1", "lr": "d"},
    gate=True,
)
_ALL = "L-1/2"
_ARCHSCALE = _table(
    {"init": _FAN, "lr": f"d-1 {_ALL}", "decay": f"d-1 {_ALL}"},
    vectors={"lr": _ALL},
    embedding={"lr": _ALL, "decay": _ALL},
    readout={"mult": "d-1", "lr": _ALL, "decay": _ALL},
    gate=True,
)
_NANOCHAT = _table(
    {"init": _FAN, "lr": ""},
    vectors=_ONE,
    embedding={"lr": _FAN, "decay": _FAN},
    readout={"lr": _FAN, "decay": _FAN},
)
_STANDARD = _table(
    {"init": _FAN, "lr": ""},
    vectors=_ONE,
    embedding=_ONE,
    readout={"init": _FAN, "lr": ""},
    by_shape=True,
)


def _adam(table: Mapping[str, Row]) -> dict[str, Mapping[str, Row]]:
    return {"adam": table, "adamw": table}


#: The recipes by name.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        one.name: one
        for one in (
            Recipe("translimit", "the rules of this library", {}, depth=True),
            Recipe("completep", "arXiv 2505.01618, the same numbers", {}, depth=True),
            Recipe("translimit-half", "the rules at alpha_L = 1/2", {}, depth=True, alpha_L=0.5),
            Recipe("mup", "mup 1.0.0", _adam(_MUP)),
            Recipe("nanogpt-mup", "EleutherAI/nanoGPT-mup b2a5e60", _adam(_NANOGPT)),
            Recipe(
                "nanogpt-mup-moe",
                "EleutherAI/nanoGPT-mup f986d57",
                _adam({**_NANOGPT, "router": {"init": "", "lr": "", "eps": ""}}),
            ),
            Recipe(
                "nanogpt-completep",
                "EleutherAI/nanoGPT-mup 6f8bc3b",
                _adam(_COMPLETEP),
                branch="L-1",
                depth=True,
            ),
            Recipe(
                "nanogpt-completep-half",
                "EleutherAI/nanoGPT-mup 6f8bc3b",
                _adam(_COMPLETEP_HALF),
                branch="L-1/2",
                depth=True,
                alpha_L=0.5,
            ),
            Recipe(
                "megatron",
                "NVIDIA/Megatron-LM d98e8a6, --use-mup",
                {**_adam(_MEGATRON), "sgd": _MEGATRON_SGD},
            ),
            Recipe(
                "archscale-mup++",
                "microsoft/ArchScale c2ec1d6",
                _adam(_ARCHSCALE),
                branch="L-1/2",
                depth=True,
                alpha_L=0.5,
            ),
            Recipe(
                "archscale-mup++-moe",
                "microsoft/ArchScale c2ec1d6",
                _adam(
                    {
                        **_ARCHSCALE,
                        "router": {"mult": "d-1", "init": "", "lr": f"d-1 {_ALL}", "eps": ""},
                    }
                ),
                branch="L-1/2",
                depth=True,
                alpha_L=0.5,
            ),
            Recipe(
                "nanochat",
                "karpathy/nanochat 00255c1, 025c432",
                {"muon": _NANOCHAT},
                scores=None,
            ),
            Recipe(
                "u-mup",
                "graphcore-research/unit-scaling, in part",
                _adam(
                    {
                        **{row: {"init": _FAN, "lr": f"d-1 {_ALL}"} for row in _BLOCK_MATRICES},
                        "embedding": {"init": "", "lr": _FAN},
                        "readout": {"mult": "d-1", "init": "", "lr": ""},
                    }
                ),
                branch="L-1/2",
                depth=True,
                partial=True,
                alpha_L=0.5,
            ),
            Recipe(
                "hf-45848",
                "a description for huggingface/transformers, in part",
                _adam(
                    {
                        **{row: {"lr": "d-1"} for row in _BLOCK_MATRICES},
                        "block_gain": {"lr": ""},
                        "final_gain": {"lr": ""},
                    }
                ),
                partial=True,
            ),
            Recipe(
                "standard",
                "PyTorch's ordinary practice",
                {name: _STANDARD for name, one in OPTIMIZERS.items() if one.beside is None},
                scores="N-1/2",
            ),
        )
    }
)


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ArgumentError: no such recipe.
    """
    if name not in RECIPES:
        raise ArgumentError("recipe", f"unknown recipe {name!r}", nearest(str(name), RECIPES))
    return RECIPES[name]
