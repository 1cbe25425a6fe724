"""Capped logits against drawn ones and Gemma 2's class, and theories without the cap refuted."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from scipy import special
from tests.limits.signal.test_readout import mean_and_error, of, predicted

from translimit.core import ArgumentError
from translimit.describe import read_stack
from translimit.limits.signal import Readout, initial_loss, log_partition
from translimit.limits.signal.logits import Logits
from translimit.predict import predict

#: V, sigma, c and rho: the sum over words varies (the first four) or has its mean.
PAIRS = [
    (200, 1.5, 1.0, 0.6),
    (200, 3.0, 2.0, -0.5),
    (100, 8.0, 10.0, 0.9),
    (20, 6.0, 6.0, 0.3),
    (4000, 1.0, 0.7, 0.8),
]


def of_drawn_pairs(law: Logits, rho: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """G, X, A, log partition, Y, and three covariances of drawn pairs of rows, with errors."""
    assert law.cap is not None
    rng, found = np.random.default_rng(4), []
    one, two = rng.standard_normal((2, count, law.words))
    two = rho * one + (1 - rho**2) ** 0.5 * two
    u, v = (law.cap * np.tanh(law.std * row / law.cap) for row in (one, two))
    g, h = (1 - (row / law.cap) ** 2 for row in (u, v))
    p, q = special.softmax(u, axis=1), special.softmax(v, axis=1)
    left, right = special.logsumexp(u, axis=1), special.logsumexp(v, axis=1)
    right_centred = right - right.mean()
    found += [(g * h).mean(1), (g * h * q).sum(1), (g * h * p * q).sum(1), left]
    # phi'' by differences: no formula of the code under test.
    step = 1e-4
    near = [law.cap * np.tanh((law.std * one + way * step) / law.cap) for way in (-1, 1)]
    bend = (near[0] + near[1] - 2 * u) / step**2
    found += [((g**2 + bend) * p).sum(1), (u * v).mean(1)]
    found += [u.sum(1) * right_centred, (left - left.mean()) * right_centred]
    table = np.array(found)
    return table.mean(axis=1), table.std(axis=1) / count**0.5


def of_law(law: Logits, rho: float) -> np.ndarray:
    at = np.array(rho)
    told = [law.targets(at), law.crossed(at), law.overlap(at), law.log_partition, law.along]
    told += [law.targets_cov(at), law.crossed_cov(at), law.partition_cov(at)]
    return np.array([float(one) for one in told])


@pytest.mark.parametrize(("words", "std", "cap", "rho"), PAIRS)
def test_capped_logits_have_the_moments_of_drawn_ones(
    words: int, std: float, cap: float, rho: float
) -> None:
    law = Logits(words, std, cap)
    mean, error = of_drawn_pairs(law, rho, 800_000 // words)
    theory = of_law(law, rho)
    # Tables hold 0.3 %, and half a per cent where a sum over words is replaced by its mean.
    allowed = 4.5 * error + 0.005 * np.abs(theory)
    assert np.all(np.abs(mean - theory)[[0, 1, 2, 4, 5, 6, 7]] < allowed[[0, 1, 2, 4, 5, 6, 7]])
    assert abs(mean[3] - theory[3]) < 4.5 * error[3]
    bare = of_law(Logits(words, std), rho)  # wrong: no cap
    assert np.all(np.abs(mean - bare)[:7] > allowed[:7])


def test_a_wide_cap_is_none_and_quadrature_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    from translimit.limits.signal import partition

    assert np.allclose(of_law(Logits(500, 2.0, 1e6), 0.4), of_law(Logits(500, 2.0), 0.4), rtol=5e-3)
    assert log_partition(500, 2.0, 1e6) == pytest.approx(log_partition(500, 2.0), abs=1e-9)
    assert Logits(500, 2.0, 1e6).deviation == pytest.approx(2.0, rel=1e-6)
    cases = [(500, 2.0, 0.02), (500, 2.0, 1.0), (32_000, 30.0, 30.0), (2, 1.0, 0.01)]
    told = [log_partition(*one) for one in cases]
    partition._log_partition.cache_clear()
    monkeypatch.setattr(partition, "STEP", partition.STEP / 2)
    monkeypatch.setattr(partition, "gaussian", lambda std: _finer(std))
    finer = [log_partition(*one) for one in cases]
    partition._log_partition.cache_clear()
    assert np.allclose(told, finer, rtol=0, atol=1e-6), np.subtract(told, finer)
    for words, _, cap in cases:  # capped logits lie within the cap
        assert abs(log_partition(words, 3.0, cap) - np.log(words)) < cap


def _finer(std: float) -> tuple[np.ndarray, np.ndarray]:
    step = 0.5 * min(0.1, 0.25 / std)
    z = np.linspace(-12.0, 12.0, 2 * round(12.0 / step) + 1)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def drawn(
    readout: Readout, embedded: float, ids: np.ndarray, targets: np.ndarray, networks: int
) -> np.ndarray:
    """Loss, and trace and sum of the gradient's Gram matrix at y and below the norm."""
    rng = np.random.default_rng(0)
    n, dim, cap, found = len(ids), readout.dim, readout.softcap, []
    assert cap is not None
    for _ in range(networks):
        table = rng.standard_normal((readout.words, dim))
        x = embedded * table[ids] + rng.standard_normal((n, dim)) + 0.7 * rng.standard_normal(dim)
        square = (x**2).mean(axis=1, keepdims=True)
        y = x / square**0.5
        w = readout.logit_std / dim**0.5 * table
        u = cap * np.tanh(y @ w.T / cap)
        p = np.asarray(special.softmax(u, axis=1))
        loss = -np.log(p[np.arange(n), targets]).mean()
        p[np.arange(n), targets] -= 1.0
        g = (p * (1 - (u / cap) ** 2)) @ w / n
        below = (g - y * (g * y).mean(axis=1, keepdims=True)) / (square / square.mean()) ** 0.5
        found.append([loss, (g**2).sum(), (g.sum(0) ** 2).sum()])
        found[-1] += [(below**2).sum(), (below.sum(0) ** 2).sum()]
    return np.array(found)


@pytest.mark.parametrize(
    ("std", "cap", "embedded", "repeated"),
    [(1.28, 3.0, 0.5, True), (1.28, 0.5, 1.2, False), (4.0, 3.0, 1.2, True), (4.0, 8.0, 0.0, True)],
)
def test_the_loss_and_gradient_of_a_capped_readout_are_those_of_drawn_ones(
    std: float, cap: float, embedded: float, repeated: bool
) -> None:
    n, words, dim = 32, 1000, 256
    row = np.random.default_rng(2).integers(0, 12, n + 1) if repeated else np.arange(n + 1)
    ids, targets = row[:-1], row[1:]
    readout = dataclasses.replace(of(words, dim, std, embedded), softcap=cap)
    found = drawn(readout, embedded, ids, targets, 40)
    mean, error = mean_and_error(found)
    theory, spread = predicted(readout, embedded, ids, targets)
    scale = np.array([theory[0], theory[1], theory[1], theory[3], theory[3]])
    allowed = np.array([0.012, 0.02, 0.05, 0.02, 0.05]) * scale  # as without a cap
    assert np.all(np.abs(mean - theory) < 4.5 * error + allowed), (mean, theory, error)
    assert abs(found[:, 0].std(ddof=1) / spread - 1) < 4.5 / (2 * len(found)) ** 0.5
    bare, _ = predicted(dataclasses.replace(readout, softcap=None), embedded, ids, targets)
    assert np.all(np.abs(mean - bare)[[1, 3]] > (4.5 * error + allowed)[[1, 3]])  # wrong: no cap
    if embedded > 1 or std > 2:
        assert abs(mean[0] - bare[0]) > 4.5 * error[0] + allowed[0]


def gemma2(cap: float | None) -> dict[str, Any]:
    return {
        "model_type": "gemma2",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "intermediate_size": 192,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 400,
        "initializer_range": 0.2,
        "final_logit_softcapping": cap,
        "sliding_window": 64,
        "query_pre_attn_scalar": 32,
        "max_position_embeddings": 64,
    }


NETWORKS, IDS = 16, np.arange(3, 27)


@functools.cache
def of_class(cap: float | None) -> np.ndarray:
    """Loss and square of its gradient at the top of the last layer, of drawn Gemma2ForCausalLM."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(**gemma2(cap), attn_implementation="eager")
    ids, found = torch.tensor(IDS)[None], []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        seen: list[torch.Tensor] = []

        def keep(module, given, seen=seen):
            given[0].retain_grad()
            seen.append(given[0])

        model.model.norm.register_forward_pre_hook(keep)
        logits = model(ids).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1].double(), ids[0, 1:])
        loss.backward()
        assert seen[0].grad is not None
        found.append([float(loss.detach()), float((seen[0].grad ** 2).sum())])
    return np.array(found)


@functools.cache
def by_theory(cap: float | None) -> np.ndarray:
    found = predict(gemma2(cap), ids=IDS)
    loss = found.loss
    assert loss is not None
    assert loss.softcap == cap
    square = len(IDS) * loss.curves["gradient"].value[-1] ** 2  # told by token
    return np.array([loss.value, square, loss.error])


@pytest.mark.parametrize("cap", [None, 30.0, 5.0, 0.5])
def test_the_loss_of_gemma_2_is_that_of_its_class(cap: float | None) -> None:
    mean, error = mean_and_error(of_class(cap))
    theory = by_theory(cap)
    share = 3 / 128  # of order 1 / D
    assert np.all(np.abs(mean - theory[:2]) < 4.5 * error + share * theory[:2]), (mean, theory)
    if cap is not None and cap < 30:  # wrong: no cap
        bare = by_theory(None)
        assert np.all(np.abs(mean - bare[:2]) > 4.5 * error + share * bare[:2])


def test_families_with_a_cap_are_read() -> None:
    assert read_stack(gemma2(None)).logit_softcap is None
    assert read_stack(gemma2(2.5)).logit_softcap == 2.5


def test_bad_caps_are_named() -> None:
    with pytest.raises(ArgumentError, match="softcap"):
        Readout(100, 64, 1.0, softcap=0.0)
    with pytest.raises(ArgumentError, match="softcap"):
        log_partition(100, 1.0, -1.0)
    zero = initial_loss(np.zeros((1, 1)), [3], Readout(100, 64, 1.0, softcap=2.0))
    assert zero.value == pytest.approx(np.log(100))
