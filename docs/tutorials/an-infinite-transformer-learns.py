# %% [markdown]
# # An infinite transformer learns
#
# A transformer with infinitely many heads is not solved by training a large one. This page goes from the
# update of a finite network, in forty lines of NumPy, to the solver of its limit, and compares the two. The equations
# and where they come from are on the page [Training dynamics](../theory/dmft.md), with the table of symbols.
#
# ## A finite network and its update
#
# One block of attention on two inputs of two tokens: $H$ heads of dimension $N$, width $n = NH$. All matrices start
# with independent $N(0, 1)$ entries; every factor of scale stands in the formula. A column is a field
# $a = (\mu, s)$: input and token.

# %%
import matplotlib.pyplot as plt
import numpy as np
from translimit.figures import finish

STEPS, ETA0, BETA0, GAMMA0 = 6, 0.1, 1.5, 1.5


def train_network(x, y, H, N=2, seed=0):
    """Predictions [evaluations, inputs] of one network under gradient descent."""
    rng = np.random.default_rng(seed)
    P, S, D = x.shape
    n, root = N * H, (N * H) ** -0.5
    E, w = rng.standard_normal((n, D)), rng.standard_normal(n)
    K, Q, V, O = rng.standard_normal((4, n, n))
    fields = x.reshape(P * S, D).T

    def heads(z):
        return z.reshape(H, N, P, S)

    predictions = []
    for _ in range(STEPS):
        # forward
        h = E @ fields / D**0.5
        k, q, v = (heads(root * W @ h) for W in (K, Q, V))
        A = np.einsum("hnps,hnpr->hpsr", k, q) / N
        sigma = np.exp(A - A.max(axis=-1, keepdims=True))
        sigma /= sigma.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hpsr,hnpr->hnps", sigma, v)
        last = h + BETA0 * root * O @ mixed.reshape(n, -1)
        pooled = last.reshape(n, P, S).mean(axis=-1)
        f = w @ pooled / (GAMMA0 * n)
        predictions.append(f)
        # backward: g is gamma_0 n times the gradient of f by the stream
        g = np.outer(w, np.full(P * S, 1 / S))
        r = heads(root * O.T @ g)
        spread = (
            np.einsum("hnps,hnpr->hpsr", r, v) - np.einsum("hnps,hnps->hps", r, mixed)[..., None]
        )
        M = sigma * spread / N
        pk = np.einsum("hpsr,hnpr->hnps", M, q).reshape(n, -1)
        pq = np.einsum("hpsr,hnps->hnpr", M, k).reshape(n, -1)
        pv = np.einsum("hpsr,hnps->hnpr", sigma, r).reshape(n, -1)
        g_first = g + BETA0 * root * (K.T @ pk + Q.T @ pq + V.T @ pv)
        # update: every matrix gains a sum of outer products of fields
        error = np.repeat((y - f) / P, S)
        rate, c = ETA0 * GAMMA0, ETA0 * GAMMA0 * BETA0 * root
        E += rate * (error * g_first) @ fields.T / D**0.5
        w += rate * pooled @ ((y - f) / P)
        O += c * (error * g) @ mixed.reshape(n, -1).T
        for W, p in ((K, pk), (Q, pq), (V, pv)):
            W += c * (error * p) @ h.T
    return np.array(predictions)


x = np.array([[[1.0, 0.5], [0.0, 1.0]], [[-1.0, 0.5], [0.5, 1.0]]])  # [inputs, tokens, dim]
y = np.array([1.0, -1.25])
print(train_network(x, y, H=64)[-1], train_network(x, y, H=64, seed=1)[-1])

# %% [markdown]
# Two seeds disagree: at $H$ heads predictions fluctuate by $O(H^{-1/2})$.
#
# ## Its limit
#
# What the update says about the limit: a matrix acts on a field as its start, a Gaussian field, plus a sum over the past of
# kernels times what it has written. As $H \to \infty$ kernels become numbers, heads become independent, and the
# residual stream is linear in its Gaussian sources. `TrainingDynamics` is that system; `CausalSampling` samples heads, and
# nothing else, in one pass over training time.

# %%
import jax

from translimit import solve
from translimit.limits.dmft import Architecture, CausalSampling, TrainingDynamics

problem = TrainingDynamics(
    architecture=Architecture(head_dim=2, layers=1, beta0=BETA0, gamma0=GAMMA0),
    inputs=x,
    targets=y,
    steps=STEPS,
    eta0=ETA0,
)
method = CausalSampling(heads=1000, populations=4)
print(problem.memory(method) / 2**20, "MiB")  # told before anything is computed
solution = solve(problem, method, key=jax.random.key(0))
print(solution.predictions[-1], "+-", solution.stderr[-1])

# %% [markdown]
# A seed average has a bias $b/H$. The sharp test extrapolates it away, and averages over evaluations and inputs before
# it takes an error, because the entries of one network are nearly one common mode:

# %%
sign = np.sign(solution.predictions[-1])
coarse, fine = (
    np.array([np.mean(sign * train_network(x, y, H, seed=seed)) for seed in range(400)])
    for H in (16, 32)
)
gap = 2 * fine.mean() - coarse.mean() - np.mean(sign * solution.predictions)
error = np.sqrt((4 * fine.var() + coarse.var()) / 400)
assert abs(gap) < 4.5 * error
assert error < 0.03

# %%
# Figure: predictions for the two inputs against updates: black lines of the limit, and thin lines of
# eight networks of 16 heads that scatter around them.
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for seed in range(8):
    ax.plot(train_network(x, y, 16, seed=seed), color="C0", alpha=0.4, linewidth=0.8)
ax.plot(solution.predictions, "o-", color="#222222")
ax.plot([], color="C0", label="networks of 16 heads")
ax.plot([], "o-", color="#222222", label="infinitely many heads")
finish(ax, xlabel="updates", ylabel="prediction")

# %% [markdown]
# ## What a solution holds

# %%
solution.loss, solution.loss_stderr  # [steps]
solution.kernel(1)[5, 0, 0, 2, 1, 0]  # <h h>: evaluations 5 and 2, after the block
solution.gradient_kernel(0)  # the same of gradients
solution.ntk, solution.sharpness  # tangent kernel, its largest eigenvalue (loss weights in it)
solution.edge_ratio  # eta0 sharpness / (2 (1 + momentum)): 1 at the edge of stability
solution.movement(1)  # how far features have moved [steps, inputs, tokens]
solution.responses(0)  # how sources feed back, K x K
law = solution.score_law(0)  # scores of sampled heads, at every evaluation
law.quantiles((0.1, 0.9))[:, -1, 0, 0, 1], law.variance, law.excess_kurtosis
data = solution.to_xarray()  # labelled arrays of all of it

# %% [markdown]
# What is drawn below: features move (left), and attention spreads over heads (right), each head with
# scores of its own.

# %%
# Figure: left, the kernel of the stream between evaluations as a map; right, quantiles of a score over
# heads against updates, which fan out.
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
solution.plot_kernel(1, ax=left)
solution.plot_scores(0, ax=right)

# %% [markdown]
# Each response matters. Leaving one out is what a mean-field argument gives that treats a matrix and its transpose
# as independent:

# %%
naive = solve(
    problem, CausalSampling(heads=1000, populations=4, omit=("R_v",)), key=jax.random.key(0)
)
assert np.abs(naive.predictions - solution.predictions).max() > 0.01

# %% [markdown]
# `bordelon2024/dmft-responses` does this against trained networks.
#
# ## Where nothing is sampled
#
# At $\alpha_A = 1$ and infinite head dimension attention concentrates, and training is linear algebra: `LinearAlgebra`
# takes no key and has no error. Infinite depth at $\alpha_L = 1$ is an ODE in depth, `layers=math.inf`.

# %%
import math

exact = TrainingDynamics(
    architecture=Architecture(head_dim=math.inf, layers=1, beta0=BETA0, gamma0=GAMMA0),
    inputs=x,
    targets=y,
    steps=STEPS,
    eta0=ETA0,
)
infinite = solve(exact)
assert not infinite.stderr.any()
assert not infinite.score_law(0).mean[:2].any()  # the first update does not move attention

# %% [markdown]
# ## Long solves
#
# Histories grow with `steps` times inputs times tokens. A solve that would not fit is refused with the
# numbers; `precision="float32"` halves the populations. With a `folder` the state is written every `every` evaluations, and
# a solve that was killed goes on from there and ends bit-identical. A full disk is a `DiskFullError`: free
# space and run again.

# %%
long = CausalSampling(heads=1000, populations=4, folder="checkpoints", every=2)
again = solve(problem, long, key=jax.random.key(0))
assert np.array_equal(again.predictions, solution.predictions)

# %% [markdown]
# ## On your own data
#
# `translimit dmft CONFIG` solves, trains networks at several sizes, and reports the comparison with its rates, errors and
# verdicts, through the same cells, ledger and report as `translimit run`:
#
# ```sh
# translimit example dmft.toml  # writes dmft.toml here
# translimit dmft dmft.toml
# ```
#
# The file says what is learned (`task`: digits, text, synthetic, or an `.npz` with `inputs` [P, S, D] and `targets` [P] or
# [P, outputs]; with as many outputs as tokens `readout = "pooled"` says that they are read from the mean over tokens), by
# what (`head_dim`, `layers`, `alpha_A`, `mlp`, `norm`, ...), and what grows (`axis`: heads, head_dim or
# layers, with `sizes`, each twice the one before). A key that is not known is refused, with all that are.
#
# ## Where it stops
#
# | you ask for | what happens | what to do |
# |---|---|---|
# | infinite `head_dim` at `alpha_A` below 1 | `NoSuchLimitError`: gradients diverge after two updates | `initial_score_cov` for the start, or a finite `head_dim` |
# | infinite `layers` at `alpha_L` below 1 | `NoSuchLimitError` | finite layers, extrapolated in $1/L$ |
# | real targets of as many outputs as tokens, without `readout` | `ArgumentTypeError`: the shape can be read in two ways | `readout="pooled"` or "token" |
# | `tied` without `token_ids`, or with other outputs than words | `ArgumentError` | a vocabulary, and words as classes |
# | `rotary` with infinite `head_dim` | `NoSuchLimitError` | a finite `head_dim`, or learned positions |
# | a tied readout that starts with large outputs | `TiedStartWarning` | `centred=True` |
# | `gamma0=0` | `ArgumentError` | `lazy_predictions(solution.ntk[0], ...)` |
# | trained gains on the stream, Adam | `NoSuchLimitError`: residual coordinates are not Gaussian | leave gains untrained; gradient descent |
# | a step size at the edge of stability | `EdgeOfStabilityWarning`; the limit stands, networks need very many heads | a smaller `eta0` for comparisons |
# | heavy tails over heads | `HeavyTailWarning` | `law.quantiles` instead of moments |
# | fewer heads than their directions need | `ArgumentError` with the number needed | more heads, or `moment_matching=False` |
# | histories that do not fit | `MemoryLimitError` with both numbers | fewer steps or heads, float32 |
# | a kernel that overflows | `SolveError` that holds the solution so far; `failed_at` names evaluation and sub-block | a smaller `eta0` |
