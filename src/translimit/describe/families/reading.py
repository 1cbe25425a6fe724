"""What a configuration was read as."""

from __future__ import annotations

from dataclasses import dataclass

from translimit.core import ArgumentError, format_count
from translimit.describe.blocks import Branch
from translimit.describe.mixers import Attention, Experts, FeedForward, LatentAttention
from translimit.describe.stack import Stack


@dataclass(frozen=True)
class StackReading:
    """A stack, what stands beside it, and what reading it took for granted.

    Sizes that all layers share are told as properties.

    Attributes:
        family: what it was read as.
        stack: the stack.
        assumptions: what was not in the configuration and is assumed.
        ignored: what the configuration asks for and the stack leaves out, key by key.
        vocabulary: entries of the vocabulary, or None where it is not told.
        tied: whether token embedding and readout are one tensor.
        readout_std: of the entries of the matrix that makes logits, its own or the tied table's;
            None without such a matrix.
        own_token: whether logits see the embedding of the token itself: tied, and nothing but a
            norm between the stream and the readout.
        logit_scale: what logits are multiplied with.
        logit_softcap: c where logits u are c tanh(u / c); None without a cap.
        packed_qkv: whether query, key and value are one tensor.
        context: the largest number of tokens, or None where it is not told.
        image_tokens: the number of tokens of an image, or None.
        branch_gain: whether branches end in gains that are learned and no norm's (LayerScale).
    """

    family: str
    stack: Stack
    assumptions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    vocabulary: int | None = None
    tied: bool = False
    readout_std: float | None = None
    own_token: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    packed_qkv: bool = False
    context: int | None = None
    image_tokens: int | None = None
    branch_gain: bool = False

    @property
    def title(self) -> str:
        """Family, layers and width: `gpt2: 12 layers, width 768`."""
        return f"{self.family}: {format_count(self.layers, 'layer')}, width {self.dim}"

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.stack.layers)

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.stack.dim

    @property
    def heads(self) -> int:
        """Query heads.

        Raises:
            ArgumentError: a stack without attention, or whose layers differ in it.
        """
        return self._shared("heads", [one.heads for one in self._attention()])

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values; the error is that of `heads`."""
        each = (
            one.key_heads if isinstance(one, Attention) else one.heads for one in self._attention()
        )
        return self._shared("kv_heads", list(each))

    @property
    def head_dim(self) -> int:
        """Entries of a query or key; the error is that of `heads`."""
        return self._shared("head_dim", [one.head_dim for one in self._attention()])

    @property
    def mlp_dim(self) -> int | None:
        """Hidden units of the feed-forward blocks, or of an expert; None without them.

        Raises:
            ArgumentError: layers differ in it.
        """
        widths = [one.width for one in self._branches() if isinstance(one, FeedForward)]
        widths += [one.expert.width for one in self._branches() if isinstance(one, Experts)]
        return self._shared("mlp_dim", widths) if widths else None

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys of some layer are normalised."""
        return any(isinstance(one, Attention) and one.qk_norm for one in self._attention())

    def _branches(self) -> list[Branch]:
        return [branch for block in self.stack.sub_blocks for branch in block.branches]

    def _attention(self) -> list[Attention | LatentAttention]:
        return [one for one in self._branches() if isinstance(one, Attention | LatentAttention)]

    def _shared(self, name: str, values: list[int]) -> int:
        if len(set(values)) == 1:
            return values[0]
        problem = f"differs between layers: {sorted(set(values))}" if values else "is of no layer"
        raise ArgumentError(name, problem, "ask stack.layers, which tell each layer's")
