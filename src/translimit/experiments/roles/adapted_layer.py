r"""A frozen layer with an adapter of low rank: y = tanh((W + f B A) x), of which A and B learn.

W is square with random entries of variance 1 / n, A of shape r x n likewise, and B of shape n x r
starts at zero. The loss is the squared error of random targets, summed over outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from translimit import core

if TYPE_CHECKING:
    import jax

Optimizer = Literal["sgd", "adam"]


@functools.cache
def adapting_program(
    optimizer: Optimizer, width: int, rank: int, examples: int, steps: int
) -> Callable[..., dict[str, Any]]:
    """Compiled: from keys, the factor f and the rates of A and B to what the adapter learned.

    Args:
        optimizer: gradient descent, or Adam with an epsilon that does nothing.
        width: n.
        rank: r.
        examples: of every update.
        steps: updates.

    Returns:
        A function whose result has, by seed, the root mean squares of the change of the `output`
        and of `down`, what A alone did to the pre-activations through the B of the end: f B_T
        (A_T - A_0) x.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def one(
        key: jax.Array, factor: jax.Array, rate_a: jax.Array, rate_b: jax.Array
    ) -> dict[str, jax.Array]:
        def draw(name: str, *shape: int) -> jax.Array:
            return jax.random.normal(core.named_key(key, name), shape)

        inputs, targets = draw("inputs", examples, width), draw("targets", examples, width)
        frozen = draw("frozen", width, width) * width**-0.5
        drawn = {"a": draw("a", rank, width) * width**-0.5, "b": jnp.zeros((width, rank))}
        # jaxlib 0.10.2 fuses products with constants wrongly on CPUs (jax-ml/jax issue 39103).
        start = jax.lax.optimization_barrier(drawn)
        rates = {"a": rate_a, "b": rate_b}

        def outputs(parameters: dict[str, jax.Array]) -> jax.Array:
            adapted = factor * inputs @ parameters["a"].T @ parameters["b"].T
            return jnp.tanh(inputs @ frozen.T + adapted)

        def loss(parameters: dict[str, jax.Array]) -> jax.Array:
            return 0.5 * jnp.mean(jnp.sum((outputs(parameters) - targets) ** 2, axis=-1))

        adam = optax.scale_by_adam(0.9, 0.95, eps=1e-12)
        kind = optax.identity() if optimizer == "sgd" else adam

        def update(carry: Any, _: None) -> tuple[Any, None]:
            parameters, state = carry
            directions, state = kind.update(jax.grad(loss)(parameters), state)
            moves = jax.tree.map(jnp.multiply, rates, directions)
            return (jax.tree.map(jnp.subtract, parameters, moves), state), None

        (end, _), _ = jax.lax.scan(update, (start, kind.init(start)), None, length=steps)
        found = {
            "output": outputs(end) - outputs(start),
            "down": factor * inputs @ (end["a"] - start["a"]).T @ end["b"].T,
        }
        return {name: jnp.sqrt(jnp.mean(value**2)) for name, value in found.items()}

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None)))
