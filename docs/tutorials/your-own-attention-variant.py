# %% [markdown]
# # Your own attention variant
#
# An idea for another attention is a formula: which weights a query gives to the keys. Written once as
# a class, it gets the flow of finitely many tokens, networks of finite depth, the limit of many
# tokens and a conformance test. This notebook does it for a kernel with heavy tails,
#
# $$\Gamma_\mu(x) = V \int \frac{y\, d\mu(y)}{1 + \langle Q x, K y \rangle^2},$$
#
# which, unlike softmax, gives *less* weight to keys with large scores of either sign.

# %%
from typing import final

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from translimit import solve
from translimit.attention import AbstractOneHead, Softmax, check_variant
from translimit.core import NoSuchLimitError
from translimit.figures import finish, plot_cloud
from translimit.limits.meanfield import GaussianFlow, ParticleFlow

# %% [markdown]
# ## The class
#
# `AbstractOneHead` holds $Q$, $K$, $V$, the factor of the scores and `causal`. `velocity` is the
# formula. A cloud comes with the logarithms of its weights, so that a token of weight one half counts
# half; under a mask positions come with it.


# %%
@final
class Rational(AbstractOneHead):
    """Gamma(x) = V sum_j w_j y_j / (1 + s(x, y_j)^2), plain or causal."""

    def velocity(self, x, cloud, log_weights, x_positions, positions):
        scores = self.queries(x) @ self.keys(cloud).T
        kernel = jnp.exp(log_weights) / (1 + scores**2)
        if positions is not None:
            kernel = jnp.where(positions[None, :] <= x_positions[:, None], kernel, 0.0)
        return self.values(kernel @ cloud)

    def gaussian_field(self, mean, cov):
        raise NoSuchLimitError("attention", "the field is not affine", "use ParticleFlow")


maps = {"Q": np.eye(2), "K": np.array([[0.0, 1.0], [-1.0, 0.0]]), "V": np.eye(2)}

# %% [markdown]
# ## Is it right?
#
# `check_variant` compares a variant with what all variants promise: the mask, the measure (tokens in
# halves, tokens of weight zero, another order), tiles, `jit`, `vmap` and derivatives. With `dense=` it
# also takes a second version of the formula. A variant that forgets its mask does not pass.

# %%
print(check_variant(Rational(**maps, score_scale=0.5, causal=True)))


@final
class Forgetful(AbstractOneHead):
    """The same without its mask."""

    def velocity(self, x, cloud, log_weights, x_positions, positions):
        scores = self.queries(x) @ self.keys(cloud).T
        return self.values((jnp.exp(log_weights) / (1 + scores**2)) @ cloud)

    def gaussian_field(self, mean, cov):
        raise NoSuchLimitError("attention", "the field is not affine", "use ParticleFlow")


report = str(check_variant(Forgetful(**maps, score_scale=0.5, causal=True), throw=False))
print("\n".join(line for line in report.splitlines() if "failed" in line))

# %% [markdown]
# ## What it does to tokens
#
# The same cloud under softmax and under the new variant, with the same maps. Both carry it along with
# its mean. Softmax prefers keys with large scores and moves the cloud further; the rational kernel
# divides by nothing, and its weights are at most those of uniform attention.

# %%
# Figure: a cloud of 400 tokens at the start, after softmax and after the rational kernel, each with
# the ellipses of its own covariance.
tokens = np.random.default_rng(0).multivariate_normal([1.0, 0.0], [[0.6, 0.2], [0.2, 0.4]], 400)
ours = Rational(**maps, score_scale=0.5)
theirs = Softmax(**maps, score_scale=0.5)
ends = {"start": tokens}
for name, one in (("softmax", theirs), ("rational", ours)):
    ends[name] = solve(ParticleFlow(attention=one, initial=tokens, t1=1.0), save=[1.0]).tokens[-1]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharex=True, sharey=True, layout="constrained")
for ax, (name, cloud) in zip(axes, ends.items(), strict=True):
    cloud = np.asarray(cloud)
    plot_cloud(cloud, cloud.mean(0), np.cov(cloud.T), ax, title=name, extent=(-4, 9, -5, 5))

# %% [markdown]
# ## Its limit
#
# The field of softmax on a Gaussian is affine, so that a Gaussian stays one and `GaussianFlow` is
# exact. Ours is not affine, and says so: `gaussian_field` refuses. The limit of many tokens is then
# solved by a quadrature in place of a random sample: the nodes of Gauss and Hermite with their
# weights, moved by the same flow. Clouds of growing size come close to it.

# %%
# Figure: the larger variance against depth: the quadrature as a line, and mean and spread of twelve
# clouds of 50 and of 400 tokens, which come close to it as they grow.
mean, cov = np.array([1.0, 0.0]), np.array([[0.6, 0.2], [0.2, 0.4]])
try:
    solve(GaussianFlow(attention=ours, mean=mean, cov=cov, t1=1.0))
except NoSuchLimitError as error:
    print(error)
points, masses = np.polynomial.hermite_e.hermegauss(16)
grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
weights = np.outer(masses, masses).ravel() / masses.sum() ** 2
nodes = mean + grid @ np.linalg.cholesky(cov).T
times = np.linspace(0.0, 1.0, 11)
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
limit = solve(ParticleFlow(attention=ours, initial=nodes, weights=weights, t1=1.0), save=times)
ax.plot(times, np.linalg.eigvalsh(limit.cov)[:, -1], color="#222222", label="infinitely many")
for n, marker in ((50, "o"), (400, "s")):
    larger = []
    for seed in range(12):
        start = np.random.default_rng(seed).multivariate_normal(mean, cov, n)
        path = solve(ParticleFlow(attention=ours, initial=start, t1=1.0), save=times)
        larger.append(np.linalg.eigvalsh(path.cov)[:, -1])
    middle, spread = np.mean(larger, axis=0), np.std(larger, axis=0)
    ax.errorbar(times, middle, spread, fmt=marker, capsize=3, label=f"12 clouds of {n} tokens")
finish(ax, xlabel="depth", ylabel="larger variance")

# %% [markdown]
# In the package a variant is one file of `src/translimit/attention/`, and every check of the test
# suite takes it up from a list. For large clouds compute the sums with `softmax_average` or
# `kernel_sum` of `translimit.attention`, which take the scores tile by tile and know the mask. More on
# the page [Extending](../extending.md).
