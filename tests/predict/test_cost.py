"""What a prediction costs, told before: orders in its sizes, and who is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from translimit.describe import Activation, Attention, FeedForward, Stack, pre_norm_stack
from translimit.predict import Cost, predict
from translimit.predict.cost import Asked, Solves, cost_of, operations, speed, spread_operations
from translimit.predict.signals import Effort

LOOK = Attention(2, 32, 0.02, 0.02, 0.02, 0.02)
ASKED = Asked(gradients=3, repeated=True)
UNITS = FeedForward(256, Activation.GELU, 0.02, 0.02)


def stack(layers: int, *, attention: Attention = LOOK) -> Stack:
    return pre_norm_stack(64, layers, attention, UNITS)


def test_operations_have_the_orders_of_the_recursion() -> None:
    one = Solves(pairs=8, copies=2, back=0)
    few, many = (operations(stack(1), n, one, single=False) for n in (4096, 8192))
    assert 7.0 < many / few < 8.0  # products of n x n matrices
    assert operations(stack(1), 64, Solves(8, 4, back=0), single=False) == pytest.approx(
        2 * operations(stack(1), 64, one, single=False)
    )
    assert operations(stack(1), 512, one, single=True) < operations(
        stack(1), 512, one, single=False
    )
    # Layers after the first draw fewer pairs.
    assert operations(stack(8), 64, one, single=False) < 4 * operations(
        stack(1), 64, one, single=False
    )
    both = operations(stack(1), 64, Solves(8, 2), single=False)
    assert 1.5 < both / operations(stack(1), 64, one, single=False) < 4.0
    shared = stack(1, attention=Attention(8, 32, 0.02, 0.02, 0.02, 0.02, kv_heads=1))
    assert spread_operations(shared, 64, 8) > spread_operations(stack(1), 64, 8)


def test_a_cost_is_told_in_words() -> None:
    cost = cost_of(stack(2), np.eye(8), Effort(4, 2), ASKED)
    assert cost.seconds > 0
    assert (
        cost.operations
        < cost_of(stack(2), np.eye(8), Effort(4, 2), replace(ASKED, others=3)).operations
    )
    assert str(Cost(12.3, 2.34e9, 1e12)) == "about 12 s and 2.3 GB"
    assert str(Cost(240.0, 2.34e9, 1e12)) == "about 4 min and 2.3 GB"


def test_memory_is_that_of_the_copies_that_are_passed_together() -> None:
    cov = np.eye(8)
    cost = cost_of(stack(2), cov, Effort(4, 2), ASKED)
    wide = cost_of(stack(2), np.eye(32), Effort(4, 2), ASKED)
    assert wide.memory == pytest.approx(16 * cost.memory)
    assert cost_of(stack(4), cov, Effort(4, 2), ASKED).memory > cost.memory
    # Of many tokens two at a time; nothing is kept where nothing returns.
    many = np.eye(300)
    costs = [cost_of(stack(9), many, Effort(4, copies), ASKED).memory for copies in (2, 6)]
    assert costs[0] == costs[1]
    forward = replace(ASKED, gradients=0, whole=False)
    assert cost_of(stack(9), many, Effort(4, 2), forward).memory < costs[0] / 2


def test_the_cost_is_told_once_and_first() -> None:
    told: list[object] = []
    small = {"model_type": "gpt2", "n_layer": 1, "n_embd": 64, "n_head": 2}
    predict(small, ids=[3, 1, 3], announce=told.append, progress=told.append)
    assert isinstance(told[0], Cost)
    assert sum(isinstance(one, Cost) for one in told) == 1
    assert len(told) > 1


def test_speed_is_that_of_the_processor_whatever_else_the_machine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Products of 384 rows that take 4, 2 and 8 milliseconds of the thread."""
    processor = iter(())
    monkeypatch.setattr("translimit.predict.cost.time.thread_time", lambda: next(processor))
    for cores, gain in ((1, 1.0), (2, 1.7), (16, 1.7)):
        processor = iter([0.0, 4e-3, 0.0, 2e-3, *[0.0, 8e-3] * 3])
        monkeypatch.setattr("translimit.predict.cost.allowed_threads", lambda cores=cores: cores)
        assert speed() == pytest.approx(gain * 2 * 384**3 / 2e-3)
