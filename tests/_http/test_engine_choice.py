"""Tests of which HTTP library a session uses, and that nothing imports another."""

import subprocess
import sys

import httpx
import httpx2
import pytest
import respx
from httpx_aiohttp import AiohttpTransport
from support.faults import RawServer, answering, http_answer

from iovox_async import AsyncInsights, ConfigurationError, MissingExtraError, TransportError
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"
BASE = "https://rest.iovox.com/rest/v1"


def mock_of(library, sandbox):
    return library.MockTransport(sandbox.respond)


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_transport_of_either_library_is_recognised_by_its_type(library, engine):
    """Given a transport, when a session is made, then its own library sends the requests, whatever the default is."""
    sandbox = Sandbox(calls=40, start=START, end=END)
    options = {} if engine == "httpx" else {"engine": "httpx2"}
    if library is httpx and engine == "httpx2":
        with pytest.raises(ConfigurationError, match='must be one of httpx2 if engine is "httpx2"'):
            AsyncInsights("demo", "demo-key", transport=mock_of(library, sandbox), **options)
        return
    async with AsyncInsights("demo", "demo-key", transport=mock_of(library, sandbox), **options) as insights:
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


@pytest.mark.parametrize("engine", ["aiohttp", "requests", "", None, 5, httpx])
def test_an_unknown_engine_is_an_error(engine):
    """Given another name, when a session is made, then ConfigurationError names both engines."""
    for transport in (None, AiohttpTransport()):
        with pytest.raises(ConfigurationError, match=r'^engine must be "httpx" or "httpx2", got') as caught:
            AsyncInsights("u", "k", engine=engine, transport=transport)
        assert caught.value.parameter == "engine"


def test_an_engine_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    """Given no httpx2, when it is chosen, then the error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "iovox-async\[httpx2\]"'):
        AsyncInsights("u", "k", engine="httpx2")


def test_a_missing_httpx_is_a_configuration_error(monkeypatch):
    """Given no httpx, when no engine is chosen, then the error says how to run without it."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigurationError, match='engine="httpx2"') as caught:
        AsyncInsights("u", "k")
    assert caught.value.parameter == "engine"


#: Reads a sandbox with one library, while the other cannot be imported.
WITHOUT = """
import asyncio, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import iovox_async, iovox_async.cli
from iovox_async import AsyncInsights, AuthenticationError, TransportError, RetryPolicy
from iovox_async.sandbox import Sandbox

async def main():
    sandbox = Sandbox(calls=40, start="2024-01-01", end="2024-01-10")
    async with sandbox.serve() as url, AsyncInsights(sandbox.username, sandbox.key, base_url=url, engine=ENGINE) as insights:
        calls = [call.id async for call in insights.stream("2024-01-01", "2024-01-10", page_size=15)]
        assert calls == sandbox.ids()
        assert len(await insights.get(*calls[:3])) == 3
    async with AsyncInsights("u", "k", base_url="http://127.0.0.1:9", engine=ENGINE, retry=RetryPolicy(max_attempts=1)) as insights:
        try:
            await insights.page()
        except TransportError as error:
            print(type(error).__name__)

asyncio.run(main())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"httpx", "httpcore", "httpx2", "httpcore2", "httpx_aiohttp"}))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("engine", "pool", "blocked"),
    [
        ("httpx2", "httpcore2", {"httpx", "httpcore", "certifi"}),
        pytest.param("httpx", "httpcore", {"httpx2", "httpcore2", "truststore"}, marks=pytest.mark.slow),
    ],
)
def test_a_program_runs_with_one_library_while_the_other_cannot_be_imported(engine, pool, blocked):
    """Given one engine, when the other library is blocked, then streams, lookups and errors work, and only one is loaded."""
    program = f"BLOCKED, ENGINE = {blocked!r}, {engine!r}\n{WITHOUT}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"TransportError\n{pool} {engine}\n", "")


@pytest.mark.subprocess
def test_importing_the_client_imports_the_default_library_only():
    """Given a program that imports the client, when it makes no session, then httpx is loaded, and httpx2 is not."""
    program = (
        "import sys; from iovox_async import AsyncInsights; import iovox_async.backfill; "
        "print('httpx' in sys.modules, {'httpx2', 'httpcore2', 'httpx_aiohttp'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("True set()\n", "")


async def test_respx_mocks_a_session_of_httpx():
    """Given respx, when a session of httpx reads, then the mock answers."""
    sandbox = Sandbox(calls=40, start=START, end=END)
    with respx.mock:
        respx.get(url__startswith=f"{BASE}/calls/insights").mock(side_effect=sandbox.respond)
        async with AsyncInsights("demo", "demo-key", base_url=BASE) as insights:
            assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_pytest_httpx2_mocks_a_session_of_httpx2(httpx2_mock):
    """Given the fixture of pytest-httpx2, when a session of httpx2 reads, then the mock answers."""
    sandbox = Sandbox(calls=40, start=START, end=END)
    httpx2_mock.get(url__startswith=f"{BASE}/calls/insights").mock(side_effect=sandbox.respond)
    async with AsyncInsights("demo", "demo-key", base_url=BASE, engine="httpx2") as insights:
        assert [call.id async for call in insights.stream(START, END)] == sandbox.ids()


async def test_a_response_of_the_other_library_is_a_transport_error(open_session):
    """Given a transport that returns the other library's response, when a page is requested, then the error names both."""

    class Mixed(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            return httpx.Response(200, content=b"[]")

    async with open_session(transport=Mixed()) as insights:
        with pytest.raises(
            TransportError, match=r"an httpx2\.Response with an async stream, got httpx\.Response"
        ):
            await insights.page(START, END)


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
async def test_requests_name_the_package_python_and_the_library(engine, open_session):
    """Given either engine, when a page is requested, then User-Agent has the three versions."""
    library = {"httpx": httpx, "httpx2": httpx2}[engine]
    async with RawServer(answering(http_answer())) as server:
        async with open_session(server.base_url, engine=engine) as insights:
            await insights.page(START, END)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    agent = f"iovox-async/0.2.0 (Python {python}; {engine} {library.__version__})"
    assert f"\r\nuser-agent: {agent}\r\n" in server.inbox[0].decode().replace("User-Agent", "user-agent")
