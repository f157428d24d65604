"""A sandbox for all tests of a module; and what the tests of the sandbox share: credentials, a path, functions of responses."""

import socket
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

from iovox_async.sandbox import Faults, Sandbox
from support.waiting import until_sync

CREDENTIALS = {"username": "demo", "secureKey": "demo-key"}
RANGE = {"start_date": "2024-01-01", "end_date": "2024-03-31"}
PATH = "/calls/insights?start_date=2024-01-01&end_date=2024-03-31"


def finish_requests(sandbox, base_url):
    """Waits until nothing is left of requests that clients sent before; all clients must have closed their connections.

    A client may have left while its connection or its request was not read yet.
    """
    # Connections are accepted in order, so that after this response the server has accepted all that were opened before.
    # Requests with another path do not count.
    request_raw(base_url, path="/nothing")
    # It closes a connection when it has read all of it: what was sent, and that the client has left.
    until_sync(lambda: not sandbox.stats.connections and not sandbox.stats.active_requests)


def reset(sandbox, base_url, **faults):
    """Sets the faults, and the counters to zero, so that no request of an earlier test counts as one of the next."""
    finish_requests(sandbox, base_url)
    sandbox.faults = Faults(**faults)
    sandbox.reset_stats()


def shared_sandbox(calls):
    """Two fixtures for a module: the sandbox with its URL, served by its own thread, and the sandbox alone, as new for each test."""

    @pytest.fixture(scope="module")
    def served():
        sandbox = Sandbox(calls=calls)
        with sandbox.serve() as url:
            yield sandbox, url

    @pytest.fixture
    def sandbox(served):
        """A shared sandbox without faults, its counters at zero; the test must not change its calls."""
        reset(*served)
        return served[0]

    return served, sandbox


def ids(calls):
    return [call["id"] for call in calls]


def newest_first(calls):
    return ids(sorted(calls, key=lambda call: (call["call_start"], call["id"]), reverse=True))


def errors_of(response):
    """The messages of an XML error body; checks that their status is that of the response."""
    assert response.headers["content-type"] == "application/xml"
    errors = ET.fromstring(response.content)
    assert errors.tag == "errors"
    assert {error.get("status") for error in errors} == {str(response.status_code)}
    return [error.text for error in errors]


def send_raw(base_url, timeout=60.0, path=PATH):
    """Sends one request on a plain socket and returns the socket."""
    address = urlsplit(base_url)
    connection = socket.create_connection((address.hostname, address.port), timeout=timeout)
    lines = [f"GET {address.path}{path} HTTP/1.1", f"host: {address.netloc}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in CREDENTIALS.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def request_raw(base_url, path=PATH, *, silent_after=None):
    """Sends one request on a plain socket; returns the head, the body, and how the response ended.

    With `silent_after`, it checks for a moment that nothing comes after so many bytes of the body; the end is then "timeout".
    """
    with send_raw(base_url, path=path) as connection:
        received, end = b"", "closed"
        try:
            while True:
                if silent_after is not None and len(received.partition(b"\r\n\r\n")[2]) >= silent_after:
                    connection.settimeout(0.05)
                if not (data := connection.recv(65_536)):
                    break
                received += data
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "timeout"
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode().lower(), body, end
