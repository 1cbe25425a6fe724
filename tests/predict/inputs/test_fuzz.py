"""Whatever the bytes of a file are: a covariance, or one line that names the argument."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.predict.inputs.readings import llama, vit
from tests.predict.inputs.test_text import make_tokenizer

from translimit.core import ArgumentError, require_covariance
from translimit.predict.inputs import read_tokens

COUNT = 150


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def image(kind: str) -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


#: Whole files of every argument.
WHOLE: dict[str, list[bytes]] = {
    "text": [b"It is a truth universally acknowledged", "ä€𝄞 text".encode()],
    "ids": [b"1 2 3 2 1", b"[1, 2, 3]", npy(np.arange(5)), npy(np.arange(5.0))],
    "image": [
        *(image(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")),
        npy(np.full((6, 5, 3), 200, np.uint8)),
        npy(np.zeros((3, 32, 32))),
    ],
    "gram": [b"1,0.5\n0.5,1", b"[[1, 0.5], [0.5, 1]]", npy(np.eye(3)), npy(np.eye(2, dtype="f4"))],
}
READINGS = {"bytes": llama(vocab_size=256), "image": vit()}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with a few other bytes, a piece that is left out or doubled, or none of it at all."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(1, 64))
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed))
        if rng.random() < 0.6:
            changed[place] = rng.randrange(256)
        elif rng.random() < 0.5:
            del changed[place : place + rng.randint(1, 8)]
        else:
            changed[place:place] = changed[place : place + rng.randint(1, 8)]
        if not changed:
            break
    return bytes(changed[: rng.choice([len(changed)] * 3 + [rng.randrange(len(changed) + 1)])])


def ends_well(name: str, path: Path, **more: Any) -> str:
    """Read a file; whether it was read or which argument was named."""
    kind = "bytes" if name == "text" and not more else name
    try:
        found = read_tokens(READINGS.get(kind, llama()), **{name: path}, **more, key=0)
    except ArgumentError as error:
        return error.argument if len(str(error).splitlines()) == 1 else repr(error)
    n = found.count
    assert n >= 2
    assert found.cov.shape == (n, n)
    require_covariance(found.cov)
    assert "\n" not in found.source
    return "read"


@pytest.mark.parametrize("name", WHOLE)
def test_files_with_changed_bytes(tmp_path: Path, name: str) -> None:
    rng, ends = random.Random(f"inputs, {name}"), Counter()
    for number in range(COUNT):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(mutated(rng.choice(WHOLE[name]), rng))
        ends[ends_well(name, path)] += 1
    assert set(ends) <= {"read", name}
    assert ends["read"] > 0
    assert ends[name] > COUNT / 20 or name == "text"


def tokenizer_files(folder: Path, rng: random.Random) -> Iterator[Path]:
    """A tokenizer's file with another value somewhere in it."""
    make_tokenizer(folder / "tokenizer.json")
    whole = (folder / "tokenizer.json").read_text(encoding="utf-8")
    values = [None, True, -1, 1e300, "", "text", [], {}, [[]], {"type": "BPE"}]
    for number in range(COUNT):
        document = json.loads(whole)
        inside: Any = document
        while True:
            key = rng.choice(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
            if not isinstance(inside[key], dict | list) or not inside[key] or rng.random() < 0.3:
                break
            inside = inside[key]
        inside[key] = rng.choice(values)
        path = folder / f"{number}.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        yield path


def test_tokenizers_with_changed_values(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    text, ends = tmp_path / "text.txt", Counter()
    text.write_text("It is a truth universally acknowledged")
    for path in tokenizer_files(tmp_path, random.Random("tokenizers")):
        ends[ends_well("text", text, tokenizer=path)] += 1
    assert set(ends) <= {"read", "text", "tokenizer"}
    assert min(ends["read"], ends["tokenizer"]) > COUNT / 20


def test_preprocessors_with_changed_values(tmp_path: Path) -> None:
    rng, ends = random.Random("preprocessors"), Counter()
    path = tmp_path / "image.png"
    path.write_bytes(image("PNG"))
    file = tmp_path / "preprocessor_config.json"
    whole = {
        "do_resize": True,
        "size": {"shortest_edge": 36},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "CLIPImageProcessor",
    }
    values = [None, True, False, -1, 0, 7, 40, 1e300, "text", [], [1, 2], [1, 2, 3], {}, {"a": 1}]
    for _ in range(COUNT):
        changed = {**whole, rng.choice(sorted(whole)): rng.choice(values)}
        changed[rng.choice(sorted(whole))] = rng.choice(values)
        file.write_text(json.dumps(changed))
        ends["read" if ends_well("image", path, folder=tmp_path) == "read" else "told"] += 1
    assert min(ends.values()) > COUNT / 20
