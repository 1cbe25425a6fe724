"""Norms of queries and keys of StableLM and Phi: names, counts of gains, and who shares them."""

from __future__ import annotations

import pytest
from tests.describe.small_classes import small_config

from translimit.describe import FAMILIES, Attention, QueryKeyNorm, Role, read_stack
from translimit.scaling.adapters.names import match_names
from translimit.scaling.errors import UnmatchedParameterError

transformers = pytest.importorskip("transformers")

#: Vectors of gains of a layer's queries and of its keys, by class.
GAINS = {"stablelm": (4, 2), "phi": (1, 1), "persimmon": (1, 1)}


@pytest.mark.parametrize("name", GAINS)
def test_norms_of_queries_and_keys_have_names_and_gains(name: str) -> None:
    config = small_config(name)
    config.qk_layernorm = True
    model = transformers.AutoModelForCausalLM.from_config(config)
    shapes = {one: tuple(p.shape) for one, p in model.named_parameters()}
    table = FAMILIES[name].names
    assert table is not None
    found = match_names(table, shapes)
    layers = config.num_hidden_layers
    for role, count in zip((Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN), GAINS[name], strict=True):
        gains = [one for one, match in found.items() if match.role is role]
        assert len(gains) == layers * count
        assert {shapes[one] for one in gains} == {(16,)}  # of the head dimension
    branch = read_stack(config.to_dict()).stack.layers[0][0].branches[0]
    assert isinstance(branch, Attention)
    norm = branch.qk_norm
    assert isinstance(norm, QueryKeyNorm)
    assert norm.is_shared == (GAINS[name] == (1, 1))
    if name == "stablelm":  # wrong: a table without norms by head
        llama = FAMILIES["llama"].names
        assert llama is not None
        with pytest.raises(UnmatchedParameterError, match="norms"):
            match_names(llama, shapes)
