# %% [markdown]
# # Collapse, and what postpones it
#
# At initialisation every layer of attention mixes tokens, and what it mixes becomes more alike. If
# all tokens are nearly the same vector at the top, the network cannot tell positions apart, and its
# first gradients know nothing of the order of the words. How deep may a network be before that?
#
# Two answers, for two questions. For *your* stack, with its MLPs, norms and mask, the recursion
# behind `translimit predict` is the one to take. For attention alone on a sphere a limit gives the
# depth in closed form, and says which knob moves it.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from translimit.describe import WideHeads
from translimit.figures import finish
from translimit.limits.homogenized import collapse_depth
from translimit.limits.homogenized.designs import token_update
from translimit.models import RandomHeadChain
from translimit.predict import predict

# %% [markdown]
# ## A stack, layer by layer
#
# The same 16 layers three times: norms before the branches as in GPT-2, norms after the sum as in
# BERT, and norms before the branches with the last matrices scaled by $(2 L)^{-1/2}$. The curve is
# the mean overlap, the mean cosine of two different tokens; the band is one standard deviation over
# networks of this width.

# %%
# Figure: mean overlap of the tokens against the layer for post-LN, pre-LN and pre-LN with scaled
# branches, each with a band: post-LN reaches one, the scaled branches stay lowest.
layers, width = 16, 256
stack = {
    "kind": "stack",
    "dim": width,
    "layers": layers,
    "norm": "layer",
    "init_std": width**-0.5,
    "embedding": {"std": 1.0},
}
small = (2 * layers * width) ** -0.5
scaled = {
    "attention": {"heads": 4, "out_std": small},
    "feed_forward": {"width": 4 * width, "out_std": small / 2},
}
plain = {
    "attention": {"heads": 4},
    "feed_forward": {"width": 4 * width, "out_std": width**-0.5 / 2},
}
choices = {
    "post-LN": {**plain, "placement": "post"},
    "pre-LN": plain,
    "pre-LN, branches $(2L)^{-1/2}$": scaled,
}
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, choice in choices.items():
    found = predict({**stack, **choice}, ids=list(range(24)))
    curve = found.curves["overlap"]
    mean, error = np.array(curve.value), np.array(curve.error)
    (line,) = ax.plot(mean, label=name)
    ax.fill_between(
        range(layers + 1), mean - error, mean + error, color=line.get_color(), alpha=0.2
    )
    print(f"{name}: {found.collapse}")
ax.axhline(0.5, color="0.6", linewidth=0.8)
finish(ax, xlabel="layer", ylabel="mean overlap of two tokens")

# %% [markdown]
# A network of this width reaches one half in the layer that is printed, or not at all. It is the
# number that `translimit predict` gives as *mean overlap 0.5 at layer ...*, and the one to quote for
# a model.
#
# ## Attention alone
#
# Take the MLPs away, normalise every token in every layer, and draw fresh heads layer by layer: these
# are *homogenized* transformers. With many layers of small steps their overlaps follow an equation,
# and `collapse_depth` solves for the layer at which one half is crossed, with the spread of single
# networks. Its only large knob is the deviation of the scores: 0 is uniform attention, large values
# look at few keys.

# %%
# Figure: collapse depth in layers against the deviation of the scores: a line with a band for the
# limit, and points with bars for 64 networks each, a little above the line; both rise.
dim, tokens, step = 64, 8, 0.3
deviations = np.linspace(0, 4, 9)
limit = [
    collapse_depth(WideHeads(dim=dim, score_std=s), tokens=tokens, step=step, heads=1)
    for s in deviations
]
depth = np.array([float(one.layers) for one in limit])
spread = np.array([float(one.spread) for one in limit])
fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.plot(deviations, depth, color="#222222", label="limit")
ax.fill_between(deviations, depth - spread, depth + spread, color="#222222", alpha=0.15, lw=0)
for place in (0, 2, 4, 6, 8):
    law = WideHeads(dim=dim, score_std=deviations[place])
    chain = RandomHeadChain(law=law, step=step, heads=1, layers=400)
    crossed = chain.first_crossing(np.eye(tokens), 0.5, replicas=64, key=jax.random.key(place))
    ax.errorbar(deviations[place], crossed.mean(), crossed.std() / 8, fmt="oC0", capsize=3)
    print(
        f"score deviation {deviations[place]:.0f}: limit {depth[place]:.1f}, "
        f"networks {crossed.mean():.1f} ± {crossed.std() / 8:.1f} layers"
    )
finish(ax, xlabel="deviation of the scores", ylabel="collapse depth (layers)")

# %% [markdown]
# Networks cross a little later than the limit of small steps: a step of 0.3 is not small, and a
# network is looked at only after whole layers. The band is the spread of single networks.
#
# ## What postpones it at the same work
#
# A smaller step postpones collapse, by doing less in every layer. The fair question fixes how far a
# layer moves a token. Then sharper scores win: they move a token towards few others instead of
# towards the common mean. `token_update` says how far a layer moves a token at step 1; the step
# follows from it.

# %%
# Figure: collapse depth against the deviation of the scores when every layer moves a token by the
# same amount: the curve rises towards sharp scores.
update = 0.05
fixed = []
for s in deviations:
    law = WideHeads(dim=dim, score_std=s)
    needed = (update / float(token_update(law, tokens=tokens, step=1.0, heads=1))) ** 0.5
    fixed.append(float(collapse_depth(law, tokens=tokens, step=needed, heads=1).layers))
fig, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.plot(deviations, depth, "--", color="0.6", label="at the same step")
ax.plot(deviations, fixed, label="at the same update of a token")
finish(ax, xlabel="deviation of the scores", ylabel="collapse depth (layers)")
print(f"from {fixed[0]:.1f} layers with uniform attention to {fixed[-1]:.1f} with sharp scores")

# %% [markdown]
# `limits.homogenized.designs.postpone_collapse` searches for the best deviation and its step;
# `translimit predict --fix` does the same kind of search for a whole stack. Neither says anything of
# training: a network that collapses at its start has a bad start, and one that does not may still
# train badly. The theory is on the pages [Signal propagation](../theory/signal.md) and
# [Which limit is my network in?](../theory/homogenized.md).
