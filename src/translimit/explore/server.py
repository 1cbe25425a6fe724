"""Serving the page on this machine: marimo's application behind a socket of our own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from translimit.core import ConfigError, MissingExtraError, cause_of
from translimit.describe import public_model
from translimit.explore.guard import TOKEN, Guard
from translimit.explore.view import View

NOTEBOOK = Path(__file__).with_name("notebook.py")
HOST = "127.0.0.1"


def serve(
    config: str | Path | None = None,
    *,
    port: int = 8765,
    browser: bool = True,
    ahead: bool = True,
    announce: Callable[[str], object] = print,
) -> None:
    """Serve the page until it is interrupted.

    Only this machine can reach it, only who has the printed address can open it (see
    `explore.guard`), and the page asks nothing of any other.

    Args:
        config: an architecture to start from: a `config.json`, a file of our own format, the name
            of a public model, or sizes as `heads=12,head_dim=64,layers=12`.
        port: where to listen; 0 takes a free one.
        browser: whether to open a browser.
        ahead: whether to compile the programs of all panels while the page is read.
        announce: is called with the address once the page can be opened; the address holds a
            token, which the page takes out of it.

    Raises:
        MissingExtraError: marimo is not installed.
        ConfigError: a port that is taken, a configuration that is not understood.
    """
    query = view_of(config).to_query()
    listener = _listen(port)
    try:  # last: a process that has loaded marimo counts as a notebook for other libraries
        import marimo
        import uvicorn
    except ImportError:
        listener.close()
        raise MissingExtraError("marimo", "explore") from None
    from translimit.explore import page, warm

    builder = marimo.create_asgi_app(quiet=True, html_head=page.head())
    guard = Guard(builder.with_app(path="", root=str(NOTEBOOK)).build())
    address = f"http://{HOST}:{listener.getsockname()[1]}/?{TOKEN}={guard.token}"
    address += f"&{query}" if query else ""
    # An open page holds a connection: without a limit, Ctrl-C would wait for the browser.
    settings = uvicorn.Config(guard, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    if ahead:
        warm.start()
    announce(address)
    if browser:
        import webbrowser

        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def view_of(config: str | Path | None) -> View:
    """The view to start from."""
    if config is None:
        return View()
    if public_model(config) is not None:
        return View().described_by(str(config).lower())
    if "=" in str(config) and not Path(config).exists():  # sizes alone
        return View().described_by(str(config))
    try:
        text = Path(config).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(config),
            f"cannot be read ({cause_of(error)})",
            "pass a readable .toml or .json file",
        ) from None
    return View().described_by(text)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # from now on the address can be opened: who comes early waits
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            "--port",
            f"{port} cannot be listened on ({cause_of(error)})",
            "pass another, or 0 for a free one",
        ) from None
    return listener
