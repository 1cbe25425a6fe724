# %% [markdown]
# # Clustering on the sphere
#
# A network that normalises its tokens in every layer moves them on a sphere, and attention draws
# tokens to those that they look at. Tokens gather in clusters, which look like a final answer and
# are not: they merge later. This notebook watches it happen, predicts the number of clusters, and
# follows the law of infinitely many tokens.
#
# The flow is $\dot x_i = P_{x_i} \sum_j p_{ij} x_j$ with
# $p_{ij} \propto e^{\beta \langle x_i, x_j \rangle}$ and $P_x$ the projection on the tangent space.

# %%
import matplotlib.pyplot as plt
import numpy as np
from translimit import observe, solve
from translimit.figures import finish, plot_angles, plot_hemispheres
from translimit.limits.meanfield import SphereFlow, growth_rates, metastable_clusters

rng = np.random.default_rng(0)

# %% [markdown]
# ## Tokens gather
#
# Three hundred tokens in random directions, at inverse temperature 16. Full dots are in front,
# rings behind.

# %%
# Figure: 300 tokens on a sphere at depths 0, 4, 8 and 30: spread out, then in bands, then in a few
# tight clusters, of which some have merged at the end.
tokens = rng.standard_normal((300, 3))
flow = SphereFlow(initial=tokens, t1=30.0, beta=16.0)
solution = solve(flow, save=[0.0, 4.0, 8.0, 30.0])
fig, axes = plt.subplots(1, 4, figsize=(11, 3), sharey=True, layout="constrained")
for ax, depth, cloud in zip(axes, solution.ts, solution.to_xarray()["tokens"], strict=True):
    plot_hemispheres(cloud, ax, title=f"depth {depth:g}")
delta = observe.cluster_angle(16.0)
print("clusters:", [int(observe.cluster_counts(one, delta)) for one in solution.tokens])

# %% [markdown]
# ## How many clusters
#
# On the circle the uniform law is a fixed point, and it is unstable. A small perturbation with $k$
# waves grows at the rate $k^2 I_k(\beta) / (\beta I_0(\beta))$, with the modified Bessel functions
# $I_k$. The fastest mode decides how many clusters appear: about $\sqrt{2 \beta}$.

# %%
# Figure: left, growth rates by the number of waves for three temperatures, each with one maximum;
# right, angles of 300 tokens on the circle against depth, gathering in about as many clusters.
beta = 25.0
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for one, marker in ((9.0, "o"), (beta, "s"), (81.0, "^")):
    rates = growth_rates(one, 20)
    left.plot(np.arange(1, 21), rates, marker + "-", label=f"$\\beta = {one:g}$", markersize=4)
finish(left, xlabel="waves around the circle", ylabel="growth rate")
angles = rng.uniform(-np.pi, np.pi, 300)
circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
path = solve(SphereFlow(initial=circle, t1=20.0, beta=beta), save=np.linspace(0, 20, 161))
plot_angles(path.to_xarray(), right)
counts = observe.cluster_counts(path.tokens, observe.cluster_angle(beta))
print(
    "predicted:", metastable_clusters(beta), " counted at depths 8, 12, 20:", counts[[64, 96, 160]]
)

# %% [markdown]
# The clusters sit where the random start happened to be denser, so their number varies between
# clouds. The experiment `castin2025/sphere-clustering` counts them over many clouds and temperatures.
#
# ## Infinitely many tokens
#
# In the limit the law of the tokens has a density, and it moves along the same flow. A quadrature
# in place of a random sample solves it: nodes on a grid, each with the mass of its cell as its
# `weights`. The density at a node is the mass between its neighbours over the angle between them.

# %%
# Figure: density of infinitely many tokens on the circle at four depths, from a start with three
# bumps: narrow peaks grow out of them; behind them histograms of 2,000 tokens with the same peaks.
nodes = 800
edges = np.linspace(-np.pi, np.pi, nodes, endpoint=False)
start = 1 + 0.3 * np.cos(edges) + 0.6 * np.cos(3 * edges + 1)
weights = start / start.sum()
initial = np.stack([np.cos(edges), np.sin(edges)], axis=1)
depths = [0.0, 1.5, 2.5, 3.5]
law = solve(SphereFlow(initial=initial, t1=3.5, beta=9.0, weights=weights), save=depths)
drawn = rng.choice(edges, 2000, p=weights) + rng.uniform(-np.pi / nodes, np.pi / nodes, 2000)
cloud = np.stack([np.cos(drawn), np.sin(drawn)], axis=1)
sample = solve(SphereFlow(initial=cloud, t1=3.5, beta=9.0), save=depths)
fig, axes = plt.subplots(1, 4, figsize=(11, 3), sharex=True, layout="constrained")
for ax, depth, here, there in zip(axes, depths, law.tokens, sample.tokens, strict=True):
    theta = np.unwrap(np.arctan2(here[:, 1], here[:, 0]))
    gap = (np.roll(theta, -1) - np.roll(theta, 1) + np.pi) % (2 * np.pi) - np.pi
    mass = (np.roll(weights, -1) + 2 * weights + np.roll(weights, 1)) / 2
    ax.hist(np.arctan2(there[:, 1], there[:, 0]), bins=90, density=True, color="#9ecae1")
    order = np.argsort((theta + np.pi) % (2 * np.pi))
    wrapped = ((theta + np.pi) % (2 * np.pi) - np.pi)[order]
    ax.plot(wrapped, (mass / gap)[order], color="#222222", linewidth=1.2)
    finish(ax, xlabel="angle", ylabel="", title=f"depth {depth:g}")
axes[0].set_ylabel("density")

# %% [markdown]
# Clusters of finitely many tokens are no artefact of sampling: the law itself concentrates. What is
# random in a cloud from a uniform start is only *where* the peaks grow. The clustering is an
# instability, so it magnifies the sampling error of the start as well: for this start and 2,000
# tokens the heights of the peaks agree, and a start with smaller bumps needs more tokens.
