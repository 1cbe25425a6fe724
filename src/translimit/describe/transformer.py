r"""The multi-head transformer of the training-dynamics theory: its shape and its parameters.

    h <- h + b MHSA(norm(h)),   h <- h + b MLP(norm(h)),   f = readout(norm(h)),

where an activation may stand behind the norms of both branches, keys and queries may be normalised
over the head, and scores may have a trained gain: an encoder of patches that are pooled before the
readout, or a causal decoder of tokens with one readout each. Sizes and options only: how the
parameters start, are multiplied and move is the `Parameterization`'s.

| symbol | name here |
|---|---|
| N, H, G, L | `head_dim`, `heads`, `kv_heads`, `layers` |
| d = N H | `dim` |
| S, D, V | `tokens`, `patch_dim`, `vocabulary` |
| r | `mlp_ratio` |

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from translimit.core import (
    NOT_NEGATIVE,
    ArgumentError,
    ArgumentTypeError,
    Record,
    brief,
    require_count,
    require_flag,
    require_real,
)
from translimit.describe.activation import Activation
from translimit.describe.roles import Role
from translimit.describe.size import Size


@dataclass(frozen=True)
class ParameterSpec:
    """One tensor of a transformer.

    Attributes:
        name: its key in the dictionary of weights.
        role: its role.
        shape: its shape, with a leading axis of layers inside the blocks; matrices are
            [outputs, inputs].
        fan_in: length of the sums it is used in; 1 for vectors and embeddings of token ids.
        stacked: whether the first axis counts layers.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    fan_in: int
    stacked: bool

    @property
    def starts_at_zero(self) -> bool:
        """Whether it is a bias."""
        return self.role.is_bias

    @property
    def starts_constant(self) -> bool:
        """Whether all its entries start at one number."""
        return self.role.is_gain

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TransformerShape(Record):
    """Sizes and options of a transformer; frozen and hashable.

    Attributes:
        head_dim: N, dimension of keys, queries and values of one head.
        heads: H, query heads.
        layers: L, blocks of attention and MLP.
        tokens: S, the longest sequence.
        outputs: outputs of the readout: classes, or the vocabulary.
        patch_dim: D, dimension of a patch; None for token ids.
        vocabulary: number of token ids; None for patches.
        kv_heads: G, key and value heads, a divisor of `heads`; `heads` by default.
        mlp_ratio: r, hidden width over dim; 0 for attention alone.
        gated: an MLP with a gate (SwiGLU with `activation` SILU).
        activation: of the MLP.
        norm: "layer", "rms" or None, before each branch and before the readout.
        gains: whether norms have trained gains (and biases, for "layer").
        norm_eps: added to the variance in a norm.
        biases: whether linear maps have biases.
        positions: "learned", "rotary", "both" or None.
        rotary_base: of the rotary frequencies.
        causal: whether a token sees only itself and those before.
        pooled: mean over tokens before the readout; else one readout per token.
        tied: whether the readout is the token embedding.
        shaped: whether attention is I + P - U with trained gains for each head.
        slopes: c_+ and c_- of a shaped ReLU with slopes 1 + c / sqrt(dim) and unit second moment,
            in the place of `activation`; None for `activation` itself.
        final_norm: whether `norm` also stands before the readout; "layer" or "rms" for another
            one there.
        qk_norm: "layer", "rms" or None, of each query and key over its head, without gains.
        score_gain: whether all scores of a layer have one trained factor.
        stream_activation: of the stream behind the norm that begins a branch, as the language
            models of Bordelon et al. have GELU there; None for none.

    Raises:
        ArgumentTypeError: sizes that are no integers, or a choice that is not offered.
        ArgumentError: sizes below 1, kv_heads that do not divide heads, an odd head_dim with
            rotary positions, one of 1 with `qk_norm`, neither or both of patch_dim and vocabulary,
            tied without a vocabulary.
    """

    head_dim: int
    heads: int
    layers: int
    tokens: int
    outputs: int
    patch_dim: int | None = None
    vocabulary: int | None = None
    kv_heads: int | None = None
    mlp_ratio: float = 4.0
    gated: bool = False
    activation: Activation = Activation.GELU
    norm: str | None = "layer"
    gains: bool = True
    norm_eps: float = 1e-6
    biases: bool = True
    positions: str | None = "learned"
    rotary_base: float = 10_000.0
    causal: bool = False
    pooled: bool = True
    tied: bool = False
    shaped: bool = False
    slopes: tuple[float, float] | None = None
    final_norm: bool | str = True
    qk_norm: str | None = None
    score_gain: bool = False
    stream_activation: Activation | None = None

    def __post_init__(self):
        for name in ("head_dim", "heads", "layers", "tokens", "outputs"):
            require_count(getattr(self, name), name)
        for name in ("patch_dim", "vocabulary", "kv_heads"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name)
        if (self.patch_dim is None) == (self.vocabulary is None):
            raise ArgumentError(
                "patch_dim",
                f"got {self.patch_dim}, and vocabulary {self.vocabulary}",
                "pass exactly one: patch_dim for patches, vocabulary for token ids",
            )
        if self.heads % self.key_value_heads:
            raise ArgumentError(
                "kv_heads",
                f"{self.kv_heads} does not divide {self.heads} heads",
                f"pass a divisor of {self.heads}",
            )
        for name, known in (("norm", (None,)), ("qk_norm", (None,)), ("final_norm", (True, False))):
            if getattr(self, name) not in (*known, "layer", "rms"):
                others = " or ".join(str(one) for one in known)
                raise ArgumentTypeError(
                    name, f"got {brief(getattr(self, name))}", f'pass "layer", "rms" or {others}'
                )
        if self.positions not in (None, "learned", "rotary", "both"):
            raise ArgumentTypeError(
                "positions",
                f"got {brief(self.positions)}",
                'pass "learned", "rotary", "both" or None',
            )
        for name in ("activation", "stream_activation"):
            given = getattr(self, name)
            if not isinstance(given, Activation) and (name == "activation" or given is not None):
                raise ArgumentTypeError(
                    name, f"got {brief(given)}", "pass a member of describe.Activation"
                )
        require_flag(self.score_gain, "score_gain")
        if self.qk_norm is not None and self.head_dim < 2:
            raise ArgumentError(
                "qk_norm",
                "with one coordinate a head leaves nothing but signs",
                "take head_dim of at least 2, or qk_norm=None",
            )
        if self.rotary and self.head_dim % 2:
            raise ArgumentError(
                "head_dim",
                f"got {self.head_dim}, which is odd",
                "pass an even number: rotary positions turn pairs",
            )
        require_real(self.mlp_ratio, "mlp_ratio", NOT_NEGATIVE)
        if self.mlp_ratio > 0 and self.hidden < 1:
            raise ArgumentError(
                "mlp_ratio",
                f"got {self.mlp_ratio}, which leaves no hidden unit",
                "pass a larger number, or 0 for no feed-forward block",
            )
        if self.tied and self.vocabulary != self.outputs:
            raise ArgumentError(
                "tied",
                f"got True with outputs {self.outputs} and vocabulary {self.vocabulary}",
                "pass as many outputs as token ids, or tied=False",
            )

    @property
    def size(self) -> Size:
        """What the scaling rules need of it."""
        return Size(
            head_dim=self.head_dim,
            heads=self.heads,
            layers=self.layers,
            kv_heads=self.kv_heads,
            mlp_ratio=self.mlp_ratio or 1.0,
        )

    @property
    def dim(self) -> int:
        """D = N H, width of the residual stream."""
        return self.head_dim * self.heads

    @property
    def key_value_heads(self) -> int:
        """G."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def learned_positions(self) -> bool:
        """Whether every position has an embedding."""
        return self.positions in ("learned", "both")

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are turned by their positions."""
        return self.positions in ("rotary", "both")

    @property
    def readout_norm(self) -> str | None:
        """The norm before the readout, "layer" or "rms"; None without one."""
        if isinstance(self.final_norm, str):
            return self.final_norm
        return self.norm if self.final_norm else None

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP; 0 without one."""
        return round(self.mlp_ratio * self.dim)

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """All tensors, in the order of the forward pass."""
        return tuple(_parameters(self))

    @property
    def parameter_count(self) -> int:
        """Number of trained numbers."""
        return sum(spec.size for spec in self.parameters)


def _parameters(shape: TransformerShape) -> list[ParameterSpec]:
    dim, hidden, layers = shape.dim, shape.hidden, shape.layers
    found: list[ParameterSpec] = []

    def add(name: str, role: Role, *sizes: int, fan_in: int = 1, stacked: bool = True) -> None:
        full = (layers, *sizes) if stacked else sizes
        found.append(ParameterSpec(name, role, full, fan_in, stacked))

    def linear(name: str, role: Role, out: int, fan_in: int) -> None:
        add(name, role, out, fan_in, fan_in=fan_in)
        if shape.biases:
            add(f"{name}_bias", Role(f"{role.value}_bias"), out)

    def norm(kind: str | None, name: str, gain: Role, bias: Role, stacked: bool = True) -> None:
        if kind is not None and shape.gains:
            add(f"{name}_gain", gain, dim, stacked=stacked)
            if kind == "layer":
                add(f"{name}_bias", bias, dim, stacked=stacked)

    if shape.patch_dim is not None:
        add(
            "patch_embedding",
            Role.PATCH_EMBEDDING,
            dim,
            shape.patch_dim,
            fan_in=shape.patch_dim,
            stacked=False,
        )
        if shape.biases:
            add("patch_bias", Role.PATCH_BIAS, dim, stacked=False)
    else:
        assert shape.vocabulary is not None
        add("token_embedding", Role.TOKEN_EMBEDDING, shape.vocabulary, dim, stacked=False)
    if shape.learned_positions:
        add("position_embedding", Role.POSITION_EMBEDDING, shape.tokens, dim, stacked=False)
    norm(shape.norm, "attention_norm", Role.BLOCK_NORM_GAIN, Role.BLOCK_NORM_BIAS)
    shared = shape.key_value_heads * shape.head_dim
    linear("query", Role.QUERY, dim, dim)
    linear("key", Role.KEY, shared, dim)
    linear("value", Role.VALUE, shared, dim)
    if shape.score_gain:
        add("score_gain", Role.SCORE_GAIN)
    if shape.shaped:
        for gain in ("identity_gain", "attention_gain", "centring_gain"):
            add(gain, Role.SHAPED_GAIN, shape.heads)
    linear("attention_out", Role.ATTENTION_OUT, dim, dim)
    if hidden:
        norm(shape.norm, "mlp_norm", Role.BLOCK_NORM_GAIN, Role.BLOCK_NORM_BIAS)
        linear("mlp_in", Role.MLP_IN, hidden, dim)
        if shape.gated:
            linear("mlp_gate", Role.MLP_GATE, hidden, dim)
        linear("mlp_out", Role.MLP_OUT, dim, hidden)
    final = shape.readout_norm
    norm(final, "final_norm", Role.FINAL_NORM_GAIN, Role.FINAL_NORM_BIAS, stacked=False)
    if not shape.tied:
        add("readout", Role.READOUT, shape.outputs, dim, fan_in=dim, stacked=False)
    if shape.biases:
        add("readout_bias", Role.READOUT_BIAS, shape.outputs, stacked=False)
    return found
