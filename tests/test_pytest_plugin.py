"""The fixtures of the pytest plugin, used by test suites under every plugin for async tests and under none."""

import ast
import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import iovox_async
from iovox_async import pytest_plugin

pytest_plugins = ["pytester"]

ROOT = Path(iovox_async.__file__).parents[1]
INSTALLED = "iovox_async" in importlib.metadata.entry_points(group="pytest11").names
STRICT = ["-o", "asyncio_mode=strict"]
AUTO = ["-o", "asyncio_mode=auto"]
ANYIO = ["-p", "no:asyncio"]
ASYNC_PLUGINS = [
    pytest.param(STRICT, "asyncio", id="asyncio strict"),
    pytest.param(ANYIO, "anyio", id="anyio"),
]
ASYNC_PLUGINS.insert(1, pytest.param(AUTO, None, id="asyncio auto"))
#: Checks after each test, with warnings as errors, that nothing is left open.
CONFTEST = """
    import gc, threading, pytest

    # The tests of the suite around this one may have a sandbox of their own.
    BEFORE = set(threading.enumerate())

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(item):
        yield
        gc.collect()
        assert not [thread for thread in set(threading.enumerate()) - BEFORE if "iovox" in thread.name]
"""


@pytest.fixture
def run(pytester):
    """Returns a function that runs a test suite in which warnings are errors."""

    def run(text, *options, conftest=CONFTEST):
        pytester.makeconftest(textwrap.dedent(conftest))
        pytester.makepyfile(textwrap.dedent(text))
        # If the package is installed, pytest loads the plugin itself.
        plugins = [] if INSTALLED else [pytest_plugin]
        quiet = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist"]
        if ANYIO[1] not in options:
            quiet += ["-o", "asyncio_default_fixture_loop_scope=function"]
        return pytester.runpytest_inprocess(
            "--strict-markers", "-W", "error", *quiet, *options, plugins=plugins
        )

    return run


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("options", "mark"), ASYNC_PLUGINS)
def test_given_any_async_plugin_when_tests_use_the_fixtures_then_nothing_leaks(run, options, mark):
    """Given pytest-asyncio or anyio, when tests leave streams and requests behind, then no socket, task or thread leaks."""
    text = """
        import asyncio, pytest

        START, END = "2024-01-01", "2024-03-31"
        MARK

        async def test_a_whole_stream(iovox_sandbox, iovox_insights):
            found = [call.id async for call in iovox_insights.stream(START, END)]
            assert found == iovox_sandbox.ids()
            assert len(found) == 500

        @pytest.mark.iovox(calls=300, page_size=20)
        async def test_a_stream_that_is_left(iovox_insights):
            async for call in iovox_insights.stream(START, END):
                break

        @pytest.mark.iovox(faults={"latency": 5.0})
        async def test_a_stream_that_is_forgotten_amid_a_request(iovox_insights, iovox_sandbox):
            task = asyncio.create_task(anext(aiter(iovox_insights.stream(START, END))))
            while not iovox_sandbox.stats.active_requests:
                await asyncio.sleep(0.001)
            task.cancel()

        @pytest.mark.iovox(faults={"latency": 5.0})
        async def test_a_request_that_runs_into_a_timeout(iovox_insights):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await iovox_insights.page(START, END)

        @pytest.mark.iovox(faults={"fail_first": 2, "kinds": "reset"}, page_size=50)
        async def test_faults(iovox_sandbox, iovox_insights):
            async with iovox_insights as insights, insights.stream(START, END) as calls:
                assert [call.id async for call in calls] == iovox_sandbox.ids()
                assert calls.stats.retries
        """
    run(text.replace("MARK", f"pytestmark = pytest.mark.{mark}" if mark else ""), *options).assert_outcomes(
        passed=5
    )


@pytest.mark.slow
def test_given_plain_functions_when_they_use_the_fixtures_then_they_work_in_any_loop_or_none(run):
    """Given functions with one, two or no event loops, when they use the fixtures, then these work."""
    run(
        """
        import asyncio, os, urllib.request
        from iovox_async import AsyncInsights

        START, END = "2024-01-01", "2024-03-31"

        def test_a_loop_of_its_own(iovox_sandbox, iovox_insights):
            async def main():
                return [call.id async for call in iovox_insights.stream(START, END)]

            assert asyncio.run(main()) == iovox_sandbox.ids()

        def test_a_program_that_opens_its_session_by_itself(iovox_sandbox):
            async def main():
                async with AsyncInsights() as insights:
                    return len(await insights.stream(START, END).collect())

            assert asyncio.run(main()) == asyncio.run(main()) == 500

        def test_no_loop(iovox_url, iovox_sandbox):
            assert os.environ["IOVOX_URL"] == iovox_url
            request = urllib.request.Request(f"{iovox_url}/calls/insights?limit=1")
            request.add_header("username", "demo")
            request.add_header("secureKey", "demo-key")
            assert urllib.request.urlopen(request).status == 200
            assert iovox_sandbox.stats.requests == 1

        def test_the_environment_is_as_before():
            assert "IOVOX_URL" not in os.environ
        """
    ).assert_outcomes(passed=4)


def test_given_the_fastapi_application_of_the_readme_when_tested_then_it_reads_the_sandbox(run):
    """Given the application of the README, when it is tested with TestClient, then it reads the sandbox."""
    run(
        """
        import json
        import pytest
        from fastapi import FastAPI
        from fastapi.testclient import TestClient
        from iovox_async.integrations.fastapi import InsightsDep, NDJSONResponse, insights_lifespan

        app = FastAPI(lifespan=insights_lifespan())

        @app.get("/calls")
        async def calls(insights: InsightsDep, start: str, end: str) -> NDJSONResponse:
            return NDJSONResponse(insights.stream(start, end))

        @pytest.mark.iovox(calls=50)
        def test_calls(iovox_sandbox):
            with TestClient(app) as client:
                response = client.get("/calls?start=2024-01-01&end=2024-03-31")
            assert [json.loads(line)["id"] for line in response.text.splitlines()] == iovox_sandbox.ids()
        """,
        # Starlette's client warns about httpx.
        "-W",
        "ignore:Using `httpx`",
    ).assert_outcomes(passed=1)


@pytest.mark.slow
def test_given_several_markers_when_combined_then_the_nearest_overrides(run):
    """Given markers on module, class and function, when options are combined, then the nearest marker overrides."""
    run(
        """
        import datetime, pytest
        from iovox_async import RetryPolicy
        from iovox_async.sandbox import Faults

        pytestmark = pytest.mark.iovox(calls=10, seed=3)

        def test_module(iovox_sandbox):
            assert (len(iovox_sandbox.ids()), iovox_sandbox.seed) == (10, 3)

        @pytest.mark.iovox(calls=20, start="2023-05-01", end="2023-05-31", concurrency=2)
        class TestClass:
            @pytest.mark.iovox(calls=30, faults=Faults(gzip=True), timezone="Europe/Paris", retry=RetryPolicy(2))
            def test_function(self, iovox_sandbox, iovox_insights):
                assert (len(iovox_sandbox.ids()), iovox_sandbox.seed) == (30, 3)
                assert iovox_sandbox.start == "2023-05-01 00:00:00"
                assert iovox_sandbox.faults == Faults(gzip=True)
                assert "0 of 2 requests in flight" in repr(iovox_insights)

            def test_class(self, iovox_sandbox):
                assert len(iovox_sandbox.ids()) == 20
        """
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("marker", "problem"),
    [
        ("rows=5", "takes only calls, concurrency, *got rows"),
        ("5", "takes only calls, *got positional arguments"),
    ],
    ids=["unknown", "positional"],
)
def test_given_an_unknown_option_when_marked_then_the_error_lists_the_options(run, marker, problem):
    """Given a marker with an unknown option, when the fixture is used, then the error lists the options."""
    result = run(
        f"""
        import pytest

        @pytest.mark.iovox({marker})
        def test_slip(iovox_insights):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*pytest.mark.iovox {problem}*"])


def test_given_the_plugin_when_pytest_lists_markers_and_fixtures_then_ours_are_documented(run):
    """Given the plugin, when `--markers` and `--fixtures` are used, then the marker and the fixtures are listed."""
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.iovox(calls, concurrency, *"])
    result = run("", "--fixtures")
    result.stdout.fnmatch_lines(["iovox_sandbox*", "*A sandbox, served*"])
    result.stdout.fnmatch_lines(["iovox_insights*", "*needs no closing*"])


@pytest.mark.finding("D7")
@pytest.mark.parametrize(
    ("backend", "skipped"),
    [('"trio"', 1), ('("trio", {})', 1), ('"asyncio"', 0), ('("asyncio", {"debug": True})', 0)],
)
def test_given_an_anyio_backend_when_an_async_test_uses_the_client_then_trio_is_skipped(
    run, backend, skipped
):
    """Given a test that anyio runs, when its backend is trio, then it is skipped with the reason."""
    result = run(
        f"""
        import pytest

        @pytest.fixture
        def anyio_backend():
            return {backend}

        @pytest.mark.anyio
        async def test_it(iovox_insights):
            assert (await iovox_insights.page()).calls is not None
        """,
        *ANYIO,
        "-rs",
        conftest="",
    )
    result.assert_outcomes(passed=1 - skipped, skipped=skipped)
    if skipped:
        result.stdout.fnmatch_lines(["*runs on asyncio only*"])


def test_given_the_plugin_when_its_imports_are_listed_then_only_pytest_is_external():
    """Given the source of the plugin, when its imports are listed, then only pytest is external."""
    tree = ast.parse(Path(pytest_plugin.__file__).read_text())
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    assert sorted(names) == ["__future__", "functools", "inspect", "pytest", "typing"]


@pytest.mark.subprocess
def test_given_a_suite_without_our_fixtures_when_run_then_nothing_else_is_imported(pytester, monkeypatch):
    """Given a suite that uses no fixture of ours, when it runs, then no other module is imported and no thread runs."""
    heavy = "uvicorn starlette aiohttp fastapi pyarrow opentelemetry httpx cattrs tenacity msgspec"
    pytester.makepyfile(
        f"""
        import sys, threading

        def test_nothing():
            assert "iovox_async.pytest_plugin" in sys.modules
            assert not set("{heavy} iovox_async.sandbox".split()) & set(sys.modules)
            assert threading.active_count() == 1
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Other plugins load what they like.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ["-p", "iovox_async.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        capture_output=True,
        text=True,
        cwd=pytester.path,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
