"""Faults of the wire, over real sockets: what a broken network, a broken server or a proxy can do, and what becomes of it."""

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
from iovox_async._http import transport as room
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"
CALL = {"id": 30683207599876, "call_start": "2024-01-02 04:39:59"}
PAGE = json.dumps([CALL]).encode()
RIGHT = http_answer(PAGE)


@pytest.fixture(autouse=True)
async def _nothing_is_left():
    async with nothing_left():
        yield


async def ids(insights):
    return [call.id for call in (await insights.page(START, END)).calls]


# Before a connection stands.


@pytest.mark.fault(1)
@both_engines
async def test_a_refused_connection_is_tried_again_and_then_named(open_session, clock):
    """Nothing was sent, so it may be sent again; five attempts, four waits, one typed error."""
    async with RawServer(answering(RIGHT)) as server:
        closed = server.base_url
    async with open_session(closed) as insights:
        with pytest.raises(TransportError, match=r"no connection to the server.*after 5 attempts") as caught:
            await insights.page(call_origin="447598455773")
    assert len(clock.waits) == 4
    told = str(caught.value)
    assert f"no connection to the server at 127.0.0.1:{server.port} (" in told
    assert told.endswith(
        ". Check the address (base_url= or IOVOX_URL), the network, and the proxy if there is one."
    )
    assert "447598455773" not in told


@both_engines
@pytest.mark.parametrize(
    ("base_url", "place"),
    [
        ("https://rest.iovox.test/rest/v1", "rest.iovox.test:443"),
        ("https://rest.iovox.test:8443/rest/v1", "rest.iovox.test:8443"),
        ("https://[2001:db8::1]/rest/v1", "[2001:db8::1]:443"),
    ],
    ids=["the scheme's port", "another port", "an address"],
)
async def test_a_server_that_cannot_be_reached_is_named_by_host_and_port(
    base_url, place, open_session, monkeypatch
):
    """It shows a misspelt address; nothing of the path, the question or the account stands there."""

    def no_address(*_args, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    async def no_way(*_args, **_options):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", no_way)
    async with open_session(base_url, retry=RetryPolicy(max_attempts=1)) as insights:
        with pytest.raises(TransportError) as caught:
            await insights.page(START, END, call_origin="447598455773")
    told = str(caught.value)
    assert told.startswith(f"no connection to the server at {place} (")
    assert not [secret for secret in ("447598455773", "rest/v1", "demo") if secret in told]


async def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(open_session):
    """Which of the two is down, the error cannot say; so it names both."""
    async with RawServer(answering(RIGHT)) as server:
        port = server.port
    proxy = f"http://me:pr0xy-pass@127.0.0.1:{port}"
    async with open_session(proxy=proxy, retry=RetryPolicy(max_attempts=1)) as insights:
        with pytest.raises(TransportError) as caught:
            await insights.page(START, END)
    told = str(caught.value)
    assert f"at rest.iovox.test:443, through the proxy 127.0.0.1:{port} (" in told
    assert "pr0xy-pass" not in told


@pytest.mark.fault(1)
@both_engines
async def test_a_server_that_comes_up_late_is_reached(open_session, clock):
    """What was refused a moment ago is answered now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    async def wait_and_start(seconds):
        clock.now += seconds
        if not servers:
            servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RIGHT)
        writer.close()

    servers = []
    insights = open_session(f"http://127.0.0.1:{port}/rest/v1", sleep=wait_and_start)
    async with insights:
        assert await ids(insights) == [CALL["id"]]
    servers[0].close()


@pytest.mark.fault(1)
@both_engines
async def test_a_name_that_does_not_resolve_is_tried_again_and_then_named(open_session, monkeypatch):
    """A resolver may be down for a moment."""
    asked = []

    def no_address(host, *_args, **_options):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    async with open_session("https://nowhere.invalid/rest/v1", retry=RetryPolicy(max_attempts=3)) as insights:
        with pytest.raises(TransportError, match=r"no connection.*Name or service not known.*3 attempts"):
            await insights.page()
    assert len(asked) == 3


@pytest.mark.fault(12)
@both_engines
async def test_a_server_that_accepts_and_says_nothing_meets_the_deadline(open_session):
    """In the clear and before the handshake of TLS alike."""

    async def mute(connection):
        await connection.reader.read()

    async with RawServer(mute) as server:
        for base_url in (server.base_url, server.base_url.replace("http:", "https:")):
            async with open_session(base_url, timeout=0.05, retry=RetryPolicy(max_attempts=2)) as insights:
                with pytest.raises(RequestTimeout, match=r"0\.05 seconds.*2 attempts"):
                    await insights.page()
        assert server.connections == 4


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
    """The one SSL context, made to trust the authority of these tests."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr(room, "_ssl_context", context)


CERTIFICATES = {
    "self-signed": (False, {}, "self-signed|unable to get local issuer"),
    "expired": (True, {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired"),
    "another host's": (True, {"name": "other.example"}, "not valid for '127.0.0.1'"),
}


@pytest.mark.fault(2)
@both_engines
@pytest.mark.parametrize(("trusted", "how", "said"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_a_certificate_that_cannot_be_trusted_is_tried_once_and_sees_no_key(
    trusted, how, said, authority, open_session, request
):
    """Neither self-signed, nor expired, nor for another host; and no request was written."""
    if trusted:
        request.getfixturevalue("trusting")
    how = {"name": "127.0.0.1", **how}
    context = server_context(authority.issue_cert(how.pop("name"), **how))
    async with RawServer(answering(RIGHT), tls=context) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TLSError, match=said) as caught:
                await insights.page()
    assert caught.value.attempts == 1
    assert server.inbox == []


@pytest.mark.fault(2)
@both_engines
@pytest.mark.usefixtures("trusting")
async def test_a_trusted_certificate_is_read_through(authority, open_session):
    """The other side of the coin, and the tests before it mean something."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with RawServer(answering(RIGHT), tls=context) as server, open_session(server.base_url) as insights:
        assert await ids(insights) == [CALL["id"]]


@pytest.mark.fault(3)
@both_engines
@pytest.mark.usefixtures("trusting")
async def test_a_handshake_that_is_broken_off_is_tried_again(authority, open_session):
    """It says nothing about the certificate."""
    context = server_context(authority.issue_cert("127.0.0.1"))

    async def broken_twice(connection):
        if connection.number <= 2:
            await connection.reader.read(100)
            if connection.number == 1:
                connection.reset()
            return
        await tunnel(connection, server.port)

    async with RawServer(answering(RIGHT), tls=context) as server, RawServer(broken_twice) as front:
        async with open_session(f"https://127.0.0.1:{front.port}/rest/v1") as insights:
            assert await ids(insights) == [CALL["id"]]
        assert front.connections == 3


@pytest.mark.fault(66)
@pytest.mark.usefixtures("_no_settings_from_outside")
async def test_the_environment_cannot_choose_certificates_or_write_the_keys_of_connections(
    authority, monkeypatch, tmp_path, open_session
):
    """SSL_CERT_FILE is not looked at, and SSLKEYLOGFILE gets nothing to decrypt a recording with."""
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setattr(room, "_ssl_context", None)
    context = room.ssl_context()
    certificate = server_context(authority.issue_cert("127.0.0.1"))
    async with RawServer(answering(RIGHT), tls=certificate) as server:
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
async def test_an_idle_connection_that_the_server_closed_costs_no_attempt_and_no_wait(open_session, clock):
    """It is noticed as the request is sent; sent again at once, on a new connection."""

    async def one_each(connection):
        await connection.request()
        await connection.send(RIGHT)
        # The next request is read, and never answered.
        await connection.request()

    async with RawServer(one_each) as server:
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
async def test_what_is_not_http_is_tried_once_more_and_then_raised(data, open_session):
    """A second time proves that it is no accident; the error shows none of the bytes."""
    async with RawServer(answering(data)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TransportError, match="is not HTTP") as caught:
                await insights.page()
        assert caught.value.attempts == 2
        assert len(server.inbox) == 2
    assert "yyy" not in str(caught.value)
    assert len(str(caught.value)) < 200


async def test_a_transfer_encoding_that_is_not_known_is_not_http(open_session):
    """Where httpx carries the requests. To aiohttp it is a body without a length, as the standard has it."""
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: zip\r\n\r\n[]"
    async with RawServer(answering(data)) as server, open_session(server.base_url) as insights:
        with pytest.raises(TransportError, match="is not HTTP") as caught:
            await insights.page()
    assert caught.value.attempts == 2


@pytest.mark.fault(13)
@both_engines
@pytest.mark.parametrize("endless", [False, True], ids=["then an answer", "without end"])
async def test_a_flood_of_100_continue_is_read_over_or_ends_at_the_deadline(endless, open_session):
    """Interim answers are nothing; they neither hold up the loop nor outlive the attempt."""

    async def flood(connection):
        await connection.request()
        while endless:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
            await asyncio.sleep(0)
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + RIGHT)

    async with RawServer(flood) as server:
        options = {"timeout": 0.15, "retry": RetryPolicy(max_attempts=1)} if endless else {}
        async with open_session(server.base_url, **options) as insights:
            if endless:
                with pytest.raises(RequestTimeout):
                    await insights.page()
            else:
                assert await ids(insights) == [CALL["id"]]


def cut(*pieces, reset=False):
    """A handler whose first answer is broken off after these pieces, and whose others are right."""

    async def handler(connection):
        while await connection.request() is not None:
            if connection.number > 1:
                await connection.send(RIGHT)
                continue
            for piece in pieces:
                await connection.send(piece)
                await asyncio.sleep(0.001)
            if reset:
                connection.reset()
            return

    return handler


HEAD = b"HTTP/1.1 200 OK\r\n"
HALF = PAGE[: len(PAGE) // 2]
GZIP = gzip.compress(PAGE)
ZIPPED = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
CUTS = {
    "in the status line": cut(b"HTTP/1.1 20"),
    "in the headers": cut(HEAD + b"content-le"),
    "after the headers": cut(HEAD + b"content-length: 50\r\n\r\n"),
    "a length not met": cut(HEAD + b"content-length: 500\r\n\r\n", PAGE),
    "chunks without an end": cut(
        HEAD + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(PAGE), PAGE)
    ),
    "a body without a length": cut(HEAD + b"\r\n", HALF),
    "a reset before the answer": cut(reset=True),
    "a reset in the middle": cut(HEAD + b"content-length: 500\r\n\r\n", PAGE, reset=True),
    "gzip cut in half": cut(ZIPPED % 40 + GZIP[:40]),
    "gzip without its trailer": cut(ZIPPED % (len(GZIP) - 8) + GZIP[:-8]),
    "gzip with a wrong checksum": cut(ZIPPED % len(GZIP) + GZIP[:-8] + b"\0" * 8),
    "a second member that is cut": cut(ZIPPED % (len(GZIP) + 12) + GZIP + GZIP[:12]),
    "nothing at all in a 200": cut(http_answer(b"")),
}


@pytest.mark.fault(5, 6, 7)
@both_engines
@pytest.mark.parametrize("handler", CUTS.values(), ids=CUTS.keys())
async def test_a_cut_anywhere_is_noticed_and_asked_again(handler, open_session):
    """Half an answer is no answer, however well it is framed; nothing of it is handed out."""
    async with RawServer(handler) as server, open_session(server.base_url) as insights:
        assert await ids(insights) == [CALL["id"]]
        assert len(server.inbox) == 2


@pytest.mark.fault(8)
@both_engines
async def test_every_member_of_a_gzip_body_is_read(open_session):
    """A server may compress a page piece by piece."""
    body = b"".join(gzip.compress(PAGE[place : place + 7]) for place in range(0, len(PAGE), 7))
    zipped = http_answer(body, b"200 OK", b"content-encoding: gzip")
    async with RawServer(answering(zipped)) as server, open_session(server.base_url) as insights:
        assert await ids(insights) == [CALL["id"]]


@pytest.mark.fault(10)
@both_engines
@pytest.mark.parametrize(
    "encoding", [b"br", b"gzip, gzip", b"gzip, gzip, gzip, gzip, gzip, gzip", b"deflate"]
)
async def test_an_encoding_that_was_not_offered_is_refused_at_once(encoding, open_session):
    """Neither unknown ones nor chains of them; the next answer would have the same."""
    odd = http_answer(b"x", b"200 OK", b"content-encoding: " + encoding)
    async with RawServer(answering(odd)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match="only gzip was offered") as caught:
                await insights.stream(START, END).collect()
        assert caught.value.attempts == len(server.inbox) == 1


BOMBS = {
    "a bomb": gzip.compress(b" " * 50_000_000, 9),
    "a bomb of empty members": gzip.compress(b"") * 60_000,
}


@pytest.mark.fault(9)
@both_engines
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS.keys())
async def test_a_bomb_is_stopped_at_the_cap_and_not_asked_for_again(body, open_session):
    """Bytes are counted as sent and as decoded, while they come."""
    bomb = http_answer(body, b"200 OK", b"content-encoding: gzip")
    async with RawServer(answering(bomb)) as server, open_session(server.base_url) as insights:
        endpoint(insights)._max_body_bytes = 1_000_000
        with pytest.raises(DecodeError, match="larger than 1000000 bytes") as caught:
            await insights.page()
        assert caught.value.attempts == len(server.inbox) == 1


@pytest.mark.fault(9)
@both_engines
async def test_a_page_too_large_is_asked_for_in_halves(open_session):
    """The cap on bytes costs no call: the window is halved, and its smaller size remembered."""
    sandbox = Sandbox(calls=600, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        endpoint(insights)._max_body_bytes = 80_000
        stream = insights.stream(START, END, page_size=500)
        assert [call.id async for call in stream] == sandbox.ids()
        assert stream.stats.window_splits in {1, 2}


@pytest.mark.fault(26)
@both_engines
async def test_an_error_is_named_by_its_status_though_its_body_has_no_end(open_session, monkeypatch):
    """10 MB are not read, and a body that drips is not waited for: the status says enough."""
    monkeypatch.setattr(room, "ERROR_BODY_SECONDS", 0.05)

    async def endless(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no")
        # To the first nothing more is sent, to the second 10 MB.
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
async def test_a_socks_proxy_carries_the_session(open_session):
    """People reach the service from a listed address through a tunnel."""
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
async def test_a_socks_proxy_that_refuses_is_a_transport_error(open_session):
    """Tried again, since a tunnel comes back."""

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


PROXY_ANSWERS = {
    "407 to CONNECT": (
        "https://nowhere.invalid/rest/v1",
        b"407 Proxy Authentication Required",
        BadRequestError,
        1,
    ),
    "502 to CONNECT": ("https://nowhere.invalid/rest/v1", b"502 Bad Gateway", TransportError, 5),
    "407 in the clear": (
        "http://127.0.0.1:9/rest/v1",
        b"407 Proxy Authentication Required",
        BadRequestError,
        1,
    ),
    "502 in the clear": ("http://127.0.0.1:9/rest/v1", b"502 Bad Gateway", ServerError, 5),
}


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("base_url", "status", "kind", "attempts"), PROXY_ANSWERS.values(), ids=PROXY_ANSWERS.keys()
)
async def test_a_proxy_that_refuses_is_raised_and_one_that_fails_is_tried_again(
    base_url, status, kind, attempts, open_session
):
    """407 is for the person at the keyboard, 502 may pass."""
    async with RawServer(answering(http_answer(b"", status))) as proxy:
        async with open_session(base_url, proxy=f"http://127.0.0.1:{proxy.port}") as insights:
            with pytest.raises(kind) as caught:
                await insights.page()
        assert type(caught.value) is kind
        assert caught.value.attempts == attempts == len(proxy.inbox)
        if base_url.startswith("https"):
            assert all(b"demo-key" not in head for head in proxy.inbox)


def test_a_key_goes_to_no_proxy_in_the_clear():
    """With a base_url of http the last step to it must be this machine as well."""
    for proxy in ("http://proxy.example:3128", "socks5://10.0.0.1", "https://proxy.example"):
        with pytest.raises(ConfigurationError, match="in the clear"):
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
def test_the_environment_s_proxy_is_used_as_other_programs_use_it(base_url, environment, used, monkeypatch):
    """Only when asked for, with its exceptions, and never on the way to this machine."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    insights = AsyncInsights("demo", "demo-key", base_url=base_url, proxy="environment")
    proxy = endpoint(insights)._proxy
    assert (None if proxy is None else str(proxy.url)) == used


@pytest.mark.fault(65)
def test_only_an_address_of_this_machine_is_loopback():
    """A name may begin with 127 and lead anywhere."""
    for host in (
        "127.evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "10.0.0.1",
    ):
        with pytest.raises(ConfigurationError, match="in the clear"):
            AsyncInsights("demo", "demo-key", base_url=f"http://{host}/rest/v1")
    for host in ("127.0.0.1", "127.8.9.10:80", "localhost:1", "[::1]:5"):
        assert AsyncInsights("demo", "demo-key", base_url=f"http://{host}/rest/v1")


# Many at once.


@pytest.mark.fault(53)
@both_engines
async def test_hundreds_of_callers_share_a_few_slots_in_the_order_of_their_arrival(open_session):
    """No caller of a busy web application meets a pool's timeout, and nobody is passed over."""
    seen = []

    async def handler(connection):
        while (head := await connection.request()) is not None:
            seen.append(int(head.partition(b"iovox_number=")[2].partition(b"&")[0]))
            await connection.send(http_answer())

    async with RawServer(handler) as server, open_session(server.base_url, concurrency=4) as insights:
        callers = [insights.page(START, END, iovox_number=str(1000 + one)) for one in range(400)]
        await asyncio.gather(*callers)
        assert server.connections <= 4
    assert all(abs(place - (number - 1000)) <= 8 for place, number in enumerate(seen))


@both_engines
async def test_a_long_wait_that_the_server_asks_for_reaches_the_caller_with_its_length(open_session, clock):
    """A job can park itself; nothing is waited for and nothing sent again."""
    answer = http_answer(b"", b"429 Too Many Requests", b"retry-after: 3600")
    async with RawServer(answering(answer)) as server, open_session(server.base_url) as insights:
        with pytest.raises(RateLimitError, match="3600 seconds") as caught:
            await insights.stream(START, END).collect()
        assert caught.value.retry_after == 3600.0
        assert len(server.inbox) == 1
    assert clock.waits == []
