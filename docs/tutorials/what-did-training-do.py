# %% [markdown]
# # What did training do?
#
# A trained network has tokens that are apart, heads that differ, layers that write much or little.
# How much of that is training, and how much would the architecture do by itself? This notebook
# reads the embedded byte model, four layers of width 64 that predict the next byte of English
# prose, and puts it beside its *null*: the same architecture with redrawn weights of the same scale.

# %%
import matplotlib.pyplot as plt
import numpy as np
from translimit.diagnose import diagnose, held_out_windows, packaged_folder, read_checkpoint, skip
from translimit.figures import finish

model = read_checkpoint(packaged_folder())
windows = held_out_windows(8)[:, :48]
found = diagnose(model, windows, draws=8, key=0)
print(found)

# %% [markdown]
# Every row is a layer, every column an observable: the trained network, and the mean of eight drawn
# networks after the slash. `No fault found` means that nothing has collapsed, no layer is idle and
# no two heads do the same.
#
# ## Is it the scale of the weights?
#
# The null keeps the mean square of every matrix. Its tokens move together; those of the trained
# network stay apart. The z is the distance in deviations of one drawn network, and Student's t with
# seven degrees says what is large: 2.36.

# %%
data = found.observables
for layer in range(1, 5):
    trained, null, z = (float(data[f"overlap{end}"][layer]) for end in ("", "_null", "_z"))
    print(f"layer {layer}: overlap {trained:.2f}, drawn {null:.2f}, z = {z:.1f}")

# %%
# Figure: small panels over the layers: overlap, effective rank, entropy, spread of scores, variance
# over heads, both branches and the sink, trained with error bars, the null as a grey band, the
# prediction dashed and inside the band; below, a map of z of all observables.
found.plot()

# %% [markdown]
# The dashed line is the limit: the mean over drawn networks is predicted without drawing one, from
# the mean square of every tensor alone. It lies in the band, so the band is what it seems to be.
#
# ## Which matrices do it?
#
# Redraw some matrices only. What stays low without a matrix was not done by it.

# %%
# Figure: overlap against the layer: the trained network lowest or near it, and networks of which
# queries and keys, values and outputs, or the matrices of the MLP are redrawn.
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(data["overlap"], "o-", label="trained")
for parts, marker in (("W_Q,W_K", "s"), ("W_V,W_O", "^"), ("W_1,W_2", "D")):
    part = diagnose(model, windows, null=f"part:{parts}", draws=4, key=0)
    overlap = part.observables["overlap_null"].values
    print(parts, overlap[1:].round(2))
    ax.plot(overlap, marker + "--", label=f"{parts} redrawn")
finish(ax, xlabel="layer", ylabel="overlap")

# %% [markdown]
# ## Which layers matter?
#
# The loss without each layer, with its error over windows, the least important first.

# %%
for one in skip(model, windows):
    print(one)

# %% [markdown]
# ## A planted fault
#
# Make head 1 of layer 2 a copy of head 0. No loss curve would say so; the diagnosis names it.

# %%
layer = model.layers[1]
changed = {}
for name in ("W_Q", "W_K", "W_V", "W_O"):
    heads = np.split(np.array(layer.parameters[name]), 4, axis=0 if name == "W_O" else 1)
    heads[1] = heads[0]
    changed[name] = np.concatenate(heads, axis=0 if name == "W_O" else 1)
for name in ("b_Q", "b_K", "b_V"):
    heads = np.split(np.array(layer.parameters[name]), 4)
    heads[1] = heads[0]
    changed[name] = np.concatenate(heads)
layers = list(model.layers)
layers[1] = layer.with_parameters(**changed)
faulty = diagnose(model.with_layers(layers), windows, draws=2, predict=False, key=0)
for one in faulty.faults:
    print(one)

# %% [markdown]
# [Diagnosing a checkpoint](../diagnose.md) has the definition of every observable, null and verdict.
