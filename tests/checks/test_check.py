"""Looks of a coordinate check: seeds are added until all is decided, in a budget told before."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: models are not checked")

from translimit.checks import TorchModel, coordinate_check  # noqa: E402
from translimit.checks.batches import examples_of, first_examples  # noqa: E402
from translimit.checks.looks import Forecast  # noqa: E402
from translimit.core import ArgumentError, Verdict  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from toy import BASE, TOKENS, batch, toy  # noqa: E402

OPTIONS = {"base": BASE, "rate": 0.01, "steps": (0, 1, 2)}


def counted(monkeypatch, noise=0.0, power=0.0):
    """A factory whose networks give numbers of a known law; the trials that it was asked for."""
    asked = []

    def record(self, steps, size, apart=None, narrowest=None, examples=None):
        trial = asked[-1]
        rng = np.random.default_rng([trial.seed, size.head_dim])
        law = size.head_dim**power * math.exp(noise * rng.normal())
        facts = {"tokens": 4.0, "examples": 0.0, "apart": 0.0, "decays": 0.0}
        return {
            "hidden_change": [0.0 if step == 0 else law for step in steps],
            **{name: [value] * len(steps) for name, value in facts.items()},
        }

    def factory(trial):
        asked.append(trial)
        return toy(trial)

    monkeypatch.setattr(TorchModel, "record", record)
    monkeypatch.setattr(TorchModel, "unread", lambda self: [])
    return factory, asked


def test_looks_end_when_all_is_decided(monkeypatch):
    factory, asked = counted(monkeypatch, noise=0.01)
    check = coordinate_check(factory, "head_dim", (8, 16, 32, 64), **OPTIONS)
    assert check.overall() is Verdict.supported
    assert (check.seeds, check.looks, len(asked)) == (3, (3, 6, 12, 24), 12)
    factory, asked = counted(monkeypatch, noise=0.3)
    check = coordinate_check(factory, "head_dim", (8, 16, 32, 64), **OPTIONS)
    assert check.seeds > 3
    assert check.overall() is Verdict.supported
    assert len(asked) == len({(one.seed, one.size) for one in asked})  # none twice
    factory, asked = counted(monkeypatch, noise=0.01, power=0.9)
    check = coordinate_check(factory, "head_dim", (8, 16, 32, 64), **OPTIONS)
    assert check.overall() is Verdict.refuted


def test_a_size_is_added_where_a_coordinate_bends(monkeypatch):
    factory, _ = counted(monkeypatch, noise=0.03)
    record = TorchModel.record

    def bent(self, steps, size, *told):
        found = record(self, steps, size, *told)
        factor = 1 + 25 / size.head_dim
        return {**found, "hidden_change": [factor * x for x in found["hidden_change"]]}

    monkeypatch.setattr(TorchModel, "record", bent)
    check = coordinate_check(factory, "head_dim", (8, 16, 32), **OPTIONS)
    assert check.sizes == (8, 16, 32, 64)
    fixed = coordinate_check(factory, "head_dim", (8, 16, 32), larger=False, **OPTIONS)
    assert fixed.sizes == (8, 16, 32)


def test_a_budget_ends_the_looks_and_says_so(monkeypatch):
    factory, asked = counted(monkeypatch, noise=1.0)
    check = coordinate_check(factory, "head_dim", (8, 16, 32), budget=1e-6, **OPTIONS)
    assert check.seeds == 3
    assert len(asked) == 9
    assert check.overall() is Verdict.underpowered
    assert (
        "inconclusive with 3 seeds (the next look would take 1 s more, beyond" in check.in_words()
    )
    with pytest.raises(ArgumentError, match="budget: got 0"):
        coordinate_check(factory, "head_dim", (8, 16, 32), budget=0, **OPTIONS)
    for seeds in ((), (3, 3), (0, 2)):
        with pytest.raises(ArgumentError, match="seeds: got"):
            coordinate_check(factory, "head_dim", (8, 16, 32), seeds=seeds, **OPTIONS)


def test_what_it_will_take_is_told_before(monkeypatch):
    factory, asked = counted(monkeypatch)
    said = []

    def announce(sentence):
        said.append((sentence, len(asked)))

    coordinate_check(factory, "head_dim", (8, 16, 32), announce=announce, **OPTIONS)
    ((sentence, networks),) = said
    assert networks == 3  # the smallest, the largest, and the smallest once more
    assert sentence.startswith("head_dim: takes about ")
    assert "if all 4 looks are needed" in sentence
    law = Forecast({8: 1.0, 32: 4.0})
    assert law.network(16) == pytest.approx(2.0)
    assert law.network(64) == pytest.approx(8.0)
    assert law.networks((8, 32), 3) == 15.0
    assert "about 15 s; 60 s if all 2" in law.in_words((8, 32), (3, 12), False)


def test_a_batch_is_cut_to_the_narrowest_network():
    assert examples_of(batch(0)) == len(batch(0)[0])
    ids = torch.arange(12).reshape(6, 2)
    assert examples_of({"x": ids, "y": [ids]}) == 6
    assert examples_of({"x": ids, "y": ids[:3]}) == examples_of(3) == 0
    assert first_examples({"x": ids, "y": [ids]}, 2)["y"][0].shape == (2, 2)
    narrow = replace(BASE, head_dim=4)
    check = coordinate_check(toy, "head_dim", (4, 8, 16), seeds=1, **{**OPTIONS, "base": narrow})
    taken = narrow.width // TOKENS
    assert any(f"is {taken} of the examples of a batch" in note for note in check.notes)


def test_many_tokens_are_not_held_against_what_they_teach():
    """What falls short so is not judged, as the check says."""

    def factory(trial):
        return replace(toy(trial), repeated=batch(0))

    options = {**OPTIONS, "base": replace(BASE, head_dim=4)}
    check = coordinate_check(factory, "head_dim", (4, 8, 16), seeds=3, **options)
    (note,) = (one for one in check.notes if "more than the narrowest network is wide" in one)
    assert "fall short so, and are not judged (repeat a smaller batch, or start wider)" in note
    left = {p[0]: check.exponent(*p).value for p in check.expected if not check.is_still(*p)}
    assert all(left[name] > -0.1 for name in left if name.endswith("_change"))
