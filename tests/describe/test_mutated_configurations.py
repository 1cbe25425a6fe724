"""Mutated configurations of every family, and of our own format: read, or refused by name.

`python -m pytest -m slow tests/describe/test_mutated_configurations.py` takes 300 of every family.
"""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import pytest
from tests.describe.small_classes import small_config

from translimit.core import ConfigError, NoSuchLimitError
from translimit.describe import read_stack
from translimit.describe.families import FAMILIES
from translimit.describe.families.keys import ALIASES

VALUES = (
    *(0, 1, 2, 3, -1, 7, 2**31, 10**18, 0.0, 0.5, 1.5, -0.5, 1e-300, 1e300, 1e-9, 1e9),
    *("", "x", "nan", "0", "-1", "gelu", "rms", None, True, False, [], [1], [0, -1], {}, {"a": 1}),
    *(float("nan"), float("inf"), -float("inf")),
)
ABSENT = object()
#: Written for classes that the installed transformers lacks.
CODED = ("baichuan", "chatglm", "qwen")
NAMES = [name for name in FAMILIES if name not in CODED]
PER_FAMILY, MANY, SEED = 40, 300, 20261202


def configuration(name: str) -> dict[str, Any]:
    for one in (name, *FAMILIES[name].aliases):
        try:
            return dict(small_config(one).to_dict())
        except KeyError:
            continue
    raise AssertionError(name)


def wrong_with(source: dict[str, Any], mutated: dict[str, Any]) -> str:
    """What is wrong with how a configuration is read, or nothing."""
    try:
        read_stack(copy.deepcopy(mutated))
    except (ConfigError, NoSuchLimitError) as error:
        names = {part for key in source for part in (key, *ALIASES.get(key, ()))}
        said = str(error)
        named = any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", said) for key in names)
        return "" if named and error.remedy else f"names no key: {said}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def mutations(source: dict[str, Any], some: random.Random, count: int) -> list[tuple[str, Any]]:
    keys = [key for key in source if key not in ("model_type", "architectures")]
    every = [(key, value) for key in keys for value in (*VALUES, ABSENT)]
    return some.sample(every, min(count, len(every)))


def changed(source: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    left = {name: old for name, old in source.items() if name != key}
    return left if value is ABSENT else {**left, key: value}


def found_wrong(name: str, some: random.Random, count: int) -> list[str]:
    source = configuration(name)
    read_stack(copy.deepcopy(source))
    told = []
    for key, value in mutations(source, some, count):
        said = wrong_with(source, changed(source, key, value))
        told += [f"{key} = {value!r}: {said}"] if said else []
    return told


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_configuration_is_read_or_refused_by_the_name_of_a_key(name: str) -> None:
    told = found_wrong(name, random.Random(f"{SEED} {name}"), PER_FAMILY)
    assert not told, "\n".join(told)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_mutations_are_read_or_refused_by_the_name_of_a_key(name: str) -> None:
    told = found_wrong(name, random.Random(f"{SEED} {name} slow"), MANY)
    assert not told, "\n".join(told[:20])


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested tables and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, one in inner if isinstance(value, dict | list) else ():
        found += [(*above, key)]
        if isinstance(one, dict | list):
            found += places(one, (*above, key))
    return found


def own_format_wrong(name: str, some: random.Random, count: int) -> list[str]:
    source = dict(read_stack(configuration(name)).stack.to_json())
    source = {"kind": "stack", **source}
    read_stack(copy.deepcopy(source))
    every, told = places(source), []
    for _ in range(count):
        where, value = some.choice(every), some.choice((*VALUES, ABSENT))
        if where == ("kind",):
            continue
        mutated = copy.deepcopy(source)
        inside = mutated
        for key in where[:-1]:
            inside = inside[key]
        if value is ABSENT:
            del inside[where[-1]]
        else:
            inside[where[-1]] = value
        try:
            read_stack(mutated)
        except (ConfigError, NoSuchLimitError) as error:
            said = "" if error.remedy and len(str(error)) < 4000 else f"says {error}"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        else:
            said = ""
        told += [f"{where} = {value!r}: {said}"] if said else []
    return told


#: A family of each kind of part.
KINDS = [
    "gpt2",
    "gemma2",
    "gpt_oss",
    "deepseek_v3",
    "bert",
    "t5",
    "vit",
    "dinov2",
    "bloom",
    "qwen3",
]


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_stack_is_read_or_refused(name: str) -> None:
    told = own_format_wrong(name, random.Random(f"{SEED} {name}"), 150)
    assert not told, "\n".join(told)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_mutated_stacks_of_every_family_are_read_or_refused(name: str) -> None:
    told = own_format_wrong(name, random.Random(f"{SEED} {name}"), 60)
    assert not told, "\n".join(told[:20])


def test_what_a_part_refuses_is_told_by_file_and_keys() -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96}
    with pytest.raises(ConfigError) as refused:
        read_stack({"model_type": "nanochat", "num_attention_heads": 4, **sizes})
    assert str(refused.value) == (
        "configuration: kv_heads: 6 does not divide 4 heads (num_attention_heads is 4, "
        "num_key_value_heads is not given); pass a divisor of 4"
    )
    llama = {"model_type": "llama", "num_attention_heads": 4, **sizes}
    with pytest.raises(ConfigError, match="pad_token_id is 'x'; write an id"):
        read_stack({**llama, "pad_token_id": "x"})
    with pytest.raises(ConfigError, match="pad_token_id is True"):
        read_stack({**llama, "pad_token_id": True})
    assert read_stack({**llama, "pad_token_id": -1}) == read_stack(llama)
    ernie = {**sizes, "num_attention_heads": 4, "moe_num_experts": 4, "moe_intermediate_size": 16}
    with pytest.raises(ConfigError, match=r"num_experts_per_tok or .* or moe_topk is not given"):
        read_stack({"model_type": "ernie4_5_moe", **ernie})
