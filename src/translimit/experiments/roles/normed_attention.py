"""One block of attention whose queries and keys are normalised, under gradient descent or Adam.

Digits as tokens are embedded, one branch of attention is added, tokens are averaged. Queries and
keys are divided head by head by their root mean square and multiplied by gains, one for every
channel or one set for all heads. Other norms have no gain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float

from translimit import core
from translimit.describe import Size
from translimit.experiments.roles.digit_tokens import CLASSES, PIXELS
from translimit.experiments.roles.routed_network import norm

if TYPE_CHECKING:
    from translimit.core import AnyArray

#: The parameters and their roles; of the gains see `learning_program`.
ROLES = {
    "embedding": "patch_embedding",
    "query": "query",
    "key": "key",
    "value": "value",
    "out": "attention_out",
    "readout": "readout",
}


def normed_scores(
    queries: Float[AnyArray, "*any tokens heads head_dim"],
    keys: Float[AnyArray, "*any tokens heads head_dim"],
    query_gain: Float[AnyArray, "... head_dim"],
    key_gain: Float[AnyArray, "... head_dim"],
) -> Float[AnyArray, "*any heads tokens tokens"]:
    """Products of normalised queries and keys times their gains, without a scale.

    Args:
        queries: of all heads.
        keys: of all heads.
        query_gain: one for every channel [heads, head_dim], or the same for all heads [head_dim].
        key_gain: as of queries.
    """
    import jax.numpy as jnp

    q, k = norm(queries) * query_gain, norm(keys) * key_gain
    return jnp.einsum("...shn,...thn->...hst", q, k)


@functools.cache
def learning_program(
    size: Size, optimizer: Literal["sgd", "adam"], steps: int, shared: bool, first: int
) -> Callable[..., dict[str, Any]]:
    """Compiled: from keys, starts, rates, scale, multiplier of the readout, images and labels.

    Args:
        size: of the network.
        optimizer: gradient descent, or Adam with an epsilon that does nothing.
        steps: updates.
        shared: whether all heads have the same gains.
        first: width of the base.

    Returns:
        A function whose result has, by seed, root mean squares: of the `scores` at the start, of
        the `motion` of the scores by the gains alone, at the inputs and weights of the start, and
        of the `gradient` of the gains at the start and at the end.
    """
    import jax
    import jax.numpy as jnp
    import optax

    width, heads, head_dim = size.width, size.heads, size.head_dim

    def one(
        key: jax.Array,
        inits: dict[str, jax.Array],
        rates: dict[str, jax.Array],
        scale: jax.Array,
        multiplier: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> dict[str, jax.Array]:
        def draw(name: str, *shape: int, std: float) -> jax.Array:
            return std * inits[name] * jax.random.normal(core.named_key(key, name), shape)

        gain = jnp.ones((head_dim,) if shared else (heads, head_dim))
        start = {
            "embedding": draw("embedding", PIXELS, width, std=PIXELS**-0.5),
            **{
                name: draw(name, width, width, std=first**-0.5)
                for name in ("query", "key", "value", "out")
            },
            "query_gain": gain,
            "key_gain": gain,
            "readout": draw("readout", width, CLASSES, std=first**-0.5),
        }

        def split(x: AnyArray, name: str, parameters: dict[str, jax.Array]) -> AnyArray:
            return (x @ parameters[name]).reshape(*x.shape[:-1], heads, head_dim)

        def scores(parameters: dict[str, jax.Array], x: AnyArray) -> AnyArray:
            q, k = split(x, "query", parameters), split(x, "key", parameters)
            return scale * normed_scores(q, k, parameters["query_gain"], parameters["key_gain"])

        def loss(parameters: dict[str, jax.Array]) -> jax.Array:
            h = images @ parameters["embedding"]
            x = norm(h)
            weights = jax.nn.softmax(scores(parameters, x), axis=-1)
            mixed = jnp.einsum("...hst,...thn->...shn", weights, split(x, "value", parameters))
            h = h + mixed.reshape(*h.shape) @ parameters["out"]
            logits = multiplier * norm(h).mean(axis=1) @ parameters["readout"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        gradient = jax.grad(loss)
        adam = optax.scale_by_adam(0.9, 0.95, eps=1e-12)
        kind = optax.identity() if optimizer == "sgd" else adam

        def update(carry: Any, _: None) -> tuple[Any, None]:
            parameters, state = carry
            directions, state = kind.update(gradient(parameters), state)
            moves = jax.tree.map(jnp.multiply, rates, directions)
            return (jax.tree.map(jnp.subtract, parameters, moves), state), None

        (end, _), _ = jax.lax.scan(update, (start, kind.init(start)), None, length=steps)
        x = norm(images @ start["embedding"])
        moved = start | {name: end[name] for name in ("query_gain", "key_gain")}
        before = scores(start, x)
        found = {"scores": before, "motion": scores(moved, x) - before}
        for name, parameters in (("gradient_before", start), ("gradient_after", end)):
            grads = gradient(parameters)
            found[name] = jnp.stack([grads["query_gain"], grads["key_gain"]])
        return {name: jnp.sqrt(jnp.mean(value**2)) for name, value in found.items()}

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None, None, None, None)))
