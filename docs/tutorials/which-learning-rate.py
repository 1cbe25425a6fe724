# %% [markdown]
# # Which learning rate?
#
# The limit of infinitely many heads is solved in seconds, so that it can be asked before any network trains: at what rate
# is the loss lowest after so many updates, and where does training diverge? The equations are on the page
# [Training dynamics](../theory/dmft.md).
#
# ## How sharp is the loss?
#
# `edge` gives the sharpness at any time of training, and the rate at the edge of stability there. Two digits of each of two
# classes, cut into four patches, are learned by infinitely many heads of infinite dimension.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from translimit import data, solve
from translimit.figures import finish
from translimit.limits.dmft import Architecture, TrainingDynamics, best_rate, edge

digits = data.digit_patches((4, 4))
labels = np.asarray(digits.targets)
chosen = np.concatenate([np.flatnonzero(labels == label)[:3] for label in (0, 1)])
x, found = digits.take(chosen)
y = np.where(found == 0, 1.0, -1.0)
seen = [0, 1, 3, 4]  # the others are a test: their weight is 0
weights = np.isin(np.arange(6), seen) / 4


def training(eta0, **more):
    """Ten evaluations at one learning rate."""
    given = {"gamma0": 1.0, "beta0": 1.5} | more
    return TrainingDynamics(
        architecture=Architecture(head_dim=math.inf, **given),
        inputs=x,
        targets=y,
        weights=weights,
        steps=10,
        eta0=eta0,
    )


sharp = edge(training(0.3), times=range(0, 10, 3))
print(sharp.sharpness.round(3))
print(sharp.rates.round(3))  # at the edge of stability

# %% [markdown]
# The loss becomes sharper while features move, so that the edge at the start promises too much.
#
# ## The best rate
#
# `best_rate` solves the limit from a twentieth of that edge to twice it. Where heads are sampled it charges for the scatter of
# small populations, which grows at the edge of stability as that of finite networks does; here nothing is sampled.

# %%
lazy, rich = (best_rate(training(1.0, gamma0=gamma0)) for gamma0 in (0.3, 2.0))
for name, one in (("lazy", lazy), ("rich", rich)):
    print(name, round(one.rate, 3), "of the edge at the start", round(one.edge, 3))
    print("   diverges between", [round(rate, 3) for rate in one.divergence])

# %%
# Figure: the loss after ten evaluations against the learning rate, lazy and rich: the rich network has its best rate, and
# diverges, at a smaller part of the edge of stability at the start.
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, one, name in ((left, lazy, "lazy"), (right, rich, "rich")):
    one.plot(ax=ax)
    ax.axvline(one.edge, color="0.4", linestyle=":")
    ax.set_title(name)

# %% [markdown]
# ## What digits that were not trained say
#
# Rows of weight 0 change nothing and have a loss of their own.

# %%
# Figure: the loss of trained and of unseen digits against updates, at the best rate of the rich network and at half of it.
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for factor, style in ((1.0, "-"), (0.5, "--")):
    solution = solve(training(factor * rich.rate, gamma0=2.0))
    ax.plot(solution.loss, style, color="C0", label=f"trained, {factor:g} of the best rate")
    ax.plot(solution.test_loss, style, color="C1", label=f"unseen, {factor:g} of the best rate")
ax.set_yscale("log")
finish(ax, xlabel="updates", ylabel="loss")

# %% [markdown]
# ## From a file, with networks beside it
#
# `translimit dmft dmft.toml --best-rate` does the same for a file of your own and trains networks at the same rates; `--json` prints
# all losses. The experiment `bordelon2024/dmft-best-rate` compares prediction and sweep in eight problems.
