"""Pytest fixtures for programs that use this package: a served sandbox and a client for it.

::

    @pytest.mark.iovox(calls=500, faults={"every_nth": 3})
    async def test_report(iovox_sandbox, iovox_insights):
        async with iovox_insights.stream("2024-01-01", "2024-03-31") as calls:
            assert [call.id async for call in calls] == iovox_sandbox.ids()

Works with pytest-asyncio (strict and auto), with anyio's plugin, and in plain functions that run their own event loop.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

# The fixtures import everything else: this module is loaded in every run of pytest where the package is installed.
import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from iovox_async.client import AsyncInsights
    from iovox_async.sandbox import Sandbox

#: Calls of a sandbox without a marker; generated in a tenth of a second.
DEFAULT_CALLS = 500
SANDBOX_OPTIONS = {"calls", "start", "end", "seed", "faults", "now"}
CLIENT_OPTIONS = {"concurrency", "engine", "page_size", "retry", "timeout", "timezone"}


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    options = ", ".join(sorted(SANDBOX_OPTIONS | CLIENT_OPTIONS))
    config.addinivalue_line(
        "markers",
        f"iovox({options}): options of the fixtures iovox_sandbox and iovox_insights; faults may be a dict. "
        "A marker on a function overrides those on its class and module.",
    )


def _marker_options(request: pytest.FixtureRequest, names: set[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("iovox"):
        unknown = marker.kwargs.keys() - SANDBOX_OPTIONS - CLIENT_OPTIONS
        if marker.args or unknown:
            invalid = ", ".join(sorted(unknown)) or "positional arguments"
            expected = ", ".join(sorted(SANDBOX_OPTIONS | CLIENT_OPTIONS))
            raise pytest.UsageError(f"pytest.mark.iovox takes only {expected}, got {invalid}")
        options = {**marker.kwargs, **options}
    return {name: value for name, value in options.items() if name in names}


@pytest.fixture
def _iovox_served(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Sandbox, str]]:
    from iovox_async.sandbox import Faults, Sandbox

    options = {"calls": DEFAULT_CALLS, **_marker_options(request, SANDBOX_OPTIONS)}
    faults = options.pop("faults", Faults())
    sandbox = Sandbox(**options, faults=faults if isinstance(faults, Faults) else Faults(**faults))
    with sandbox.serve() as url:
        monkeypatch.setenv("IOVOX_URL", url)
        monkeypatch.setenv("IOVOX_USERNAME", sandbox.username)
        monkeypatch.setenv("IOVOX_SECURE_KEY", sandbox.key)
        yield sandbox, url
    sandbox.close()


@pytest.fixture
def iovox_sandbox(_iovox_served: tuple[Sandbox, str]) -> Sandbox:
    """A sandbox, served on a loopback port by its own thread until the test ends.

    Its calls lie between 2024-01-01 and 2024-03-31. During the test IOVOX_URL, IOVOX_USERNAME and IOVOX_SECURE_KEY are set for
    it, so a client that the tested program creates uses it too.
    """
    return _iovox_served[0]


@pytest.fixture
def iovox_url(_iovox_served: tuple[Sandbox, str]) -> str:
    """The base URL of `iovox_sandbox`."""
    return _iovox_served[1]


@pytest.fixture
def iovox_insights(
    request: pytest.FixtureRequest, iovox_sandbox: Sandbox, iovox_url: str
) -> Iterator[AsyncInsights]:
    """A client for `iovox_sandbox`, which needs no closing and works in the event loop where it is first used.

    Its retries wait for hundredths of a second. After an async test, everything that the test left running ends in the test's
    event loop. In a plain function that runs its own loop, close the streams that are not read to the end.
    """
    import ssl

    from iovox_async import AsyncInsights, RetryPolicy
    from iovox_async._http.engines import load_engine

    if _runs_on_trio(request):
        pytest.skip("iovox_async runs on asyncio only")
    options = {
        "retry": RetryPolicy(initial_backoff=0.01, max_backoff=0.05),
        **_marker_options(request, CLIENT_OPTIONS),
    }
    library = load_engine(options.pop("engine", "httpx")).library
    # Connections are not reused, so none outlives the event loop of a plain function. The empty context saves reading certificates.
    transport = library.AsyncHTTPTransport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        limits=library.Limits(max_keepalive_connections=0),
        trust_env=False,
    )
    insights = AsyncInsights(
        iovox_sandbox.username, iovox_sandbox.key, base_url=iovox_url, transport=transport, **options
    )
    test = getattr(request.node, "obj", None)
    if inspect.iscoroutinefunction(test):
        # The client must be closed in the test's loop. An async fixture would belong to one of the async plugins, and a
        # finalizer runs after the loop is closed; so the test function is wrapped.
        request.node.obj = _close_after(test, insights)
    yield insights
    # In a plain function nothing remains open, but nothing has closed the client.
    insights._connection.supervisor.abandon()  # noqa: SLF001 - the same package


def _close_after(
    test: Callable[..., Awaitable[Any]], insights: AsyncInsights
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(test)
    async def run_and_close(*args: Any, **kwargs: Any) -> Any:
        try:
            return await test(*args, **kwargs)
        finally:
            await insights.aclose()

    return run_and_close


def _runs_on_trio(request: pytest.FixtureRequest) -> bool:
    """Whether anyio's plugin runs the test on trio, or pytest-trio does."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        return bool(backend == "trio" or backend[0] == "trio")
    return request.node.get_closest_marker("trio") is not None
