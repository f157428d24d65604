"""Dask: partitions join to the whole range, divisions are known, and the limit on requests holds over all workers."""

import asyncio

import pytest

from iovox_async import ConfigurationError, QueryError
from iovox_async.sandbox import Faults, Sandbox

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from iovox_async.integrations.dask import read_calls  # noqa: E402 - only where dask is installed

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # dask and its dependencies emit deprecation warnings
    pytest.mark.timeout(240),
]
START, END = "2024-01-01", "2024-01-31"


def session(base_url):
    return {"username": "demo", "secure_key": "demo-key", "base_url": base_url}


async def test_partitions_hold_every_call_once_in_order_with_known_divisions():
    """Given seven partitions, the frame has all calls in order, and a slice by time reads only what it needs."""
    sandbox = Sandbox(calls=2_000, start=START, end=END)
    async with sandbox.serve() as base_url:
        frame = read_calls(START, END, npartitions=7, session=session(base_url), fields=["id", "node_name"])
        assert frame.npartitions == 7
        assert frame.known_divisions
        assert sandbox.stats.requests == 0
        with dask.config.set(scheduler="threads"):
            computed = await asyncio.to_thread(frame.compute)
            two_days = await asyncio.to_thread(frame.loc["2024-01-10":"2024-01-11"].compute)
    assert list(computed["id"]) == sandbox.ids()
    assert computed.index.name == "call_start"
    assert computed.index.is_monotonic_increasing
    assert str(computed["node_name"].dtype) == "string[pyarrow]"
    assert list(two_days["id"]) == sandbox.ids("2024-01-10", "2024-01-11")


@pytest.mark.subprocess
async def test_a_cluster_reads_the_same_calls_within_the_limit_of_requests():
    """Given a cluster of two processes with four threads each, at most `concurrency` requests run at a time."""
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

        computed = await asyncio.to_thread(compute)
    assert list(computed["id"]) == sandbox.ids()
    assert sandbox.stats.peak_active_requests <= 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": "call_start_DESC"}, QueryError, "order must not be set"),
        ({"npartitions": 0}, ConfigurationError, "npartitions must be a positive integer, got 0"),
        ({"concurrency": 0}, ConfigurationError, "concurrency must be a positive integer, got 0"),
        ({"session": {"timezone": "Europe/London"}}, QueryError, "timezone must not be set"),
        ({"call_results": "ANSWERED"}, QueryError, "call_results"),
    ],
    ids=["order", "npartitions", "concurrency", "timezone", "unknown filter"],
)
def test_an_option_that_cannot_be_partitioned_raises(options, error, message):
    """Given such an option, read_calls raises before any request."""
    with pytest.raises(error, match=message):
        read_calls(START, END, **options)
