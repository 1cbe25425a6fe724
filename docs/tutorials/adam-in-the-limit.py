# %% [markdown]
# # Adam in the limit
#
# Infinitely many heads that learn under Adam. The solver of
# [An infinite transformer learns](an-infinite-transformer-learns.md) keeps the residual stream exactly; an update that works entry by
# entry leaves it no Gaussian, and its coordinates are sampled too. The equations are on the page
# [Training dynamics](../theory/dmft.md#adam-sign-descent-and-activations-on-the-stream).
#
# ## An optimiser is a record
#
# Epsilon is in units of the gradient of the limit. What a solve needs is told before: a pass draws *innovations* on every
# population, and these may take half of it.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
from translimit import solve
from translimit.figures import finish
from translimit.limits.dmft import (
    Adam,
    Architecture,
    CausalSampling,
    PopulationSampling,
    Sign,
    TrainingDynamics,
)

overlaps = np.array([[1, 0.5, 0.2, 0], [0.5, 1, 0, 0.3], [0.2, 0, 1, 0.4], [0, 0.3, 0.4, 1]])
inputs = 2 * np.linalg.cholesky(overlaps).reshape(2, 2, 4)  # two inputs of two tokens
targets = np.array([1.0, -1.25])
heads = Architecture(head_dim=2, norm="rms")


def problem(eta0, optimizer=None, steps=7):
    """Training of attention on the two inputs; gradient descent where no optimiser is given."""
    return TrainingDynamics(
        architecture=heads,
        inputs=inputs,
        targets=targets,
        steps=steps,
        eta0=eta0,
        optimizer=optimizer,
    )


under_adam = problem(0.1, Adam(b1=0.5, b2=0.8, eps=0.05))
method = PopulationSampling(units=240, populations=3)
cost = under_adam.cost(method)
print(cost.units, cost.innovations, f"{cost.bytes / 1e6:.0f} MB")

# %% [markdown]
# ## Beside gradient descent
#
# Both rates move the predictions equally far in the first update. Gradient descent then slows down with the error, Adam does not.
# Passes with $M$ and $2 M$ particles are extrapolated in $1 / M$; standard errors come from independent populations.

# %%
adam = solve(under_adam, method, key=jax.random.key(0))
descent = solve(problem(0.113), CausalSampling(heads=1000, populations=3), key=jax.random.key(0))
print(adam.predictions[[1, -1]].round(2), descent.predictions[[1, -1]].round(2))
print(f"standard error at most {adam.stderr.max():.3f}")

# %%
# Figure: left, predictions against updates towards the targets 1 and -1.25; those under Adam move at constant speed and
# arrive first. Right, the loss of both.
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for solution, name in ((adam, "Adam"), (descent, "gradient descent")):
    for row in range(2):
        left.errorbar(
            solution.ts,
            solution.predictions[:, row],
            2 * solution.stderr[:, row],
            label=f"{name}, input {row + 1}",
        )
    right.plot(solution.ts, solution.loss, label=name)
finish(left, xlabel="updates", ylabel="predictions")
finish(right, xlabel="updates", ylabel="loss")

# %% [markdown]
# ## Epsilon, and its end
#
# A large epsilon makes Adam gradient descent again; at a small one every weight moves by its rate, which is sign descent.
# Two linear layers without a block have one large side only, so that populations can be large.

# %%
# Figure: the prediction of the first input against updates; the smaller epsilon, the faster it moves, up to sign descent.
bare = Architecture(head_dim=1, attention=False)
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
cases = {f"Adam, $\\epsilon$ = {eps:g}": Adam(b1=0.0, b2=0.0, eps=eps) for eps in (1.0, 0.3, 0.1)}
for name, optimizer in (cases | {"sign descent": Sign()}).items():
    one = TrainingDynamics(
        architecture=bare,
        inputs=inputs,
        targets=targets,
        steps=6,
        eta0=0.1,
        optimizer=optimizer,
    )
    f = solve(one, PopulationSampling(units=4000, populations=2), key=jax.random.key(0))
    ax.plot(f.ts, f.predictions[:, 0], label=name)
finish(ax, xlabel="updates", ylabel="prediction")

# %% [markdown]
# ## Against networks, and from a file
#
# `bordelon2024/dmft-adam` trains networks of growing $H$ under both and compares them with the two limits. In a file for
# `translimit dmft`, `optimizer = "adam"` with `b1`, `b2` and `eps` does the same for data of your own.
# Sign descent is followed only while no error has changed its sign; a warning says when that was.
