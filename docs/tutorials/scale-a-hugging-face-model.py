# %% [markdown]
# # Scale a Hugging Face model in ten lines
#
# You tuned a small model: learning rate, epsilon, weight decay. You will train one with more heads, larger heads or
# more layers, and tuning it again costs too much. These lines build the larger one such that the tuned values
# carry over. They need no network and no multipliers in the model: style `folded` puts all of them into starts and
# rates, and only the score scale is set, through the attribute that attention has for it.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from translimit import data
from translimit.figures import finish
from translimit.scaling import rules_for
from translimit.scaling.adapters import torch as adapter

shared = {"vocab_size": 64, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}
base = GPT2Config(n_embd=32, n_head=2, n_layer=2, **shared)  # tuned: lr=3e-3, weight decay 0.1
target = GPT2Config(n_embd=64, n_head=4, n_layer=4, **shared)
rules = rules_for(base, target, optimizer="adamw")
model = GPT2LMHeadModel(target)
groups = adapter.apply(model, rules, lr=3e-3, eps=1e-8, weight_decay=0.1)
optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))

# %% [markdown]
# `rules_for` reads sizes, tied embeddings and packed projections from the configurations; `config.json` files do as
# well. `apply` checks the module against them, multiplies every parameter by what its start lacks, sets the
# score scale, and returns parameter groups. Train as you always do; a scheduler must multiply the rates of all groups, as
# `LambdaLR` and its relatives do (`adapter.require_ratios(optimizer)` looks).

# %%
# Figure: learning rates by role at the target, as points on a logarithmic axis: matrices of the
# blocks have less than the base's rate, embeddings and the norms of the blocks keep it.
drawn = {", ".join(sorted(group["roles"])[:2]).replace("_", " "): group["lr"] for group in groups}
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.plot(list(drawn.values()), list(drawn), "o")
ax.axvline(3e-3, color="#222222", linestyle="--", label="rate of the base")
ax.set_xscale("log")
finish(ax, xlabel="learning rate", ylabel="")
for group in groups:
    print(f"{group['lr']:.2e}  {group['weight_decay']:5.2f}  {', '.join(group['roles'])}")

ids = torch.randint(64, (8, 32), generator=torch.Generator().manual_seed(0))
losses = []
for _ in range(5):
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
adapter.require_ratios(optimizer)

# %% [markdown]
# Does it matter? Train the target at its tuned rate on a text, byte by byte, once with the rules and
# once as the library builds it, with one rate for all parameters; beside them the base.

# %%
# Figure: loss against updates for the base, the target by the rules and the target at one rate.
text = torch.tensor(np.asarray(data.byte_text(32).ids).astype(int)) % 64


def losses_of(model, groups, updates=40):
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    told = []
    for _ in range(updates):
        starts = torch.randint(len(text) - 32, (16,), generator=generator)
        windows = torch.stack([text[start : start + 32] for start in starts])
        loss = model(input_ids=windows, labels=windows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told.append(loss.item())
    return told


fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
torch.manual_seed(0)
small = GPT2LMHeadModel(base)
ax.plot(losses_of(small, small.parameters()), ":", label="base")
large = GPT2LMHeadModel(target)
ax.plot(
    losses_of(large, adapter.apply(large, rules, lr=3e-3, weight_decay=0.1)), label="by the rules"
)
plain = GPT2LMHeadModel(target)
ax.plot(losses_of(plain, plain.parameters()), "--", label="one rate for all")
finish(ax, xlabel="update", ylabel="loss in nats")

# %% [markdown]
# Under the rules the target follows the curve of the base, and ends a little lower. With one rate for
# all it is quicker at first and then unsteady. At twice the width and depth the difference is small;
# how the best rate moves with the size is measured on the page [Scaling rules](../scaling.md).
#
# Transfer is claimed at the same batch size, sequence length, number of steps, schedule, momenta and data. How well
# it holds is on the page [Scaling rules](../scaling.md); whether *your* model follows the rules is what a
# [coordinate check](../checking.md) tells.
#
# ## With the Trainer
#
# Pass the optimiser; the Trainer makes its schedule around it. The Trainer clips the global gradient norm at 1 unless
# told otherwise, and a clip acts differently at every size and in every style: switch it off, or tune it again.

# %%
from transformers import PrinterCallback, Trainer, TrainingArguments

model = GPT2LMHeadModel(target)
groups = adapter.apply(model, rules, lr=3e-3, weight_decay=0.1)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="trained",
        max_steps=3,
        per_device_train_batch_size=4,
        max_grad_norm=0.0,
        lr_scheduler_type="cosine",
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    ),
    train_dataset=[{"input_ids": row, "labels": row} for row in ids],
    optimizers=(torch.optim.AdamW(groups, betas=(0.9, 0.95)), None),
)
trainer.remove_callback(PrinterCallback)  # it prints seconds, which differ from run to run
trainer.train()

# %% [markdown]
# ## Resuming
#
# Nothing is attached to tensors, so that state dicts, `deepcopy`, `torch.compile`, DDP and FSDP (with original parameters)
# see the module that they know. What was done is in a report. Scales are attributes, which no state
# dict holds: a process that resumes gives the report, and gets scales and groups without touching weights.

# %%
groups.save("applied.json")
torch.save(model.state_dict(), "weights.pt")

again = GPT2LMHeadModel(target)
again.load_state_dict(torch.load("weights.pt", weights_only=True))
groups = adapter.apply(again, rules, lr=3e-3, weight_decay=0.1, report="applied.json")

# %% [markdown]
# Applying rules twice to the same weights is refused: within a process they are remembered, and in another one
# weights that do not look freshly drawn are noticed by their standard deviations, unless `start` or `base` says how
# they were drawn. The report is the sure way.
#
# ## Which models
#
# | family | scores through | tied, packed | remarks |
# |---|---|---|---|
# | GPT-2 | `attn.scaling` | tied by default; `c_attn` packed | its own depth factor of starts is accounted for |
# | Llama, Mistral, Qwen2 | `self_attn.scaling` | | grouped queries; keep heads per group |
# | GPT-NeoX | `attention.scaling` | `query_key_value` packed | parallel blocks follow the same rules |
# | ViT | `attention.scaling` | | a pooler needs a role, see below |
# | modules of your own | `scaling`, `scale` or `softmax_scale` | | or `fold_scores=True` in the rules |
# | `torch.nn.MultiheadAttention` | fixed | packed | only at the head dimension of the base |
# | BERT and other post-LN | | | refused |
#
# The tests compare these attributes with transformers 5.24, with eager attention and with
# `scaled_dot_product_attention`. Every parameter must have exactly one role; what no table knows is
# listed in the error, and `names` extends the table:

# %%
from transformers import ViTConfig, ViTModel
from translimit.scaling.adapters import roles

images = ViTConfig(
    hidden_size=32,
    num_attention_heads=4,
    num_hidden_layers=1,
    intermediate_size=64,
    image_size=8,
    patch_size=4,
)
names = {"pooler.dense.weight": "readout", "pooler.dense.bias": "readout_bias"}
print(roles(ViTModel(images), names)["pooler.dense.weight"])

# %% [markdown]
# `roles` says what was recognised, `adapter.preview` what every parameter would take. A packed projection has one rate, which suffices at
# $\alpha_A = 1$; at smaller $\alpha_A$ it must be split. `start` says how the weights were drawn where it cannot be
# seen, `base=` takes a module of the base instead, and `seed=` draws again.
#
# ## In flax and equinox
#
# Leaves are named by their paths, labels are roles, and every role gets its own transformation. Parameters are
# values there: `start` returns another tree, and the score scale is an argument of the model.

# %%
import equinox as eqx
import jax
from translimit.scaling import Size
from translimit.scaling.adapters import optax as jax_adapter

small, large = (Size(head_dim=n, heads=2, layers=1, mlp_ratio=2) for n in (8, 16))
made = rules_for(small, large, optimizer="adamw")


def network(size):
    keys = jax.random.split(jax.random.key(0), 2)
    hidden = 2 * size.width
    up = eqx.nn.Linear(size.width, hidden, key=keys[0])
    return {"up": up, "down": eqx.nn.Linear(hidden, size.width, key=keys[1])}


names = {
    "up.weight": "mlp_in",
    "up.bias": "mlp_in_bias",
    "down.weight": "mlp_out",
    "down.bias": "mlp_out_bias",
}
params = eqx.filter(network(large), eqx.is_inexact_array)
labels = jax_adapter.labels(params, names)
at_base = eqx.filter(network(small), eqx.is_inexact_array)
spread = jax_adapter.stds(at_base, jax_adapter.labels(at_base, names))
params = jax_adapter.start(params, labels, made, spread)
optimizer = jax_adapter.transform(made, labels, lr=3e-3, weight_decay=0.1)
state = optimizer.init(params)
print(made.score_scale)  # for jax.nn.dot_product_attention(..., scale=)

# %% [markdown]
# For training loops that are not yours, see [Megatron-LM and torchtitan](../overrides.md).
