"""Requests of strangers over real sockets: other hosts, other origins, no cookie, no token."""

import http.client
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from translimit.explore.guard import TOKEN, Guard, is_own

uvicorn = pytest.importorskip("uvicorn", reason="the explorer's server is not installed")
MARIMO = importlib.util.find_spec("marimo") is not None  # not loaded: it changes other libraries
SECRET = "what only the page may read"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def page(scope, receive, send):
    """An application that tells its secret to whoever reaches it."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": SECRET.encode()})


class Client:
    """A server's address, and requests with headers of one's own."""

    def __init__(self, port: int, token: str):
        self.port, self.token = port, token
        self.own = f"127.0.0.1:{port}"

    def ask(self, target="/", host=None, method="GET", **headers):
        """Status, body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        if host != "":
            connection.putheader("Host", host or self.own)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = "" if answer.status == 101 else answer.read().decode()
        connection.close()
        return answer.status, body, dict(answer.getheaders())

    def shake(self, target="/ws", host=None, **headers):
        """The status of a websocket's handshake: 101 where it is accepted."""
        return self.ask(target, host, **{**UPGRADE, **headers})[0]

    def enter(self):
        """The cookie that the printed address sets."""
        _, _, headers = self.ask(f"/?{TOKEN}={self.token}")
        return headers["set-cookie"].partition(";")[0]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A guarded server in a thread."""
    guard = Guard(page)
    server = uvicorn.Server(uvicorn.Config(guard, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Client(server.servers[0].sockets[0].getsockname()[1], guard.token)
    server.should_exit = True
    thread.join()


HOSTS = ["evil.example", "evil.example:{port}", "", "127.0.0.1.evil.example", "localhost.evil", "0"]
HOSTS += ["evil@127.0.0.1:{port}", "127.0.0.1:{port}:1", "127.0.0.1:99999", "[::1]:{port}", "::1"]
ORIGINS = ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:{port}", ""]
ORIGINS += ["https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example", "file://"]


@pytest.mark.parametrize("host", HOSTS)
def test_other_hosts_are_refused_even_with_the_cookie_and_the_token(client, host):
    host = host.format(port=client.port)
    cookie = client.enter()
    for target in ("/", f"/?{TOKEN}={client.token}"):
        status, body, headers = client.ask(target, host, Cookie=cookie)
        assert status in (400, 403)  # 400: what the server itself does not take for HTTP
        assert SECRET not in body
        assert "set-cookie" not in headers
    assert client.shake(host=host, Cookie=cookie) in (400, 403)


@pytest.mark.parametrize("origin", ORIGINS)
def test_other_origins_are_refused_even_with_the_cookie_and_the_token(client, origin):
    origin = origin.format(port=client.port)
    cookie = client.enter()
    for target in ("/", f"/?{TOKEN}={client.token}"):
        for method in ("GET", "POST", "OPTIONS"):
            status, body, headers = client.ask(target, method=method, Cookie=cookie, Origin=origin)
            assert status == 403
            assert SECRET not in body
            assert not {"set-cookie", "access-control-allow-origin"} & set(headers)
    assert client.shake(Cookie=cookie, Origin=origin) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_page_makes_the_browser_ask_is_refused(client, site):
    cookie = client.enter()
    assert client.ask(Cookie=cookie, Sec_Fetch_Site=site)[0] == 403
    assert client.shake(Cookie=cookie, Sec_Fetch_Site=site) == 403
    # A terminal in a browser is another site, and its link holds the token.
    assert client.ask(f"/?{TOKEN}={client.token}", Sec_Fetch_Site=site)[0] == 200


def test_without_cookie_or_token_nothing_is_served(client):
    for target in ("/", "/?heads=4", "/api/kernel/run", f"/?{TOKEN}=", f"/?{TOKEN}=wrong", "//"):
        for cookie in ("", "session=1", client.enter()[:-1], client.enter().split("=")[0]):
            status, body, _ = client.ask(target, Cookie=cookie)
            assert (status, SECRET in body) == (401, False)
            assert client.shake(target, Cookie=cookie) == 403
    assert client.ask(f"/?{TOKEN}={client.token}", method="POST")[0] == 401
    assert client.shake(f"/?{TOKEN}={client.token}") == 403


def test_the_printed_address_sets_a_strict_cookie_and_loses_its_token(client):
    status, body, headers = client.ask(f"/?{TOKEN}={client.token}&heads=4&panel=%3Cb%3E%22")
    assert status == 200
    assert client.token not in body
    (target,) = re.findall(r'content="0;url=([^"]*)"', body)
    assert target == "/?heads=4&amp;panel=%3Cb%3E%22"
    words = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(words[1:])
    assert client.token not in headers["set-cookie"]
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


def test_an_address_with_a_token_loses_it_also_where_the_cookie_is_there(client):
    """Opened again, or from another start of the command: the page must not see a token."""
    for token in (client.token, "of-another-start"):
        status, body, _ = client.ask(f"/?{TOKEN}={token}&heads=4", Cookie=client.enter())
        assert status == 200
        assert SECRET not in body
        assert 'content="0;url=/?heads=4"' in body


def test_the_page_itself_may_ask(client):
    cookie = client.enter()
    for host in (client.own, f"localhost:{client.port}", "localhost:9000", "127.0.0.1"):
        for extra in ({}, {"Origin": f"http://{host}"}, {"Sec_Fetch_Site": "same-origin"}):
            assert client.ask("/?heads=4", host, Cookie=cookie, **extra)[:2] == (200, SECRET)
            assert client.shake(host=host, Cookie=f'a="; {cookie}; b=1', **extra) == 101


def test_two_servers_have_secrets_of_their_own():
    one, two = Guard(page), Guard(page)
    assert one.token != two.token
    assert len({*vars(one).values(), *vars(two).values()}) == 2 * len(vars(one)) - 1


def test_a_header_that_comes_twice_is_none():
    assert is_own({"host": "localhost:1"})
    assert not is_own({"host": "localhost:1; localhost:1"})
    assert not is_own({})


@pytest.mark.skipif(not MARIMO, reason="marimo is not installed: the explorer was not started")
def test_the_explorer_is_guarded_and_its_own_page_opens():
    """The real server: what is printed opens it, and strangers reach neither page nor kernel."""
    code = "from translimit.explore import serve; serve(port=0, browser=False, ahead=False)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ},
    )
    try:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        name, _, token = address.query.partition("=")
        assert (address.hostname, name) == ("127.0.0.1", TOKEN)
        assert address.port is not None
        client = Client(address.port, token)
        assert client.ask()[0] == 401
        assert client.shake("/ws?session_id=s1") == 403
        cookie = client.enter()
        assert client.ask(Cookie=cookie, host="evil.example")[0] == 403
        assert client.shake("/ws?session_id=s1", Cookie=cookie, Origin="http://evil.example") == 403
        status, body, _ = client.ask(Cookie=cookie)
        assert status == 200
        assert "translimit explore" in body
        assert token not in body
        own = f"http://{client.own}"
        assert client.shake("/ws?session_id=s1", Cookie=cookie, Origin=own) == 101
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
