"""The client: its arguments, its time zone, and that it never shows the key."""

import asyncio
import copy
import logging
import os
import pickle
import traceback
import types
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
from support.sessions import endpoint

from iovox_async import (
    AsyncInsights,
    ConfigurationError,
    InsightsQuery,
    QueryError,
    RetryPolicy,
    SessionError,
)
from iovox_async.blocking import Insights
from iovox_async.events import BaseObserver
from iovox_async.sandbox import Sandbox

CANARY = "c4nary-k3y-0f-n0b0dy"


def test_credentials_are_read_from_the_environment(monkeypatch):
    """Given the three variables and no arguments, when a session is made, then it uses their values."""
    monkeypatch.setenv("IOVOX_USERNAME", "someone")
    monkeypatch.setenv("IOVOX_SECURE_KEY", CANARY)
    monkeypatch.setenv("IOVOX_URL", "http://127.0.0.1:1/rest/v1/")
    insights = AsyncInsights()
    assert insights.account == "someone at http://127.0.0.1:1/rest/v1"
    assert endpoint(insights)._sign() == [(b"username", b"someone"), (b"secureKey", CANARY.encode())]


BAD = [
    ({"username": None}, "IOVOX_USERNAME"),
    ({"secure_key": None}, "IOVOX_SECURE_KEY"),
    ({"username": ""}, "username"),
    ({"secure_key": CANARY + "\r\nx: y"}, "secure_key"),
    ({"secure_key": CANARY + "\n"}, "secure_key"),
    ({"secure_key": CANARY + "\0"}, "secure_key"),
    ({"secure_key": " " + CANARY}, "secure_key"),
    ({"secure_key": CANARY + "é"}, "secure_key"),
    ({"secure_key": 5}, "secure_key"),
    ({"base_url": "http://rest.iovox.com/rest/v1"}, "must use https"),
    ({"base_url": "https://me:pw@rest.iovox.com"}, "base_url"),
    ({"base_url": "https://rest.iovox.com/?x=1"}, "query"),
    ({"base_url": "rest.iovox.com"}, "base_url"),
    ({"base_url": "ftp://rest.iovox.com"}, "base_url"),
    ({"base_url": "https://["}, "base_url"),
    ({"concurrency": 0}, "concurrency"),
    ({"concurrency": True}, "concurrency"),
    ({"page_size": 20_001}, "page_size"),
    ({"page_size": 10**9}, "page_size must be between 1 and 20000, got 1000000000"),
    ({"page_size": 0}, "page_size"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "60"}, "timeout"),
    ({"timeout": timedelta(seconds=-1)}, "timeout"),
    ({"timezone": "Europe/Lundun"}, "timezone"),
    ({"timezone": "../../etc/passwd"}, "timezone"),
    ({"timezone": 5}, "timezone"),
    ({"proxy": "nonsense"}, "proxy"),
    ({"retry": 5}, "retry"),
    ({"allow_http": "no"}, "allow_http must be True or False, got 'no'"),
    ({"observer": 3}, "observer must have methods such as on_stream_started, got an object of int"),
    ({"observer": print}, "observer"),
    ({"observer": object()}, "observer"),
    ({"observer": BaseObserver}, "observer .* got the class BaseObserver"),
]


@pytest.mark.fault(62, 65)
@pytest.mark.parametrize(
    ("wrong", "named"), BAD, ids=[f"{next(iter(case[0]))}-{n}" for n, case in enumerate(BAD)]
)
def test_an_invalid_argument_is_an_error_without_the_key(wrong, named):
    """Given an invalid argument, when a session is made, then the error names it, and neither error nor traceback shows the key."""
    options = {"username": "demo", "secure_key": CANARY, **wrong}
    with pytest.raises(ConfigurationError, match=named) as caught:
        AsyncInsights(**options)
    assert CANARY not in "".join(traceback.TracebackException.from_exception(caught.value).format())
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in frames.stack if "iovox_async" in frame.filename]
    # The first of our frames is the constructor; what the caller's own variables hold is the caller's.
    assert ours
    assert all(CANARY not in str(frame.locals) for frame in ours)


@pytest.mark.parametrize(
    "name", ["max_attempts", "initial_backoff", "max_backoff", "total_timeout", "max_retry_after"]
)
def test_an_invalid_retry_policy_is_an_error(name):
    """Given an invalid value, when a RetryPolicy is made, then a ConfigurationError is raised."""
    for value in (-1, float("nan"), float("inf"), "5", None, True):
        with pytest.raises(ConfigurationError, match=name):
            RetryPolicy(**{name: value})
    assert RetryPolicy(total_timeout=timedelta(minutes=2)).total_timeout == 120.0


@pytest.mark.fault(63)
def test_the_key_appears_in_no_repr_of_a_session():
    """Given a session, when its attributes are shown at any depth, then the key is not; it cannot be pickled or copied."""
    insights = AsyncInsights("demo", CANARY, base_url="http://127.0.0.1:1")
    seen, todo = set(), [insights]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        assert CANARY not in repr(thing)
        members = getattr(thing, "__dict__", {}) | {
            name: getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ()) or ()
        }
        todo += [value for value in members.values() if not isinstance(value, type | types.ModuleType)]
    for escape in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError, match="pickled"):
            escape(insights)


@pytest.mark.parametrize("escape", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_streams_cannot_be_pickled_or_copied(escape):
    """Given what reads by a session, when it is pickled or copied, then an error says what to keep instead."""
    with Insights("demo", "demo-key") as blocking:
        async with AsyncInsights("demo", "demo-key") as insights:
            for session in (insights, blocking):
                stream, follower = session.stream("2024-01-01"), session.follow("2024-01-01")
                things = [stream, follower]
                if session is insights:
                    things += [aiter(stream), aiter(follower), insights.stream("2024-01-01").pages()]
                for thing in things:
                    with pytest.raises(SessionError, match=r"pickled.*Keep the position"):
                        escape(thing)


async def test_no_log_shows_the_key_or_a_phone_number(caplog):
    """Given logging at DEBUG, when calls are read with a phone number filter, then no record shows the key or the number."""
    caplog.set_level(logging.DEBUG)
    sandbox = Sandbox(calls=300, start="2024-01-01", end="2024-01-05", key=CANARY)
    number = sandbox.rows()[0]["call_origin"]
    async with sandbox.serve() as base_url, AsyncInsights("demo", CANARY, base_url=base_url) as insights:
        calls = await insights.stream("2024-01-01", "2024-01-05", call_origin=number).collect()
    assert calls
    assert caplog.records
    for record in caplog.records:
        assert CANARY not in record.getMessage() + str(record.__dict__)
        if record.levelno >= logging.INFO or record.name.startswith(("iovox", "http")):
            assert number not in record.getMessage()


async def test_a_time_zone_converts_dates_and_records(open_session):
    """Given a time zone, when aware dates are passed, then aware records are returned; without one, a QueryError is raised."""
    sandbox = Sandbox(calls=0, start="2024-07-01", end="2024-07-02")
    sandbox.add([{"call_start": f"2024-07-01 {hour:02}:30:00"} for hour in range(24)])
    async with sandbox.serve() as base_url:
        start, end = datetime(2024, 7, 1, 8, tzinfo=UTC), datetime(2024, 7, 1, 10, tzinfo=UTC)
        async with open_session(base_url, timezone="Europe/London") as insights:
            calls = await insights.stream(start, end).collect()
            stats = insights.stream(start, end).stats
        assert [call.call_start.hour for call in calls] == [9, 10]
        assert all(call.call_start.tzinfo == ZoneInfo("Europe/London") for call in calls)
        assert stats.complete_until.tzinfo is not None
        async with open_session(base_url) as insights:
            with pytest.raises(QueryError, match="timezone"):
                insights.stream(start, end)


@pytest.mark.fault(34, 39, 41)
async def test_dates_left_out_mean_this_month_until_now(open_session):
    """Given no dates, when a stream is made, then its range is this month until now, fixed at once."""
    insights = open_session(
        timezone="Europe/London", utcnow=lambda: datetime(2024, 2, 10, 12, 30, 45, tzinfo=UTC)
    )
    reading = insights.stream()._reader.spec
    assert (reading.start, reading.stop) == (datetime(2024, 2, 1), datetime(2024, 2, 10, 12, 30, 46))
    yesterday = insights.stream(query=InsightsQuery(date_constant="YESTERDAY"))._reader.spec
    assert (yesterday.start, yesterday.stop) == (datetime(2024, 2, 9), datetime(2024, 2, 10))
    assert insights.stream(date(2024, 2, 1)).stats.complete_until == datetime(
        2024, 2, 10, 10, 30, 45, tzinfo=UTC
    )
    assert insights.stream("2024-01-01", "2024-01-31").stats.complete_until == datetime(
        2024, 1, 31, 23, 59, 59, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"paging": "rows"}, "paging"),
        ({"paging": "windows", "order": "talk_time_ASC"}, "paging"),
        ({"max_calls": -1}, "max_calls"),
        ({"page_size": 20_001}, "page_size"),
        ({"on_error": "ignore"}, "on_error"),
        ({"order": "call_start"}, "order"),
        ({"fields": ["id", "nonsense"]}, "response_fields"),
        ({"call_results": "ANSWERED"}, "call_result"),
        ({"ordered": "no"}, "ordered must be True or False, got 'no'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_invalid_argument_of_a_stream_is_an_error(options, named, open_session):
    """Given an invalid argument, when a stream is made, then a QueryError that names it is raised before any request."""
    with pytest.raises(QueryError, match=named):
        open_session().stream("2024-01-01", "2024-01-02", **options)


async def test_an_invalid_page_size_of_one_request_is_an_error(open_session):
    """Given more rows than a page may have, when a page is requested, then a QueryError names `page_size`."""
    with pytest.raises(QueryError, match=r"^page_size must be between 1 and 20000, got 20001"):
        await open_session().page("2024-01-01", "2024-01-02", page_size=20_001)


@pytest.mark.fault(51)
async def test_a_session_belongs_to_one_loop_and_one_process(open_session, monkeypatch):
    """Given an open session, when it is used in another loop or after a fork, then a SessionError is raised."""
    sandbox = Sandbox(calls=10, start="2024-01-01", end="2024-01-02")
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        await insights.page("2024-01-01", "2024-01-02")

        def elsewhere():
            with pytest.raises(SessionError, match="event loop"):
                asyncio.run(insights.page("2024-01-01", "2024-01-02"))

        await asyncio.to_thread(elsewhere)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(SessionError, match="forked"):
            await insights.page("2024-01-01", "2024-01-02")
        monkeypatch.undo()


@pytest.mark.fault(66)
async def test_a_proxy_is_read_from_the_environment_only_on_request(monkeypatch, open_session):
    """Given HTTPS_PROXY, when `proxy` is not "environment", then the variable is ignored."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert endpoint(open_session())._connections.proxy is None
    for proxy, used in (("environment", "http://127.0.0.1:9"), ("socks5://127.0.0.1:1080",) * 2):
        assert endpoint(open_session(proxy=proxy))._connections.proxy == used


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "environment"])
def test_a_proxy_with_a_transport_is_an_error(proxy, open_session):
    """Given a transport, when a proxy is passed too, then a ConfigurationError with a hint is raised."""
    with pytest.raises(ConfigurationError, match="proxy cannot be combined with transport"):
        open_session(proxy=proxy, transport=httpx.AsyncHTTPTransport(proxy="http://127.0.0.1:9"))


async def test_a_session_can_be_closed_twice(open_session):
    """Given a session, when it is closed twice, then nothing is raised and no request is in flight."""
    sandbox = Sandbox(calls=10, start="2024-01-01", end="2024-01-02")
    async with sandbox.serve() as base_url:
        insights = open_session(base_url)
        await insights.page("2024-01-01", "2024-01-02")
        await insights.aclose()
        await insights.aclose()
    assert "0 of 8 requests in flight" in repr(insights)


@pytest.mark.finding("D9")
async def test_a_start_in_the_future_is_named_as_such(open_session):
    """Given a start that has not come yet and no end, then the error is about the start; with an end it is a range."""
    async with open_session() as insights:
        with pytest.raises(QueryError, match=r"^start_date \(9000-.* is in the future") as caught:
            insights.stream("9000-01-01")
        assert caught.value.parameter == "start_date"
        insights.stream("9000-01-01", "9000-01-02")
        with pytest.raises(QueryError, match=r"^end_date .* is before start_date"):
            insights.stream("9000-01-02", "9000-01-01")
