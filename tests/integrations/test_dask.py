"""Dask: partitions join to the whole range, divisions are known, and the limit on requests holds over all workers."""

import asyncio
import json
import pickle
import traceback

import pytest

from iovox_async import ConfigurationError, Fields, QueryError, RetryPolicy, TransportError
from iovox_async.sandbox import Faults, Sandbox

dask = pytest.importorskip("dask")
duckdb = pytest.importorskip("duckdb")
pandas = pytest.importorskip("pandas")
cloudpickle = pytest.importorskip("cloudpickle")

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


@pytest.mark.slow
@pytest.mark.subprocess
async def test_a_cluster_reads_the_same_calls_within_the_limit_of_requests():
    """Given a cluster of two processes with four threads each, at most `concurrency` requests run at a time."""
    distributed = pytest.importorskip("distributed")
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


@pytest.mark.sweep(3)
@pytest.mark.finding("D3")
@pytest.mark.parametrize("fields", [Fields.ALL, "tag_text,comment_text", "link_category_id,call_outcomes"])
async def test_nested_columns_are_read_back_from_parquet(fields, tmp_path):
    """Given nested fields, when a frame is written to Parquet, then Dask, pandas and DuckDB read the same values back."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with sandbox.serve() as base_url:
        frame = read_calls(START, END, npartitions=6, session=session(base_url), fields=fields)

        def write_and_read():
            with dask.config.set(scheduler="threads"):
                frame.to_parquet(tmp_path)
                return frame.compute(), dask.dataframe.read_parquet(tmp_path).compute()

        computed, back = await asyncio.to_thread(write_and_read)
    expected = computed.reset_index().astype(object)
    for found in (back.reset_index(), pandas.read_parquet(tmp_path).reset_index()):
        pandas.testing.assert_frame_equal(found.astype(object), expected, check_names=False)
    assert duckdb.sql(f"select count(*) from '{tmp_path}/*.parquet'").fetchall() == [(300,)]
    nested = [name for name in ("tags", "comments", "categories") if name in computed]
    assert nested
    for name in nested:
        assert [json.loads(text) for text in computed[name].dropna()]


@pytest.mark.finding("D3")
@pytest.mark.parametrize(
    "scheduler", ["threads", pytest.param("processes", marks=[pytest.mark.subprocess, pytest.mark.slow])]
)
async def test_the_limit_of_requests_holds_over_threads_processes_and_frames(scheduler):
    """Given two frames with concurrency=2, when both are computed at once, then at most two requests run at a time."""
    sandbox = Sandbox(calls=600, start=START, end=END, faults=Faults(latency=0.05))
    async with sandbox.serve() as base_url:

        def compute(fields):
            frame = read_calls(
                START, END, npartitions=8, concurrency=2, session=session(base_url), fields=fields
            )
            return frame.compute(scheduler=scheduler, num_workers=3)

        frames = await asyncio.gather(
            *(asyncio.to_thread(compute, name) for name in ("id", "id,call_result"))
        )
    assert [list(frame["id"]) for frame in frames] == [sandbox.ids()] * 2
    assert sandbox.stats.peak_active_requests <= 2


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


CANARY = "canary-key-5309"


@pytest.mark.finding("C3")
@pytest.mark.parametrize(
    "secret",
    [
        {"session": {"username": "demo", "secure_key": CANARY}},
        {"session": {"username": "demo", "secure_key": "k", "proxy": f"http://user:{CANARY}@127.0.0.1:9"}},
        {"call_origin": CANARY},
    ],
    ids=["key", "proxy", "number of a filter"],
)
def test_no_credential_is_visible_in_the_frame(secret, capsys):
    """Given a key, a proxy's password or a number, then no repr, graph, name or pickle of the frame contains it."""
    frame = read_calls(START, END, npartitions=2, fields=["id"], **secret)
    frame.pprint()
    graph = dict(frame.optimize().dask)
    views = [repr(frame), str(frame.expr), repr(graph), str(graph), *map(str, graph), capsys.readouterr().out]
    views += [repr(frame.expr.operands), frame._repr_html_() if hasattr(frame, "_repr_html_") else ""]
    assert CANARY not in "".join(views)
    for data in (frame, graph):
        assert CANARY.encode() not in cloudpickle.dumps(data)


@pytest.mark.finding("C3")
def test_no_credential_is_visible_in_a_traceback_with_variables():
    """Given a key, when reading a partition fails, then a traceback that shows all variables does not contain it."""
    session = {
        "username": "demo",
        "secure_key": CANARY,
        "base_url": "http://127.0.0.1:9",
        "retry": RetryPolicy(max_attempts=1),
    }
    frame = read_calls(START, END, npartitions=1, fields=["id"], session=session)
    del session
    with pytest.raises(TransportError) as caught, dask.config.set(scheduler="sync"):
        frame.compute()
    formatted = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert CANARY not in "".join(formatted)


@pytest.mark.slow
@pytest.mark.finding("C3")
async def test_a_key_in_the_session_reaches_workers_in_other_processes():
    """Given a key in the session, when partitions are read by processes, then they are read with it."""
    sandbox = Sandbox(calls=50, start=START, end=END)
    async with sandbox.serve() as base_url:
        frame = read_calls(START, END, npartitions=2, session=session(base_url), fields=["id"])
        restored = pickle.loads(cloudpickle.dumps(frame))
        with dask.config.set(scheduler="processes", num_workers=1):
            computed = await asyncio.to_thread(restored.compute)
    assert list(computed["id"]) == sandbox.ids()
    assert restored._name == frame._name
