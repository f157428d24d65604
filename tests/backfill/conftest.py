"""Fixtures of the backfill's tests: 300 calls in ten days, and backfills of them into one directory."""

import contextlib
import json
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import httpx
import pytest
import support
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


@contextlib.contextmanager
def serve(script):
    """Runs a server of the folder `support` in a process; gives its address."""
    command = [sys.executable, str(Path(support.__file__).with_name(script))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        while not (line := process.stdout.readline()).startswith("http"):
            assert line, "the server has ended"
        yield line.strip()
        process.stdin.close()


@pytest.fixture(scope="session")
def _s3_endpoint():
    with serve("s3_server.py") as address:
        yield address


@pytest.fixture(scope="session")
def _blob_endpoint():
    with serve("blob_server.py") as address:
        yield address


@pytest.fixture(params=["azure", "google"])
def blobs(request, _blob_endpoint):
    """A folder of a store that speaks the protocol of Azure or of Google: its URL, and options as `deltalake` takes them."""
    folder = uuid.uuid4()
    if request.param == "azure":
        options = {
            "azure_storage_account_name": "account",
            "azure_storage_endpoint": _blob_endpoint,
            "azure_skip_signature": "true",
        }
        return f"az://azure/{folder}", options | {"allow_http": "true"}
    key = {"gcs_base_url": _blob_endpoint, "disable_oauth": True}
    key |= {"client_email": "", "private_key": "", "private_key_id": ""}
    options = {"google_service_account_key": json.dumps(key)}
    return f"gs://google/{folder}", options | {"allow_http": "true"}


@pytest.fixture
def s3(_s3_endpoint, monkeypatch):
    """A bucket of an S3 server on loopback: its URL, and the file system of fsspec."""
    settings = {
        "AWS_ENDPOINT_URL": _s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3")
    bucket = f"lake-{uuid.uuid4()}"
    fs.mkdir(bucket)
    return f"s3://{bucket}", fs


@pytest.fixture
def outage(_s3_endpoint):
    """Returns a function that makes the S3 server answer 503, and returns how often it has done so since the last call."""

    def start(after=0, requests=10**9):
        address = f"{_s3_endpoint}/outage?after={after}&requests={requests}"
        return int(httpx.get(address, trust_env=False, verify=False).text)

    yield start
    start(requests=0)


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
