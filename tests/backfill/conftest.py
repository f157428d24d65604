"""Fixtures of the backfill's tests: 300 calls in ten days, and backfills of them into one directory."""

import contextlib

import fsspec
import httpx
import pytest
from support.backfill import LATER, QUERY

from iovox_async.backfill import Backfill
from iovox_async.backfill._storage import open_storage
from iovox_async.sandbox import Faults, Sandbox


def new_sandbox():
    return Sandbox(calls=300, start="2024-01-01", end="2024-01-10", seed=4)


@pytest.fixture(scope="module")
def shared_sandbox():
    with contextlib.closing(new_sandbox()) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(request, shared_sandbox):
    """The calls, shared by the tests of a module; tests that use `own_sandbox` may change theirs."""
    if "own_sandbox" not in request.fixturenames:
        shared_sandbox.faults = Faults()
        shared_sandbox.reset_stats()
        yield shared_sandbox
    else:
        with contextlib.closing(new_sandbox()) as sandbox:
            yield sandbox


@pytest.fixture
def own_sandbox():
    """Gives a test a sandbox that it may change."""


@pytest.fixture
async def insights(sandbox, open_session):
    """A client of the sandbox."""
    async with open_session(transport=httpx.ASGITransport(sandbox.app), page_size=60) as insights:
        yield insights


@pytest.fixture
def out(tmp_path):
    """The directory of `job`."""
    return tmp_path / "out"


@pytest.fixture
def job(insights, out):
    """Returns a function that makes a backfill of the ten days into `out`, as JSON Lines, at the local time `now`."""

    def make(query=QUERY, *, now=LATER, directory=out, **options):
        options = {"format": "jsonl", "local_now": lambda: now, **options}
        return Backfill._for_test(insights, query, directory, **options)

    return make


@pytest.fixture(params=["local", "memory", "file"])
def storage(request, tmp_path):
    """A directory of each kind of storage."""
    if request.param == "local":
        yield open_storage(tmp_path / "out")
    elif request.param == "file":
        yield open_storage(f"file://{tmp_path}/out")
    else:
        yield open_storage("memory://out")
        fsspec.filesystem("memory").store.clear()
