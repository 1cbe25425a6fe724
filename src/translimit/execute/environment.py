"""What a worker's environment says before it loads a numerical library: threads and device.

Both are part of what a run fixes, because both decide the last bits. JAX reads its variables once,
when it loads, so a worker has them before its interpreter starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from translimit.core import PROGRAMS_SWITCH, ArgumentError, visible_gpus, worker_switch
from translimit.execute.threads import thread_limits

#: How a gpu job starts JAX: the CPU stays there beside it, and memory is taken as it is needed
#: (by default every process would reserve most of a GPU for itself).
_DEVICES = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "gpu": {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}
#: A float32 product on a GPU is one of TensorFloat-32 by default, which has the digits of float16.
_PRECISION = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
#: On a GPU, XLA times several kernels for a product and takes the fastest, so that the last bits
#: depend on what else the card was doing; some scatters add in the order in which threads arrive.
_SAME_BITS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")
#: The first of XLA's levels of optimisation, of three.
_LIGHTLY = ("--xla_backend_optimization_level=1",)
#: A check of a traced value that fails makes it NaN; by default equinox calls Python to raise. JAX
#: keeps no program that calls Python, and diffrax checks in every solve. What a user passes is
#: checked before anything is traced, and a claim about NaN decides nothing.
_CHECKS = {"EQX_ON_ERROR": "nan"}
#: Variables with these beginnings change what JAX and XLA compute.
_NUMERICAL = ("JAX_", "XLA_", "EQX_")


def job_environment(threads: int, device: str = "cpu") -> dict[str, str]:
    """The variables that fix a job's numbers, for a worker wherever it is.

    They are those of this process that JAX, XLA and equinox read, with the limits of threads and
    the device on top, and whether compiled programs are kept (where, the worker finds out: its
    processor may be of another kind). On device gpu a float32 product is one of float32 and XLA
    gives the same bits every time, unless JAX_DEFAULT_MATMUL_PRECISION and XLA_FLAGS say otherwise.

    Raises:
        ArgumentError: fewer than one thread, or an unknown device.
    """
    if device not in _DEVICES:
        raise ArgumentError("device", f"got {device!r}", 'pass "cpu" or "gpu"')
    own = {name: value for name, value in os.environ.items() if name.startswith(_NUMERICAL)}
    if device == "gpu":
        own = {**_PRECISION, **own}
        own["XLA_FLAGS"] = _with_defaults(own.get("XLA_FLAGS", ""), _SAME_BITS)
    if switch := worker_switch():
        own[PROGRAMS_SWITCH] = switch
    return {**_CHECKS, **own, **thread_limits(threads), **_DEVICES[device]}


def _with_defaults(flags: str, defaults: Iterable[str]) -> str:
    """Flags of XLA_FLAGS, and those of the defaults whose names are not among them."""
    named = {flag.partition("=")[0] for flag in flags.split()}
    return " ".join([*flags.split(), *(d for d in defaults if d.partition("=")[0] not in named)])


@contextlib.contextmanager
def lightly_optimised() -> Iterator[None]:
    """XLA optimises less, for a command that compiles for longer than it computes.

    XLA reads its flags once, when JAX starts: within this, or it has no effect. A level that
    XLA_FLAGS names already is kept.
    """
    with variable("XLA_FLAGS", _with_defaults(os.environ.get("XLA_FLAGS", ""), _LIGHTLY)):
        yield


@contextlib.contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of this process's environment for a while, and what it was afterwards.

    Args:
        name: of the variable.
        value: meanwhile.
    """
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def require_gpus(executor: str) -> tuple[str, ...]:
    """The GPUs of this machine, for an executor that has no other.

    Raises:
        ArgumentError: there is none.
    """
    gpus = visible_gpus()
    if not gpus:
        raise ArgumentError(
            "device",
            f"{executor} finds no NVIDIA device on this machine",
            "use device cpu, or an executor that reaches a machine with one",
        )
    return gpus


def search_path() -> list[str]:
    """Where this process finds modules; the current folder by its name."""
    return [path or os.getcwd() for path in sys.path]


def own_search_path() -> str:
    """PYTHONPATH for an interpreter of another machine: where our modules are, but not Python's.

    The folders of this interpreter's own installation are left out, because a worker has its own.
    """
    roots = {Path(root).resolve() for root in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    own = [
        path
        for path in search_path()
        if not any(Path(path).resolve().is_relative_to(root) for root in roots)
    ]
    return os.pathsep.join(own)
