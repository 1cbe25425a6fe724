"""A run that the command line has made, for the files of this room."""

from collections.abc import Callable
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.execute import job_environment


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Callable[..., Path]:
    """Make a finished run of fake experiments in this process; its environment stays as it is."""

    def make(*experiments: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))
            path = tmp_path_factory.mktemp("runs") / "run"
            for name, value in job_environment(1).items():
                patch.setenv(name, value)
            words = ["run", *experiments, "--out", str(path), "--executor", "serial"]
            assert main(words) == 0
        return path

    return make
