# %% [markdown]
# # An infinite language model learns
#
# The limit of infinitely many heads with cross-entropy at every token: a small decoder learns which word follows. The
# solver is that of [An infinite transformer learns](an-infinite-transformer-learns.md); the equations are on the page
# [Training dynamics](../theory/dmft.md).
#
# ## Words, and a loss at every token
#
# `token_ids` are embedded as words and positions. Targets [inputs, tokens] are the words that follow, or -1 where there is
# none.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from translimit import solve
from translimit.figures import finish
from translimit.limits.dmft import Architecture, CrossEntropy, TrainingDynamics

words = np.array([[3, 1, 1, 2], [2, 3, 1, 1], [1, 3, 1, 1]])  # [inputs, tokens]
follow = np.array([[1, 1, 2, 3], [3, 1, 1, 1], [3, 1, 1, 2]])
decoder = Architecture(
    head_dim=math.inf,
    norm="rms",
    final_norm=True,
    causal=True,
    qk_norm="rms",
    score_gain=2.0,
    beta0=1.5,
)


def language(**more):
    """The training of the decoder on these words."""
    given = {"loss": CrossEntropy(smoothing=0.05), "steps": 24, "eta0": 0.5} | more
    return TrainingDynamics(
        architecture=decoder, token_ids=words, vocabulary=4, targets=follow, **given
    )


learned = solve(language())
print(learned.predictions.shape)  # evaluations, inputs, tokens, words
print(learned.loss[[0, -1]].round(3), learned.accuracy[[0, -1]].round(3))
print(learned.loss_by_position[-1].round(3))

# %% [markdown]
# All four words are equally likely at the start, so the loss is log 4. Words that occur in several places are ambiguous
# without their context; attention and the positions tell them apart.

# %%
# Figure: left, loss and accuracy of all tokens against updates; right, the loss of every position, which fall at
# different speeds.
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
learned.plot(ax=left)
learned.plot_positions("loss_by_position", ax=right)

# %% [markdown]
# ## What is chosen
#
# | argument | what it changes |
# |---|---|
# | `loss` | `SquaredError()`, `Huber(delta)`, `Logistic(temperature)` with targets -1 and 1, `CrossEntropy(smoothing, temperature)` with classes |
# | `readout` | "pooled" or "token"; classes [inputs] or [inputs, tokens] tell it themselves |
# | `weights` | of rows, [inputs] or [inputs, tokens], or of every step; 0 for test rows |
# | `readout_std=0` | a readout that starts at zero: the first update moves nothing else |
# | `tied`, `centred` | the readout is the embedding; outputs at the start are subtracted |
# | `position_std`, `position_rate` | positions at the start, and their rate; 0 freezes them |
# | `Architecture(final_norm, qk_norm, score_gain, score_gain_rate, rotary, mlp_ratio)` | modern heads and blocks |
#
# Sampled heads and an MLP take the same arguments, with `CausalSampling` and a key. A tied readout predicts each word
# itself at the start; centred outputs leave that out.

# %%
# Figure: the loss against updates for a random, a zero, and a tied and centred readout: all start at log 4 and
# fall at different rates.
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
cases = {
    "random readout": {},
    "zero readout": {"readout_std": 0.0},
    "tied and centred": {"tied": True, "centred": True, "eta0": 0.25},
}
for name, more in cases.items():
    ax.plot(solve(language(**more)).loss, label=name)
finish(ax, xlabel="updates", ylabel="loss")

# %% [markdown]
# ## From a file
#
# `translimit example language.toml` writes the file of a small language model that reads English prose byte by byte, and
# `translimit dmft language.toml` solves it. `task` is "bytes", "copy", "recall", "markov", or an `.npz` with `token_ids` and
# `targets` [P, S] and a `vocabulary`. Networks of growing size are trained beside it, with all that the limit has (`qk_norm`,
# `tied`, `smoothing`, ...); `axis = "none"` solves the limit alone.
