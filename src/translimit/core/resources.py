"""What this process may use: packages, cores, threads, GPUs, and memory where its arrays live."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from translimit.core.control_groups import free_in_group
from translimit.core.errors import ConfigError, MissingExtraError, nearest


def require_package(package: str, extra: str) -> None:
    """Refuse where an optional package is not installed; it is not imported.

    Args:
        package: its name.
        extra: the extra that brings it.

    Raises:
        MissingExtraError: it is not there.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_threads() -> int:
    """How many independent computations JAX advances at once: threads of its CPU client, or 1.

    An accelerator takes one after the other.
    """
    import jax

    return allowed_threads() if jax.default_backend() == "cpu" else 1


def allowed_threads() -> int:
    """Threads of JAX's CPU client in this process: PJRT_NPROC, or a thread a core. Loads no JAX."""
    allowed = os.environ.get("PJRT_NPROC", "")
    if allowed.isdigit() and int(allowed):
        return int(allowed)
    return available_cores()


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA devices that CUDA shows this process, as CUDA_VISIBLE_DEVICES names them."""
    present = tuple(str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not present:
        return present
    names = [name.strip() for name in chosen.split(",")]
    end = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    return tuple(names[:end])  # CUDA stops at the first that is none


def resolve_device(device: str) -> str:
    """The device that a run fixes: "cpu" or "gpu".

    Args:
        device: one of them, or "auto": "gpu" if an NVIDIA device is visible here, JAX has its
            CUDA plugin, and JAX_PLATFORMS does not forbid it. JAX is not loaded to find out.

    Raises:
        ConfigError: another word.
    """
    if device in ("cpu", "gpu"):
        return device
    if device != "auto":
        raise ConfigError("device", f"got {device!r}", nearest(device, ("auto", "cpu", "gpu")))
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    platforms = os.environ.get("JAX_PLATFORMS", "")
    allowed = not platforms or any(name in platforms for name in ("cuda", "gpu"))
    installed = any(importlib.util.find_spec(plugin) for plugin in plugins)
    return "gpu" if allowed and installed and visible_gpus() else "cpu"


def available_memory() -> float:
    """Bytes that are free where JAX's arrays will live; infinite where nobody can tell.

    A GPU's memory that is not in use; else the machine's available memory, and never more than
    what the control group of this process (a container, say) allows.
    """
    import jax

    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return float(stats["bytes_limit"]) - float(stats.get("bytes_in_use", 0))
    return available_host_memory()


def available_host_memory() -> float:
    """Bytes of main memory that are free; infinite where nobody can tell. Loads no JAX.

    Never more than what the control groups of this process (a container, a job of Slurm) and its
    limit of addresses (`ulimit -v`) leave of what they allow.
    """
    return min(_machine_memory(), free_in_group(), _free_addresses())


def _free_addresses() -> float:
    """Bytes that the limit of this process's address space leaves; infinite without one."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return float("inf")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(0.0, float(limit - pages * os.sysconf("SC_PAGE_SIZE")))
    except (ImportError, OSError, ValueError):
        return float("inf")


def _machine_memory() -> float:
    table = Path("/proc/meminfo")
    if table.exists():
        for row in table.read_text().splitlines():
            if row.startswith("MemAvailable"):
                return 1024.0 * float(row.split()[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return float("inf")
