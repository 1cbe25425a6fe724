"""Arrays of every library that users have, at the doors of every room."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from translimit import attention, limits, observe, solve
from translimit.core import ArgumentTypeError, Estimate, as_float, as_numpy, bures, fit_rate
from translimit.core import wasserstein2 as distance

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

#: Numbers that every precision holds exactly.
SQUARE = np.array([[1.0, 0.25], [0.25, 2.0]])
CLOUD = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0]])

SOURCES = {
    "numpy": np.asarray,
    "float32": lambda a: np.asarray(a, np.float32),
    "jax": jnp.asarray,
    "lists": lambda a: np.asarray(a).tolist(),
    "tuples": lambda a: tuple(map(tuple, a)) if np.ndim(a) > 1 else tuple(a),
    "tensor": lambda a: torch.tensor(np.asarray(a)),
    "parameter": lambda a: torch.nn.Parameter(torch.tensor(np.asarray(a))),
    "bfloat16": lambda a: torch.nn.Parameter(torch.tensor(np.asarray(a), dtype=torch.bfloat16)),
    "float16": lambda a: torch.tensor(np.asarray(a), dtype=torch.float16),
    "strided": lambda a: torch.tensor(np.repeat(np.asarray(a), 2, axis=-1))[..., ::2],
    "list of tensors": lambda a: [torch.nn.Parameter(torch.tensor(row)) for row in np.asarray(a)],
}


def softmax(c):
    return attention.Softmax(Q=c(np.eye(2)), K=c(np.eye(2)), V=c(np.eye(2)))


def flow(c):
    problem = limits.meanfield.ParticleFlow(attention=softmax(np.asarray), initial=c(CLOUD), t1=0.1)
    return solve(problem, limits.meanfield.FixedODE(steps=2), save=[0.1]).tokens


def closure(c):
    zero = np.zeros(2)
    problem = limits.meanfield.GaussianFlow(
        attention=softmax(c), mean=c(zero), cov=c(SQUARE), t1=0.1
    )
    return solve(problem, limits.meanfield.FixedODE(steps=2), save=[0.1]).cov


def rate(c):
    return fit_rate(
        c(np.array([1.0, 2.0, 4.0])), c(np.array([[4.0, 5, 4, 5], [2, 3, 2, 2], [1, 1.25, 1, 1]]))
    ).rate


DOORS = {
    "attention": lambda c: softmax(c).Q,
    "flow": flow,
    "closure": closure,
    "sde": lambda c: (
        limits.shaped.CovarianceSDE(
            block=limits.shaped.Block(gamma=0.5, tau0=2.0), initial=c(SQUARE), t1=0.1
        ).initial
    ),
    "moments": lambda c: observe.moments(c(CLOUD))[1],
    "entropy": lambda c: observe.attention_entropy(c(CLOUD)),
    "distance": lambda c: distance(c(CLOUD), c(CLOUD[::-1] + 1)),
    "bures": lambda c: bures(c(CLOUD[0]), c(SQUARE), c(CLOUD[1]), c(SQUARE)),
    "estimate": lambda c: Estimate.from_samples(c(CLOUD[:, 0])).value,
    "rate": rate,
}


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("door", DOORS)
def test_an_array_is_its_numbers_wherever_it_comes_from(door, source):
    expected, found = (np.asarray(DOORS[door](SOURCES[name])) for name in ("numpy", source))
    # JAX and flows follow the precision of what they are given.
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_precision_is_kept_and_half_precision_widened():
    dtypes = {name: as_float(SOURCES[name](SQUARE), "x").dtype for name in SOURCES}
    assert dtypes["tensor"] == dtypes["parameter"] == np.float64
    assert dtypes["bfloat16"] == dtypes["float16"] == dtypes["float32"] == np.float32


def test_values_are_copied_from_no_gradient():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    (weight * 2).sum().backward()
    assert as_numpy(weight, "weight").tolist() == [[1, 1], [1, 1]]
    assert weight.requires_grad
    assert weight.grad is not None


@pytest.mark.parametrize("bad", ["text", [[1.0], [1.0, 2.0]], [object()], 1j])
def test_what_holds_no_real_numbers_is_refused_by_name(as_user, bad):
    with pytest.raises(ArgumentTypeError, match=r"tokens: got .*; pass real numbers"):
        as_numpy(bad, "tokens")
    complex_one = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(ArgumentTypeError, match=r"tokens: got .*; pass real numbers"):
        as_float(complex_one, "tokens")


def test_not_a_number_is_a_number_here():
    assert np.isnan(as_numpy([np.nan, np.inf], "x")[0])


def test_torch_is_never_loaded_for_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert as_numpy([1, 2], "x").tolist() == [1.0, 2.0]
    assert "torch" not in sys.modules
