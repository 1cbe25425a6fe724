"""Modules that are built and named like those of public packages, for the page on clients.

A `Decoder` reads tokens and gives logits; what differs between packages is where parts are, whether
query, key and value are one tensor, and who holds the scale of the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from translimit.describe import Size

VOCABULARY, TOKENS = 32, 8


@dataclass(frozen=True)
class Layout:
    """Where a package keeps its parts: names with {a} and {m} for the block's number.

    Attributes:
        positions: learned ones, or nothing.
        qkv: one name, or three.
        attention: the module that holds `scale`, or nothing.
        score_scale: the module whose `scale` is read; None where scores have N^{-1/2} whatever is
            set.
        wide: entries of the hidden layer over the width.
    """

    embed: str
    positions: str
    norm_1: str
    qkv: tuple[str, ...]
    out: str
    norm_2: str
    up: str
    down: str
    final: str
    head: str
    attention: str = ""
    score_scale: str | None = None
    wide: int = 4
    number: Callable[[int], dict[str, int]] = lambda block: {"a": block, "m": block}

    def at(self, name: str, block: int) -> str:
        """The name of a part of a block."""
        return name.format(**self.number(block))


NANOGPT = Layout(
    embed="transformer.wte",
    positions="transformer.wpe",
    norm_1="transformer.h.{a}.ln_1",
    qkv=("transformer.h.{a}.attn.c_attn",),
    out="transformer.h.{a}.attn.c_proj",
    norm_2="transformer.h.{m}.ln_2",
    up="transformer.h.{m}.mlp.c_fc",
    down="transformer.h.{m}.mlp.c_proj",
    final="transformer.ln_f",
    head="lm_head",
    attention="transformer.h.{a}.attn",
)
LITGPT = Layout(
    embed="transformer.wte",
    positions="transformer.wpe",
    norm_1="transformer.h.{a}.norm_1",
    qkv=("transformer.h.{a}.attn.qkv",),
    out="transformer.h.{a}.attn.proj",
    norm_2="transformer.h.{m}.norm_2",
    up="transformer.h.{m}.mlp.fc",
    down="transformer.h.{m}.mlp.proj",
    final="transformer.ln_f",
    head="lm_head",
    attention="transformer.h.{a}.attn",
)
TIMM = Layout(
    embed="embed",
    positions="pos_embed",
    norm_1="blocks.{a}.norm1",
    qkv=("blocks.{a}.attn.qkv",),
    out="blocks.{a}.attn.proj",
    norm_2="blocks.{m}.norm2",
    up="blocks.{m}.mlp.fc1",
    down="blocks.{m}.mlp.fc2",
    final="norm",
    head="head",
    attention="blocks.{a}.attn",
    score_scale="blocks.{a}.attn",
)
TORCHTITAN = Layout(
    embed="tok_embeddings",
    positions="",
    norm_1="layers.{a}.attention_norm",
    qkv=("layers.{a}.attention.wq", "layers.{a}.attention.wk", "layers.{a}.attention.wv"),
    out="layers.{a}.attention.wo",
    norm_2="layers.{m}.ffn_norm",
    up="layers.{m}.feed_forward.w1",
    down="layers.{m}.feed_forward.w2",
    final="norm",
    head="output",
)
X_TRANSFORMERS = Layout(
    embed="token_emb.emb",
    positions="pos_emb.emb",
    norm_1="attn_layers.layers.{a}.0.0",
    qkv=tuple(f"attn_layers.layers.{{a}}.1.to_{part}" for part in "qkv"),
    out="attn_layers.layers.{a}.1.to_out",
    norm_2="attn_layers.layers.{m}.0.0",
    up="attn_layers.layers.{m}.1.ff.0.0",
    down="attn_layers.layers.{m}.1.ff.2",
    final="attn_layers.final_norm",
    head="to_logits",
    attention="attn_layers.layers.{a}.1",
    score_scale="attn_layers.layers.{a}.1.attend",
    number=lambda block: {"a": 2 * block, "m": 2 * block + 1},
)


class Decoder(nn.Module):
    """A pre-LN decoder in the layout of a package.

    Args:
        layout: of the package.
        size: of the network.
        std: of all matrices; ends of branches over (2 L)^{1/2}, as in nanoGPT. None leaves what
            torch draws.
        score_scale: of the scores, told to the constructor; N^{-1/2} by default.
    """

    def __init__(
        self, layout: Layout, size: Size, std: float | None = None, score_scale: float | None = None
    ):
        super().__init__()
        d, hidden = size.width, layout.wide * size.width
        self.layout, self.size = layout, size
        self.told = size.head_dim**-0.5 if score_scale is None else score_scale
        self._put(layout.embed, nn.Embedding(VOCABULARY, d))
        if layout.positions:
            self._put(layout.positions, nn.Embedding(TOKENS, d))
        for block in range(size.layers):
            at = {name: layout.at(getattr(layout, name), block) for name in _PARTS}
            self._put(at["norm_1"], nn.LayerNorm(d, bias=False))
            for name in layout.qkv:
                wide = 3 * d if len(layout.qkv) == 1 else d
                self._put(layout.at(name, block), nn.Linear(d, wide, bias=False))
            self._put(at["out"], nn.Linear(d, d, bias=False))
            self._put(at["norm_2"], nn.LayerNorm(d, bias=False))
            self._put(at["up"], nn.Linear(d, hidden, bias=False))
            self._put(at["down"], nn.Linear(hidden, d, bias=False))
            if layout.score_scale is not None:
                self._put(layout.at(layout.score_scale, block), nn.Module())
                for name in {at["attention"], layout.at(layout.score_scale, block)}:
                    self.get_submodule(name).scale = self.told  # pyright: ignore
            if std is not None:
                for name in (at["out"], at["down"]):
                    weight = self.get_parameter(f"{name}.weight")
                    nn.init.normal_(weight, std=std * (2 * size.layers) ** -0.5)
                for name in (at["up"], *(layout.at(one, block) for one in layout.qkv)):
                    nn.init.normal_(self.get_parameter(f"{name}.weight"), std=std)
        self._put(layout.final, nn.LayerNorm(d, bias=False))
        self._put(layout.head, nn.Linear(d, VOCABULARY, bias=False))
        for name in (layout.embed, layout.positions, layout.head) if std is not None else ():
            if name:
                nn.init.normal_(self.get_parameter(f"{name}.weight"), std=std or 1.0)

    def _put(self, name: str, module: nn.Module) -> None:
        """Add a module under a dotted name, unless something is there."""
        owner: nn.Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if last not in dict(owner.named_children()):
            owner.add_module(last, module)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, tokens, vocabulary]."""
        layout, part = self.layout, self.get_submodule
        x = part(layout.embed)(ids)
        if layout.positions:
            x = x + part(layout.positions)(torch.arange(ids.shape[1]))
        for block in range(self.size.layers):
            x = x + self._attention(part(layout.at(layout.norm_1, block))(x), block)
            y = part(layout.at(layout.norm_2, block))(x)
            y = functional.gelu(part(layout.at(layout.up, block))(y))
            x = x + part(layout.at(layout.down, block))(y)
        return part(layout.head)(part(layout.final)(x))

    def _attention(self, x: Tensor, block: int) -> Tensor:
        layout = self.layout
        made = [self.get_submodule(layout.at(name, block))(x) for name in layout.qkv]
        q, k, v = made if len(made) == 3 else made[0].chunk(3, dim=-1)
        q, k, v = (y.unflatten(-1, (self.size.heads, -1)).transpose(1, 2) for y in (q, k, v))
        scale = self.told
        if layout.score_scale is not None:
            scale = float(self.get_submodule(layout.at(layout.score_scale, block)).scale)  # pyright: ignore
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return self.get_submodule(layout.at(layout.out, block))(y.transpose(1, 2).flatten(-2))


_PARTS = ("norm_1", "out", "norm_2", "up", "down", "attention")
