"""Dask: partitions that join to the whole, known divisions, and a limit that holds over all workers."""

import asyncio

import pytest

from iovox_async import ConfigurationError, QueryError
from iovox_async.sandbox import Faults, Sandbox

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from iovox_async.integrations.dask import read_calls  # noqa: E402 - only where dask is

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # dask and what it brings warn about themselves
    pytest.mark.timeout(240),
]
START, END = "2024-01-01", "2024-01-31"


def session(base_url):
    return {"username": "demo", "secure_key": "demo-key", "base_url": base_url}


async def test_the_partitions_are_the_range_in_order_with_known_divisions():
    """Every call once, each partition its own stretch, Arrow-backed columns."""
    sandbox = Sandbox(calls=2_000, start=START, end=END)
    async with sandbox.serve() as base_url:
        frame = read_calls(START, END, npartitions=7, session=session(base_url), fields=["id", "node_name"])
        assert frame.npartitions == 7
        assert frame.known_divisions
        assert sandbox.stats.requests == 0
        with dask.config.set(scheduler="threads"):
            whole = await asyncio.to_thread(frame.compute)
            some = await asyncio.to_thread(frame.loc["2024-01-10":"2024-01-11"].compute)
    assert list(whole["id"]) == sandbox.ids()
    assert whole.index.name == "call_start"
    assert whole.index.is_monotonic_increasing
    assert str(whole["node_name"].dtype) == "string[pyarrow]"
    assert list(some["id"]) == sandbox.ids("2024-01-10", "2024-01-11")


async def test_a_cluster_sees_the_same_calls_and_the_endpoint_no_more_requests_than_asked():
    """A real LocalCluster of processes shares the scheduler's leases."""
    sandbox = Sandbox(calls=3_000, start=START, end=END, faults=Faults(latency=0.02))
    async with sandbox.serve() as base_url:

        def compute():
            with (
                distributed.LocalCluster(
                    n_workers=2, threads_per_worker=4, processes=True, dashboard_address=None
                ) as cluster,
                distributed.Client(cluster),
            ):
                frame = read_calls(START, END, npartitions=16, concurrency=3, session=session(base_url))
                return frame.compute()

        whole = await asyncio.to_thread(compute)
    assert list(whole["id"]) == sandbox.ids()
    assert sandbox.stats.peak_active_requests <= 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"order": "call_start_DESC"}, QueryError),
        ({"partitions": 0}, ConfigurationError),
        ({"concurrency": 0}, ConfigurationError),
        ({"session": {"timezone": "Europe/London"}}, QueryError),
        ({"call_results": "ANSWERED"}, QueryError),
    ],
)
def test_what_cannot_be_divided_is_refused(options, error):
    """Before anything runs."""
    with pytest.raises(error):
        read_calls(START, END, **options)
