# %% [markdown]
# # Check your own model
#
# A model was scaled by rules that keep the best learning rate where it is. Does the code do what the
# rules say? One factor in the wrong place is enough to lose it, and nothing crashes. A *coordinate
# check* trains several sizes for a few steps, fits how every quantity grows with the size, and
# compares the exponents with what the rules promise.
#
# This notebook checks a model that is right, plants a fault, and finds it.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from translimit import data
from translimit.checks import TorchModel, Trial, coordinate_check, transfer_sweep
from translimit.figures import draw_sweeps, finish, plot_power_law
from translimit.scaling import Size, rules
from translimit.scaling.adapters.torch import apply

TEXT = np.asarray(data.byte_text(16).ids)
torch.set_num_threads(1)

# %% [markdown]
# ## A factory
#
# All that a check needs is a function that makes the network of a given size. It takes one `Trial`,
# with `base`, `size`, `seed`, the `rate` at the base, and whether the `standard` parameterisation is
# asked for. It returns a `TorchModel`: module, optimiser, a function that gives the batch of a step,
# and the rules that are promised. Any module will do; here it is a Llama of Hugging Face.


# %%
def batch(step, windows=16):
    starts = np.random.default_rng(step).integers(0, len(TEXT) - 16, windows)
    ids = torch.tensor(np.stack([TEXT[s : s + 16] for s in starts]).astype(int))
    return {"input_ids": ids, "labels": ids}


def factory(trial: Trial) -> TorchModel:
    torch.manual_seed(trial.seed)
    size, width = trial.size, trial.size.width if trial.standard else trial.base.width
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=size.width,
            head_dim=size.head_dim,
            num_attention_heads=size.heads,
            num_hidden_layers=size.layers,
            intermediate_size=4 * size.width,
            max_position_embeddings=16,
            initializer_range=width**-0.5,
        )
    )
    made = rules(trial.base, size, optimizer="adamw", style="folded")
    groups = model.parameters()
    if not trial.standard:
        groups = apply(model, made, lr=trial.rate, start="fixed")
    torch.nn.init.normal_(model.model.embed_tokens.weight)
    torch.nn.init.zeros_(model.lm_head.weight)
    optimizer = torch.optim.AdamW(groups, lr=trial.rate, weight_decay=0.0)
    return TorchModel(
        model=model, optimizer=optimizer, batch=batch, repeated=batch(0, 2), rules=made
    )


# %% [markdown]
# ## A model that is right
#
# Four head dimensions, three starts, five updates. Each panel is a quantity; the points are three
# networks a size, the dashed line the promised exponent. All panels have the same range, so that
# slopes can be compared.

# %%
# Figure: four panels against the head dimension: change of the hidden layer, what keys learned, what
# scores learned, and change of the output; the fitted slopes follow the dashed promises.
base, sizes = Size(head_dim=8, heads=4, layers=2), (8, 16, 32, 64)
options = {"base": base, "rate": 0.01, "steps": (1, 5)}
shown = ("hidden_change", "learned_key_change", "learned_score_change", "output_change")


def panels(check):
    fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
    for ax, name in zip(axes, shown, strict=True):
        exponent, promised = check.exponent(name, 5), check.expected.get((name, 5))
        values = check.values[name][:, check.steps.index(5)]
        plot_power_law(ax, check.sizes, values, exponent, series=0, label="", expected=promised)
        middle = np.exp(np.log(values).mean())
        ax.set_ylim(middle / 5, middle * 5)
        finish(
            ax, xlabel="head dimension", ylabel="rms", title=name.replace("_", " "), legend=False
        )
    return fig


check = coordinate_check(factory, "head_dim", sizes, **options)
panels(check)
print(check.in_words())
print("findings:", list(check.findings))

# %% [markdown]
# ## A planted fault
#
# Now one rule is dropped: the learning rate of the readout does not follow its role. It is the kind
# of mistake that happens when a parameter is registered in the wrong group.


# %%
# Figure: the same four panels with the fault: the change of the output grows with the head dimension
# where its promise is level; the other panels are nearly as before.
def spoiled(trial: Trial) -> TorchModel:
    made = factory(trial)
    for group in made.optimizer.param_groups:
        if "readout" in group["roles"]:
            group["lr"] = trial.rate * 2 ** (np.log2(trial.size.head_dim / trial.base.head_dim))
    return made


wrong = coordinate_check(spoiled, "head_dim", (8, 16, 32), **options)
panels(wrong)
print(wrong.in_words())
for sentence in [*wrong.lint(), *wrong.refuted()]:
    print("-", sentence)

# %% [markdown]
# Two detectives look for it. The *linter* compares what the optimiser holds for every parameter, its
# rate, epsilon, decay and the size of its start, with what the rules have for its role, and names the
# parameter. The *coordinates* see what no number tells, such as a multiplier in the forward pass that
# is missing or doubled.
#
# ## Does the best rate stay?
#
# That is what all of it is for. A transfer sweep trains two sizes at a grid of rates; `standard=True`
# does the same without the rules.

# %%
# Figure: loss after 20 steps against the learning rate for head dimensions 8 and 32, left with the
# rules and right without; with the rules both sizes have their minimum at nearly the same rate.
rates = tuple(2.0**-k for k in range(10, 3, -1))
grid = {"base": base, "rates": rates, "steps": 20, "seeds": 2}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sweeps = {
        name: transfer_sweep(factory, "head_dim", (8, 32), standard=standard, **grid)
        for name, standard in (("by the rules", False), ("standard", True))
    }
for name, sweep in sweeps.items():
    print(f"{name}: {sweep.optimum_drift_in_words()}")
draw_sweeps(sweeps)

# %% [markdown]
# What is promised for which quantity, how few tokens mislead a check, and the same for JAX models is
# on the page [Checking your own model](../checking.md). On the command line a factory is named by
# its file, `translimit coord-check small_models:llama`.
