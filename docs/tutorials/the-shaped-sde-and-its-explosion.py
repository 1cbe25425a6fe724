# %% [markdown]
# # The shaped SDE and its explosion
#
# Let depth and width of a transformer grow together, with attention shaped such that a layer does
# little: softmax centred at the identity, and a temperature that grows with the width. The
# covariance of the tokens then tends to a stochastic differential equation in layers over width.
# Networks stay random in this limit, so that it speaks of medians and bands, not of one number.
#
# This notebook puts networks of one width beside the equation, and then shows what the equation does
# that no network can: it explodes.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from translimit import models, solve
from translimit.figures import finish
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    StructurePreserving,
    explosion_probability,
)

block = Block(gamma=0.5, tau0=1.0)  # weight of the branch, temperature
start = np.array([[1.0, 0.2], [0.2, 1.0]])
times = np.linspace(0.0, 1.0, 11)


def correlation(cov):
    return cov[..., 0, 1] / np.sqrt(cov[..., 0, 0] * cov[..., 1, 1])


# %% [markdown]
# ## Networks on the bands
#
# `CovarianceSDE` is the limit. `CompressedShapedTransformer` is a network of finite width: given the
# covariance before a layer, the one behind it needs only small Gaussian matrices, so that the width
# costs nothing. Width 100 and 100 layers are $t = 1$.

# %%
# Figure: correlation of two tokens against layers over width: median and quartiles of the SDE as a
# line and a band, and of networks of width 100 as points with bars, which lie on them.
sde = CovarianceSDE(block=block, initial=start, t1=1.0)
method = StructurePreserving(max_step=0.02, paths=400, bounded=True)
paths = solve(sde, method, key=jax.random.key(0), save=times)
network = models.CompressedShapedTransformer(block=block, dim=100, layers=100)
cov = network.simulate(start, key=jax.random.key(1), seeds=400, save_every=10).cov
low, middle, high = np.nanquantile(correlation(np.asarray(paths.cov)), [0.25, 0.5, 0.75], axis=0)
below, median, above = np.quantile(correlation(np.asarray(cov)), [0.25, 0.5, 0.75], axis=0)
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.fill_between(times, low, high, color="#222222", alpha=0.15, linewidth=0, label="SDE, quartiles")
ax.plot(times, middle, color="#222222", label="SDE, median")
ax.errorbar(times, median, [median - below, above - median], fmt="o", capsize=3, label="width 100")
finish(ax, xlabel="layers / width", ylabel="correlation of two tokens")
print("median at t = 1: SDE", middle[-1].round(3), " networks", median[-1].round(3))

# %% [markdown]
# ## The same depth, other widths
#
# What counts is depth over width. Forty layers are deep for width 20 and shallow for width 320: the
# spread over networks of the log of a token's mean square grows with that ratio. It is what a single
# draw of weights adds to whatever the mean does. The limit is off by a term of order one over the
# width, which shows at width 20.

# %%
# Figure: spread over networks of the log of a token's mean square, after 40 layers, against the
# width on logarithmic axes: points of networks on the line of the SDE.
widths, layers = np.array([20, 40, 80, 160, 320]), 40
clock = layers / widths[::-1]
wide = solve(
    CovarianceSDE(block=block, initial=start, t1=clock[-1]),
    method,
    key=jax.random.key(3),
    save=clock,
)
line = np.nanstd(np.log(np.asarray(wide.cov)[..., 0, 0]), axis=0)[::-1]
points = []
for dim in widths:
    chain = models.CompressedShapedTransformer(block=block, dim=int(dim), layers=layers)
    ends = chain.simulate(start, key=jax.random.key(2), seeds=400, save_every=layers).cov
    points.append(np.log(np.asarray(ends)[:, -1, 0, 0]).std())
bars = np.array(points) / np.sqrt(2 * 400)
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.errorbar(widths, points, bars, fmt="o", capsize=3, label="networks of 40 layers")
ax.plot(widths, line, color="#222222", label="SDE")
ax.set(xscale="log", yscale="log")
finish(ax, xlabel="width", ylabel="spread of the log mean square")

# %% [markdown]
# ## Explosion
#
# Attention adds to a covariance at a rate that grows like its cube. Two tokens that happen to move
# apart then move apart faster, and the equation reaches infinity in finite time with positive
# probability, exactly where $\gamma^2 < H / 2$ for $H$ heads. `explosion_probability` knows it in
# closed form, and at a finite time from the backward equation. Paths that explode are an outcome of
# `solve`, and are counted.

# %%
# Figure: probability of explosion before a time for two weights of the branch: curves of the
# backward equation with their final values dashed, and shares of exploded paths on them.
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ts = np.linspace(0.1, 2.0, 7)
apart = np.eye(2)  # the squared distance of these two tokens is 2
for series, square in enumerate((0.15, 0.4)):
    one = Block(gamma=square**0.5, tau0=0.5)
    exact = [explosion_probability(one, 2.0, float(t)) for t in ts]
    ax.plot(ts, exact, color=f"C{series}", label=f"$\\gamma^2 = {square}$")
    ax.axhline(explosion_probability(one, 2.0), color=f"C{series}", linestyle=":", linewidth=1)
    adaptive = StructurePreserving(max_step=0.02, adaptive=0.1, paths=300)
    explosive = CovarianceSDE(block=one, initial=apart, t1=2.0)
    found = solve(explosive, adaptive, key=jax.random.key(series))
    share = found.blow_up_probability()
    ax.errorbar(2.0, share.value, share.stderr, fmt="s", color=f"C{series}", capsize=3)
    print(
        f"gamma^2 = {square}: paths {share.value:.3f} ± {share.stderr:.3f}, exact {exact[-1]:.3f}"
    )
finish(ax, xlabel="layers / width", ylabel="probability of explosion before it")

# %% [markdown]
# A network of finite width never explodes at finite depth: it leaves the shaped regime and grows
# geometrically from there. So means of covariances are no fair comparison where explosion is
# possible, and the experiments compare bounded quantities or stopped processes:
# `noci2023/explosion`, `noci2023/sde-and-networks`. The theory is on the page
# [The shaped Transformer](../theory/shaped.md).
