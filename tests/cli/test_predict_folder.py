"""`translimit predict FOLDER --text FILE` on a model that transformers saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.predict.inputs.test_text import SENTENCE, make_tokenizer

from translimit.cli import main

torch = pytest.importorskip("torch", reason="torch is not installed: no class saves a model")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: no class saves a model"
)


def test_a_saved_model_with_its_tokenizer_is_predicted_on_a_text(tmp_path: Path, capsys) -> None:
    sizes = transformers.GPT2Config(
        n_embd=32, n_layer=1, n_head=2, vocab_size=300, n_positions=64, bos_token_id=0
    )
    folder, text = tmp_path / "model", tmp_path / "text.txt"
    transformers.GPT2LMHeadModel(sizes).save_pretrained(folder)
    made = make_tokenizer(folder / "tokenizer.json")
    text.write_text(SENTENCE, encoding="utf-8")
    assert {one.name for one in folder.iterdir()} >= {"config.json", "model.safetensors"}
    command = ["predict", str(folder), "--text", str(text), "--tokens", "12", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    every = made.encode(SENTENCE).ids
    ids = every[:12]
    assert (told["family"], told["dim"], told["vocabulary"], told["tied"]) == (
        "gpt2",
        32,
        300,
        True,
    )
    assert told["tokens"] == len(ids)
    assert told["source"].startswith(f"the first 12 of {len(every)} tokens of text.txt")
    assert f"{len(set(ids))} different" in told["source"]
    assert len(told["curves"]["overlap"]["value"]) == 2
    assert told["loss"]["words"] == 300
    assert main(["predict", str(folder / "model.safetensors")]) == 2
    assert "holds weights, which do not tell the block" in capsys.readouterr().err
