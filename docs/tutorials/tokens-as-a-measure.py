# %% [markdown]
# # Tokens as a measure
#
# Attention treats tokens as a set: what it does to a token depends on where all the others are, and
# not on their order. With very many tokens the set becomes a measure, and the layers of a deep
# network become a flow of that measure. This notebook starts with a finite cloud, puts its limit
# beside it, measures how fast the gap closes, and ends where the two part for good.
#
# The equations are on the page [The Transformer PDE](../theory/meanfield.md).

# %%
import matplotlib.pyplot as plt
import numpy as np
from translimit import solve
from translimit.attention import Softmax
from translimit.figures import finish, plot_cloud
from translimit.limits.meanfield import GaussianFlow, ParticleFlow

attention = Softmax(Q=[[0.7, 0.2], [-0.3, 0.5]], K=[[0.4, -0.3], [0.2, 0.8]], V=np.eye(2))
mean, cov = np.zeros(2), np.array([[0.8, 0.2], [0.2, 0.5]])
depths = [0.0, 1.2, 2.4]

# %% [markdown]
# ## A cloud and its limit
#
# `ParticleFlow` moves every token by softmax attention to all tokens. `GaussianFlow` is what
# happens to infinitely many Gaussian tokens: their law stays Gaussian, so that a mean and a
# covariance are all there is to solve for. Both start from the same law. Nothing is fitted.
# The last depth is near a blow-up, to which we come below: small differences grow fast there.

# %%
# Figure: a cloud of 1,000 tokens at depths 0, 1.2 and 2.4 with the ellipses of the Gaussian limit;
# cloud and ellipses grow together.
tokens = np.random.default_rng(0).multivariate_normal(mean, cov, size=1000)
finite = solve(ParticleFlow(attention=attention, initial=tokens, t1=depths[-1]), save=depths)
limit = solve(GaussianFlow(attention=attention, mean=mean, cov=cov, t1=depths[-1]), save=depths)
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained")
for ax, depth, cloud, centre, spread in zip(
    axes, depths, finite.tokens, limit.mean, limit.cov, strict=True
):
    plot_cloud(cloud, centre, spread, ax, title=f"depth {depth:g}", extent=(-7, 7, -7, 7))
print("1,000 tokens:", np.cov(finite.tokens[-1].T).round(3).tolist())
print("the limit:   ", limit.cov[-1].round(3).tolist())

# %% [markdown]
# ## How fast the gap closes
#
# A cloud drawn from a law differs from it by sampling, like $n^{-1/2}$. Attention carries this
# difference along. So the error of the covariance at a later depth should fall like $n^{-1/2}$
# too, with a larger factor. Sixteen clouds of every size say whether it does.

# %%
# Figure: root mean square error of the covariance against the number of tokens on logarithmic axes,
# at depth 0 and at depth 1; both fall with slope minus one half.
sizes, clouds = (50, 100, 200, 400), 16
target = solve(GaussianFlow(attention=attention, mean=mean, cov=cov, t1=1.0), save=[0.0, 1.0]).cov
errors = np.zeros((len(sizes), clouds, 2))
for row, n in enumerate(sizes):
    for seed in range(clouds):
        start = np.random.default_rng((seed, n)).multivariate_normal(mean, cov, size=n)
        moved = solve(ParticleFlow(attention=attention, initial=start, t1=1.0), save=[0.0, 1.0])
        errors[row, seed] = np.linalg.norm(moved.cov - target, axis=(1, 2))
rms = np.sqrt((errors**2).mean(axis=1))
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for depth, column, marker in ((0, rms[:, 0], "o"), (1, rms[:, 1], "s")):
    slope = np.polyfit(np.log(sizes), np.log(column), 1)[0]
    ax.loglog(sizes, column, marker, label=f"depth {depth}: slope {slope:.2f}")
    ax.loglog(sizes, column[0] * (np.array(sizes) / sizes[0]) ** -0.5, "-", color="0.6", zorder=0)
finish(ax, xlabel="tokens", ylabel="error of the covariance")
print("slopes:", np.polyfit(np.log(sizes), np.log(rms), 1)[0].round(2))

# %% [markdown]
# ## Where limit and cloud part
#
# The rate at which the covariance grows is proportional to the covariance itself, so that the
# limit becomes infinite at a finite depth. That is a result and not a crash: the solution says
# when. Finitely many tokens cannot do it, since attention is an average over them. Larger clouds
# follow the limit for longer.

# %%
# Figure: the trace of the covariance against depth, on a logarithmic axis: the limit goes to
# infinity at its blow-up, clouds of 100 and 1,000 tokens leave it before and stay finite.
blown = solve(GaussianFlow(attention=attention, mean=mean, cov=cov, t1=12.0))
print("blow-up at depth", round(float(blown.blow_up_time), 3))
times = np.linspace(0.0, 1.1 * float(blown.blow_up_time), 60)
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for n, style in ((100, ":"), (1000, "--")):
    start = np.random.default_rng(1).multivariate_normal(mean, cov, size=n)
    path = solve(ParticleFlow(attention=attention, initial=start, t1=times[-1]), save=times)
    ax.plot(times, np.trace(path.cov, axis1=1, axis2=2), style, label=f"{n:,} tokens")
before = np.linspace(0.0, 0.999 * float(blown.blow_up_time), 200)
exact = solve(GaussianFlow(attention=attention, mean=mean, cov=cov, t1=before[-1]), save=before)
ax.plot(before, np.trace(exact.cov, axis1=1, axis2=2), color="#222222", label="the limit")
ax.axvline(float(blown.blow_up_time), color="0.7", zorder=0)
ax.set_yscale("log")
ax.set_ylim(0.8, 1e4)
finish(ax, xlabel="depth", ylabel="trace of the covariance")

# %% [markdown]
# So the order of the two limits matters: many tokens at a fixed depth follow the equation, a fixed
# number of tokens at large depth does not. The experiment `castin2025/past-blow-up` measures both
# sides; `castin2025/particles-and-closure` has the rate of this page with its error bars and the
# wrong theories that it excludes.
