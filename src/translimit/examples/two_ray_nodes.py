"""Run experiments on a Ray cluster of two nodes, lose one in the middle, and compare.

Both nodes are on this machine, with a core each: `ray start` twice, secured by a token, as it would
be done on two machines. The same experiments run on worker processes first. When some cells are
whole, every process of the second node is killed with SIGKILL. The run goes on with the other node;
its claims must be those of the local run, bit for bit.

    python two_ray_nodes.py FOLDER EXPERIMENT... [--preset PRESET] [--set key=value ...]
"""

import argparse
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from translimit.execute import ProcessPool, RayCluster
from translimit.study import run_experiments


def start_node(*words: str) -> psutil.Popen:
    """A node in a process of its own, below which all its processes are."""
    command = [
        sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
        "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", *words,
    ]  # fmt: skip
    return psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_node(node: psutil.Popen) -> None:
    """End every process of a node at once, as a power cut would; nobody else's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait(30)


def nodes_of(address: str, folder: str) -> int:
    """How many nodes the cluster has, asked in a fresh process."""
    program = (
        "import ray, sys\n"
        "ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)\n"
        "print(sum(node['Alive'] for node in ray.nodes()))\n"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program, address], cwd=folder, capture_output=True, text=True
    )
    lines = asked.stdout.split()
    return int(lines[-1]) if asked.returncode == 0 and lines else 0


def whole_cells(run: Path) -> int:
    """How many cells of a run are in their place."""
    return len([path for path in run.glob("cells/*/[!.]*/manifest.json")])


@contextlib.contextmanager
def one_node() -> Iterator[tuple[str, psutil.Popen]]:
    """A cluster of one node: yields its address and the node."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        # Ray answers on the address of the machine, also where it is told 127.0.0.1.
        address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
        head = start_node(
            "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"
        )
        try:
            wait_for(1, address, folder)
            yield address, head
        finally:
            kill_node(head)


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[str, psutil.Popen]]:
    """A cluster of two nodes: yields its address and the second node."""
    with one_node() as (address, _), tempfile.TemporaryDirectory(prefix="ray") as folder:
        second = start_node(f"--address={address}")
        try:
            wait_for(2, address, folder)
            yield address, second
        finally:
            kill_node(second)


def wait_for(number: int, address: str, folder: str) -> None:
    """Wait until so many nodes are there."""
    until = time.monotonic() + 120
    while nodes_of(address, folder) < number:
        if time.monotonic() > until:
            raise SystemExit(f"node {number} did not start")
        time.sleep(0.5)


def main() -> int:
    """Run both, and say whether they agree."""
    parser = argparse.ArgumentParser(description="One run on one machine and on two Ray nodes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--workers", type=int, default=2, help="of the local run")
    parser.add_argument("--whole", type=int, default=2, help="cells after which a node is lost")
    asked = parser.parse_args()
    what = {
        "preset": asked.preset,
        "overrides": dict(setting.split("=", 1) for setting in asked.set),
        "device": "cpu",
        "progress": False,
    }
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",  # by default Ray's workers give way to everybody else
    )
    local = run_experiments(
        asked.experiments, out=asked.folder / "local", executor=ProcessPool(asked.workers), **what
    )
    print(f"local: {len(local.computed)} cells in {local.seconds:.0f} s")

    out = asked.folder / "ray"
    with two_nodes() as (address, second):

        def lose_a_node() -> None:
            while whole_cells(out) < asked.whole:
                time.sleep(0.05)
            kill_node(second)
            print(f"second node killed when {whole_cells(out)} cells were whole")

        killer = threading.Thread(target=lose_a_node, daemon=True)
        killer.start()
        run = run_experiments(
            asked.experiments, out=out, executor=RayCluster(address), retries=2, **what
        )
        killer.join(30)
    print(f"ray: {len(run.computed)} cells in {run.seconds:.0f} s")
    for cell in run.retried:
        print(f"  {cell['cell']}: {cell['attempts']} attempts ({'; '.join(cell['errors'])})")

    same = json.dumps(local.claims) == json.dumps(run.claims)
    stored = [
        {state.cell: state.manifest["files"] for state in each.folder.states() if state.manifest}
        for each in (local, run)
    ]
    print(f"cells: {'bit-identical' if stored[0] == stored[1] else 'DIFFERENT BITS'}")
    print(f"claims: {'bit-identical' if same else 'DIFFERENT'} ({run.verdicts()})")
    return 0 if same and stored[0] == stored[1] and run.retried else 1


if __name__ == "__main__":
    sys.exit(main())
