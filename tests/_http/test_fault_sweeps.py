"""Sweeps: each kind of fault at each request."""

import asyncio
from urllib.parse import parse_qs

import pytest
from support.faults import every_engine, every_engine_slow
from support.sandbox import reset
from support.sessions import endpoint, requests_in_flight

from iovox_async import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    IovoxError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeout,
    RetryPolicy,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from iovox_async.sandbox import FAULT_KINDS, Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def read(stream, into):
    """Appends the ids of a stream's calls to a list."""
    async for call in stream:
        into.append(call.id)


async def read_columns(stream, into):
    """Appends the ids of a stream's Arrow batches to a list."""
    async for batch in stream.arrow():
        into += batch.column("id").to_pylist()


async def outcome(work):
    """The IovoxError that work raises, or None."""
    try:
        await work
    except IovoxError as error:
        return error
    return None


#: Kind of fault: the error it ends in if it lasts, and whether it is retried.
EXPECTED = {
    **dict.fromkeys(("500", "502", "503", "504", "408"), (ServerError, True)),
    "429": (RateLimitError, True),
    "302": (UnexpectedRedirectError, False),
    "401": (AuthenticationError, False),
    "403": (PermissionDeniedError, False),
    "404": (BadRequestError, False),
    **dict.fromkeys(("cut", "cut_chunked", "close", "reset", "reset_midway"), (TransportError, True)),
    **dict.fromkeys(("cut_clean", "gzip_cut", "gzip_no_trailer", "gzip_crc"), (DecodeError, True)),
    **dict.fromkeys(("garbage", "empty", "html"), (DecodeError, True)),
    **dict.fromkeys(("hang", "hang_midway", "drip"), (RequestTimeout, True)),
}
TIMEOUTS = {"hang", "hang_midway", "drip"}
RETRIED = [kind for kind in FAULT_KINDS if EXPECTED[kind][1]]


@pytest.mark.sweep(5)
@pytest.mark.fault(5, 12, 15, 23)
@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        *((kind, "httpx") for kind in FAULT_KINDS),
        *(
            pytest.param(kind, "aiohttp", marks=pytest.mark.slow)
            for kind in FAULT_KINDS
            if not kind.isdigit()
        ),
    ],
)
async def test_a_fault_at_any_request_ends_in_all_calls_or_a_typed_error(kind, open_session):
    """Given a fault at request 1, 2, 3, ... once or lasting, when a stream is read, then it delivers all calls, or the correct first ones and a typed error."""
    await sweep(kind, open_session, read)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in {"cut", "garbage"} else pytest.mark.slow)
        for kind in FAULT_KINDS
        if kind not in TIMEOUTS and not kind.isdigit()
    ],
)
async def test_a_fault_at_any_request_of_an_arrow_stream_ends_in_all_calls_or_a_typed_error(
    kind, open_session
):
    """Given a fault at any request, when Arrow batches are read, then the result is the same as for records."""
    await sweep(kind, open_session, read_columns)


async def sweep(kind, open_session, read):
    sandbox = Sandbox(calls=130, start=START, end=END)
    truth = sandbox.ids()
    expected, retried = EXPECTED[kind]
    async with sandbox.serve() as base_url:
        for lasting in (False, True):
            number, touched = 0, True
            while touched:
                number += 1
                # Faults that end in a timeout take real time: lasting ones only at the first request.
                if lasting and kind in TIMEOUTS and number > 1:
                    break
                options = {}
                if kind in TIMEOUTS:
                    # On a busy machine, other requests time out as well: they need more attempts.
                    options = {"timeout": 0.06, "retry": RetryPolicy(max_attempts=2 if lasting else 15)}
                which = {"fail_after": number - 1} if lasting else {"fail_at": (number,)}
                # In a thread, since connections of the session before may still have to be closed in this loop.
                await asyncio.to_thread(reset, sandbox, base_url, kinds=kind, drip_interval=0.02, **which)
                delivered = []
                async with open_session(base_url, concurrency=2, **options) as insights:
                    stream = insights.stream(START, END, page_size=40)
                    error = await outcome(read(stream, delivered))
                    touched = error is not None or sandbox.stats.requests >= number
                    if error is None:
                        assert retried or not touched
                    else:
                        assert lasting or not retried
                        assert type(error) is expected
                        assert delivered == truth[: len(delivered)]
                    assert requests_in_flight(insights) == 0
                    if error is not None and expected not in {AuthenticationError, PermissionDeniedError}:
                        sandbox.faults = Faults()
                        async with open_session(base_url) as other:
                            await read(
                                other.stream(START, END, page_size=40, resume=error.position), delivered
                            )
                    assert delivered == truth or type(error) in {AuthenticationError, PermissionDeniedError}
            assert number > 3 or kind in TIMEOUTS


@pytest.mark.sweep(9)
@every_engine_slow
@pytest.mark.parametrize("kind", sorted(set(FAULT_KINDS) - TIMEOUTS))
async def test_a_fault_at_one_request_of_page_and_get_is_retried_or_raised(kind, open_session):
    """Given a fault at one request, when page or get is used, then it is retried or raised as in a stream."""
    sandbox = Sandbox(calls=20, start=START, end=END, faults=Faults(fail_at=(1, 3), kinds=kind))
    expected, retried = EXPECTED[kind]
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        if retried:
            assert len((await insights.page(START, END)).calls) == 20
            assert [call.id for call in await insights.get(sandbox.ids())] == sandbox.ids()
        else:
            with pytest.raises(expected):
                await insights.page(START, END)


LENGTHS = [(0, 50, 8), (1, 50, 1), (50, 50, 4), (51, 50, 8), (400, 20, 1), (3_000, 50, 8)]


@pytest.mark.sweep(5)
@every_engine_slow
@pytest.mark.parametrize(("calls", "page_size", "concurrency"), LENGTHS)
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_stream_is_exact_when_every_seventh_request_fails(
    calls, page_size, concurrency, order, engine, open_session
):
    """Given a random fault at every seventh request, when a stream is read, then it delivers all calls, and retries stay within the budget."""
    # Not "html": a login page is retried only once.
    kinds = [kind for kind in RETRIED if kind not in TIMEOUTS | {"html"}]
    sandbox = Sandbox(calls=calls, start=START, end=END, seed=calls, faults=Faults(every_nth=7, kinds=kinds))
    truth = sandbox.ids()
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        stream = insights.stream(START, END, order=order, page_size=page_size)
        delivered = [call.id async for call in stream]
        assert delivered == (truth if order.endswith("ASC") else truth[::-1])
        stats, gate = stream.stats, insights._connection.throttle
        # aiohttp repeats a request itself if the connection is lost before the response.
        lost = sum(request.outcome in {"close", "reset"} for request in sandbox.requests)
        assert 0 <= sandbox.stats.requests - stats.requests <= (lost if engine == "aiohttp" else 0)
        assert stats.retries <= 0.2 * stats.requests + 20
        assert gate.retries <= 0.2 * gate.requests + 20
        assert gate.in_flight == 0


@pytest.mark.sweep(5)
@pytest.mark.fault(54)
@pytest.mark.parametrize("concurrency", [1, 4, 8])
@pytest.mark.parametrize("after", [0, 9], ids=["from the start", "in the middle"])
@pytest.mark.parametrize("kind", ["500", "503"])
async def test_a_lasting_failure_ends_in_one_error_without_a_retry_storm(
    kind, after, concurrency, open_session, clock
):
    """Given a server that stays down, when a stream is read, then one unwrapped error is raised within total_timeout."""
    sandbox = Sandbox(calls=1_000, start=START, end=END, faults=Faults(fail_after=after, kinds=kind))
    policy = RetryPolicy()
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        began, delivered = clock.now, []
        with pytest.raises(ServerError) as caught:
            await read(insights.stream(START, END, page_size=40), delivered)
        assert type(caught.value) is ServerError
        assert caught.value.status_code == int(kind)
        assert clock.now - began <= policy.total_timeout
        assert sandbox.stats.requests - after <= policy.max_attempts * concurrency
        assert delivered == sandbox.ids()[: len(delivered)]


@pytest.mark.fault(54)
async def test_many_callers_in_an_outage_cause_no_retry_storm(open_session, clock):
    """Given an outage of hours, when 150 callers request pages, then requests stay within the retry budget."""
    sandbox = Sandbox(calls=10, start=START, end=END, faults=Faults(fail_after=0))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        for _ in range(6):
            callers = [insights.page(START, END) for _ in range(25)]
            for result in await asyncio.gather(*callers, return_exceptions=True):
                assert type(result) is ServerError
            clock.now += 1800
        work = 6 * 25
        assert sandbox.stats.requests <= 1.2 * work + 20
        sandbox.faults = Faults()
        assert len((await insights.page(START, END)).calls) == 10


@pytest.mark.fault(21)
@every_engine
async def test_a_rejected_account_gets_no_more_requests(open_session, clock):
    """Given a 401, when 50 callers request pages, then at most 4 requests are sent, and none in the next 30 seconds."""
    sandbox = Sandbox(calls=10, start=START, end=END, faults=Faults(fail_after=0, kinds="401"))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=4) as insights:
        callers = [insights.page(START, END) for _ in range(50)]
        for result in await asyncio.gather(*callers, return_exceptions=True):
            assert type(result) is AuthenticationError
        sent = sandbox.stats.requests
        assert sent <= 4
        # A stream that may not send its first request raises the error unwrapped too.
        with pytest.raises(AuthenticationError, match="IP addresses"):
            await insights.stream(START, END).collect()
        assert sandbox.stats.requests == sent
        sandbox.faults = Faults()
        clock.now += 31
        assert len(await insights.stream(START, END).collect()) == 10


@pytest.mark.sweep(9)
@pytest.mark.fault(25)
@every_engine_slow
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", ["500", "504", "reset", "cut"])
async def test_a_failing_window_is_split_and_the_size_is_remembered(kind, concurrency, open_session):
    """Given a server that fails above 300 rows, when a stream is read, then it delivers all calls, and later requests are small."""
    sandbox = Sandbox(calls=6_000, start=START, end=END, faults=Faults(fail_above_rows=300, kinds=kind))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=concurrency) as insights:
        stream = insights.stream(START, END, page_size=1_000)
        if kind == "reset":
            # A lost connection is not a sign that the window is too large.
            with pytest.raises(TransportError):
                await stream.collect()
            return
        assert [call.id async for call in stream] == sandbox.ids()
        assert stream.stats.window_splits >= 2
        limits = [int(parse_qs(request.query)["limit"][0]) for request in sandbox.requests]
        outcomes = [request.outcome for request in sandbox.requests]
        # Two sizes fail; the windows in flight are requested three times with the first, and again with the second. After sixteen
        # full pages, the larger size is tried once more.
        assert outcomes.count(kind) <= 7 * concurrency
        assert sum(limit <= 300 for limit in limits) >= 6_000 / 300
        assert limits[-1] <= 300


RETRY_AFTER = {
    "seconds": ("3", 3),
    "a fraction": ("1.5", 1.5),
    "the maximum": ("120", 120),
    "nothing": ("0", 0),
    "in the past": ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    "a date that is none": ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    "negative": ("-5", None),
    "no number": ("nan", None),
    "words": ("soon", None),
    "absent": (None, None),
}


@pytest.mark.sweep(9)
@pytest.mark.fault(24)
@every_engine_slow
@pytest.mark.parametrize(("value", "wait"), RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
@pytest.mark.parametrize("kind", ["429", "503"])
async def test_a_valid_retry_after_is_observed(kind, value, wait, open_session, clock):
    """Given a Retry-After header, when it is valid, then the retry waits that long, else as long as the backoff."""
    faults = Faults(fail_at=(1,), kinds=kind, retry_after=value)
    sandbox = Sandbox(calls=10, start=START, end=END, faults=faults)
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        began = clock.now
        assert len((await insights.page(START, END)).calls) == 10
    took = clock.now - began
    assert (wait or 0) <= took <= max(wait or 0, 10 * RetryPolicy().initial_backoff)


@pytest.mark.sweep(6)
@pytest.mark.fault(24)
@every_engine
@pytest.mark.parametrize("value", ["121", "3600", "9" * 400, "Thu, 31 Dec 2099 23:59:59 GMT"])
async def test_a_retry_after_beyond_the_maximum_is_raised_with_its_length(value, open_session, clock):
    """Given a Retry-After above the maximum, when a stream is read, then the error has its length, after one request."""
    sandbox = Sandbox(
        calls=10, start=START, end=END, faults=Faults(fail_after=0, kinds="503", retry_after=value)
    )
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        with pytest.raises(ServerError, match=r"(?i)wait") as caught:
            await insights.stream(START, END).collect()
    assert caught.value.retry_after > 120
    assert clock.waits == []
    assert sandbox.stats.requests == 1


@pytest.mark.fault(49)
async def test_a_second_failure_is_a_note_of_the_first(open_session):
    """Given two requests that fail together, when the first error is raised, then the other is noted in it."""
    sandbox = Sandbox(calls=500, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        real, both = endpoint(insights).get_page, asyncio.Barrier(2)
        answered = 0

        async def planted(params, **options):
            nonlocal answered
            answered += 1
            if answered == 1:
                return await real(params, **options)
            mine = BadRequestError(400, ("one",)) if answered == 2 else DecodeError("the other")
            await both.wait()
            raise mine

        endpoint(insights).get_page = planted
        with pytest.raises((BadRequestError, DecodeError)) as caught:
            await insights.stream(START, END, page_size=40).collect()
        text = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
        assert "one" in text
        assert "the other" in text
