r"""The multi-head transformer that trains: encoder or causal decoder, in any parameterization.

    u = norm(h),  q, k, v = W_Q u, W_K u, W_V u,  A_ij = c q_i . k_j,
    h <- skip h + b W_O softmax(A) v,    h <- skip h + b W_2 phi(W_1 norm(h)),
    f = W_out mean_i norm(h_i)      (or one readout a token),

every W the product of its multiplier and its parameter. By choice q and k are normalised over the
head, A has a trained factor for each layer, and an activation follows the norm of both branches.
The multipliers, c and b are data: one compiled program serves every parameterization of a shape.
Leading axes of the inputs are a batch, whose products with weights are one; `jax.vmap` gives the
ensemble.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from translimit.attention import uniform_attention
from translimit.core import ArgumentTypeError, Key, Module, Number, brief, named_key
from translimit.describe import (
    Parameterization,
    Role,
    TransformerShape,
    standard_parameterization,
)
from translimit.models.fields import Fields

#: The parameters of one transformer by name; blocks are stacked along a first axis of layers.
Weights = Mapping[str, Array]
#: What backpropagation keeps of a block: products of activations with weights, not of each other.
_KEPT = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
#: Into how many blocks causal attention cuts its queries, and the fewest queries of one.
_QUERY_BLOCKS, _LEAST_QUERIES = 4, 64


class Transformer(Module):
    """A transformer of a shape in a parameterization; its weights are a separate dictionary.

    Args:
        shape: sizes and options.
        parameterization: starts and multipliers; the standard one by default.

    Raises:
        ArgumentTypeError: not a shape, or not a parameterization.

    Examples:
        >>> import jax
        >>> from translimit.describe import TransformerShape
        >>> shape = TransformerShape(4, 2, layers=3, tokens=5, outputs=10, patch_dim=6)
        >>> model = Transformer(shape)
        >>> weights = model.init(jax.random.key(0))
        >>> model(weights, jax.numpy.ones((5, 6))).shape
        (10,)
    """

    shape: TransformerShape = eqx.field(static=True)
    multipliers: Mapping[str, Number]
    starts: Mapping[str, Number]

    def __init__(self, shape: TransformerShape, parameterization: Parameterization | None = None):
        if not isinstance(shape, TransformerShape):
            raise ArgumentTypeError(
                "shape", f"got {brief(shape)}", "pass a describe.TransformerShape"
            )
        numbers = parameterization
        if numbers is None:
            numbers = standard_parameterization(shape.size, pixels=shape.patch_dim or 1)
        if not isinstance(numbers, Parameterization):
            raise ArgumentTypeError(
                "parameterization", f"got {brief(numbers)}", "pass a describe.Parameterization"
            )
        self.shape = shape
        present = {spec.name: spec.role for spec in shape.parameters}
        if shape.tied:
            present["readout"] = Role.READOUT
        multipliers = {name: np.asarray(numbers.role(role).mult) for name, role in present.items()}
        constants = {"score": numbers.score_scale, "branch": numbers.residual, "skip": numbers.skip}
        self.multipliers = multipliers | {k: np.asarray(v) for k, v in constants.items()}
        self.starts = {
            spec.name: np.asarray(numbers.role(spec.role).init) for spec in shape.parameters
        }

    def init(self, key: Key, dtype: DTypeLike | None = None) -> dict[str, Array]:
        """Weights at the start: Gaussian matrices, constant gains, biases 0.

        Args:
            key: of the draw.
            dtype: JAX's default float by default.
        """
        drawn = [s for s in self.shape.parameters if not (s.starts_at_zero or s.starts_constant)]
        # One draw for all of them: each further one would cost a second of compilation.
        total = sum(spec.size for spec in drawn)
        normal = jax.random.normal(named_key(key, "weights"), (total,), dtype or float)
        ends = np.cumsum([spec.size for spec in drawn])
        parts = dict(zip((spec.name for spec in drawn), jnp.split(normal, ends[:-1]), strict=True))
        weights: dict[str, Array] = {}
        for spec in self.shape.parameters:
            start = jnp.asarray(self.starts[spec.name], dtype or float)
            if spec.starts_at_zero:
                weights[spec.name] = jnp.zeros(spec.shape, dtype)
            elif spec.starts_constant:
                weights[spec.name] = jnp.full(spec.shape, start)
            else:
                weights[spec.name] = start * parts[spec.name].reshape(spec.shape)
        return weights

    def __call__(
        self,
        weights: Weights,
        inputs: Array,
        perturbation: Float[Array, "levels tokens dim"] | None = None,
    ) -> Array:
        """The output of one sequence, or of a batch of them.

        Args:
            weights: the parameters by name.
            inputs: patches [*batch, tokens, patch_dim] or token ids [*batch, tokens]; a decoder
                also takes shorter sequences.
            perturbation: added to the stream before every block and after the last, so that a
                derivative by it is a derivative by the stream [layers + 1, tokens, dim].

        Returns:
            [*batch, outputs] where tokens are pooled, else [*batch, tokens, outputs].
        """
        return self._run(weights, inputs, perturbation, record=False)[0]

    def fields(self, weights: Weights, inputs: Array) -> Fields:
        """The output of one sequence and everything on the way to it."""
        output, recorded = self._run(weights, inputs, None, record=True)
        return Fields(**recorded, output=output)

    def queries_and_keys(
        self, weights: Weights, attention_input: Float[Array, "layers tokens dim"]
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and scores of every layer at given inputs of the attention branch.

        At the inputs of the start this separates what W_Q and W_K learn from the motion of what
        they are fed.
        """

        def layer(block: Weights, u: Array) -> tuple[Array, Array, Array]:
            q, k = self._queries_and_keys(block, u)
            return q, k, self._rotated_scores(block, q, k)

        return jax.vmap(layer)(self._blocks(weights), attention_input)

    # -- the parts of the forward pass -----------------------------------------------------------

    def _run(
        self, weights: Weights, inputs: Array, perturbation: Array | None, record: bool
    ) -> tuple[Array, dict[str, Array]]:
        stream = self._embed(weights, inputs)
        kicks = None if perturbation is None else perturbation[:-1]

        def step(
            stream: Array, layer: tuple[Weights, Array | None]
        ) -> tuple[Array, dict[str, Array]]:
            block, kick = layer
            return self._block(block, stream if kick is None else stream + kick, record)

        if not record:
            # Backpropagation keeps the products with weights, and computes norms, activations and
            # rows of attention again: that is cheaper than to write and read them.
            step = jax.checkpoint(step, prevent_cse=False, policy=_KEPT)
        final, recorded = jax.lax.scan(step, stream, (self._blocks(weights), kicks))
        if perturbation is not None:
            final = final + perturbation[-1]
        output = self._read(weights, final)
        if record:
            recorded["stream"] = jnp.concatenate([recorded["stream"], final[None]])
        return output, recorded

    def _block(self, block: Weights, stream: Array, record: bool) -> tuple[Array, dict]:
        skip = self._number("skip", stream)
        branch = self._number("branch", stream)
        u = self._enter(block, "attention_norm", stream)
        q, k = self._queries_and_keys(block, u)
        v = self._project("value", block, u)
        recorded: dict[str, Array] = {}
        if record or self.shape.shaped:
            scores = self._rotated_scores(block, q, k)
            rows = self._attention(block, scores)
            mixed = rows.astype(v.dtype) @ self._shared(v)
            seen = jnp.where(self._seen(stream.shape[-2]), scores, 0)
            recorded = {"scores": seen, "attention": rows}
        else:
            mixed = self._mixed(self._gained(block, q), k, v)
        mixed = mixed.swapaxes(-2, -3).reshape(*stream.shape[:-1], -1)
        stream_after = skip * stream + branch * self._linear("attention_out", block, mixed)
        hidden = jnp.zeros((*stream.shape[:-1], 0), stream.dtype)
        if self.shape.hidden:
            w = self._enter(block, "mlp_norm", stream_after)
            hidden = self._linear("mlp_in", block, w)
            active = self._phi(hidden)
            if self.shape.gated:
                active = self._phi(self._linear("mlp_gate", block, w)) * hidden
            stream_after = skip * stream_after + branch * self._linear("mlp_out", block, active)
        if not record:
            return stream_after, {}
        recorded |= {
            "stream": stream,
            "attention_input": u,
            "query": q,
            "key": k,
            "hidden": hidden,
        }
        return stream_after, recorded

    def _embed(self, weights: Weights, inputs: Array) -> Array:
        if self.shape.patch_dim is not None:
            stream = inputs @ self._scaled("patch_embedding", weights).T
            if self.shape.biases:
                stream = stream + self._scaled("patch_bias", weights)
        else:
            table = weights["token_embedding"]
            stream = table[inputs] * self._number("token_embedding", table)
        if self.shape.learned_positions:
            stream = stream + self._scaled("position_embedding", weights)[: stream.shape[-2]]
        return stream

    def _read(self, weights: Weights, stream: Array) -> Array:
        last = self._norm(weights, "final_norm", stream, self.shape.readout_norm)
        if self.shape.pooled:
            last = last.mean(axis=-2)
        matrix = weights["token_embedding" if self.shape.tied else "readout"]
        output = last @ (matrix * self._number("readout", matrix)).T
        if self.shape.biases:
            output = output + self._scaled("readout_bias", weights)
        return output

    def _enter(self, block: Weights, name: str, stream: Array) -> Array:
        """What a branch reads: the norm of the stream, and an activation of it."""
        u = self._norm(block, name, stream, self.shape.norm)
        active = self.shape.stream_activation
        return u if active is None else active(u)

    def _norm(self, weights: Weights, name: str, stream: Array, kind: str | None) -> Array:
        if kind is None:
            return stream
        stream = self._normalised(stream, kind)
        if self.shape.gains:
            stream = stream * self._scaled(f"{name}_gain", weights)
            if kind == "layer":
                stream = stream + self._scaled(f"{name}_bias", weights)
        return stream

    def _normalised(self, x: Array, kind: str | None) -> Array:
        """Over the last axis, in float32 at least."""
        if kind is None:
            return x
        wide = x.astype(_at_least_float32(x))
        if kind == "layer":
            wide = wide - wide.mean(axis=-1, keepdims=True)
        size = jnp.mean(wide**2, axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(size + self.shape.norm_eps)).astype(x.dtype)

    def _project(self, name: str, block: Weights, u: Array) -> Array:
        """Queries, keys or values [*batch, heads, tokens, head_dim]."""
        flat = self._linear(name, block, u)
        return flat.reshape(*u.shape[:-1], -1, self.shape.head_dim).swapaxes(-2, -3)

    def _queries_and_keys(self, block: Weights, u: Array) -> tuple[Array, Array]:
        q, k = self._project("query", block, u), self._project("key", block, u)
        return self._normalised(q, self.shape.qk_norm), self._normalised(k, self.shape.qk_norm)

    def _gained(self, block: Weights, q: Array) -> Array:
        return q * self._scaled("score_gain", block) if self.shape.score_gain else q

    def _rotated_scores(self, block: Weights, q: Array, k: Array) -> Array:
        q = self._rotate(self._gained(block, q))
        return self._scores(q, self._rotate(self._shared(k)))

    def _scores(self, q: Array, k: Array) -> Array:
        """The scores c q_i . k_j, in float32 at least."""
        wide = _at_least_float32(q)
        scores = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=wide)
        return scores * self._number("score", scores)

    def _attention(self, block: Weights, scores: Array) -> Array:
        tokens = scores.shape[-1]
        rows = jax.nn.softmax(jnp.where(self._seen(tokens), scores, -jnp.inf), axis=-1)
        if not self.shape.shaped:
            return rows
        identity, attention, centring = (
            self._scaled(f"{name}_gain", block)[:, None, None]
            for name in ("identity", "attention", "centring")
        )
        uniform = uniform_attention(scores, self.shape.causal)
        eye = jnp.eye(tokens, dtype=scores.dtype)
        return identity * eye + attention * rows - centring * uniform

    def _mixed(self, q: Array, k: Array, v: Array) -> Array:
        """softmax(c q k^T) v [*batch, heads, tokens, head_dim]; nothing is kept of its rows."""
        if self._has_kernel(q):
            return self._fused(q, k, v)
        q, k, v = self._rotate(q), self._rotate(self._shared(k)), self._shared(v)
        tokens = q.shape[-2]
        if not self.shape.causal:
            return jax.nn.softmax(self._scores(q, k), axis=-1).astype(v.dtype) @ v
        # Of what the mask hides, blocks of queries compute an eighth where all would a half.
        size, seen = max(_LEAST_QUERIES, -(-tokens // _QUERY_BLOCKS)), self._seen(tokens)
        parts = []
        for first in range(0, tokens, size):
            last = min(first + size, tokens)
            scores = self._scores(q[..., first:last, :], k[..., :last, :])
            rows = jax.nn.softmax(jnp.where(seen[first:last, :last], scores, -jnp.inf), axis=-1)
            parts.append(rows.astype(v.dtype) @ v[..., :last, :])
        return jnp.concatenate(parts, axis=-2)

    def _fused(self, q: Array, k: Array, v: Array) -> Array:
        """The same by the kernel of cuDNN, which takes [batch, tokens, heads, head_dim]."""
        q = self._rotate(q) * self._number("score", q)
        mixed = jax.nn.dot_product_attention(
            *(x.swapaxes(-2, -3) for x in (q, self._rotate(k), v)),
            scale=1.0,
            is_causal=self.shape.causal,
            implementation="cudnn",
        )
        return mixed.swapaxes(-2, -3)

    def _has_kernel(self, q: Array) -> bool:
        """Whether cuDNN has a kernel, which never holds all scores: on GPUs, of some sizes."""
        fits = q.dtype == jnp.bfloat16 and self.shape.head_dim % 8 == 0
        fits = fits and self.shape.head_dim <= 128 and q.ndim <= 4
        return fits and jax.default_backend() == "gpu"

    def _rotate(self, x: Array) -> Array:
        """Rotary positions: coordinates n and n + N / 2 of token i turn by i base^(-2 n / N)."""
        if not self.shape.rotary:
            return x
        half = self.shape.head_dim // 2
        # Whole numbers over 256 have no bfloat16 of their own, and positions go further.
        wide = _at_least_float32(x)
        frequency = self.shape.rotary_base ** (-jnp.arange(half, dtype=wide) / half)
        angle = jnp.arange(x.shape[-2], dtype=wide)[:, None] * frequency
        first, second = x[..., :half], x[..., half:]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return turned.astype(x.dtype)

    def _shared(self, x: Array) -> Array:
        """Key or value heads repeated for the query heads that share them."""
        group = self.shape.heads // self.shape.key_value_heads
        return x if group == 1 else jnp.repeat(x, group, axis=-3)

    def _seen(self, tokens: int) -> Array:
        everything = jnp.ones((tokens, tokens), bool)
        return jnp.tril(everything) if self.shape.causal else everything

    def _phi(self, x: Array) -> Array:
        if self.shape.slopes is None:
            return self.shape.activation(x)
        plus, minus = (1 + c / self.shape.dim**0.5 for c in self.shape.slopes)
        scale = (2 / (plus**2 + minus**2)) ** 0.5
        return scale * (plus * jnp.maximum(x, 0) + minus * jnp.minimum(x, 0))

    def _linear(self, name: str, weights: Weights, x: Array) -> Array:
        # One product for the whole batch: gradients of products of batches copy their factors.
        y = (x.reshape(-1, x.shape[-1]) @ self._scaled(name, weights).T).reshape(*x.shape[:-1], -1)
        if self.shape.biases:
            y = y + self._scaled(f"{name}_bias", weights)
        return y

    def _scaled(self, name: str, weights: Weights) -> Array:
        return weights[name] * self._number(name, weights[name])

    def _number(self, name: str, like: Array) -> Array:
        return jnp.asarray(self.multipliers[name], like.dtype)

    def _blocks(self, weights: Weights) -> dict[str, Array]:
        return {spec.name: weights[spec.name] for spec in self.shape.parameters if spec.stacked}


def _at_least_float32(x: Array) -> np.dtype:
    """The type for what half precision would spoil."""
    return jnp.promote_types(x.dtype, jnp.float32)
