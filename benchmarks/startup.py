"""How long the first second takes: importing translimit and asking the command line for help.

Every time is the median over repeats of a fresh interpreter, set beside an interpreter that does
nothing and one that imports JAX. Run it as `python benchmarks/startup.py [REPEATS]`.
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import jax": ["-c", "import jax"],
    "import translimit": ["-c", "import translimit"],
    "every name of every room": [
        "-c",
        "import translimit\n"
        "for room in translimit.__all__:\n"
        "    module = getattr(translimit, room)\n"
        "    for name in getattr(module, '__all__', ()):\n"
        "        getattr(module, name)",
    ],
    "translimit --help": ["-m", "translimit", "--help"],
    "translimit list": ["-m", "translimit", "list"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    return time.perf_counter() - start


def main(repeats: int = 7) -> None:
    """Print the table, after one unmeasured round that fills the file caches."""
    for arguments in COMMANDS.values():
        seconds(arguments)
    # Rounds, not blocks: a slow minute of the machine then falls on every row.
    rounds = [
        {name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(repeats)
    ]
    medians = {name: statistics.median(row[name] for row in rounds) for name in COMMANDS}
    nothing, jax = medians["python -c pass"], medians["import jax"]
    print(f"{'':26}{'seconds':>9}{'/ nothing':>11}{'/ import jax':>14}   (median of {repeats})")
    for name, median in medians.items():
        print(f"{name:26}{median:9.3f}{median / nothing:11.1f}{median / jax:14.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
