"""Tests of `verify`, certificates, and what a TLS error advises."""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
import trustme
from support.faults import RawServer, answering, engine_options, every_engine, http_answer, tunnel

from iovox_async import (
    AsyncInsights,
    ConfigurationError,
    MissingExtraError,
    RetryPolicy,
    TLSError,
    TransportError,
)
from iovox_async._http.engines import load_engine
from iovox_async._http.tls import Trust, check_verify, create_context

START, END = "2024-01-01", "2024-01-10"
ONCE = RetryPolicy(max_attempts=1)
#: An empty page, larger than what is received at once.
LARGE = b"[" + b" " * 1_500_000 + b"]"

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def bundle(authority, tmp_path):
    """A file with the certificate of the authority."""
    path = tmp_path / "company.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_context(authority, name="127.0.0.1", *, client_authority=None, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(context)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client_authority.configure_trust(context)
    return context


async def request_page(url, **options):
    async with AsyncInsights("demo", "demo-key", base_url=url, **options) as insights:
        return await insights.page(START, END)


def _as_folder(bundle):
    folder = bundle.parent / "certificates"
    folder.mkdir()
    (folder / "company.crt").write_bytes(bundle.read_bytes())
    (folder / "README.txt").write_text("not a certificate")
    return folder


def _as_context(bundle):
    return ssl.create_default_context(cafile=bundle)


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
@pytest.mark.parametrize(
    "form", [str, Path, _as_folder, _as_context], ids=["str", "path", "folder", "context"]
)
async def test_verify_trusts_a_bundle_a_folder_or_a_context(form, engine, bundle, authority):
    """Given a company's authority, when verify names it in any form, then the page is read; without, TLSError is raised."""
    async with RawServer(answering(http_answer()), tls=server_context(authority)) as server:
        assert (await request_page(server.base_url, verify=form(bundle), engine=engine)).status_code == 200
        with pytest.raises(TLSError):
            await request_page(server.base_url, engine=engine)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
async def test_the_variables_of_openssl_name_certificates(variable, engine, bundle, authority, monkeypatch):
    """Given SSL_CERT_FILE or SSL_CERT_DIR, when a page is requested, then those certificates are trusted; verify comes first."""
    monkeypatch.setenv(variable, str(bundle if variable == "SSL_CERT_FILE" else _as_folder(bundle)))
    async with RawServer(answering(http_answer()), tls=server_context(authority)) as server:
        await request_page(server.base_url, engine=engine)
        monkeypatch.delenv(variable)
        other = ssl.create_default_context()
        monkeypatch.setenv(variable, "/no/such")
        with pytest.raises(TLSError):
            await request_page(server.base_url, engine=engine, verify=other)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SSL_CERT_FILE", "/no/such.pem"), ("SSL_CERT_DIR", "/no/such"), ("SSL_CERT_DIR", "/")],
)
async def test_a_variable_that_names_no_certificates_is_an_error(variable, value, monkeypatch):
    """Given a variable with a wrong path, when a session over https opens, then the error names it; over http it is not read."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"^{variable} must ") as caught:
        await request_page("https://127.0.0.1:9")
    assert caught.value.parameter == variable
    async with RawServer(answering(http_answer())) as server:
        await request_page(server.base_url)


async def test_a_file_without_certificates_is_an_error(tmp_path):
    """Given a file or folder that is no CA bundle, when the session opens, then ConfigurationError names verify and the path."""
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for path in (empty, tmp_path):
        with pytest.raises(
            ConfigurationError, match=r"^verify must name CA certificates in the format PEM, got '"
        ):
            await request_page("https://127.0.0.1:9", verify=path)


@pytest.mark.parametrize("value", [False, None, 1, 0, b"ca.pem", "", "/no/such.pem", ssl.CERT_NONE, object()])
def test_another_value_is_refused_at_once(value):
    """Given another value, when a session is made, then ConfigurationError names verify and what it takes."""
    with pytest.raises(ConfigurationError, match=r"^verify must be") as caught:
        AsyncInsights("demo", "demo-key", verify=value)
    assert caught.value.parameter == "verify"


def test_a_context_of_a_server_is_refused():
    """Given a context of a server, when a session is made, then ConfigurationError says so."""
    with pytest.raises(ConfigurationError, match="context of a client"):
        AsyncInsights("demo", "demo-key", verify=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_verify_is_not_combined_with_a_transport():
    """Given a transport, when verify is passed too, then ConfigurationError says where to configure it."""
    with pytest.raises(ConfigurationError, match="verify cannot be combined with transport"):
        AsyncInsights("demo", "demo-key", verify="system", **engine_options("aiohttp"))


def test_the_system_store_is_that_of_truststore(monkeypatch):
    """Given verify="system", when the context is made, then it is truststore's; without that package, the extra is named."""
    context = create_context(load_engine("httpx"), check_verify("system"))
    assert type(context).__module__.startswith("truststore")
    monkeypatch.setitem(sys.modules, "truststore", None)
    with pytest.raises(MissingExtraError, match=r"iovox-async\[truststore\]"):
        check_verify("system")


@pytest.mark.fault(66)
async def test_key_logging_stays_off(bundle, authority, monkeypatch, tmp_path):
    """Given SSLKEYLOGFILE, when pages are requested with any context, then no key is written."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    own = ssl.create_default_context(cafile=bundle)
    assert own.keylog_filename == str(log)
    before = log.read_bytes()
    async with RawServer(answering(http_answer()), tls=server_context(authority)) as server:
        for verify in (bundle, own):
            await request_page(server.base_url, verify=verify)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        await request_page(server.base_url)
    assert log.read_bytes() == before
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    create_context(load_engine("httpx"), Trust(file=str(bundle)))


@pytest.fixture
async def refusing_server():
    """Starts a server that sends the alert of a failed handshake, which asyncio's servers do not send; returns its port."""
    listeners, threads = [], []

    def serve(listener, context):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                # A failed handshake closes the socket; a copy keeps the connection until the client has read the alert.
                with socket.socket(fileno=os.dup(connection.fileno())) as copy:
                    with contextlib.suppress(ssl.SSLError):
                        context.wrap_socket(connection, server_side=True)
                    copy.shutdown(socket.SHUT_WR)
                    while copy.recv(65536):
                        pass

    def start(context):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, context), daemon=True))
        threads[-1].start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        await asyncio.to_thread(thread.join)


@every_engine
async def test_a_client_certificate_is_taken_from_the_context(engine, bundle, authority):
    """Given a server that requires a client certificate, when the context has one, then the page is read."""
    clients = trustme.CA()
    context = ssl.create_default_context(cafile=bundle)
    clients.issue_cert("client@company.example").configure_cert(context)
    tls = server_context(authority, client_authority=clients)
    async with RawServer(answering(http_answer(LARGE)), tls=tls) as server:
        page = await request_page(server.base_url, **engine_options(engine, context))
        assert page.calls == []


@every_engine
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_the_hint_for_a_missing_client_certificate_is_about_the_context(
    engine, version, bundle, authority, refusing_server
):
    """Given a server that requires a client certificate, when there is none, then TLSError says how to pass one, at once."""
    tls = server_context(authority, client_authority=trustme.CA())
    tls.maximum_version = version
    port = refusing_server(tls)
    plain = ssl.create_default_context(cafile=bundle)
    with pytest.raises(TLSError, match="refused the TLS connection") as caught:
        await request_page(f"https://127.0.0.1:{port}", **engine_options(engine, plain))
    assert "load_cert_chain" in caught.value.hint
    assert caught.value.attempts == 1


@every_engine
async def test_the_hint_says_how_to_trust_a_company_authority(engine, authority):
    """Given an unknown authority, when a page is requested, then the hint names verify, SSL_CERT_FILE and truststore."""
    async with RawServer(answering(http_answer()), tls=server_context(authority)) as server:
        with pytest.raises(TLSError) as caught:
            await request_page(server.base_url, **engine_options(engine))
    for word in ("verify=", "SSL_CERT_FILE", "truststore", 'verify="system"'):
        assert word in caught.value.hint


@every_engine
async def test_the_hint_for_another_host_is_about_the_address(engine, bundle, authority):
    """Given a certificate of another host, when a page is requested, then the hint is about the address, not the authority."""
    async with RawServer(answering(http_answer()), tls=server_context(authority, "other.example")) as server:
        with pytest.raises(TLSError) as caught:
            await request_page(
                server.base_url, **engine_options(engine, ssl.create_default_context(cafile=bundle))
            )
    assert "base_url" in caught.value.hint
    assert "truststore" not in caught.value.hint


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
async def test_requests_pass_through_a_proxy_with_tls_and_a_password(engine, bundle, authority):
    """Given an https:// proxy with user and password, when a page of a server with TLS is requested, then both get what is theirs."""
    heads = []

    async def connect(connection):
        heads.append(await connection.request())
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await tunnel(connection, server.port)

    async with (
        RawServer(answering(http_answer(LARGE)), tls=server_context(authority)) as server,
        RawServer(connect, tls=server_context(authority)) as proxy,
    ):
        url = f"https://me:p%40ss@127.0.0.1:{proxy.port}"
        page = await request_page(server.base_url, proxy=url, verify=bundle, engine=engine)
        assert page.calls == []
    (head,) = heads
    assert b"CONNECT 127.0.0.1:" in head
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in head
    assert b"demo-key" not in head
    assert b"Proxy-Authorization" not in server.inbox[0]


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_socks_proxy_gets_the_name_of_the_host_and_a_password(scheme, engine):
    """Given a SOCKS proxy with a password, when a page is requested, then the proxy resolves the name; nothing is looked up here."""
    asked = []

    async def socks(connection):
        reader = connection.reader
        _, count = await reader.readexactly(2)
        assert 2 in await reader.readexactly(count)
        await connection.send(b"\x05\x02")
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        await connection.send(b"\x01\x00")
        _, _, _, kind = await reader.readexactly(4)
        name = await reader.readexactly((await reader.readexactly(1))[0]) if kind == 3 else b""
        asked.append((user, password, name))
        await connection.send(b"\x05\x04\x00\x01" + bytes(6))

    async with RawServer(socks) as proxy:
        with pytest.raises(TransportError, match="cannot connect"):
            await request_page(
                "https://nowhere.invalid/rest/v1",
                proxy=f"{scheme}://me:secret@127.0.0.1:{proxy.port}",
                engine=engine,
                retry=ONCE,
            )
    assert asked == [(b"me", b"secret", b"nowhere.invalid")]
