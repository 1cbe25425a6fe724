"""Two blocks x + MoE(norm(x)) under Adam: what their first router and experts learn.

Norms have no parameters, tokens are averaged, and the readout starts at zero. The gates of the
active experts are the softmax of their logits, so that they sum to one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Float

from translimit import core
from translimit.describe import Size
from translimit.experiments.roles.digit_tokens import CLASSES, PIXELS

if TYPE_CHECKING:
    from translimit.core import AnyArray


def norm(x: Float[AnyArray, "*any dim"]) -> Float[AnyArray, "*any dim"]:
    """The RMS norm without a gain."""
    import jax.numpy as jnp

    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-12)


def mixture(
    x: Float[AnyArray, "*any dim"],
    router: Float[AnyArray, "dim experts"],
    into: Float[AnyArray, "experts dim hidden"],
    out: Float[AnyArray, "experts hidden dim"],
    active: int,
) -> Float[AnyArray, "*any dim"]:
    """What the active experts add; their gates are the softmax of their logits."""
    import jax
    import jax.numpy as jnp

    logits = x @ router
    top, chosen = jax.lax.top_k(logits, active)
    gates = jnp.sum(
        jax.nn.softmax(top)[..., None] * jax.nn.one_hot(chosen, logits.shape[-1]), axis=-2
    )
    hidden = jax.nn.gelu(jnp.einsum("...d,edm->...em", x, into))
    return jnp.einsum("...em,emd,...e->...d", hidden, out, gates)


@functools.cache
def learning_program(size: Size, active: int, steps: int, first: int) -> Callable[..., Any]:
    """Compiled: from keys, starts, rates, images and labels to what router and experts learn.

    Args:
        size: of the network.
        active: experts of a token.
        steps: updates of Adam.
        first: width of the base.
    """
    import jax
    import jax.numpy as jnp
    import optax

    width, experts = size.width, size.experts or 1

    def one(
        key: jax.Array,
        inits: dict[str, jax.Array],
        rates: dict[str, jax.Array],
        images: jax.Array,
        labels: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        def draw(name: str, *shape: int, std: float) -> jax.Array:
            return std * inits[name] * jax.random.normal(core.named_key(key, name), shape)

        start = {
            "embedding": draw("embedding", PIXELS, width, std=0.25),
            "router": draw("router", 2, width, experts, std=first**-0.5),
            "into": draw("into", 2, experts, width, width, std=first**-0.5),
            "out": draw("out", 2, experts, width, width, std=first**-0.5),
            "readout": jnp.zeros((width, CLASSES)),
        }

        def loss(parameters: dict[str, jax.Array]) -> jax.Array:
            h = images @ parameters["embedding"]
            for block in range(2):
                maps = [parameters[name][block] for name in ("router", "into", "out")]
                h = h + mixture(norm(h), maps[0], maps[1], maps[2], active)
            logits = norm(h).mean(axis=1) @ parameters["readout"] * (first / width)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        adam = optax.scale_by_adam(0.9, 0.95, eps=1e-12)

        def update(carry: Any, _: None) -> tuple[Any, None]:
            parameters, state = carry
            directions, state = adam.update(jax.grad(loss)(parameters), state)
            moves = jax.tree.map(jnp.multiply, rates, directions)
            return (jax.tree.map(jnp.subtract, parameters, moves), state), None

        (end, _), _ = jax.lax.scan(update, (start, adam.init(start)), None, length=steps)
        x = norm(images @ start["embedding"])
        router = x @ (end["router"][0] - start["router"][0])
        expert = jnp.einsum("...d,edm->...em", x, end["into"][0] - start["into"][0])
        return jnp.sqrt(jnp.mean(router**2)), jnp.sqrt(jnp.mean(expert**2))

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None, None)))
