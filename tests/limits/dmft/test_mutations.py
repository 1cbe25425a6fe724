"""Wrong terms of losses, norms and heads, each refuted by a printed figure.

A mutation is a text that is replaced in the source of one function, which is then compiled anew.
"""

import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.limits.dmft.language import lm12

from translimit.core import solve
from translimit.limits.dmft import blocks, causal_pass, heads, readout

pytestmark = pytest.mark.slow
TODAY: dict[str, Any] = {"layers": 2, "alpha_L": 0.5, "beta0": 1.0}
TODAY |= {"qk_norm": "rms", "score_gain": 2.0}
#: Last loss and last score of the second token on the first, as printed.
PLAIN, NORMED, TIED = (0.850729, 0.0082149), (0.868015, 0.0063371), (1.063584, None)
#: Where the text stands, the text, what replaces it, the model, and what is printed of it.
MUTATIONS: dict[
    str, tuple[ModuleType, Any, str, str, dict[str, Any], tuple[float, float | None]]
] = {
    "final norm not projected": (
        readout,
        readout.readout,
        "g = through_norm(step, g, hb, rho, state.cov)",
        "g = g / rho",
        {"eta0": 0.5},
        PLAIN,
    ),
    "norm before sub-blocks not projected": (
        blocks,
        blocks.through_norm,
        "(back - hb * chi) / rho",
        "back / rho",
        {"eta0": 0.5},
        PLAIN,
    ),
    "gain in the projection of keys": (
        heads,
        heads.InfiniteHeads.backward,
        "p_k - kh * jnp.sum(M * a, axis=2)",
        "p_k - kh * jnp.sum(gain * M * a, axis=2)",
        {**TODAY, "eta0": 0.5},
        NORMED,
    ),
    "keys not projected": (
        heads,
        heads.InfiniteHeads.backward,
        "(p_k - kh * jnp.sum(M * a, axis=2).reshape(-1, 1)) / k_norm",
        "p_k / k_norm",
        {**TODAY, "eta0": 0.5},
        NORMED,
    ),
    "gain missing in gradients": (
        heads,
        heads.InfiniteHeads.backward,
        "M = gain * M0",
        "M = M0",
        {**TODAY, "eta0": 0.5},
        NORMED,
    ),
    "tied embedding without the readout's gradient": (
        causal_pass,
        causal_pass.embedding,
        "h = h + numbers.rate * (words",
        "h = h + 0 * numbers.rate * (words",
        {"tied": True, "centred": True, "eta0": 0.25},
        TIED,
    ),
    "tied readout without the embedding's gradient": (
        readout,
        readout.readout_weights,
        "w = w + numbers.rate * (jnp.tile(words.T",
        "w = w + 0 * numbers.rate * (jnp.tile(words.T",
        {"tied": True, "centred": True, "eta0": 0.25},
        TIED,
    ),
}


def mutated(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """The function with another text in its source."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1
    names: dict[str, Any] = dict(function.__globals__)
    exec(compile(source.replace(old, new), "<mutation>", "exec", dont_inherit=True), names)
    return names[function.__name__]


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_term_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function, old, new, options, expected = MUTATIONS[name]
    owner = heads.InfiniteHeads if "." in function.__qualname__ else module
    wrong = mutated(inspect.unwrap(function), old, new)
    monkeypatch.setattr(owner, function.__name__, wrong)
    for user in (readout, causal_pass):  # those that imported it by name
        if getattr(user, function.__name__, None) is function:
            monkeypatch.setattr(user, function.__name__, wrong)
    causal_pass.advance.clear_cache()
    try:
        solution = solve(lm12(**options))
    finally:
        causal_pass.advance.clear_cache()
    loss, score = expected  # to 1e-6 and 1e-7
    right = np.abs(solution.loss[7] - loss) < 1e-5
    if score is not None:
        right &= np.abs(solution.score_law(0).mean[7, 0, 1, 0] - score) < 1e-6
    assert not right
