"""Fixtures for the tests of programs that use this package.

The law of this room: a suite that does not ask for a fixture pays nothing, and one that does need not close anything.

::

    @pytest.mark.iovox(calls=500, faults={"every_nth": 3})
    async def test_report(iovox_sandbox, iovox_insights):
        async with iovox_insights.stream("2024-01-01", "2024-03-31") as calls:
            assert [call.id async for call in calls] == iovox_sandbox.ids()

Works with pytest-asyncio (strict and auto), with anyio's plugin, and in plain functions that run a loop of their own.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

# Everything else is imported by the fixtures: this module is loaded in every run of pytest where the package is installed.
import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from iovox_async.client import AsyncInsights
    from iovox_async.sandbox import Sandbox

#: Calls of a sandbox for which no marker says how many: made in a tenth of a second.
CALLS = 500
SANDBOX = {"calls", "start", "end", "seed", "faults", "now"}
SESSION = {"concurrency", "page_size", "retry", "timeout", "timezone"}


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line(
        "markers",
        f"iovox({', '.join(sorted(SANDBOX | SESSION))}): options of the fixtures iovox_sandbox and iovox_insights; "
        "faults may be a dict. A marker on a function comes before those on its class and module.",
    )


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("iovox"):
        unknown = marker.kwargs.keys() - SANDBOX - SESSION
        if marker.args or unknown:
            what = ", ".join(sorted(unknown)) or "positional arguments"
            raise pytest.UsageError(
                f"pytest.mark.iovox takes no {what}; there are {', '.join(sorted(SANDBOX | SESSION))}"
            )
        options = {**marker.kwargs, **options}
    return options


@pytest.fixture
def _iovox_served(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Sandbox, str]]:
    from iovox_async.sandbox import Faults, Sandbox

    options = {name: value for name, value in _options(request).items() if name in SANDBOX}
    faults = options.pop("faults", Faults())
    sandbox = Sandbox(
        **{"calls": CALLS, **options}, faults=faults if isinstance(faults, Faults) else Faults(**faults)
    )
    with sandbox.serve() as url:
        monkeypatch.setenv("IOVOX_URL", url)
        monkeypatch.setenv("IOVOX_USERNAME", sandbox.username)
        monkeypatch.setenv("IOVOX_SECURE_KEY", sandbox.key)
        yield sandbox, url
    sandbox.close()


@pytest.fixture
def iovox_sandbox(_iovox_served: tuple[Sandbox, str]) -> Sandbox:
    """The endpoint in miniature, served on a loopback port by a thread of its own until the test ends.

    Its calls are those of 2024-01-01 to 2024-03-31. Meanwhile IOVOX_URL, IOVOX_USERNAME and IOVOX_SECURE_KEY point to
    it, so that a session that the tested program opens by itself talks to it too.
    """
    return _iovox_served[0]


@pytest.fixture
def iovox_url(_iovox_served: tuple[Sandbox, str]) -> str:
    """The base URL of `iovox_sandbox`."""
    return _iovox_served[1]


@pytest.fixture
def iovox_insights(request: pytest.FixtureRequest, iovox_sandbox: Sandbox, iovox_url: str) -> AsyncInsights:
    """A session with `iovox_sandbox`, which needs no closing and works in whichever event loop it is first used.

    Its retries wait for hundredths of a second. When an async test has ended, whatever it left behind is ended too, in
    its own loop. In a plain function that runs a loop of its own, only streams that are left early need to be closed.
    """
    import ssl

    import httpx

    from iovox_async import AsyncInsights, RetryPolicy

    if (
        "anyio_backend_name" in request.fixturenames
        and request.getfixturevalue("anyio_backend_name") == "trio"
    ):
        pytest.skip("iovox_async runs on asyncio only")
    options = {name: value for name, value in _options(request).items() if name in SESSION}
    # A connection lasts as long as its request, so that nothing is left of a loop that a test runs by itself.
    transport = httpx.AsyncHTTPTransport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=False,
    )
    insights = AsyncInsights(
        iovox_sandbox.username,
        iovox_sandbox.key,
        base_url=iovox_url,
        transport=transport,
        **{"retry": RetryPolicy(initial_backoff=0.01, max_backoff=0.05), **options},
    )
    test = getattr(request.node, "obj", None)
    if inspect.iscoroutinefunction(test):
        # Neither an async fixture nor a finalizer would do: the one belongs to one of the plugins, and to the other the
        # loop is gone. What runs the test awaits this in its place.
        request.node.obj = _closing(test, insights)
    return insights


def _closing(test: Callable[..., Awaitable[Any]], insights: AsyncInsights) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(test)
    async def closing(*args: Any, **options: Any) -> Any:
        try:
            return await test(*args, **options)
        finally:
            await insights.aclose()

    return closing
