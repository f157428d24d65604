"""The blocking client on loopback: sessions, streams, followers and backfills in scripts, threads and beside a loop."""

import asyncio
import gc
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.sandbox import shared_sandbox

from iovox_async import (
    BackfillError,
    ConfigurationError,
    InsightsQuery,
    QueryError,
    RequestTimeout,
    RetryPolicy,
    ServerError,
    SessionError,
)
from iovox_async.blocking import Backfill, Insights, _thread
from iovox_async.events import BaseObserver
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-03-31"
NO_RETRIES = RetryPolicy(max_attempts=1)


served, sandbox = shared_sandbox(calls=2_000)


@pytest.fixture
def make(served, sandbox):
    """Makes sessions for the sandbox."""
    return lambda **options: Insights("demo", "demo-key", base_url=served[1], **options)


@pytest.fixture
def insights(make):
    with make() as insights:
        yield insights


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    threads = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        if thread.name == "iovox_async":
            thread.join(10)
            assert not thread.is_alive()


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited for 30 seconds"
        time.sleep(0.005)


# Reading.


def test_given_a_range_when_streamed_then_each_call_comes_once_in_order(insights, sandbox):
    """Given calls in a range, when they are read as calls, a list and pages, then all are there; the stats agree."""
    with insights.stream(START, END, page_size=300) as calls:
        assert [call.id for call in calls] == sandbox.ids()
    assert (calls.stats.calls, calls.stats.progress) == (2_000, 1.0)
    assert [call.id for call in insights.stream(START, END).collect()] == sandbox.ids()
    pages = list(insights.stream(START, END, page_size=300).pages())
    assert [call.id for page in pages for call in page.calls] == sandbox.ids()
    assert list(calls) == []


def test_given_ids_and_pages_when_requested_then_they_are_returned(insights, sandbox):
    """Given `page` and `get`, when called, then they return what the async methods return."""
    page = insights.page(START, END, page_size=5, order="call_start_ASC")
    assert [call.id for call in page.calls] == sandbox.ids()[:5]
    assert [call.id for call in insights.get(sandbox.ids()[3], sandbox.ids()[1])] == [
        sandbox.ids()[3],
        sandbox.ids()[1],
    ]
    view = insights.with_options(page_size=7)
    with view:
        assert len(next(view.stream(START, END).pages()).calls) <= 7
    assert insights.page(START, END, page_size=1).calls, "closing a view closes nothing"
    assert insights.timezone is None
    assert insights.account.startswith("demo at ")
    assert "0 of 8 requests" in repr(insights)


def test_given_a_position_when_resumed_then_the_other_calls_follow(insights, sandbox):
    """Given a stream that was left, when another resumes at its position, then exactly the later calls come."""
    calls = insights.stream(START, END, page_size=100)
    first = [next(iter(calls)).id]
    for call in calls:
        first.append(call.id)
        if len(first) == 150:
            break
    resumed = insights.stream(START, END, resume=calls.position)
    assert first + [call.id for call in resumed] == sandbox.ids()


def test_given_new_calls_when_followed_then_each_comes_once(make):
    """Given calls before and after the first poll, when following, then each comes once, and closing ends it."""
    sandbox = Sandbox(calls=700)
    with sandbox.serve() as url, Insights("demo", "demo-key", base_url=url) as insights:
        with insights.follow(START, interval=0.01) as calls:
            delivered = []
            for call in calls:
                delivered.append(call.id)
                if len(delivered) == 700:
                    assert delivered == sandbox.ids()
                    sandbox.add([{"call_start": "2024-03-31 23:00:00"}])
                if len(delivered) == 701:
                    break
            assert delivered[-1] not in delivered[:-1]
            assert calls.latest_call_start.hour == 23
            assert (calls.poll_count >= 1, calls.failed_polls) == (True, 0)
        with pytest.raises(SessionError, match="following has ended"):
            next(iter(calls))


def test_given_a_directory_when_backfilled_then_it_holds_the_calls(insights, sandbox, tmp_path):
    """Given a query, when it is backfilled and verified, then the report and the progress count all calls."""
    progress = []
    query = InsightsQuery(start_date=START, end_date=END)
    job = Backfill(insights, query, tmp_path, "jsonl", "month", on_progress=progress.append)
    assert job.run().calls == 2_000
    assert job.verify().mismatched_partitions == ()
    assert progress
    assert job.progress.partitions_total == 3
    with pytest.raises(BackfillError):
        next(job.changes())
    with pytest.raises(ConfigurationError, match=r"blocking\.Insights, got int"):
        Backfill(1, query, tmp_path)


# Errors.


def test_given_faults_when_read_then_errors_are_those_of_the_async_client(make, sandbox):
    """Given an endpoint that fails or hangs, when read, then the error is the client's own, with its position."""
    with make(retry=NO_RETRIES) as insights:
        with pytest.raises(QueryError, match="nonsense"):
            insights.page(START, END, nonsense=1)
        sandbox.faults = Faults(fail_after=3)
        calls = insights.stream(START, END, page_size=50)
        with pytest.raises(ServerError) as failure:
            list(calls)
        assert failure.value.position == calls.position
        sandbox.faults = Faults(kinds="hang", fail_after=0)
        with pytest.raises(RequestTimeout):
            insights.with_options(timeout=0.05).page(START, END)


def test_given_a_closed_session_when_used_then_the_error_says_how_to_open_one(make):
    """Given a session that was closed, also unused and twice, when used, then SessionError; stats can still be read."""
    with make() as insights:
        calls = insights.stream(START, END, page_size=50)
        next(iter(calls))
    insights.close()
    with pytest.raises(SessionError, match="with Insights"):
        insights.page(START, END)
    with pytest.raises(SessionError, match="closed"):
        list(calls)
    assert 1 <= calls.stats.calls <= 50
    calls.close()
    unused = make()
    unused.close()
    with pytest.raises(SessionError, match="closed"), unused:
        pass


def test_given_an_observer_when_it_uses_the_session_then_an_error_and_not_a_deadlock(make):
    """Given an observer, which the session's thread calls, when it uses the session, then SessionError names the reason."""
    errors = []

    class Observer(BaseObserver):
        def on_request_finished(self, event):
            try:
                insights.page(START, END)
            except SessionError as error:
                errors.append(str(error))

    with make(observer=Observer()) as insights:
        insights.page(START, END, page_size=1)
    assert "its own thread" in errors[0]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
def test_given_a_function_that_raises_when_the_session_calls_it_then_the_session_goes_on(make, error):
    """Given a source of time that raises anything, when a page is requested, then the caller gets it and no thread dies."""

    async def fail():
        raise error

    with make() as insights:
        with pytest.raises(error):
            insights._thread.run(fail)
        assert insights.page(START, END, page_size=1).calls


def test_given_an_async_iterator_when_iterated_in_the_thread_then_all_items_come_and_it_is_closed(make):
    """Given an async generator, when its items are read to the end or left, then it is closed in the loop."""
    closed = []

    async def count():
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append(True)

    with make() as insights:
        assert list(insights._thread.iterate(count())) == [0, 1, 2]
        assert next(insights._thread.iterate(count())) == 0
        gc.collect()
        assert len(closed) == 2


def test_given_a_session_when_copied_or_misused_then_the_errors_are_clear(insights):
    """Given a session, when it is pickled or made with a wrong key, then the message says why and shows no key."""
    with pytest.raises(ConfigurationError, match="cannot be pickled"):
        pickle.dumps(insights)
    with pytest.raises(ConfigurationError) as failure:
        Insights("demo", "wrong\nkey")
    frame = failure.value.__traceback__.tb_next
    while frame:
        assert "wrong" not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


def test_given_short_waits_when_work_takes_longer_then_results_and_errors_are_the_same(make, monkeypatch):
    """Given waits that end by themselves, as on Windows, when work takes longer or raises TimeoutError, then nothing changes."""
    monkeypatch.setattr(_thread, "WAIT", 0.001)

    async def work(error=None):
        await asyncio.sleep(0.01)
        if error:
            raise error
        return 7

    with make() as insights:
        assert insights._thread.run(work) == 7
        for error in (TimeoutError("ours"), ZeroDivisionError()):
            with pytest.raises(type(error)):
                insights._thread.run(work, error)


# Threads and loops.


def test_given_several_threads_when_they_share_a_session_and_a_stream_then_nothing_is_lost(insights, sandbox):
    """Given a stream that eight threads read, when it ends, then each call went to one of them; so for one session."""
    calls, delivered = insights.stream(START, END, page_size=50), []

    def work():
        for call in calls:
            delivered.append(call.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(delivered) == sorted(sandbox.ids())
    with ThreadPoolExecutor(8) as pool:
        days = [f"2024-01-{day:02d}" for day in range(1, 32)]
        read = list(pool.map(lambda day: [call.id for call in insights.stream(day, day)], days))
    assert read == [sandbox.ids(day, day) for day in days]


def test_given_a_running_loop_when_the_blocking_client_is_used_in_it_then_it_works(make, sandbox):
    """Given a notebook, which runs its cells in a loop, when a cell reads calls, then they come."""

    async def cell():
        with make() as insights:
            return [call.id for call in insights.stream(START, END)]

    assert asyncio.run(cell()) == sandbox.ids()


def test_given_a_waiting_thread_when_another_closes_then_it_gets_an_error(make, sandbox):
    """Given a thread that waits for a page that hangs, when another closes stream or session, then the wait ends."""
    sandbox.faults = Faults(kinds="hang", fail_after=0)
    for target in ("session", "stream", "follower"):
        insights = make()
        source = insights.follow(START) if target == "follower" else insights.stream(START, END)
        waited = ThreadPoolExecutor(1).submit(list, source)
        wait_until(lambda: sandbox.stats.active_requests)
        (insights if target == "session" else source).close()
        assert isinstance(waited.exception(timeout=30), SessionError)
        insights.close()
        wait_until(lambda: not sandbox.stats.active_requests)


# Leaving early.


def test_given_a_stream_when_it_is_left_then_its_requests_end(insights, sandbox):
    """Given a loop that ends by `break`, an error or `with`, when the stream is dropped, then nothing is in flight."""
    throttle = insights._insights._connection.throttle

    def leave_by_break():
        for _ in insights.stream(START, END, page_size=20):
            break

    def leave_by_error():
        with pytest.raises(ZeroDivisionError):
            for _ in insights.stream(START, END, page_size=20):
                raise ZeroDivisionError

    def leave_a_follower():
        for _ in insights.follow(START):
            break

    def leave_pages():
        next(insights.stream(START, END, page_size=20).pages())

    for leave in (leave_by_break, leave_by_error, leave_a_follower, leave_pages):
        leave()
        gc.collect()
        wait_until(lambda: not throttle.in_flight)
    with insights.stream(START, END, page_size=20) as calls:
        reading = iter(calls)
        next(reading)
    assert not throttle.in_flight
    with pytest.raises(SessionError, match="the stream is closed"):
        next(reading)
    assert calls.stats.calls == 1


@pytest.mark.filterwarnings("ignore:a session was not closed:ResourceWarning")
def test_given_a_session_that_is_dropped_when_collected_then_its_thread_ends(make):
    """Given a session that nobody closes, when it is dropped with its streams, then its thread ends, with a warning."""
    insights = make()
    calls = insights.stream(START, END, page_size=20)
    next(iter(calls))
    thread = insights._thread._loop.thread
    del insights
    gc.collect()
    assert thread.is_alive(), "the stream still uses it"
    holder = [calls]
    del calls
    with pytest.warns(ResourceWarning, match=r"test_blocking_session\.py:\d+\. Use with"):
        holder.clear()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals reach a given thread on POSIX only")
@pytest.mark.parametrize("what", ["calls", "pages", "follower", "page"])
def test_given_a_wait_when_interrupted_then_it_ends_at_once_and_the_next_step_loses_nothing(
    make, sandbox, what, monkeypatch
):
    """Given a page that does not come, when Ctrl-C is pressed, then KeyboardInterrupt; reading goes on without a gap."""
    main = threading.main_thread()
    if threading.current_thread() is not main:
        pytest.skip("the test does not run in the main thread")
    with make(concurrency=1, page_size=100) as insights:
        stream = insights.stream(START, END)
        follower = insights.follow(START, interval=0.01)
        readers = {"page": None, "follower": follower._follower._state}
        reader = readers.get(what, stream._stream._reader)
        endpoint = insights._insights._connection.endpoint
        get_page, requests, delivered = endpoint.get_page, [], []

        async def get_page_late(*args, **options):
            requests.append(args)
            if len(requests) == 5:
                # The main thread waits for a step, which cannot end while this one runs in the loop's thread.
                while reader is not None and not reader._is_stepping:
                    await asyncio.sleep(0.001)
                signal.pthread_kill(main.ident, signal.SIGINT)
                await asyncio.sleep(0.05)
            return await get_page(*args, **options)

        monkeypatch.setattr(endpoint, "get_page", get_page_late)

        source = {"calls": stream, "follower": follower}.get(what)
        items = iter(source or stream.pages())  # one iterator: an interruption does not end it

        def read(count=None):
            for item in items:
                delivered.append(item)
                if len(delivered) == count:
                    return

        with pytest.raises(KeyboardInterrupt):
            if what == "page":
                while True:
                    insights.page(START, END)
            read()
        if what == "page":
            assert insights.page(START, END, page_size=1).calls
            return
        read(2_000)
        calls = [call for page in delivered for call in page.calls] if what == "pages" else delivered
        assert [call.id for call in calls] == sandbox.ids()
