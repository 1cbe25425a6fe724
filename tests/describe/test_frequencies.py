"""Frequencies of rotary positions against those of the library transformers."""

from __future__ import annotations

import numpy as np
import pytest

from translimit.core import ArgumentError
from translimit.describe import Frequencies

BASE, DIMS = 10_000.0, 64
CASES = {
    "linear": ({"factor": 4.0}, lambda f: f.linear(4.0)),
    "llama3": (
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        lambda f: f.llama3(8.0),
    ),
    "yarn": (
        {"factor": 32.0, "original_max_position_embeddings": 4096},
        lambda f: f.yarn(32.0, 4096),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_scaled_frequencies_are_those_of_transformers(kind: str) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    told, ours = CASES[kind]
    parameters = {"rope_type": kind, "rope_theta": BASE, **told}
    config = transformers.LlamaConfig(
        hidden_size=4 * DIMS,
        num_attention_heads=4,
        max_position_embeddings=131_072,
        rope_parameters=parameters,
    )
    thetas, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    found = ours(Frequencies.geometric(DIMS, BASE))
    assert np.allclose(found.thetas, thetas.numpy(), rtol=2e-6)
    assert found.factor == pytest.approx(factor)


def test_frequencies_refuse_an_odd_number_of_entries() -> None:
    with pytest.raises(ArgumentError, match="dims: got 3"):
        Frequencies.geometric(3)
