"""The roles of parameters: what one is in the network decides every one of its rules.

A rule depends on four facts about a role: which axes its weight maps from and to, whether it
sits in a block, whether it moves the attention scores, and whether it sees only the tokens that a
router sends to it. A vector is a weight on the constant input 1, so its fan-in is 1; axes that are
never scaled (pixels, vocabulary, classes) count as 1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from translimit.core import ArgumentError, nearest
from translimit.describe.size import Size


class Axis(enum.Enum):
    """An axis of a weight, with the number of its entries."""

    FIXED = "fixed"
    STREAM = "stream"
    QUERIES = "queries"
    KEYS = "keys"
    HIDDEN = "hidden"
    HEAD_DIM = "head_dim"
    VALUES = "values"
    QUERY_RANK = "query_rank"
    KV_RANK = "kv_rank"
    KEYS_AND_VALUES = "keys_and_values"
    HEADS = "heads"

    def length(self, size: Size) -> float:
        """Entries at given sizes; 1 for an axis that is never scaled."""
        match self:
            case Axis.FIXED:
                return 1.0
            case Axis.STREAM:
                return float(size.width)
            case Axis.QUERIES:
                return float(size.head_dim * size.heads)
            case Axis.KEYS:
                return float(size.head_dim * size.groups)
            case Axis.HIDDEN:
                return size.width * size.mlp_ratio
            case Axis.HEAD_DIM:
                return float(size.head_dim)
            case Axis.VALUES:
                return float(size.values * size.heads)
            case Axis.QUERY_RANK:
                return float(size.query_rank or 1)
            case Axis.KV_RANK:
                return float(size.kv_rank or 1)
            case Axis.HEADS:
                return float(size.heads)
            case Axis.KEYS_AND_VALUES:
                return float(size.heads * (size.head_dim - (size.rope_dim or 0) + size.values))


@dataclass(frozen=True)
class _Facts:
    fan_in: Axis
    fan_out: Axis
    in_block: bool = False
    moves_scores: bool = False
    routed: bool = False
    on_stream: bool = False


class Role(enum.StrEnum):
    """What a parameter is in the network.

    The gate of a gated MLP is `MLP_GATE`, its other input projection `MLP_IN`; a class token is a
    `POSITION_EMBEDDING`. An RMS norm has a gain and no bias. The exact gradient of `KEY_BIAS` is
    zero without rotary positions, since softmax removes it: leave it out of coordinate checks. A
    `SHAPED_GAIN` weighs the parts of a shaped attention matrix, a `BRANCH_GAIN` the entries of what
    a branch adds: LayerScale, or the gain of a norm at the end of a branch. An `EXPERT_IN` is an
    input projection or gate of the experts behind a `ROUTER`; a shared expert is an MLP. A
    `QK_GAIN` is the gain of a norm of queries or keys with an entry for every channel,
    `QK_GAIN_SHARED` one that all heads share, `QK_BIAS_SHARED` the bias beside it;
    `QUERY_NORM_GAIN` and `KEY_NORM_GAIN` tell the two norms apart. `READOUT_DENSE` is a layer
    between the stream and the readout, as BERT has one. An `EMBEDDING_MATRIX` maps embeddings of
    fewer entries to the stream, as ELECTRA has one. A `SCORE_GAIN` is one number a layer, by which
    all scores of the layer are multiplied.

    Of latents (multi-head latent attention) there are the map down from the stream, the gain of the
    norm between and the map up, `QUERY_DOWN`, `QUERY_LATENT_GAIN`, `QUERY_UP`, and the same of keys
    and values, which have one latent.

    Beside the tables of a plain block there are numbers that multiply whole vectors, and what
    enters at the values: a `STREAM_FACTOR` multiplies the stream in every block, a `SKIP_FACTOR` an
    earlier stream that is added to it, a `BLOCK_FACTOR` anything inside of a branch, as what it
    adds or its values. A `HEAD_GATE` is a matrix that reads the stream and gives a number for every
    head, a `NARROW_HEAD_GATE` one that reads a fixed number of entries. A `VALUE_EMBEDDING` is a
    table of a block, by token, that is added to its values.

    `UNSCALED` is whatever no other role is for: it keeps the numbers of the base.
    """

    TOKEN_EMBEDDING = "token_embedding"
    PATCH_EMBEDDING = "patch_embedding"
    POSITION_EMBEDDING = "position_embedding"
    PATCH_BIAS = "patch_bias"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    ATTENTION_OUT = "attention_out"
    MLP_IN = "mlp_in"
    MLP_GATE = "mlp_gate"
    MLP_OUT = "mlp_out"
    QUERY_BIAS = "query_bias"
    KEY_BIAS = "key_bias"
    VALUE_BIAS = "value_bias"
    ATTENTION_OUT_BIAS = "attention_out_bias"
    MLP_IN_BIAS = "mlp_in_bias"
    MLP_GATE_BIAS = "mlp_gate_bias"
    MLP_OUT_BIAS = "mlp_out_bias"
    BLOCK_NORM_GAIN = "block_norm_gain"
    BLOCK_NORM_BIAS = "block_norm_bias"
    QUERY_NORM_GAIN = "query_norm_gain"
    KEY_NORM_GAIN = "key_norm_gain"
    FINAL_NORM_GAIN = "final_norm_gain"
    FINAL_NORM_BIAS = "final_norm_bias"
    READOUT = "readout"
    READOUT_BIAS = "readout_bias"
    SHAPED_GAIN = "shaped_gain"
    SCORE_GAIN = "score_gain"
    BRANCH_GAIN = "branch_gain"
    EMBEDDING_NORM_GAIN = "embedding_norm_gain"
    EMBEDDING_NORM_BIAS = "embedding_norm_bias"
    ROUTER = "router"
    ROUTER_BIAS = "router_bias"
    EXPERT_IN = "expert_in"
    EXPERT_OUT = "expert_out"
    EXPERT_IN_BIAS = "expert_in_bias"
    EXPERT_OUT_BIAS = "expert_out_bias"
    QK_GAIN = "qk_gain"
    QK_GAIN_SHARED = "qk_gain_shared"
    QK_BIAS_SHARED = "qk_bias_shared"
    READOUT_DENSE = "readout_dense"
    READOUT_DENSE_BIAS = "readout_dense_bias"
    EMBEDDING_MATRIX = "embedding_matrix"
    EMBEDDING_MATRIX_BIAS = "embedding_matrix_bias"
    QUERY_DOWN = "query_down"
    QUERY_LATENT_GAIN = "query_latent_gain"
    QUERY_UP = "query_up"
    KEY_VALUE_DOWN = "key_value_down"
    KEY_VALUE_LATENT_GAIN = "key_value_latent_gain"
    KEY_VALUE_UP = "key_value_up"
    STREAM_FACTOR = "stream_factor"
    SKIP_FACTOR = "skip_factor"
    BLOCK_FACTOR = "block_factor"
    HEAD_GATE = "head_gate"
    NARROW_HEAD_GATE = "narrow_head_gate"
    VALUE_EMBEDDING = "value_embedding"
    UNSCALED = "unscaled"

    @property
    def fan_in(self) -> Axis:
        """The axis that the weight reads."""
        return _FACTS[self].fan_in

    @property
    def fan_out(self) -> Axis:
        """The axis that the weight writes."""
        return _FACTS[self].fan_out

    @property
    def in_block(self) -> bool:
        """Whether it belongs to one of the L blocks."""
        return _FACTS[self].in_block

    @property
    def moves_scores(self) -> bool:
        """Whether it makes keys or queries."""
        return _FACTS[self].moves_scores

    @property
    def is_of_mlp(self) -> bool:
        """Whether the parameter is one of an MLP, or of a shared expert."""
        return self in _OF_MLPS

    @property
    def is_routed(self) -> bool:
        """Whether its gradient comes from the tokens that a router sends: a share 1 / experts."""
        return _FACTS[self].routed

    @property
    def is_on_stream(self) -> bool:
        """Whether each of the L blocks multiplies the stream itself by it, and not a branch."""
        return _FACTS[self].on_stream

    @property
    def is_factor(self) -> bool:
        """Whether it is a number that multiplies a whole vector; no matrix, and no gain."""
        return self.value.endswith("_factor")

    @property
    def is_of_latent(self) -> bool:
        """Whether it is a map or gain of a latent, which only sizes with ranks have."""
        return self in _OF_LATENTS

    @property
    def is_hidden_matrix(self) -> bool:
        """Whether both of its axes grow; this is what Muon orthogonalises, gates of heads aside."""
        return Axis.FIXED not in (self.fan_in, self.fan_out) and self is not Role.HEAD_GATE

    @property
    def ends_branch(self) -> bool:
        """Whether it belongs to the last linear map of a branch, which writes to the stream."""
        return self in _ENDS

    @property
    def is_gain(self) -> bool:
        """Whether it starts at a constant, 1 as a rule."""
        return self.value.endswith("_gain") or self is Role.QK_GAIN_SHARED

    @property
    def is_bias(self) -> bool:
        """Whether it starts at the constant 0."""
        return self.value.endswith("_bias") or self is Role.QK_BIAS_SHARED


_ENDS = frozenset(
    {
        *(Role.ATTENTION_OUT, Role.ATTENTION_OUT_BIAS, Role.MLP_OUT, Role.MLP_OUT_BIAS),
        *(Role.EXPERT_OUT, Role.EXPERT_OUT_BIAS),
    }
)

_OF_MLPS = frozenset(
    {
        Role.MLP_IN,
        Role.MLP_GATE,
        Role.MLP_OUT,
        Role.MLP_IN_BIAS,
        Role.MLP_GATE_BIAS,
        Role.MLP_OUT_BIAS,
    }
)
_OF_LATENTS = frozenset(
    {
        *(Role.QUERY_DOWN, Role.QUERY_LATENT_GAIN, Role.QUERY_UP),
        *(Role.KEY_VALUE_DOWN, Role.KEY_VALUE_LATENT_GAIN, Role.KEY_VALUE_UP),
    }
)

_EMBEDDING = _Facts(Axis.FIXED, Axis.STREAM)
_BLOCK_VECTOR = _Facts(Axis.FIXED, Axis.STREAM, in_block=True)
_QUERY_VECTOR = _Facts(Axis.FIXED, Axis.QUERIES, in_block=True, moves_scores=True)
_TO_HIDDEN = _Facts(Axis.STREAM, Axis.HIDDEN, in_block=True)
_HIDDEN_VECTOR = _Facts(Axis.FIXED, Axis.HIDDEN, in_block=True)

_FACTS: dict[Role, _Facts] = {
    Role.TOKEN_EMBEDDING: _EMBEDDING,
    Role.PATCH_EMBEDDING: _EMBEDDING,
    Role.POSITION_EMBEDDING: _EMBEDDING,
    Role.PATCH_BIAS: _EMBEDDING,
    Role.QUERY: _Facts(Axis.STREAM, Axis.QUERIES, in_block=True, moves_scores=True),
    Role.KEY: _Facts(Axis.STREAM, Axis.KEYS, in_block=True, moves_scores=True),
    Role.VALUE: _Facts(Axis.STREAM, Axis.KEYS, in_block=True),
    Role.ATTENTION_OUT: _Facts(Axis.VALUES, Axis.STREAM, in_block=True),
    Role.MLP_IN: _TO_HIDDEN,
    Role.MLP_GATE: _TO_HIDDEN,
    Role.MLP_OUT: _Facts(Axis.HIDDEN, Axis.STREAM, in_block=True),
    Role.QUERY_BIAS: _QUERY_VECTOR,
    Role.KEY_BIAS: _Facts(Axis.FIXED, Axis.KEYS, in_block=True, moves_scores=True),
    Role.VALUE_BIAS: _Facts(Axis.FIXED, Axis.KEYS, in_block=True),
    Role.ATTENTION_OUT_BIAS: _BLOCK_VECTOR,
    Role.MLP_IN_BIAS: _HIDDEN_VECTOR,
    Role.MLP_GATE_BIAS: _HIDDEN_VECTOR,
    Role.MLP_OUT_BIAS: _BLOCK_VECTOR,
    Role.BLOCK_NORM_GAIN: _BLOCK_VECTOR,
    Role.BLOCK_NORM_BIAS: _BLOCK_VECTOR,
    Role.QUERY_NORM_GAIN: _QUERY_VECTOR,
    Role.KEY_NORM_GAIN: _Facts(Axis.FIXED, Axis.KEYS, in_block=True, moves_scores=True),
    Role.FINAL_NORM_GAIN: _EMBEDDING,
    Role.FINAL_NORM_BIAS: _EMBEDDING,
    Role.READOUT: _Facts(Axis.STREAM, Axis.FIXED),
    Role.READOUT_BIAS: _Facts(Axis.FIXED, Axis.FIXED),
    Role.SHAPED_GAIN: _BLOCK_VECTOR,
    Role.SCORE_GAIN: _Facts(Axis.FIXED, Axis.FIXED, in_block=True, moves_scores=True),
    Role.BRANCH_GAIN: _BLOCK_VECTOR,
    Role.EMBEDDING_NORM_GAIN: _EMBEDDING,
    Role.EMBEDDING_NORM_BIAS: _EMBEDDING,
    Role.ROUTER: _Facts(Axis.STREAM, Axis.FIXED, in_block=True, routed=True),
    Role.ROUTER_BIAS: _Facts(Axis.FIXED, Axis.FIXED, in_block=True, routed=True),
    Role.EXPERT_IN: _Facts(Axis.STREAM, Axis.HIDDEN, in_block=True, routed=True),
    Role.EXPERT_OUT: _Facts(Axis.HIDDEN, Axis.STREAM, in_block=True, routed=True),
    Role.EXPERT_IN_BIAS: _Facts(Axis.FIXED, Axis.HIDDEN, in_block=True, routed=True),
    Role.EXPERT_OUT_BIAS: _Facts(Axis.FIXED, Axis.STREAM, in_block=True, routed=True),
    Role.QK_GAIN: _QUERY_VECTOR,
    Role.QK_GAIN_SHARED: _Facts(Axis.FIXED, Axis.HEAD_DIM, in_block=True, moves_scores=True),
    Role.QK_BIAS_SHARED: _Facts(Axis.FIXED, Axis.HEAD_DIM, in_block=True, moves_scores=True),
    Role.READOUT_DENSE: _Facts(Axis.STREAM, Axis.STREAM),
    Role.READOUT_DENSE_BIAS: _EMBEDDING,
    Role.EMBEDDING_MATRIX: _EMBEDDING,
    Role.EMBEDDING_MATRIX_BIAS: _EMBEDDING,
    Role.QUERY_DOWN: _Facts(Axis.STREAM, Axis.QUERY_RANK, in_block=True, moves_scores=True),
    Role.QUERY_LATENT_GAIN: _Facts(Axis.FIXED, Axis.QUERY_RANK, in_block=True, moves_scores=True),
    Role.QUERY_UP: _Facts(Axis.QUERY_RANK, Axis.QUERIES, in_block=True, moves_scores=True),
    Role.KEY_VALUE_DOWN: _Facts(Axis.STREAM, Axis.KV_RANK, in_block=True),
    Role.KEY_VALUE_LATENT_GAIN: _Facts(Axis.FIXED, Axis.KV_RANK, in_block=True),
    Role.KEY_VALUE_UP: _Facts(Axis.KV_RANK, Axis.KEYS_AND_VALUES, in_block=True),
    Role.STREAM_FACTOR: _Facts(Axis.FIXED, Axis.FIXED, in_block=True, on_stream=True),
    Role.SKIP_FACTOR: _Facts(Axis.FIXED, Axis.FIXED, in_block=True, on_stream=True),
    Role.BLOCK_FACTOR: _Facts(Axis.FIXED, Axis.FIXED, in_block=True),
    Role.HEAD_GATE: _Facts(Axis.STREAM, Axis.HEADS, in_block=True),
    Role.NARROW_HEAD_GATE: _Facts(Axis.FIXED, Axis.HEADS, in_block=True),
    Role.VALUE_EMBEDDING: _Facts(Axis.FIXED, Axis.KEYS, in_block=True),
    Role.UNSCALED: _Facts(Axis.FIXED, Axis.FIXED),
}

#: Roles that have a rule, and that the tables of plain blocks do not list.
BESIDE_BLOCKS: frozenset[Role] = frozenset(
    {
        *(Role.STREAM_FACTOR, Role.SKIP_FACTOR, Role.BLOCK_FACTOR),
        *(Role.HEAD_GATE, Role.NARROW_HEAD_GATE, Role.VALUE_EMBEDDING),
    }
)


#: Roles that no table lists: those for which no rule of scaling was derived and verified, which
#: rules refuse by name; those of latents, which have one at sizes with ranks alone; those of
#: `BESIDE_BLOCKS`; and `UNSCALED`, with which a user says that the numbers of the base are to stay.
WITHOUT_RULE: frozenset[Role] = (
    BESIDE_BLOCKS
    | _OF_LATENTS
    | frozenset(
        {
            Role.SCORE_GAIN,
            Role.EMBEDDING_MATRIX,
            Role.EMBEDDING_MATRIX_BIAS,
            Role.UNSCALED,
        }
    )
)


def unknown_role(name: object) -> ArgumentError:
    """The error for a name that is no role."""
    known = [role.value for role in Role]
    return ArgumentError("role", f"unknown role {name!r}", nearest(str(name), known))
