"""Two processes that compute as one: the start-up of a job on several hosts, on this machine.

    python two_hosts.py

Without arguments this starts two processes of itself and compares what they give with one process.
On a cluster each host runs one process, and `jax.distributed.initialize()` finds the others by
itself under Slurm or on a cloud's accelerators; elsewhere it takes the address of the first host,
the number of processes and its own, as below.
"""

import socket
import subprocess
import sys

import numpy as np


def compute() -> np.ndarray:
    """Paths of the covariance SDE, cut over the devices of all processes."""
    import jax

    from translimit import solve
    from translimit.core import over_devices
    from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving

    sde = CovarianceSDE(block=Block(gamma=0.5, tau0=2.0), initial=np.eye(3), t1=0.2)
    with over_devices() as count:
        print(f"{count} devices of {jax.process_count()} processes", flush=True)
        solution = solve(sde, StructurePreserving(paths=16), key=jax.random.key(0), save=[0.2])
    return np.asarray(solution.cov)


def one_of_two(number: int, address: str, file: str) -> None:
    """What each host runs; every process gets all results."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # GPUs bring their own
    jax.distributed.initialize(address, num_processes=2, process_id=number)
    cov = compute()
    if number == 0:
        np.save(file, cov)


def main() -> None:
    """Start both processes, then compare."""
    import tempfile
    from pathlib import Path

    with socket.socket() as probe:  # a free port
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cov.npy")
        program = [sys.executable, __file__]
        both = [subprocess.Popen([*program, str(i), address, str(file)]) for i in range(2)]
        ends = [process.wait() for process in both]
        if any(ends):
            sys.exit(f"the processes ended with {ends}")
        together = np.load(file)
    alone = compute()
    if not np.allclose(together, alone, rtol=1e-13, atol=0):
        sys.exit(f"they differ by up to {np.abs(together - alone).max():.3g}")
    print("the same numbers as in one process")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_of_two(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    else:
        main()
