"""Tests of the throttle: slots and their limit, and rejected accounts."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from support.scripted import (
    Script,
    broken,
    new_throttle,
    now,
    overloaded,
    run_skipping_time,
)

from iovox_async._http.failures import RetryableFailure
from iovox_async._http.throttle import REFUSED_SECONDS, RequestThrottle
from iovox_async.errors import (
    AuthenticationError,
    IovoxError,
    PermissionDeniedError,
    RequestError,
    ServerError,
)
from iovox_async.retry import RetryPolicy


@pytest.mark.fault(53)
def test_slots_are_first_come_first_served():
    """Given 20 requests for 2 slots, when slots become free, then they get them in their order of arrival."""

    async def main() -> None:
        throttle, order = new_throttle(2), []

        async def one(number: int) -> None:
            holder = object()
            await throttle.acquire(holder)
            order.append(number)
            await asyncio.sleep(1)
            throttle.release(holder)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one, number)
                await asyncio.sleep(0)
        assert order == list(range(20))
        assert now() == pytest.approx(10, abs=0.01)

    run_skipping_time(main)


async def run_together(throttle: RequestThrottle, scripts: list[Script], policy: RetryPolicy) -> int:
    """Runs requests at the same time, each in a slot; returns the highest number of slots in use."""
    peak = 0

    async def one(script: Script) -> None:
        nonlocal peak
        holder = object()
        await throttle.acquire(holder)
        peak = max(peak, throttle.in_flight)
        try:
            await throttle.run(script, policy)
        except IovoxError:
            pass
        finally:
            throttle.release(holder)

    async with anyio.create_task_group() as tasks:
        for script in scripts:
            tasks.start_soon(one, script)
    return peak


def test_requests_in_flight_never_exceed_the_concurrency():
    """Given 30 requests that are retried, when they run, then at most 3 hold a slot, backoff included."""

    async def main() -> None:
        assert (
            await run_together(
                new_throttle(3), [Script(broken, "page", duration=1) for _ in range(30)], RetryPolicy()
            )
            == 3
        )

    run_skipping_time(main)


def test_an_overload_halves_the_concurrency_once_and_successes_restore_it():
    """Given simultaneous overloads, when requests end, then the limit is halved once, and grows by one per round of successes."""

    async def main() -> None:
        throttle, once = new_throttle(8), RetryPolicy(max_attempts=1)
        await run_together(throttle, [Script(overloaded, duration=1) for _ in range(8)], once)
        assert throttle.limiter.total_tokens == 4
        await asyncio.sleep(1)
        await run_together(throttle, [Script(overloaded, duration=1) for _ in range(4)], once)
        assert throttle.limiter.total_tokens == 2
        await run_together(throttle, [Script(broken, duration=1) for _ in range(4)], once)
        assert throttle.limiter.total_tokens == 2, "a broken connection is not an overload"
        for expected in (2, 3, 3, 3, 4):
            await throttle.run(Script("page"), once)
            assert throttle.limiter.total_tokens == expected
        for _ in range(4 + 5 + 6 + 7 + 50):
            await throttle.run(Script("page"), once)
        assert throttle.limiter.total_tokens == 8
        for _ in range(9):
            await asyncio.sleep(1)
            await run_together(throttle, [Script(overloaded, duration=1)], once)
        assert throttle.limiter.total_tokens == 1
        await throttle.run(Script("page"), once)
        assert throttle.limiter.total_tokens == 2

    run_skipping_time(main)


def test_overloads_at_the_same_clock_time_count_once():
    """Given a clock that does not advance, when eight requests fail, then the limit is halved once."""

    async def main() -> None:
        throttle = new_throttle(8)
        for _ in range(8):
            with pytest.raises(ServerError):
                await throttle.run(Script(overloaded), RetryPolicy(max_attempts=1))
        assert throttle.limiter.total_tokens == 4

    run_skipping_time(main)


def test_an_overload_restarts_the_round_of_successes():
    """Given an incomplete round of successes, when an overload follows, then the round starts again."""

    async def main() -> None:
        throttle, once = new_throttle(8), RetryPolicy(max_attempts=1)
        await run_together(throttle, [Script(overloaded)], once)
        for _ in range(3):
            await throttle.run(Script("page"), once)
        await asyncio.sleep(1)
        await run_together(throttle, [Script(overloaded)], once)
        assert throttle.limiter.total_tokens == 2
        await throttle.run(Script("page"), once)
        assert throttle.limiter.total_tokens == 2

    run_skipping_time(main)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "error", [AuthenticationError(401, ("no",)), PermissionDeniedError(403, ("no",))], ids=["401", "403"]
)
def test_a_rejected_account_stops_all_requests_for_a_while(error: RequestError):
    """Given a 401 or 403, when requests follow within REFUSED_SECONDS, then nothing is sent; later requests are."""

    async def main() -> None:
        throttle, other = new_throttle(), Script("page")
        with pytest.raises(type(error)):
            await throttle.run(Script(error), RetryPolicy())
        await asyncio.sleep(REFUSED_SECONDS - 1)
        for refused in (throttle.acquire(object()), throttle.run(other, RetryPolicy())):
            with pytest.raises(type(error), match="no") as caught:
                await refused
            assert caught.value is not error
            assert caught.value.status_code == error.status_code
        assert other.times == []
        assert throttle.in_flight == 0
        await asyncio.sleep(1.001)
        assert await throttle.run(other, RetryPolicy()) == "page"

    run_skipping_time(main)


def test_a_rejected_account_stops_a_request_in_backoff():
    """Given a request in backoff, when the account is rejected, then it is not sent, and the wait is not extended."""

    async def main() -> None:
        throttle, waiting = (
            new_throttle(),
            Script(lambda: RetryableFailure(ServerError(503), retry_after=20), "page"),
        )
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(AuthenticationError) as caught:
                    await throttle.run(waiting, RetryPolicy())
                assert caught.value.attempts == 1

            tasks.start_soon(wait)
            await asyncio.sleep(1)
            with pytest.raises(AuthenticationError):
                await throttle.run(Script(AuthenticationError(401)), RetryPolicy())
        assert len(waiting.times) == 1
        await asyncio.sleep(1 + REFUSED_SECONDS - now() + 0.001)
        assert await throttle.run(Script("page"), RetryPolicy()) == "page"

    run_skipping_time(main)
