"""Simulates outages with a virtual clock: the server cannot be reached for a while, and requests that were in flight are lost."""

import asyncio
import bisect
import errno
import json
import random
from datetime import datetime, timedelta
from urllib.parse import parse_qs

import httpx
import pytest
from support.faults import RawServer, http_answer
from support.scripted import Script, new_throttle, now, run_skipping_time
from support.sessions import requests_in_flight

from iovox_async import AsyncInsights, IovoxError, RetryPolicy, TransportError
from iovox_async._http.budgets import BUDGET_RESERVE
from iovox_async._http.failures import RetryableFailure
from iovox_async._runtime import Runtime, use_runtime

START, END = "2024-01-01", "2024-01-31"
CALLS = [(str(datetime(2024, 1, 1) + timedelta(seconds=800 * n)), n + 1) for n in range(3_000)]
IDS = [call_id for _, call_id in CALLS]

#: The others are in the slow run.
DEFAULT_RUN = {(1, 60), (8, 2), (16, 1), (16, 240), (64, 1), (64, 10)}


def respond(request):
    """The page that the endpoint would send."""
    query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
    first = bisect.bisect_left(CALLS, (query["start_date"], 0))
    rows = CALLS[first : bisect.bisect_right(CALLS, (query["end_date"], 10**9))][: int(query["limit"])]
    page = [{"id": call_id, "call_start": start} for start, call_id in rows]
    return httpx.Response(200, stream=httpx.ByteStream(json.dumps(page).encode()))


class Network(httpx.AsyncBaseTransport):
    """A server that cannot be reached from `down` for `length` seconds; requests in flight at that moment are lost."""

    def __init__(self, *, down, length, latency=0.2, failure=httpx.ConnectError):
        self._begin, self._end = down, down + length
        self._latency, self._failure = latency, failure
        self.sent = self.refused = self.lost = self.at_a_time = self.peak_refused = 0

    @property
    def _is_down(self):
        return self._begin <= now() < self._end

    async def handle_async_request(self, request):
        self.sent += 1
        if self._is_down:
            self.refused += 1
            self.at_a_time += 1
            self.peak_refused = max(self.peak_refused, self.at_a_time)
            await asyncio.sleep(0.001)
            self.at_a_time -= 1
            raise self._failure("All connection attempts failed")
        started = now()
        await asyncio.sleep(self._latency)
        if started < self._begin <= now():
            self.lost += 1
            raise httpx.ReadError("Connection reset by peer")
        return respond(request)


def open_on(network, concurrency, **options):
    """A session whose time is that of the skipping loop."""
    with use_runtime(Runtime(clock=now, sleep=asyncio.sleep, random=random.Random(concurrency))):
        return AsyncInsights(
            "demo",
            "demo-key",
            base_url="https://rest.iovox.test/rest/v1",
            transport=network,
            concurrency=concurrency,
            **options,
        )


@pytest.mark.sweep(3)
@pytest.mark.finding("B10")
@pytest.mark.parametrize("down", [0.0, 0.3], ids=["from the start", "with requests in flight"])
@pytest.mark.parametrize(
    ("concurrency", "length"),
    [
        pytest.param(
            concurrency, length, marks=[] if (concurrency, length) in DEFAULT_RUN else pytest.mark.slow
        )
        for concurrency in (1, 2, 8, 16, 64)
        for length in (1, 2, 10, 60, 240)
    ],
)
def test_an_outage_shorter_than_total_timeout_is_survived(concurrency, length, down):
    """Given an outage of 1 s to 4 min, when a stream is read with default settings at any concurrency, then all calls arrive."""

    async def main():
        network = Network(down=down, length=length)
        async with open_on(network, concurrency, page_size=30) as insights:
            calls = [call.id async for call in insights.stream(START, END)]
            throttle = insights._connection.throttle
            assert throttle.retries <= throttle.requests / 5 + BUDGET_RESERVE
        assert calls == IDS
        assert network.lost >= (0 if down == 0 else min(concurrency, 30))
        # All that were sent together find out together; then one probes at a time.
        assert network.refused <= concurrency + 40

    run_skipping_time(main)


def refuse(message):
    """What httpx raises where nothing listens at the address."""
    error = httpx.ConnectError(message)
    error.__cause__ = ExceptionGroup("", [ConnectionRefusedError(errno.ECONNREFUSED, message)] * 2)
    return error


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("length", [5, 60])
def test_a_server_that_has_never_answered_is_waited_for_only_shortly(concurrency, length):
    """Given an address at which nothing listens from the start, then it is waited for 10 s, and later streams try again."""

    async def main():
        network = Network(down=0, length=length, failure=refuse)
        async with open_on(network, concurrency, page_size=30) as insights:
            if length > 10:
                for _ in range(2):
                    begun = now()
                    with pytest.raises(TransportError, match="Check the address"):
                        await insights.stream(START, END).collect()
                    assert 9 <= now() - begun <= 10.1
                await asyncio.sleep(length)
            assert [call.id async for call in insights.stream(START, END)] == IDS

    run_skipping_time(main)


def test_a_server_that_has_answered_once_is_waited_for_although_it_refuses_connections():
    """Given a server that refuses connections for a minute after it has answered, when a stream is read, then all calls arrive."""

    async def main():
        network = Network(down=0.7, length=60, failure=refuse)
        async with open_on(network, 4, page_size=30) as insights:
            assert [call.id async for call in insights.stream(START, END)] == IDS
        assert network.refused

    run_skipping_time(main)


@pytest.mark.sweep(3)
@pytest.mark.finding("B10")
@pytest.mark.parametrize("length", [301, 600])
@pytest.mark.parametrize("concurrency", [1, 16, 64])
def test_an_outage_beyond_total_timeout_is_raised_with_its_length_and_a_position(concurrency, length):
    """Given an outage beyond total_timeout, when a stream is read, then the error has its length, and a position that goes on."""

    async def main():
        network = Network(down=0.7, length=length)
        async with open_on(network, concurrency, page_size=30) as insights:
            first = []
            with pytest.raises(TransportError, match=r"unreachable for (29\d|300) seconds") as caught:
                async for call in insights.stream(START, END):
                    first.append(call.id)
            assert 290 <= now() - 0.7 <= 301
            assert caught.value.position or not first
            assert requests_in_flight(insights) == 0
            await asyncio.sleep(length)
            rest = [call.id async for call in insights.stream(START, END, resume=caught.value.position)]
        assert first + rest == IDS

    run_skipping_time(main)


@pytest.mark.finding("B10")
@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, ConnectionRefusedError])
def test_every_way_not_to_connect_is_an_outage(failure):
    """Given connections that are refused or time out, when a stream is read, then the outage is survived in the same way."""

    async def main():
        network = Network(down=0.3, length=30, failure=failure)
        async with open_on(network, 16, page_size=30) as insights:
            assert len(await insights.stream(START, END).collect()) == 3_000

    run_skipping_time(main)


@pytest.mark.finding("B10")
def test_independent_requests_share_one_probe():
    """Given 50 requests while the server cannot be reached, when it can be reached again, then probes went one at a time."""

    async def main():
        throttle, at_a_time, peak = new_throttle(50), 0, 0

        async def send(_):
            nonlocal at_a_time, peak
            at_a_time += 1
            peak = max(peak, at_a_time if now() > 1 else 0)
            await asyncio.sleep(0.01)
            at_a_time -= 1
            if now() < 40:
                raise RetryableFailure(TransportError("refused"), unreachable=True)
            return now()

        ends = await asyncio.gather(*(throttle.run(send, RetryPolicy()) for _ in range(50)))
        assert peak <= 50
        assert max(ends) < 80
        assert throttle.retries <= BUDGET_RESERVE
        assert throttle.pause is None

    run_skipping_time(main)


@pytest.mark.finding("B10")
@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_the_server_gets_one_request_then_two_then_more_after_an_outage(concurrency):
    """Given requests that wait for a server, when it can be reached again, then they do not all arrive at the same moment."""

    async def main():
        throttle, active = new_throttle(concurrency), 0

        async def send(_):
            nonlocal active
            if now() < 5:
                raise RetryableFailure(TransportError("refused"), unreachable=True)
            active += 1
            levels.append(active)
            await asyncio.sleep(1)
            active -= 1

        levels = []
        await asyncio.gather(*(throttle.run(send, RetryPolicy()) for _ in range(concurrency)))
        assert levels[0] == 1
        assert max(levels[:3], default=1) <= 2

    run_skipping_time(main)


@pytest.mark.finding("B10")
def test_one_attempt_means_no_retry_in_an_outage_either():
    """Given max_attempts=1, when the server cannot be reached, then each request fails at once, and none waits for another."""

    async def main():
        throttle = new_throttle()
        for _ in range(3):
            script = Script(lambda: RetryableFailure(TransportError("refused"), unreachable=True))
            with pytest.raises(TransportError, match=r"^refused$"):
                await throttle.run(script, RetryPolicy(max_attempts=1))
            assert (len(script.times), now()) == (1, 0.0)

    run_skipping_time(main)


@pytest.mark.finding("B10")
def test_a_cancelled_probe_is_followed_by_another():
    """Given a probe that is cancelled, when others wait for its result, then one of them probes."""

    async def main():
        throttle = new_throttle()

        async def send(_):
            if now() < 1:
                raise RetryableFailure(TransportError("refused"), unreachable=True)
            await asyncio.sleep(100)
            return "page"

        tasks = [asyncio.create_task(throttle.run(send, RetryPolicy())) for _ in range(3)]
        await asyncio.sleep(20)
        assert throttle.pause.sending == 1
        for task in tasks[:2]:
            task.cancel()
        assert await tasks[2] == "page"
        assert now() < 300

    run_skipping_time(main)


@pytest.mark.finding("B10")
@pytest.mark.parametrize("concurrency", [16, 64])
def test_connections_that_are_lost_together_cost_one_retry(concurrency):
    """Given requests in flight that are lost together, when they are sent again, then the budget has paid for one and a probe."""

    async def main():
        throttle, sent = new_throttle(concurrency), 0

        async def send(_):
            nonlocal sent
            sent += 1
            await asyncio.sleep(0.1)
            if sent <= concurrency or now() < 0.11:
                raise RetryableFailure(TransportError("reset"), connection_lost=True)

        await asyncio.gather(*(throttle.run(send, RetryPolicy()) for _ in range(concurrency)))
        assert sent == 2 * concurrency
        assert throttle.retries <= 2

    run_skipping_time(main)


@pytest.mark.finding("B10")
@pytest.mark.parametrize("concurrency", [4, 16])
def test_lost_connections_between_responses_do_not_lengthen_the_waits(concurrency):
    """Given a server that loses one request in eight, when 400 requests are sent, then all waits together take less than ten seconds."""

    async def main():
        throttle, losses = new_throttle(concurrency), random.Random(1)

        async def send(_):
            await asyncio.sleep(0.01)
            if losses.random() < 1 / 8:
                raise RetryableFailure(TransportError("reset"), connection_lost=True)

        async def requests():
            for _ in range(400 // concurrency):
                await throttle.run(send, RetryPolicy())

        await asyncio.gather(*(requests() for _ in range(concurrency)))
        assert now() < 10

    run_skipping_time(main)


# Connections that are closed without a response (B1).


async def pull_from(server, requests, insights):
    """Requests pages one by one; returns how many failed."""
    failed = 0
    for _ in range(requests):
        try:
            await insights.page(START, END)
        except IovoxError:
            failed += 1
    return failed


@pytest.mark.finding("B1")
async def test_a_server_that_closes_every_reused_connection_costs_one_free_retry_a_request(open_session):
    """Given a server that closes each kept-alive connection at its second request, when 100 pages are read, then none fails."""

    async def once(connection):
        await connection.request()
        await connection.send(http_answer(b"[]"))
        await connection.request()

    async with RawServer(once) as server, open_session(server.base_url) as insights:
        assert await pull_from(server, 100, insights) == 0
        assert len(server.inbox) == 199
        assert insights._connection.throttle.retries == 0


@pytest.mark.finding("B1")
@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_server_that_closes_fresh_connections_too_gets_no_free_retry(open_session, concurrency):
    """Given a server that closes every connection without a response, when 100 pages are read, then retries are 20 % plus 20."""

    async def never(connection):
        await connection.request()

    async with RawServer(never) as server, open_session(server.base_url, concurrency=concurrency) as insights:
        each = 100 // concurrency
        failed = await asyncio.gather(*(pull_from(server, each, insights) for _ in range(concurrency)))
        assert sum(failed) == each * concurrency
        assert len(server.inbox) <= each * concurrency + BUDGET_RESERVE


@pytest.mark.finding("B1")
async def test_a_transport_that_tells_about_its_connections_gets_the_free_retry_too(open_session):
    """Given httpx's own transport, when the server closes reused connections, then their retry is free; on fresh ones it counts."""

    async def once(connection):
        await connection.request()
        await connection.send(http_answer(b"[]"))
        await connection.request()

    async with RawServer(once) as server:
        transport = httpx.AsyncHTTPTransport(trust_env=False)
        async with open_session(server.base_url, transport=transport) as insights:
            assert await pull_from(server, 20, insights) == 0
            assert insights._connection.throttle.retries == 0
