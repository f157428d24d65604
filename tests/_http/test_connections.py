"""Tests of connecting over real sockets: addresses, TLS, proxies."""

import asyncio
import datetime as dt
import socket
import ssl

import pytest
import trustme
from support.faults import CALL, RESPONSE, RawServer, answering, every_engine, http_answer, tunnel
from support.sessions import endpoint, page_ids

from iovox_async import (
    AsyncInsights,
    BadRequestError,
    ConfigurationError,
    RequestTimeout,
    RetryPolicy,
    ServerError,
    TLSError,
    TransportError,
)
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


# Connecting.


@pytest.mark.fault(1)
@every_engine
@pytest.mark.finding("B10")
async def test_a_refused_connection_is_retried_then_raised_with_its_address(open_session, clock):
    """Given a port nobody listens on, when a page is requested, then it is retried for 10 seconds; the error names the address."""
    async with RawServer(answering(RESPONSE)) as server:
        closed = server.base_url
    async with open_session(closed) as insights:
        with pytest.raises(TransportError, match=r"unreachable for 10 seconds after \d+ attempts") as caught:
            await insights.page(call_origin="447598455773")
    assert 9 <= sum(clock.waits) <= 10
    assert caught.value.attempts == len(clock.waits) + 1 <= 40
    message = str(caught.value)
    assert f"cannot connect to the server at 127.0.0.1:{server.port} (" in message
    assert message.endswith(
        ". Check the address (base_url= or IOVOX_URL), the network, and the proxy if there is one."
    )
    assert "447598455773" not in message


@every_engine
@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://rest.iovox.test/rest/v1", "rest.iovox.test:443"),
        ("https://rest.iovox.test:8443/rest/v1", "rest.iovox.test:8443"),
        ("https://[2001:db8::1]/rest/v1", "[2001:db8::1]:443"),
    ],
    ids=["the scheme's port", "another port", "an address"],
)
async def test_an_unreachable_server_is_named_by_host_and_port(base_url, address, open_session, monkeypatch):
    """Given an unreachable server, when a page is requested, then the error has host and port, and no path, query or user."""

    def no_address(*_args, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    async def unreachable(*_args, **_options):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", unreachable)
    async with open_session(base_url, retry=RetryPolicy(max_attempts=1)) as insights:
        with pytest.raises(TransportError) as caught:
            await insights.page(START, END, call_origin="447598455773")
    message = str(caught.value)
    assert message.startswith(f"cannot connect to the server at {address} (")
    assert not [secret for secret in ("447598455773", "rest/v1", "demo") if secret in message]


async def test_an_unreachable_proxy_is_named_without_its_password(open_session):
    """Given an unreachable proxy, when a page is requested, then the error names server and proxy, without the password."""
    async with RawServer(answering(RESPONSE)) as server:
        port = server.port
    proxy = f"http://me:pr0xy-pass@127.0.0.1:{port}"
    async with open_session(proxy=proxy, retry=RetryPolicy(max_attempts=1)) as insights:
        with pytest.raises(TransportError) as caught:
            await insights.page(START, END)
    message = str(caught.value)
    assert f"at rest.iovox.test:443 through the proxy 127.0.0.1:{port} (" in message
    assert "pr0xy-pass" not in message


@pytest.mark.fault(1)
@every_engine
async def test_a_server_that_starts_during_the_retries_is_reached(open_session, clock):
    """Given a server that starts after the first attempt, when a page is requested, then it is returned."""
    bound = socket.socket()  # it does not listen yet, and nobody else can use its port
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]

    async def wait_and_start(seconds):
        clock.now += seconds
        if not servers:
            servers.append(await asyncio.start_server(serve, sock=bound))

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        writer.close()

    servers = []
    insights = open_session(f"http://127.0.0.1:{port}/rest/v1", sleep=wait_and_start)
    async with insights:
        assert await page_ids(insights) == [CALL["id"]]
    servers[0].close()


@pytest.mark.fault(1)
@every_engine
async def test_a_host_name_that_does_not_resolve_is_retried_then_raised(open_session, monkeypatch):
    """Given a host name without an address, when a page is requested, then it is retried; the error has the resolver's message."""
    hosts = []

    def no_address(host, *_args, **_options):
        hosts.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    async with open_session("https://nowhere.invalid/rest/v1", retry=RetryPolicy(max_attempts=3)) as insights:
        with pytest.raises(TransportError, match=r"cannot connect.*Name or service not known.*3 attempts"):
            await insights.page()
    assert len(hosts) == 3


@pytest.mark.fault(12)
@every_engine
async def test_a_silent_server_ends_in_a_timeout(open_session):
    """Given a server that accepts connections only, when a page is requested with or without TLS, then RequestTimeout is raised."""

    async def mute(connection):
        await connection.reader.read()

    async with RawServer(mute) as server:
        for base_url in (server.base_url, server.base_url.replace("http:", "https:")):
            async with open_session(base_url, timeout=0.05, retry=RetryPolicy(max_attempts=2)) as insights:
                with pytest.raises(RequestTimeout, match=r"0\.05 seconds.* attempts"):
                    await insights.page()


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def trusting(authority):
    """A context that trusts the authority of these tests."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


CERTIFICATES = {
    "self-signed": (False, {}, "self-signed|unable to get local issuer"),
    "expired": (True, {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired"),
    "another host's": (True, {"name": "other.example"}, "not valid for '127.0.0.1'"),
}


@pytest.mark.fault(2)
@every_engine
@pytest.mark.parametrize(("trusted", "options", "message"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_an_untrusted_certificate_is_not_retried_and_gets_no_request(
    trusted, options, message, authority, open_session, request
):
    """Given an invalid certificate, when a page is requested, then TLSError is raised at once, and no request was sent."""
    verify = request.getfixturevalue("trusting") if trusted else None
    options = {"name": "127.0.0.1", **options}
    context = server_context(authority.issue_cert(options.pop("name"), **options))
    async with RawServer(answering(RESPONSE), tls=context) as server:
        async with open_session(server.base_url, verify=verify) as insights:
            with pytest.raises(TLSError, match=message) as caught:
                await insights.page()
    assert caught.value.attempts == 1
    assert server.inbox == []


@pytest.mark.fault(2)
@every_engine
async def test_a_trusted_certificate_is_accepted(authority, trusting, open_session):
    """Given a certificate of a trusted authority, when a page is requested, then it is returned."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with (
        RawServer(answering(RESPONSE), tls=context) as server,
        open_session(server.base_url, verify=trusting) as insights,
    ):
        assert await page_ids(insights) == [CALL["id"]]


@pytest.mark.fault(3)
@every_engine
async def test_an_interrupted_handshake_is_retried(authority, trusting, open_session):
    """Given two interrupted TLS handshakes, when a page is requested, then the third succeeds."""
    context = server_context(authority.issue_cert("127.0.0.1"))

    async def broken_twice(connection):
        if connection.number <= 2:
            await connection.reader.read(100)
            if connection.number == 1:
                connection.reset()
            return
        await tunnel(connection, server.port)

    async with RawServer(answering(RESPONSE), tls=context) as server, RawServer(broken_twice) as front:
        async with open_session(f"https://127.0.0.1:{front.port}/rest/v1", verify=trusting) as insights:
            assert await page_ids(insights) == [CALL["id"]]
        assert front.connections == 3


# Proxies.


@pytest.mark.fault(17)
async def test_requests_pass_through_a_socks_proxy(open_session):
    """Given a SOCKS proxy, when a stream is read, then all calls arrive through it."""
    sandbox = Sandbox(calls=30, start=START, end=END)

    async def socks(connection):
        assert await connection.reader.readexactly(3) == b"\x05\x01\x00"
        await connection.send(b"\x05\x00")
        _, _, _, kind = await connection.reader.readexactly(4)
        assert kind == 1
        await connection.reader.readexactly(4)
        port = int.from_bytes(await connection.reader.readexactly(2))
        await connection.send(b"\x05\x00\x00\x01" + bytes(6))
        await tunnel(connection, port)

    async with sandbox.serve() as base_url, RawServer(socks) as proxy:
        async with open_session(base_url, proxy=f"socks5://127.0.0.1:{proxy.port}") as insights:
            assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()
        assert proxy.connections >= 1


@pytest.mark.fault(17)
async def test_a_socks_proxy_that_refuses_is_retried(open_session):
    """Given a SOCKS proxy that refuses the connection, when a page is requested, then it is retried, then TransportError is raised."""

    async def refuses(connection):
        await connection.reader.readexactly(3)
        await connection.send(b"\x05\x00")
        await connection.reader.readexactly(10)
        await connection.send(b"\x05\x05\x00\x01" + bytes(6))

    async with RawServer(refuses) as proxy:
        url = f"socks5://127.0.0.1:{proxy.port}"
        async with open_session("https://nowhere.invalid/rest/v1", proxy=url) as insights:
            with pytest.raises(TransportError, match="after 5 attempts"):
                await insights.page()
        assert proxy.connections == 5


PROXY_RESPONSES = {
    "407 to CONNECT": (
        "https://nowhere.invalid/rest/v1",
        b"407 Proxy Authentication Required",
        BadRequestError,
        1,
    ),
    "502 to CONNECT": ("https://nowhere.invalid/rest/v1", b"502 Bad Gateway", TransportError, 5),
    "407 without TLS": (
        "http://127.0.0.1:9/rest/v1",
        b"407 Proxy Authentication Required",
        BadRequestError,
        1,
    ),
    "502 without TLS": ("http://127.0.0.1:9/rest/v1", b"502 Bad Gateway", ServerError, 5),
}


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("base_url", "status", "kind", "attempts"), PROXY_RESPONSES.values(), ids=PROXY_RESPONSES.keys()
)
async def test_a_proxy_error_is_raised_for_407_and_retried_for_502(
    base_url, status, kind, attempts, open_session
):
    """Given a proxy that returns an error, when a page is requested, then 407 is raised at once, and 502 is retried."""
    async with RawServer(answering(http_answer(b"", status))) as proxy:
        async with open_session(base_url, proxy=f"http://127.0.0.1:{proxy.port}") as insights:
            with pytest.raises(kind) as caught:
                await insights.page()
        assert type(caught.value) is kind
        assert caught.value.attempts == attempts == len(proxy.inbox)
        if base_url.startswith("https"):
            assert all(b"demo-key" not in head for head in proxy.inbox)


async def _end(connection):
    """Closes the connection."""


async def _wait(connection):
    """Says nothing until the client closes the connection."""
    await connection.reader.read()


#: What a proxy does with a connection, or after it has agreed to open one to the server; and what the error says.
FAILING_PROXIES = {
    "closes": (b"", _end, "closed the connection without a response"),
    "no HTTP": (b"Welcome\r\n\r\n", _end, "the response is not HTTP"),
    "closes the tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", _end, "cannot connect to the server"),
    "a silent tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", _wait, "no complete response within 0.05 seconds"),
}


@pytest.mark.fault(17)
@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(("answer", "then", "message"), FAILING_PROXIES.values(), ids=FAILING_PROXIES.keys())
async def test_a_proxy_that_fails_is_named_and_takes_no_connection_of_the_session(
    answer, then, message, scheme, open_session
):
    """Given a proxy that ends or ignores its connections, when pages are requested, then each attempt reaches it, and errors name it."""

    async def fails(connection):
        if scheme == "socks5":
            await connection.reader.readexactly(3)
            await connection.send(b"\x05\x00" if answer.startswith(b"HTTP") else answer)
            if answer.startswith(b"HTTP"):
                await connection.reader.readexactly(10)
        else:
            await connection.reader.readuntil(b"\r\n\r\n")
            await connection.send(answer)
        await then(connection)

    retry = RetryPolicy(max_attempts=1)
    async with RawServer(fails) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        options = {"proxy": url, "retry": retry, "concurrency": 1, "timeout": 0.05 if then is _wait else 60}
        async with open_session("https://nowhere.invalid/rest/v1", **options) as insights:
            for number in (1, 2, 3):
                with pytest.raises(TransportError, match=message if scheme == "http" else None) as caught:
                    await insights.page()
                assert f"through the proxy 127.0.0.1:{proxy.port}" in str(caught.value)
                assert proxy.connections == number


def test_a_remote_proxy_requires_https():
    """Given a base_url with http, when a client is created with a remote proxy, then ConfigurationError is raised."""
    for proxy in ("http://proxy.example:3128", "socks5://10.0.0.1", "https://proxy.example"):
        with pytest.raises(ConfigurationError, match="unencrypted"):
            AsyncInsights("demo", "demo-key", base_url="http://127.0.0.1:1", proxy=proxy)


@pytest.mark.fault(66)
@pytest.mark.parametrize(
    ("base_url", "environment", "used"),
    [
        ("https://rest.iovox.test", {"HTTPS_PROXY": "http://one.example:1"}, "http://one.example:1"),
        ("https://rest.iovox.test", {"ALL_PROXY": "socks5://two.example:2"}, "socks5://two.example:2"),
        ("https://rest.iovox.test", {"HTTP_PROXY": "http://one.example:1"}, None),
        ("https://rest.iovox.test", {"HTTPS_PROXY": "http://one.example:1", "NO_PROXY": "iovox.test"}, None),
        ("http://127.0.0.1:9", {"HTTP_PROXY": "http://one.example:1"}, None),
    ],
    ids=["HTTPS_PROXY", "ALL_PROXY", "another scheme's", "NO_PROXY", "this machine"],
)
def test_proxy_environment_follows_the_usual_variables(base_url, environment, used, monkeypatch):
    """Given the usual proxy variables, when proxy="environment", then they apply with their exceptions, never for loopback."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    insights = AsyncInsights("demo", "demo-key", base_url=base_url, proxy="environment")
    assert endpoint(insights)._connections.proxy == used


@pytest.mark.fault(65)
def test_http_is_allowed_for_loopback_addresses_only():
    """Given a base_url with http, when its host only looks like loopback, then ConfigurationError is raised."""
    for host in (
        "127.evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "10.0.0.1",
    ):
        with pytest.raises(ConfigurationError, match="unencrypted"):
            AsyncInsights("demo", "demo-key", base_url=f"http://{host}/rest/v1")
    for host in ("127.0.0.1", "127.8.9.10:80", "localhost:1", "[::1]:5"):
        assert AsyncInsights("demo", "demo-key", base_url=f"http://{host}/rest/v1")
