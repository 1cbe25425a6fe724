"""Who may ask the page's server: the person who started it, from this machine, from this page.

A server on the loopback interface can be reached by every page that a browser shows. What a request
must bring is therefore checked before marimo sees it, for HTTP and for websockets alike:

- its Host names the loopback interface (against names of others that are made to point here);
- its Origin, where a browser sends one, is the host that it asks (against pages of other sites and
  of other servers on this machine), and so says Sec-Fetch-Site;
- a cookie that only the address printed in the terminal sets. The token of that address is taken
  out of it at once, so that no link to the page, and no bookmark, holds it.
"""

from __future__ import annotations

import hmac
import html
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

#: The names of the loopback interface; any port, which a tunnel may change.
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
#: The word of the printed address that holds the token.
TOKEN = "token"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_STRANGER = "This page answers only to itself, on this machine.\n"
_NO_COOKIE = "Open the address that `translimit explore` printed in the terminal.\n"
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """An ASGI application in front of another one; see the module's docstring.

    Args:
        app: what is served to those who may ask.

    Attributes:
        token: the secret of the printed address.
    """

    def __init__(self, app: Application):
        self._app = app
        self.token = secrets.token_urlsafe(32)
        # Cookies do not tell ports apart: each server has a name and a secret of its own.
        self._cookie = f"translimit_{secrets.token_hex(8)}"
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may ask; refuse the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        known, tokens = self._has_cookie(headers), _tokens(scope)
        if not is_own(headers):
            await _refuse(scope, receive, send, 403, _STRANGER)
        elif tokens and (known or any(_equal(one, self.token) for one in tokens)):
            await self._enter(scope, send)
        elif known:
            # A page of another server on this machine may send the cookie along, and says so.
            if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
                await self._app(scope, receive, send)
            else:
                await _refuse(scope, receive, send, 403, _STRANGER)
        else:
            await _refuse(scope, receive, send, 401, _NO_COOKIE)

    def _has_cookie(self, headers: MutableMapping[str, str]) -> bool:
        """Whether the request comes from a browser that has opened the printed address."""
        # Not parsed by the standard library, which gives up at a malformed cookie of somebody else.
        pairs = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
        return any(
            name == self._cookie and _equal(value, self._session) for name, _, value in pairs
        )

    async def _enter(self, scope: Scope, send: Send) -> None:
        """Set the cookie, and go on to the same view without the token.

        A page that goes on, and not a redirect: the request after a redirect would count as one of
        the site whose link was followed, and a strict cookie would not come along.
        """
        view = urlencode([(name, value) for name, value in _query(scope) if name != TOKEN])
        target = html.escape(f"/?{view}" if view else "/", quote=True)
        body = (
            "<!doctype html><title>translimit explore</title>"
            f'<meta http-equiv="refresh" content="0;url={target}">'
            f'<p><a href="{target}">translimit explore</a></p>'
        )
        cookie = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 200, body, "text/html", {"set-cookie": cookie})


def is_own(headers: MutableMapping[str, str]) -> bool:
    """Whether a request asks the loopback interface, and comes from no page of another origin.

    Args:
        headers: by lower-case name.
    """
    host = headers.get("host", "")
    if not _is_loopback(host):
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"http://{host}"


def _is_loopback(host: str) -> bool:
    """Whether a Host header is a name of the loopback interface, with a port or without."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return False
    name = parts.hostname or ""
    return name in LOOPBACK and host in (name, f"{name}:{port}")


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; of one that comes twice both, which is then none that fits."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}; {text}" if key in found else text
    return found


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _tokens(scope: Scope) -> list[str]:
    """The tokens of an address that is opened: a printed one has one."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return []
    return [value for name, value in _query(scope) if name == TOKEN]


def _equal(given: str, secret: str) -> bool:
    """Compared in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    """A sentence for HTTP; for a websocket no handshake."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, status, why, "text/plain", {})


async def _answer(
    send: Send, status: int, body: str, kind: str, headers: MutableMapping[str, str]
) -> None:
    content = body.encode()
    said = {
        **_HEADERS,
        **headers,
        "content-type": f"{kind}; charset=utf-8",
        "content-length": str(len(content)),
    }
    lines = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": content})
