"""What the command refuses, in one line each, before anything is served."""

import importlib.util
import json
import socket
import sys
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.core import ConfigError
from translimit.explore import View
from translimit.explore.server import _listen, view_of

MARIMO = importlib.util.find_spec("marimo") is not None  # not loaded: it changes other libraries
pytestmark = pytest.mark.skipif(
    not MARIMO, reason="marimo is not installed: the explorer was not started"
)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explore", "--no-browser", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_a_configuration_that_is_not_there_or_not_understood(capsys, tmp_path: Path) -> None:
    assert "cannot be read" in refused(capsys, str(tmp_path / "absent.json"))
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "albert"}')
    assert "shares its weights" in refused(capsys, str(config))


def test_a_port_that_is_taken_or_is_none(capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"{port} cannot be listened on" in refused(capsys, "--port", str(port))
    assert "cannot be listened on" in refused(capsys, "--port", "70000")


def test_without_marimo_the_extra_is_named(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "marimo", None)
    assert "translimit[explore]" in refused(capsys, "--port", "0")


def test_a_file_sets_the_view(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sizes = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12}
    config.write_text(json.dumps(sizes))
    assert view_of(config) == View().described_by(json.dumps(sizes))
    assert view_of(None) == View()
    assert view_of("gpt2").config == "gpt2"
    with pytest.raises(ConfigError, match=r"--port: 99999 cannot be listened on \(.*\); pass ano"):
        _listen(99999)
    with pytest.raises(ConfigError, match="absent"):
        view_of(tmp_path / "absent.toml")
