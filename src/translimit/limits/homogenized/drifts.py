r"""The drifts of heads with a mean effect, and the noise beside them.

With B-bar_i = E V m(x_i), b_i = P_{x_i} B-bar_i and (nabla_b b)_i = P_{x_i} (Db(X)[b(X)])_i:

    ballistic          b
    modified           b - (step / 2) nabla_b b - step <x_i, B-bar_i> b_i      (printed chain)
                       b - (step / 2) nabla_b b                                (tangent chain)
    of the noise       c_i = -(step / heads) E <x_i, xi(x_i)> P_{x_i} xi(x_i), xi = V m - B-bar

!!! warning "Erratum"
    The paper prints the second modified form for the chain N(x + u). As u = step B-bar is not
    tangent, N(x + u) = x + P_x u - |P_x u|^2 x / 2 - <x, u> P_x u + O(|u|^3), and the last term is
    of second order: with the printed form the error against the chain stays of order one in the
    step, with the corrected one it is of order two.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.attention import head_output
from translimit.core import SPHERE, ArgumentTypeError, Key, Number, Retraction, brief
from translimit.describe import AbstractHeads, AbstractIsotropicHeads, FiniteHeads, ShiftedHeads


def mean_update(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"]
) -> Float[Array, "tokens dim"]:
    """B-bar(x_i) = E V m(x_i) of all tokens, for a law whose mean is a finite sum.

    Raises:
        ArgumentTypeError: a law with random scores; stand `FiniteHeads.drawn_from` in for it.
    """
    if isinstance(law, AbstractIsotropicHeads):
        return jnp.zeros_like(tokens)
    if isinstance(law, ShiftedHeads) and law.deterministic_scores:
        return head_output(law.mean_v, law.mean_a, law.beta, tokens, causal=False)
    if isinstance(law, FiniteHeads):
        updates = jax.lax.map(
            lambda head: head_output(head[0], head[1], law.beta, tokens, causal=False),
            (law.V, law.A),
        )
        return jnp.mean(updates, axis=0)
    raise ArgumentTypeError(
        "law",
        f"is {type(law).__name__} with random scores, whose mean is no finite sum",
        "pass FiniteHeads.drawn_from(law, samples, key=key), common random numbers for every "
        "evaluation",
    )


def ballistic_drift(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"]
) -> Float[Array, "tokens dim"]:
    """b_i = P_{x_i} B-bar(x_i)."""
    return SPHERE.tangent(tokens, mean_update(law, tokens))


def modified_drift(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"], step: Number, retraction: Retraction
) -> Float[Array, "tokens dim"]:
    """B to second order in the step, for the chain with this retraction."""
    b, along = jax.jvp(
        lambda x: ballistic_drift(law, x), (tokens,), (ballistic_drift(law, tokens),)
    )
    second = -0.5 * step * SPHERE.tangent(tokens, along)
    if retraction is Retraction.AMBIENT:
        outward = jnp.sum(tokens * mean_update(law, tokens), axis=-1, keepdims=True)
        second = second - step * outward * b
    return b + second


def noise_drift(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"], step: Number, heads: Number
) -> Float[Array, "tokens dim"]:
    r"""c_i = -(step / heads) E <x_i, xi(x_i)> P_{x_i} xi(x_i) of the ambient chain, paper time.

    xi = V m - B-bar. It vanishes where V fluctuates by independent entries and nothing else does,
    and for tangent chains.

    !!! warning "Erratum"
        The paper's stochastic equation leaves this drift out; it is of the order of the Ito
        correction where mean_v does not vanish and A is random.

    Raises:
        ArgumentTypeError: a law with random scores and a mean; stand `FiniteHeads.drawn_from` in.
    """
    mean = mean_update(law, tokens)
    if not isinstance(law, FiniteHeads):
        return jnp.zeros_like(tokens)

    def one(head: tuple[Array, Array]) -> Array:
        xi = head_output(head[0], head[1], law.beta, tokens, causal=False) - mean
        return jnp.sum(tokens * xi, axis=-1, keepdims=True) * SPHERE.tangent(tokens, xi)

    return jnp.asarray(-step / heads) * jnp.mean(jax.lax.map(one, (law.V, law.A)), axis=0)


def sample_noise(
    law: AbstractHeads,
    tokens: Float[Array, "tokens dim"],
    *,
    samples: int,
    key: Key,
    mean: Float[Array, "tokens dim"] | None = None,
) -> Float[Array, "tokens dim"]:
    """A vector with the covariance of xi = V m - B-bar, common to all tokens.

    Given `samples` fresh heads it is Gaussian with their covariance, which is unbiased for the true
    one. For the noise over a span of paper time multiply by (span step / heads)^{1/2} and project.

    Args:
        law: of the heads.
        tokens: of norm one.
        samples: heads to draw; at least 2 where the mean is not given.
        key: of the draws.
        mean: B-bar, where it is known (`mean_update`); the mean of the samples by default.
    """
    keys = jax.vmap(lambda head: jax.random.fold_in(key, head))(jnp.arange(samples))

    def one(head_key: Key) -> Array:
        V, A = law.sample(head_key, tokens.dtype)
        return head_output(V, A, law.beta, tokens, causal=False, hard=law.hard)

    updates = jax.lax.map(one, keys)
    weights = jax.random.normal(jax.random.fold_in(key, samples), (samples,), tokens.dtype)
    freedom = samples - 1 if mean is None else samples
    mean = jnp.mean(updates, axis=0) if mean is None else mean
    return jnp.tensordot(weights, updates - mean, 1) / freedom**0.5


def require_finite_sum(law: object) -> AbstractHeads:
    """A law whose mean is a finite sum.

    Raises:
        ArgumentTypeError: no law, or one with random scores and a mean.
    """
    if not isinstance(law, AbstractHeads):
        raise ArgumentTypeError("law", f"got {brief(law)}", "pass a law of heads")
    jax.eval_shape(lambda x: mean_update(law, x), jax.ShapeDtypeStruct((1, law.dim), jnp.float32))
    return law
