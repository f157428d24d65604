"""Tests of network faults over real sockets: a broken network, a broken server, a proxy."""

import asyncio
import datetime as dt
import gzip
import json
import socket
import ssl

import pytest
import trustme
from support.faults import RawServer, answering, both_engines, http_answer, nothing_left, tunnel
from support.sessions import endpoint

from iovox_async import (
    AsyncInsights,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    RateLimitError,
    RequestTimeout,
    RetryPolicy,
    ServerError,
    TLSError,
    TransportError,
)
from iovox_async._http import transport
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"
CALL = {"id": 30683207599876, "call_start": "2024-01-02 04:39:59"}
PAGE = json.dumps([CALL]).encode()
RESPONSE = http_answer(PAGE)


@pytest.fixture(autouse=True)
async def _nothing_is_left():
    async with nothing_left():
        yield


async def ids(insights):
    return [call.id for call in (await insights.page(START, END)).calls]


# Connecting.


@pytest.mark.fault(1)
@both_engines
async def test_a_refused_connection_is_retried_then_raised_with_its_address(open_session, clock):
    """Given a port nobody listens on, when a page is requested, then it is retried four times; the error names the address."""
    async with RawServer(answering(RESPONSE)) as server:
        closed = server.base_url
    async with open_session(closed) as insights:
        with pytest.raises(TransportError, match=r"cannot connect to the server.*after 5 attempts") as caught:
            await insights.page(call_origin="447598455773")
    assert len(clock.waits) == 4
    message = str(caught.value)
    assert f"cannot connect to the server at 127.0.0.1:{server.port} (" in message
    assert message.endswith(
        ". Check the address (base_url= or IOVOX_URL), the network, and the proxy if there is one."
    )
    assert "447598455773" not in message


@both_engines
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
@both_engines
async def test_a_server_that_starts_during_the_retries_is_reached(open_session, clock):
    """Given a server that starts after the first attempt, when a page is requested, then it is returned."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def wait_and_start(seconds):
        clock.now += seconds
        if not servers:
            servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        writer.close()

    servers = []
    insights = open_session(f"http://127.0.0.1:{port}/rest/v1", sleep=wait_and_start)
    async with insights:
        assert await ids(insights) == [CALL["id"]]
    servers[0].close()


@pytest.mark.fault(1)
@both_engines
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
@both_engines
async def test_a_silent_server_ends_in_a_timeout(open_session):
    """Given a server that accepts connections only, when a page is requested with or without TLS, then RequestTimeout is raised."""

    async def mute(connection):
        await connection.reader.read()

    async with RawServer(mute) as server:
        for base_url in (server.base_url, server.base_url.replace("http:", "https:")):
            async with open_session(base_url, timeout=0.05, retry=RetryPolicy(max_attempts=2)) as insights:
                with pytest.raises(RequestTimeout, match=r"0\.05 seconds.*2 attempts"):
                    await insights.page()
        assert server.connections <= 4


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def trusting(authority, monkeypatch):
    """Makes the SSL context of the process trust the authority of these tests."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr(transport, "_ssl_context", context)


CERTIFICATES = {
    "self-signed": (False, {}, "self-signed|unable to get local issuer"),
    "expired": (True, {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired"),
    "another host's": (True, {"name": "other.example"}, "not valid for '127.0.0.1'"),
}


@pytest.mark.fault(2)
@both_engines
@pytest.mark.parametrize(("trusted", "options", "message"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_an_untrusted_certificate_is_not_retried_and_gets_no_request(
    trusted, options, message, authority, open_session, request
):
    """Given an invalid certificate, when a page is requested, then TLSError is raised at once, and no request was sent."""
    if trusted:
        request.getfixturevalue("trusting")
    options = {"name": "127.0.0.1", **options}
    context = server_context(authority.issue_cert(options.pop("name"), **options))
    async with RawServer(answering(RESPONSE), tls=context) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TLSError, match=message) as caught:
                await insights.page()
    assert caught.value.attempts == 1
    assert server.inbox == []


@pytest.mark.fault(2)
@both_engines
@pytest.mark.usefixtures("trusting")
async def test_a_trusted_certificate_is_accepted(authority, open_session):
    """Given a certificate of a trusted authority, when a page is requested, then it is returned."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with (
        RawServer(answering(RESPONSE), tls=context) as server,
        open_session(server.base_url) as insights,
    ):
        assert await ids(insights) == [CALL["id"]]


@pytest.mark.fault(3)
@both_engines
@pytest.mark.usefixtures("trusting")
async def test_an_interrupted_handshake_is_retried(authority, open_session):
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
        async with open_session(f"https://127.0.0.1:{front.port}/rest/v1") as insights:
            assert await ids(insights) == [CALL["id"]]
        assert front.connections == 3


@pytest.mark.fault(66)
@pytest.mark.usefixtures("_no_settings_from_outside")
async def test_ssl_cert_file_and_sslkeylogfile_are_ignored(authority, monkeypatch, tmp_path, open_session):
    """Given SSL_CERT_FILE and SSLKEYLOGFILE, when a page is requested, then neither is used."""
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setattr(transport, "_ssl_context", None)
    context = transport.ssl_context()
    certificate = server_context(authority.issue_cert("127.0.0.1"))
    async with RawServer(answering(RESPONSE), tls=certificate) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TLSError):
                await insights.page()
        authority.configure_trust(context)
        async with open_session(server.base_url) as insights:
            assert await ids(insights) == [CALL["id"]]
    assert context.keylog_filename is None
    assert not any("SECRET" in path.read_text() for path in tmp_path.glob("keys"))


# HTTP.


@pytest.mark.fault(4)
@both_engines
async def test_a_closed_idle_connection_costs_no_attempt_and_no_wait(open_session, clock):
    """Given a server that closes idle connections, when pages are requested one by one, then each is returned without a wait."""

    async def one_response(connection):
        await connection.request()
        await connection.send(RESPONSE)
        # The next request is read, and gets no response.
        await connection.request()

    async with RawServer(one_response) as server:
        async with open_session(server.base_url, retry=RetryPolicy(max_attempts=1)) as insights:
            assert [await ids(insights) for _ in range(4)] == [[CALL["id"]]] * 4
        assert server.connections == 4
    assert clock.waits == []


MALFORMED = {
    "a header of 200 KB": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n[]",
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n[]",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n[]",
    "two lengths that differ": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n[]",
    "a length of letters": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n[]",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n[]",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n[]\r\n0\r\n\r\n",
}


@pytest.mark.fault(13)
@both_engines
@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_response_that_is_not_http_is_retried_once(data, open_session):
    """Given bytes that are not HTTP, when a page is requested, then it is retried once; the error shows none of the bytes."""
    async with RawServer(answering(data)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TransportError, match="is not HTTP") as caught:
                await insights.page()
        assert caught.value.attempts == 2
        assert len(server.inbox) == 2
    assert "yyy" not in str(caught.value)
    assert len(str(caught.value)) < 200


async def test_an_unknown_transfer_encoding_is_not_http(open_session):
    """Given an unknown transfer encoding, when a page is requested through httpx, then the response is rejected as not HTTP."""
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: zip\r\n\r\n[]"
    async with RawServer(answering(data)) as server, open_session(server.base_url) as insights:
        with pytest.raises(TransportError, match="is not HTTP") as caught:
            await insights.page()
    assert caught.value.attempts == 2


@pytest.mark.fault(13)
@both_engines
@pytest.mark.parametrize("endless", [False, True], ids=["then a response", "endless"])
async def test_a_flood_of_100_continue_is_skipped_or_ends_at_the_deadline(endless, open_session):
    """Given many interim responses, when a page is requested, then they are skipped; if they never end, it times out."""

    async def flood(connection):
        await connection.request()
        while endless:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
            await asyncio.sleep(0)
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + RESPONSE)

    async with RawServer(flood) as server:
        options = {"timeout": 0.15, "retry": RetryPolicy(max_attempts=1)} if endless else {}
        async with open_session(server.base_url, **options) as insights:
            if endless:
                with pytest.raises(RequestTimeout):
                    await insights.page()
            else:
                assert await ids(insights) == [CALL["id"]]


def truncated(*blocks, reset=False):
    """A handler whose first response ends after these blocks; later responses are complete."""

    async def handler(connection):
        while await connection.request() is not None:
            if connection.number > 1:
                await connection.send(RESPONSE)
                continue
            for block in blocks:
                await connection.send(block)
                await asyncio.sleep(0.001)
            if reset:
                connection.reset()
            return

    return handler


HEAD = b"HTTP/1.1 200 OK\r\n"
HALF = PAGE[: len(PAGE) // 2]
GZIP = gzip.compress(PAGE)
GZIP_HEAD = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
TRUNCATED = {
    "in the status line": truncated(b"HTTP/1.1 20"),
    "in the headers": truncated(HEAD + b"content-le"),
    "after the headers": truncated(HEAD + b"content-length: 50\r\n\r\n"),
    "a length not met": truncated(HEAD + b"content-length: 500\r\n\r\n", PAGE),
    "chunks without an end": truncated(
        HEAD + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(PAGE), PAGE)
    ),
    "a body without a length": truncated(HEAD + b"\r\n", HALF),
    "a reset before the answer": truncated(reset=True),
    "a reset in the middle": truncated(HEAD + b"content-length: 500\r\n\r\n", PAGE, reset=True),
    "gzip truncated": truncated(GZIP_HEAD % 40 + GZIP[:40]),
    "gzip without its trailer": truncated(GZIP_HEAD % (len(GZIP) - 8) + GZIP[:-8]),
    "gzip with a wrong checksum": truncated(GZIP_HEAD % len(GZIP) + GZIP[:-8] + b"\0" * 8),
    "a second member truncated": truncated(GZIP_HEAD % (len(GZIP) + 12) + GZIP + GZIP[:12]),
    "nothing at all in a 200": truncated(http_answer(b"")),
}


@pytest.mark.fault(5, 6, 7)
@both_engines
@pytest.mark.parametrize("handler", TRUNCATED.values(), ids=TRUNCATED.keys())
async def test_a_truncated_response_is_detected_and_retried(handler, open_session):
    """Given a response truncated anywhere, when a page is requested, then it is discarded and requested again."""
    async with RawServer(handler) as server, open_session(server.base_url) as insights:
        assert await ids(insights) == [CALL["id"]]
        assert len(server.inbox) == 2


@pytest.mark.fault(8)
@both_engines
async def test_every_member_of_a_gzip_body_is_decoded(open_session):
    """Given a gzip body of several members, when a page is requested, then all are decoded."""
    body = b"".join(gzip.compress(PAGE[offset : offset + 7]) for offset in range(0, len(PAGE), 7))
    response = http_answer(body, b"200 OK", b"content-encoding: gzip")
    async with RawServer(answering(response)) as server, open_session(server.base_url) as insights:
        assert await ids(insights) == [CALL["id"]]


@pytest.mark.fault(10)
@both_engines
@pytest.mark.parametrize(
    "encoding", [b"br", b"gzip, gzip", b"gzip, gzip, gzip, gzip, gzip, gzip", b"deflate"]
)
async def test_an_unrequested_encoding_is_rejected_without_a_retry(encoding, open_session):
    """Given an encoding other than gzip, when a stream is read, then DecodeError is raised after one request."""
    response = http_answer(b"x", b"200 OK", b"content-encoding: " + encoding)
    async with RawServer(answering(response)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match="only gzip was accepted") as caught:
                await insights.stream(START, END).collect()
        assert caught.value.attempts == len(server.inbox) == 1


BOMBS = {
    "a bomb": gzip.compress(b" " * 50_000_000, 9),
    "a bomb of empty members": gzip.compress(b"") * 60_000,
}


@pytest.mark.fault(9)
@both_engines
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS.keys())
async def test_a_decompression_bomb_is_stopped_and_not_retried(body, open_session):
    """Given a body that exceeds the size limit when decoded, when a page is requested, then reading stops, and it is not retried."""
    bomb = http_answer(body, b"200 OK", b"content-encoding: gzip")
    async with RawServer(answering(bomb)) as server, open_session(server.base_url) as insights:
        endpoint(insights)._max_body_bytes = 1_000_000
        with pytest.raises(DecodeError, match="larger than 1000000 bytes") as caught:
            await insights.page()
        assert caught.value.attempts == len(server.inbox) == 1


@pytest.mark.fault(9)
@both_engines
async def test_a_window_whose_page_is_too_large_is_split(open_session):
    """Given a size limit below a page's size, when a stream is read, then its windows are split, and no call is lost."""
    sandbox = Sandbox(calls=600, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        endpoint(insights)._max_body_bytes = 80_000
        stream = insights.stream(START, END, page_size=500)
        assert [call.id async for call in stream] == sandbox.ids()
        assert stream.stats.window_splits in {1, 2}


@pytest.mark.fault(26)
@both_engines
async def test_an_error_with_an_endless_body_is_raised_by_its_status(open_session, monkeypatch):
    """Given an error body that is huge or never ends, when a page is requested, then the error has the status and the first text."""
    monkeypatch.setattr(transport, "ERROR_BODY_SECONDS", 0.2)

    async def endless(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no")
        # The first connection gets nothing more, the second 10 MB.
        await connection.send(b" and no" * 1_500_000 * (connection.number - 1))
        await connection.reader.read()

    async with RawServer(endless) as server, open_session(server.base_url) as insights:
        for _ in range(2):
            with pytest.raises(BadRequestError, match="HTTP 400: no") as caught:
                await insights.page()
            assert caught.value.attempts == 1
            assert len(str(caught.value)) < 500


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
    proxy = endpoint(insights)._proxy
    assert (None if proxy is None else str(proxy.url)) == used


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


# Many callers.


@pytest.mark.fault(53)
@both_engines
async def test_many_callers_are_served_in_order(open_session):
    """Given 150 callers and 4 slots, when all request a page, then requests are sent in order, without a pool timeout."""
    numbers = []

    async def handler(connection):
        while (head := await connection.request()) is not None:
            numbers.append(int(head.partition(b"iovox_number=")[2].partition(b"&")[0]))
            await connection.send(http_answer())

    async with RawServer(handler) as server, open_session(server.base_url, concurrency=4) as insights:
        callers = [insights.page(START, END, iovox_number=str(1000 + index)) for index in range(150)]
        await asyncio.gather(*callers)
        assert server.connections <= 4
    assert all(abs(position - (number - 1000)) <= 8 for position, number in enumerate(numbers))


@both_engines
async def test_a_long_retry_after_is_raised_with_its_length(open_session, clock):
    """Given a Retry-After above the maximum, when a stream is read, then the error has its length, and nothing is retried."""
    answer = http_answer(b"", b"429 Too Many Requests", b"retry-after: 3600")
    async with RawServer(answering(answer)) as server, open_session(server.base_url) as insights:
        with pytest.raises(RateLimitError, match="3600 seconds") as caught:
            await insights.stream(START, END).collect()
        assert caught.value.retry_after == 3600.0
        assert len(server.inbox) == 1
    assert clock.waits == []
