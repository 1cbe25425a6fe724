# %% [markdown]
# # How far does a rate transfer?
#
# A rate that was tuned in a run of 60 updates is the best rate *of 60 updates*. How long may the run of the target be? This
# tutorial reads the ledger that ships with the package, measures a small entry of its own, and asks a case that is solved exactly.
# The page [Horizons](../horizons.md) has the protocol.
#
# ## What was verified
#
# A record of the ledger is one sweep at one number of updates: by how much the best rate of a network several times the base
# drifted, in decades, and what the base's best rate costs it, in nats. Errors are standard errors over paired seeds.

# %%
import matplotlib.pyplot as plt
import numpy as np
from translimit.checks import horizon_sweeps, load_factory
from translimit.experiments.horizons import modes
from translimit.figures import finish
from translimit.scaling import Size, rules, shipped_horizons, verified_horizons

ledger = shipped_horizons()
for one in ledger:
    if one.optimizer == "adamw" and one.axis == "layers":
        print(f"{one.data:7}{one.schedule:9}{one.steps:5} updates, {one.multiple:g} times: drift "
              f"{one.optimum_drift:+.2f} ± {one.optimum_drift_error:.2f}, regret {one.regret:.2f} ± {one.regret_error:.2f}, "
              f"{one.verdict}")  # fmt: skip

# %% [markdown]
# *Supported* says that the drift is within 0.15 decades or the regret within 0.05 nats by two standard errors; *refuted* that both
# are exceeded by 4.5; all else is underpowered. In a flat valley a rate may drift and cost nothing.

# %%
# Figure: drift and regret of all records of the shipped ledger with their standard errors, one row a setting, and the two tolerances as
# bands; colours tell by how much the size was multiplied, filled circles are supported, open ones are not decided.
fig, panels = plt.subplots(1, 2, figsize=(10, 8), sharey=True, layout="constrained")
rows = sorted({(one.optimizer, one.axis, one.data, one.schedule, one.steps) for one in ledger})
multiples = sorted({one.multiple for one in ledger})
for one in ledger:
    height = rows.index((one.optimizer, one.axis, one.data, one.schedule, one.steps))
    rank = multiples.index(one.multiple)
    color = f"C{rank}"
    for ax, part in zip(panels, ("optimum_drift", "regret"), strict=True):
        value, error = getattr(one, part), getattr(one, f"{part}_error")
        full = color if one.supported else "white"
        place = height + 0.3 * (rank - (len(multiples) - 1) / 2)
        ax.errorbar(value, place, xerr=error, fmt="o", ms=5, color=color, markerfacecolor=full)
for ax, tolerance in zip(panels, (0.15, 0.05), strict=True):
    ax.axvspan(-tolerance, tolerance, color="0.9", zorder=0)
for rank, multiple in enumerate(multiples):
    panels[1].plot([], [], "o", color=f"C{rank}", label=f"{multiple:g} times the size")
finish(panels[0], xlabel="drift of the best rate, decades", ylabel="")
finish(panels[1], xlabel="regret, nats", ylabel="")
panels[1].legend(loc="lower right")
panels[0].set_yticks(range(len(rows)), [", ".join(map(str, row)) for row in rows], fontsize=8)
panels[0].set_ylim(len(rows) - 0.5, -0.5)

# %% [markdown]
# ## What `scale` quotes
#
# For rules from a base to a target the ledger is read axis by axis and schedule by schedule. Nothing is extrapolated: a larger
# multiple than was tried, or another exponent, has no verified horizon.

# %%
base = Size(head_dim=8, heads=2, layers=2)
for layers in (8, 64):
    made = rules(base, Size(head_dim=8, heads=2, layers=layers), optimizer="adamw")
    for told in verified_horizons(made):
        print(told)

# %% [markdown]
# ## An entry of your own
#
# `horizon_sweeps` trains two sizes at a grid of rates and looks after each number of updates; at a constant rate the runs are
# shared. These are tiny, so that they take seconds: GPT-2 with 2 and 4 layers on prose, six seeds.

# %%
factory = load_factory("translimit.examples.small_models:gpt2")
rates = tuple(2.0**power for power in range(-6, -1))
sweeps = horizon_sweeps(
    factory, "layers", (2, 4), base=base, rates=rates, horizons=(5, 20), seeds=6
)  # fmt: skip
for sweep, steps in zip(sweeps, (5, 20), strict=True):
    drift, regret = sweep.optimum_drift_at(4), sweep.regret(4)
    print(
        f"{steps} updates: best rate 10^{sweep.optimum(2).value:.1f} at 2 layers; {sweep.verdict().value}"
    )
    print(
        f"  drift {drift.value:+.2f} ± {drift.stderr:.2f}, regret {regret.value:.2f} ± {regret.stderr:.2f}"
    )

# %% [markdown]
# Both entries are supported: these rates transfer from 2 to 4 layers for 20 updates, which is not much. In runs this short the best rate
# still rises with the number of updates; noise has not set in. Six seeds are the fewest with a verdict.
#
# ## A case that is solved
#
# Noisy gradient descent on a quadratic with power-law data has a best rate for every number of updates, exactly. At a constant rate
# it falls, because noise stays and bias does not; a decay removes all of the fall or a part of it. So a rate without its number of
# updates means nothing even at one size.

# %%
# Figure: the best rate of a quadratic with noise against the number of updates, at a constant rate and under linear decay, with the
# slopes that are predicted; below, how much a size with half the noise differs, which hardly depends on the number of updates.
data = modes.thinned_power_law(alpha=1.5, beta=0.6, c=2.0, modes=160, last=1e7)
quiet = modes.Modes(data.curvature, data.start, data.noise / 2, data.weight)
horizons = np.array([250, 1000, 4000, 8000])
fig, (top, bottom) = plt.subplots(2, 1, figsize=(6, 6), sharex=True, layout="constrained")
for schedule, style in (("constant", "o-"), ("linear", "s--")):
    best, less = (
        np.array([one.optimum(modes.factors(schedule, int(steps))) for steps in horizons])
        for one in (data, quiet)
    )
    predicted = modes.slope(1.5, 0.6, schedule)
    measured = np.polyfit(np.log10(horizons), best, 1)[0]
    print(
        f"{schedule}: slope {measured:.2f}, predicted {predicted:.2f}; half the noise {(less - best).round(2)}"
    )
    (line,) = top.plot(horizons, best, style, label=f"{schedule}: {measured:.2f}")
    top.plot(
        horizons,
        best[0] + predicted * np.log10(horizons / horizons[0]),
        ":",
        color=line.get_color(),
    )
    bottom.plot(horizons, less - best, style, label=schedule)
top.set_xscale("log")
finish(top, xlabel="", ylabel="log10 of the best rate")
finish(bottom, xlabel="updates", ylabel="drift with half the noise, decades")

# %% [markdown]
# ## What to do with it
#
# Tune at the base for as many updates as the target will make, or look up how far the ledger goes. `translimit transfer --steps 60
# 240 1000` measures a model of yours, and `translimit scale --ledger FILE` reads what it found. Entries that are not
# supported are told as they are; `translimit run horizons/ledger` makes the ledger again.
