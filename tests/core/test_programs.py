"""Compiled programs that are kept: where, under which conditions, and with which bits."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.core import clear_programs, kept_programs, programs

#: Prints what was compiled anew and what was found, and the bits of a small solve.
SOLVE = """
import json, sys
import jax, numpy as np
counts = {"cache_hits": 0, "cache_misses": 0}
def count(name, **rest):
    last = name.rpartition("/")[2]
    if last in counts:
        counts[last] += 1
jax.monitoring.register_event_listener(count)
from translimit import keep_programs, solve
from translimit.limits.shaped import Block, CovarianceSDE, StructurePreserving
folder = keep_programs() if sys.argv[1] == "keep" else None
sde = CovarianceSDE(block=Block(gamma=0.5, tau0=1.0), initial=np.eye(3), t1=0.2)
solution = solve(sde, StructurePreserving(paths=20), key=jax.random.key(1), save=[0.1, 0.2])
print(json.dumps({"folder": folder and str(folder), "bits": solution.cov.tobytes().hex(), **counts}))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own, for this process and for those that it starts."""
    for name in ("JAX_COMPILATION_CACHE_DIR", programs.PROGRAMS_SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def solved(word="keep", **environment):
    command = [sys.executable, "-W", "error", "-c", SOLVE, word]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_kept_program_gives_the_bits_of_a_fresh_one(home):
    fresh = solved("fresh")
    first, second = solved(), solved()
    assert (fresh["cache_misses"], fresh["cache_hits"]) == (0, 0)
    assert first["cache_misses"] > 0
    assert second["cache_misses"] == 0
    assert second["cache_hits"] == first["cache_misses"] + first["cache_hits"]
    assert fresh["bits"] == first["bits"] == second["bits"]
    folder = Path(first["folder"])
    assert folder.is_relative_to(home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    # A damaged file is compiled again, without a word and with the same bits.
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-7])
    assert solved()["bits"] == fresh["bits"]


def test_importing_and_solving_keeps_nothing(home):
    solved("fresh")
    assert not home.exists()


@pytest.mark.parametrize("word", ["off", "0", "no"])
def test_a_variable_switches_it_off(home, word):
    assert solved(TRANSLIMIT_PROGRAMS=word)["folder"] is None
    assert not home.exists()


def test_the_users_own_folder_wins(home, tmp_path):
    own = str(tmp_path / "own")
    done = solved(JAX_COMPILATION_CACHE_DIR=own, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert done["folder"] == own
    assert done["cache_misses"] > 0
    assert not home.exists()


def test_threads_and_kinds_of_processors_have_folders_of_their_own(home, monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", "3")
    three = programs.programs_folder()
    monkeypatch.setenv("PJRT_NPROC", "4")
    assert programs.programs_folder() != three
    four = programs.programs_folder()
    monkeypatch.setattr(programs, "_processor", lambda: "another")
    assert programs.programs_folder() != four


def test_a_folder_that_others_can_write_is_not_read(home):
    folder = programs.programs_folder()
    assert programs._make(folder) is None
    for place in (folder, folder.parent, folder.parent.parent):
        place.chmod(0o770)
        assert f"others can write to {place}" == kept_programs().status
        assert solved()["folder"] is None
        place.chmod(0o700)
    home.chmod(0o777)
    assert f"others can write to {home}" == kept_programs().status
    home.chmod(0o1777)  # as /tmp: others can add files and take none away
    assert kept_programs().status == "on"


def test_a_link_to_a_folder_of_others_is_not_read(home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    elsewhere.chmod(0o777)
    folder = programs.programs_folder()
    folder.parent.mkdir(parents=True, mode=0o700)
    folder.symlink_to(elsewhere)
    assert "others can write" in kept_programs().status


def test_a_cache_that_cannot_be_made_is_no_error(home, tmp_path):
    home.write_text("a file where the folder would be")
    assert solved()["folder"] is None


def test_the_size_is_bounded(home, monkeypatch):
    folder = programs.programs_folder()
    assert programs._make(folder) is None
    for number in range(5):
        file = folder / f"{number}-cache"
        file.write_bytes(bytes(100))
        os.utime(file, (1000.0 + number, 1000.0 + number))
    monkeypatch.setattr(programs, "MOST_BYTES", 250)
    programs._bound(programs.programs_root())
    assert sorted(file.name for file in folder.iterdir()) == ["3-cache", "4-cache"]
    (folder / "5-cache").write_bytes(bytes(100))
    programs._bound(programs.programs_root())  # looked at a moment ago
    assert len(list(folder.iterdir())) == 3


def test_the_command_says_where_and_how_large_and_empties_it(home, capsys):
    folder = programs.programs_folder()
    assert programs._make(folder) is None
    (folder / "one-cache").write_bytes(bytes(2**20))
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert f"folder: {folder}" in out
    assert "kept: 1 files, 1.0 MiB" in out
    assert main(["cache", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["programs"], told["size"]) == ("on", 1, 2**20)
    assert main(["cache", "--clear"]) == 0
    assert "removed: 1 files" in capsys.readouterr().out
    assert not folder.exists()
    assert clear_programs().programs == 0


def test_workers_of_a_command_keep_programs_too(home, tmp_path):
    command = [sys.executable, "-m", "translimit", "run", "castin2025/blow-up-times"]
    command += ["--preset", "demo", "--workers", "1"]
    for word, kept in (("--no-cache", False), ("--retries=0", True)):
        out = ["--out", str(tmp_path / word)]
        subprocess.run([*command, *out, word], check=True, capture_output=True)
        one = [path.name for path in home.rglob("*-cache")]
        assert bool(one) is kept
    assert {path.parent.name[-2:] for path in home.rglob("*-cache")} == {"-1"}  # one thread a cell
