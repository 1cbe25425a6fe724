"""Configurations: JSON and back without loss, errors that name the nearest key, stable digests."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit.core import ConfigError, config


@dataclass(frozen=True)
class Clock:
    t1: float = 1.0
    steps: int = 10


@dataclass(frozen=True)
class Example:
    tokens: int
    scale: float = 1.0
    label: str = "a"
    causal: bool = False
    sizes: tuple[int, ...] = (1, 2)
    box: tuple[float, str] = (0.5, "x")
    seed: int | None = None
    times: tuple[float, ...] | None = None
    kind: Literal["softmax", "linear"] = "softmax"
    clock: Clock = Clock()


numbers = st.floats(allow_nan=False, allow_infinity=False)
examples = st.builds(
    Example,
    tokens=st.integers(),
    scale=numbers,
    label=st.text(),
    causal=st.booleans(),
    sizes=st.lists(st.integers()).map(tuple),
    box=st.tuples(numbers, st.text()),
    seed=st.none() | st.integers(),
    times=st.none() | st.lists(numbers).map(tuple),
    kind=st.sampled_from(["softmax", "linear"]),
    clock=st.builds(Clock, t1=numbers, steps=st.integers()),
)


@given(examples)
def test_a_round_trip_through_json_text_loses_nothing(example: Example) -> None:
    text = json.dumps(config.to_json(example))
    assert config.from_json(Example, json.loads(text)) == example


@given(examples)
def test_every_value_can_be_set_from_its_json_text(example: Example) -> None:
    values = config.to_json(example)
    texts = {key: json.dumps(value) for key, value in values.items()}
    assert config.replace(Example(tokens=0), texts) == example


def test_missing_keys_take_their_defaults() -> None:
    assert config.from_json(Example, {"tokens": 3}) == Example(tokens=3)
    assert config.from_json(Example, {"tokens": 3, "clock": {"t1": 2}}).clock == Clock(t1=2.0)


def test_integers_are_welcome_where_floats_are_asked_for() -> None:
    example = config.from_json(Example, {"tokens": 3, "scale": 2})
    assert type(example.scale) is float
    # And one configuration has one digest, however its numbers were written.
    in_code, in_file = Example(tokens=3, scale=2), Example(tokens=3, scale=2.0)
    assert config.digest(config.to_json(in_code)) == config.digest(config.to_json(in_file))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tokens": 1, "scal": 2.0},
            r"unknown key 'scal'; did you mean 'scale'\? known: box, caus",
        ),
        ({"scale": 1.0}, r"missing key 'tokens'; give it a value"),
        ({"tokens": 1.0}, r"tokens: got 1\.0; pass an integer"),
        ({"tokens": True}, r"tokens: got True; pass an integer"),
        ({"tokens": "1"}, r"tokens: got '1'; pass an integer"),
        ({"tokens": 1, "scale": True}, r"scale: got True; pass a number"),
        ({"tokens": 1, "scale": None}, r"scale: got None"),
        ({"tokens": 1, "label": 3}, r"label: got 3; pass text"),
        ({"tokens": 1, "causal": 1}, r"causal: got 1; pass true or false"),
        ({"tokens": 1, "sizes": [1, 2.5]}, r"sizes: got 2\.5"),
        ({"tokens": 1, "sizes": 1}, r"sizes: got 1"),
        ({"tokens": 1, "box": [1.0]}, r"box: has length 1; pass length 2"),
        ({"tokens": 1, "seed": "x"}, r"seed: got 'x'; pass an integer or null"),
        ({"tokens": 1, "kind": "relu"}, r"kind: got 'relu'; .*'softmax', 'linear'"),
        ({"tokens": 1, "clock": {"t2": 1.0}}, r"clock: unknown key 't2'; did you mean 't1'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.from_json(Example, values, where="x.toml")


def test_the_source_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^x\.toml: unknown key"):
        config.from_json(Example, {"tokens": 1, "zzz": 1}, where="x.toml")


def test_a_configuration_of_wrong_types_is_refused_when_it_is_written() -> None:
    with pytest.raises(ConfigError, match="tokens: got 'many'"):
        config.to_json(Example(tokens="many"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("tokens", "12", 12),
        ("scale", "3", 3.0),
        ("scale", "1e-3", 1e-3),
        ("label", "hello", "hello"),
        ("label", "3", "3"),
        ("label", "a,b", "a,b"),
        ("causal", "true", True),
        ("sizes", "4,8,16", (4, 8, 16)),
        ("sizes", "[4, 8]", (4, 8)),
        ("sizes", "4", (4,)),
        ("sizes", "[]", ()),
        ("box", "2,y", (2.0, "y")),
        ("seed", "null", None),
        ("seed", "7", 7),
        ("times", "0.5, 1", (0.5, 1.0)),
        ("kind", "linear", "linear"),
        ("clock", '{"t1": 3}', Clock(t1=3.0)),
    ],
)
def test_values_are_read_from_the_command_line(key: str, text: str, expected: object) -> None:
    start = Example(tokens=1)
    changed = config.replace(start, {key: text})
    assert getattr(changed, key) == expected
    assert type(getattr(changed, key)) is type(expected)
    others = [f.name for f in fields(Example) if f.name != key]
    assert all(getattr(changed, name) == getattr(start, name) for name in others)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set: unknown key 'token'; did you mean 'tokens'"):
        config.replace(Example(tokens=1), {"token": "2"})
    with pytest.raises(ConfigError, match=r"tokens: got 'many'; pass an integer"):
        config.replace(Example(tokens=1), {"tokens": "many"})
    with pytest.raises(ConfigError, match=r"sizes: got"):
        config.replace(Example(tokens=1), {"sizes": "1,x"})


def test_toml_and_json_files_say_the_same(tmp_path: Path) -> None:
    toml, as_json = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text(
        'tokens = 3\nsizes = [1, 2]\nlabel = "é"\n[clock]\nt1 = 2.5\n', encoding="utf-8"
    )
    values = {"tokens": 3, "sizes": [1, 2], "label": "é", "clock": {"t1": 2.5}}
    as_json.write_text(json.dumps(values), encoding="utf-8")
    assert config.read_file(toml) == config.read_file(str(as_json)) == values
    assert config.from_json(Example, config.read_file(toml)).clock.t1 == 2.5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"tokens = ", "is malformed"),
        ("a.json", b"{", "is malformed"),
        ("a.json", b"[1, 2]", "holds no JSON object"),
        ("a.yaml", b"tokens: 1", "has suffix '.yaml'; use .toml or .json"),
        ("a.toml", b"\xff\xfe", "cannot be read"),
    ],
)
def test_unreadable_files_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        config.read_file(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            config.read_file(path)


def test_the_digest_ignores_the_order_of_keys_and_sees_every_value() -> None:
    assert config.digest({"a": 1, "b": [1, 2]}) == config.digest({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": [1]}]
    assert len({config.digest(data) for data in different}) == len(different)


def test_the_digest_is_the_same_in_every_process() -> None:
    data = {"tokens": 3, "label": "é", "scale": 0.1, "sizes": [1, 2]}
    code = f"from translimit.core import config; print(config.digest({data!r}))"
    for hash_seed in ("0", "99"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"}
        printed = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.strip() == config.digest(data)
