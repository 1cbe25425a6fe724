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
from translimit.execute import Job, ProcessPool, job_environment

#: Compiles a small program that draws, factorises and sums; prints what was compiled anew, what was
#: found, and the bits.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
counts = {"compile_requests_use_cache": 0, "cache_hits": 0, "cache_misses": 0}
def count(name, **rest):
    last = name.rpartition("/")[2]
    if last in counts:
        counts[last] += 1
jax.monitoring.register_event_listener(count)
from translimit import keep_programs
from translimit.core import in_float64
folder = keep_programs() if sys.argv[1] == "keep" else None
@jax.jit
def program(scale):
    normal = jax.random.normal(jax.random.key(1), (300, 40), float)
    return jnp.sin(scale * jnp.linalg.cholesky(normal.T @ normal)).sum(axis=0)
bits = in_float64(program, 0.7).tobytes().hex()
if len(sys.argv) > 2:
    # diffrax checks the times of a solve, and `solve` checks what became of it.
    from translimit import limits, solve
    from translimit.attention import Softmax
    eye = jax.numpy.eye(2)
    def flow(cloud):
        attention = Softmax(Q=eye, K=eye, V=eye)
        problem = limits.meanfield.ParticleFlow(attention=attention, initial=cloud, t1=0.1)
        return solve(problem, limits.meanfield.FixedODE(steps=2), save=[0.1]).tokens
    bits += jax.jit(flow)(jnp.ones((3, 2)) * jnp.arange(3)[:, None]).tobytes().hex()
print(json.dumps({"folder": folder and str(folder), "bits": bits, **counts}))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own, for this process and for those that it starts."""
    for name in ("JAX_COMPILATION_CACHE_DIR", programs.PROGRAMS_SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ran(*words, **environment):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *(words or ("keep",))]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_kept_program_gives_the_bits_of_a_fresh_one(home):
    fresh = ran("fresh")
    first, second = ran(), ran()
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
    assert ran()["bits"] == fresh["bits"]


def compiled(done):
    """Programs that were not found, those included that JAX does not keep."""
    return done["compile_requests_use_cache"] - done["cache_hits"]


def test_the_programs_of_a_job_call_no_python_and_are_kept(home):
    job = job_environment(1)
    first, second = (ran("keep", "flow", **job) for _ in range(2))
    assert compiled(first) > compiled(second) == 0
    assert first["bits"] == second["bits"]
    # With equinox's own default the program of the flow is compiled in every process.
    raising = {**job, "EQX_ON_ERROR": "raise"}
    assert [compiled(ran("keep", "flow", **raising)) > 0 for _ in range(2)] == [True, True]


def test_importing_and_computing_keeps_nothing(home):
    ran("fresh")
    assert not home.exists()


def test_a_variable_and_a_flag_switch_it_off(home, monkeypatch):
    assert ran(TRANSLIMIT_PROGRAMS="off")["folder"] is None
    assert not home.exists()
    monkeypatch.setenv(programs.PROGRAMS_SWITCH, "")  # the flag sets it in its own process
    bad = home.parent / "bad.json"
    bad.write_text("{}")
    assert main(["predict", str(bad), "--no-cache"]) == 2
    assert os.environ[programs.PROGRAMS_SWITCH] == "off"
    assert not home.exists()


def test_the_users_own_folder_wins(home, tmp_path):
    own = str(tmp_path / "own")
    done = ran(JAX_COMPILATION_CACHE_DIR=own, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
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
        assert f"others can write to {place}" == kept_programs().status == programs._make(folder)
        place.chmod(0o700)
    home.chmod(0o777)
    assert ran()["folder"] is None
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
    assert ran()["folder"] is None


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


JOB = """
def compute():
    import jax.numpy as jnp
    return float(jnp.linalg.norm(jnp.arange(4.0)))
"""


def test_workers_keep_programs_as_the_process_that_starts_them(home, tmp_path, monkeypatch):
    (tmp_path / "a_job.py").write_text(JOB)
    monkeypatch.syspath_prepend(str(tmp_path))
    for on in (False, True):
        monkeypatch.setattr(programs, "_in_use", on)
        (done,) = ProcessPool(workers=1).run("a_job:compute", [Job("one")])
        assert done.value == pytest.approx(14**0.5)
        assert bool(list(home.rglob("*-cache"))) is on
    # Of one thread, as the worker's: programs of another number are others.
    assert {path.parent.name.rpartition("-")[2] for path in home.rglob("*-cache")} == {"1"}
