"""Files that anybody may have written: read as data, or refused in one line."""

import io
import json
import pickle
import random

import numpy as np
import pytest

from translimit.core import ConfigError, StoreError, config, load_checkpoint, save_checkpoint

TREE = {"a": np.arange(6.0), "b": np.ones((2, 3))}


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def head(data):
    return np.frombuffer(json.dumps(data).encode(), dtype=np.uint8)


def test_no_checkpoint_is_unpickled(tmp_path, trap):
    evil = np.array([trap], dtype=object)
    told = head({"digest": "0", "step": 1})
    for content in (archive(head=told, leaf_0=evil), archive(head=evil), pickle.dumps(trap)):
        (tmp_path / "training.npz").write_bytes(content)
        with pytest.raises(StoreError, match=r"training.npz: cannot be read \(.*; delete it"):
            load_checkpoint(tmp_path, "0", TREE, ())
    assert not trap.mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        archive(head=head([])),
        archive(head=head({"digest": "0"})),
        archive(head=head({"digest": "0", "step": "many"})),
        archive(head=np.frombuffer(b"[" * 100_000, dtype=np.uint8)),
        archive(leaf_0=np.ones(3)),
    ],
)
def test_a_checkpoint_that_is_none(tmp_path, content):
    (tmp_path / "training.npz").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        load_checkpoint(tmp_path, "0", TREE, ())


def test_a_checkpoint_with_changed_bytes_is_read_whole_or_refused(tmp_path):
    save_checkpoint(tmp_path, "0", 3, TREE, ())
    path = tmp_path / "training.npz"
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(200):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            load_checkpoint(tmp_path, "0", TREE, ())
        except StoreError:
            refused += 1
    assert refused > 100


DEEP = 100_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", '{"a":' * DEEP + "1" + "}" * DEEP),
        ("deep.json", '{"a":' + "[" * DEEP),
        ("deep.json", '{"a":' * 200 + "1" + "}" * 200),
        ("deep.toml", "a = " + "[" * DEEP),
        ("deep.toml", ".".join(["a"] * 2_000) + " = 1"),
        ("deep.toml", "[" + ".".join(["a"] * 2_000) + "]"),
    ],
)
def test_a_configuration_that_is_nested_too_deeply(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="is nested deeper than 100 levels"):
        config.read_file(tmp_path / name)


@pytest.mark.parametrize("name", ["long.json", "long.toml"])
def test_a_number_with_more_digits_than_python_reads(tmp_path, name):
    digits = "9" * 5_000
    text = f'{{"a": {digits}}}' if name.endswith("json") else f"a = {digits}"
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="is malformed"):
        config.read_file(tmp_path / name)
    assert config.parse_value(digits) == digits
    assert config.parse_value("[" * DEEP) == "[" * DEEP


def test_depth_is_counted_level_by_level():
    assert not config.too_deep(1, 1)
    assert not config.too_deep([1], 2)
    assert config.too_deep([[1]], 2)
    assert config.too_deep({"a": {"b": []}}, 2)
