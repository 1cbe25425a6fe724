"""Sums of products on a CPU are right once translimit is imported, in a process of its own."""

import os
import subprocess
import sys

import pytest

from translimit import _xla

#: Two programs that XLA got wrong: the squared length of rows, and a product with a constant.
PROGRAMS = """
import {first}
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
x = np.stack([np.arange(70_000.0), np.zeros(70_000), np.zeros(70_000)], axis=1)
rows = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(x)
np.testing.assert_allclose(rows, (x**2).sum(axis=1), rtol=1e-12)

def apart(key):
    x, w, a = (jax.random.normal(k, (64, 64), jnp.float32) for k in jax.random.split(key, 3))
    return jnp.abs(x @ w + x @ a @ jnp.zeros((64, 64), jnp.float32) - x @ w).max()

for seed in range(3):
    assert jax.jit(jax.vmap(apart))(jax.random.split(jax.random.key(seed), 8)).max() == 0
"""


def run(code, flags=None):
    own = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    own |= {"JAX_PLATFORMS": "cpu"} | ({} if flags is None else {"XLA_FLAGS": flags})
    command = [sys.executable, "-W", "always", "-c", code]
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False)


def test_sums_of_products_are_right():
    found = run(PROGRAMS.format(first="translimit"))
    assert found.returncode == 0, found.stderr
    assert "RuntimeWarning" not in found.stderr


def test_a_value_of_ones_own_is_kept_and_other_flags_too():
    code = "import os, translimit; print(os.environ['XLA_FLAGS'])"
    assert run(code, f"{_xla.NAME}=").stdout.strip() == f"{_xla.NAME}="
    told = run(code, "--xla_backend_optimization_level=1").stdout.strip()
    assert told == f"--xla_backend_optimization_level=1 {_xla.NAME}={_xla.VALUE}"


def test_a_start_without_the_flag_is_warned_of():
    found = run("import jax; jax.numpy.zeros(3) + 1; import translimit")
    assert "import translimit before the first computation" in found.stderr


@pytest.mark.parametrize("version", [None, (0, 10, 1), (0, 12), (1, 0)])
def test_a_version_that_does_not_know_the_flag_gets_none(version, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(_xla, "_jaxlib", lambda: version)
    _xla.reduce_rightly()
    assert "XLA_FLAGS" not in os.environ


def test_the_version_is_read_from_its_file():
    import jaxlib.version

    told = tuple(int(one) for one in jaxlib.version.__version__.split(".")[:3])
    assert _xla._jaxlib() == told
