"""Fixtures that the tests of the sandbox share."""

import threading
from datetime import datetime
from functools import partial

import httpx
import pytest
from support.sandbox import CREDENTIALS, PATH, reset

from iovox_async.sandbox import Faults, Sandbox

#: A Wednesday in the middle of the range.
NOW = datetime(2024, 2, 14, 15, 30)


@pytest.fixture(scope="session")
def sandbox():
    """2,000 calls of a quarter, and a clock that stands still; tests must not change the calls."""
    sandbox = Sandbox(calls=2_000, now=lambda: NOW)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def all_rows(sandbox):
    """All its calls, with all fields."""
    return sandbox.rows()


@pytest.fixture(scope="session")
def client(sandbox):
    """A plain HTTP client for the served sandbox."""
    with (
        sandbox.serve() as base_url,
        httpx.Client(verify=False, base_url=base_url, headers=CREDENTIALS) as client,
    ):
        yield client


@pytest.fixture
def get_calls(client):
    """Returns a function that requests calls by parameters."""

    def get(**parameters):
        response = client.get("/calls/insights", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    return get


@pytest.fixture
def no_threads_left():
    """Checks that no thread of a sandbox outlives the test."""
    before = set(threading.enumerate())
    yield
    remaining = set(threading.enumerate()) - before
    assert not [thread for thread in remaining if thread.name.startswith("iovox-sandbox")]


@pytest.fixture(scope="session")
def fault_sandbox():
    """50 calls, 20 of them in one second; `set_faults` sets its faults."""
    sandbox = Sandbox(calls=30)
    sandbox.add([{"call_start": "2024-02-01 10:00:00"}] * 20)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def fault_url(fault_sandbox):
    """The base URL of `fault_sandbox`."""
    with fault_sandbox.serve() as url:
        yield url


@pytest.fixture
def set_faults(fault_sandbox, fault_url):
    """Returns a function that sets the faults of `fault_sandbox` and resets its counters."""
    yield partial(reset, fault_sandbox, fault_url)
    reset(fault_sandbox, fault_url)


@pytest.fixture
def get(fault_url, set_faults):
    """Returns a function that sends one request to `fault_sandbox` on its own connection."""

    def get(path=PATH, **headers):
        return httpx.get(fault_url + path, headers={**CREDENTIALS, **headers}, timeout=60, verify=False)

    return get


@pytest.fixture(scope="session")
def valid_body(fault_sandbox, fault_url):
    """The body of a response of `fault_sandbox` without faults; sent before the faults of any test are set."""
    faults, fault_sandbox.faults = fault_sandbox.faults, Faults()
    body = httpx.get(fault_url + PATH, headers=CREDENTIALS, verify=False).content
    fault_sandbox.faults = faults
    return body
