# %% [markdown]
# # Extrapolate small runs
#
# You trained a few small networks and wrote their losses into a CSV file. What will a network with
# four times as many heads come to? This notebook reads the file, looks at it, predicts, and checks
# itself. The file is the one that `translimit example runs.csv` writes: encoders of digits with 2,
# 3, 4 and 6 heads, six seeds, four learning rates, the loss on a fixed set after 4 to 64 updates.

# %%
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
from translimit.extrapolate import fit, read_runs
from translimit.figures import finish

path = files("translimit") / "examples" / "runs.csv"
print(*path.read_text().splitlines()[:4], sep="\n")
runs = read_runs(str(path))
print(runs.axes, runs.sizes[:, 0], len(runs.seeds), "seeds, rates", runs.rates)

# %% [markdown]
# ## Look first
#
# Losses fall with the number of heads, at every number of updates, and a seed's own luck is as
# large as the difference between neighbouring sizes. Seeds are paired: seed 0 has the same batches
# at all sizes, so that luck is shared and cancels in differences.

# %%
# Figure: left, mean loss against updates for 2, 3, 4 and 6 heads, lower for more heads; right, the
# loss after 64 updates against 1 / heads, single seeds and their mean, falling towards 0.
fitted = fit(runs, "heads")
losses = fitted.curves.losses[:, :, 0]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for heads, curves, marker in zip(runs.sizes[:, 0], losses, "os^D", strict=True):
    left.plot(runs.steps, curves.mean(axis=0), marker + "-", label=f"{heads:g} heads", markersize=4)
left.set_yscale("log")
finish(left, xlabel="updates", ylabel="loss")
right.plot(1 / runs.sizes[:, 0], losses[..., -1], "x", color="0.6")
right.plot(1 / runs.sizes[:, 0], losses[..., -1].mean(axis=1), "o-", label="mean over seeds")
finish(right, xlabel="1 / heads", ylabel="loss after 64 updates")

# %% [markdown]
# ## Predict
#
# The mean log loss is a series in 1 / heads. Its first terms are fitted, the others are an error.
# The backtest comes first: the largest size from the three others.

# %%
print(fitted.text([fitted.predict(heads=24)]))

# %% [markdown]
# The two rates differ in how fast the limit is approached. Where everything but the number of heads
# is fixed, theory says 1/n; `fit(..., rate="1")` takes it at its word. The printed range holds
# both. "Of seeds" shrinks with more seeds, "of the law" with larger sizes.

# %%
# Figure: mean loss against updates for 2 to 6 heads, and below them the predicted curve of 24 heads
# with a band of two errors that widens with training.
fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
fitted.plot(ax, heads=24)

# %% [markdown]
# ## Is the range honest?
#
# Pretend that 6 heads were the target. Fitted on 2, 3 and 4 heads, at every number of updates and
# every rate, the measured loss should be within two errors nearly always.

# %%
# Figure: distance of the predicted from the measured log loss of 6 heads in units of its error,
# against updates, at four learning rates; all points but one lie between -2 and 2.
fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
scores = []
for rate, marker in zip(runs.rates, "os^D", strict=True):
    z = fit(runs, "heads", lr=rate).backtest.z[0]
    scores.append(z)
    ax.plot(runs.steps, z, marker + "-", label=f"rate {rate:g}")
ax.axhspan(-2, 2, color="0.9")
finish(ax, xlabel="updates", ylabel="distance in errors")
print(f"within two errors: {np.mean(np.abs(scores) < 2):.0%} of {np.size(scores)} points")

# %% [markdown]
# ## Which rate should the larger network have?
#
# The best rate of every size, extrapolated in 1 / heads, and what the best rate of the smallest
# size would cost at 24 heads.

# %%
print(fitted.optimum(heads=24))
