"""What a solve does to the threads of BLAS, and what it leaves behind."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threadpoolctl

from translimit import solve
from translimit.core import blas, following_inputs, in_float64
from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving


@pytest.fixture
def libraries():
    """The BLAS libraries, set to several threads as on a machine with several cores."""
    found = blas.openblas_libraries()
    before = [one.get_threads() for one in found]
    for one in found:
        one.set_threads(2)
    yield found
    for one, number in zip(found, before, strict=True):
        one.set_threads(number)


def threads(libraries):
    return [one.get_threads() for one in libraries]


def test_scipys_library_is_found(libraries):
    info = threadpoolctl.threadpool_info()
    if any("scipy_openblas" in one["filepath"] for one in info):
        assert libraries
        told = [one["num_threads"] for one in threadpoolctl.threadpool_info()]
        assert told.count(2) >= len(libraries)


@pytest.fixture
def seen(monkeypatch, libraries):
    """The threads that compiled functions ran with, one entry a call."""
    calls = []
    call = blas.call_with_blas

    def watched(function, *args):
        def inner(*inside):
            calls.append(threads(libraries))
            return function(*inside)

        return call(inner, *args)

    monkeypatch.setattr("translimit.core.precision.call_with_blas", watched)
    return calls


def sde():
    return CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=np.eye(3), t1=0.1)


def test_a_solve_has_one_thread_and_leaves_what_there_was(seen, libraries):
    solve(sde(), StructurePreserving(paths=3), key=jax.random.key(0), save=[0.1])
    assert seen
    assert all(number == 1 for call in seen for number in call)
    assert threads(libraries) == [2] * len(libraries)


def test_large_factorisations_keep_their_threads(seen, libraries):
    @jax.jit
    def trace(matrix):
        return jnp.trace(jnp.linalg.cholesky(matrix))

    assert in_float64(trace, np.eye(blas.LARGE)) == blas.LARGE
    in_float64(trace, np.eye(blas.LARGE - 1))
    assert [set(call) for call in seen] == [{2}, {1}]


def test_many_tokens_in_few_dimensions_are_small(seen):
    following_inputs(jax.jit(lambda cloud, _: cloud.T @ cloud), np.ones((5000, 3)))
    assert set(seen[0]) == {1}


def test_an_error_leaves_what_there_was(libraries):
    def fails(_):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        in_float64(fails, np.eye(2))
    assert threads(libraries) == [2] * len(libraries)


def test_two_solves_in_two_threads_share_the_limit(libraries):
    both_in, first_out = threading.Barrier(2, timeout=60), threading.Event()
    within = []

    def first(_):
        both_in.wait()
        return jnp.zeros(())

    def second(_):
        both_in.wait()
        assert first_out.wait(timeout=60)
        within.append(threads(libraries))  # the other call has ended, and this one goes on
        return jnp.zeros(())

    def run(function, done):
        blas.call_with_blas(function, jnp.eye(2))
        done.set()

    parts = [(first, first_out), (second, threading.Event())]
    workers = [threading.Thread(target=run, args=part) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert within == [[1] * len(libraries)]
    assert threads(libraries) == [2] * len(libraries)


def test_arrays_of_jax_are_there_when_the_limit_ends(libraries):
    @jax.jit
    def slow(cloud, _):
        for _ in range(20):
            cloud = jnp.tanh(cloud @ cloud.T @ cloud)
        return cloud

    result = following_inputs(slow, jnp.ones((300, 300)))
    assert result.is_ready()
