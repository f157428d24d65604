"""Tests of the throttle: pauses and the retry budget."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_server import examples
from support.scripted import (
    Script,
    broken,
    new_throttle,
    now,
    overloaded,
    rate_limited,
    run_skipping_time,
    stale,
)

from iovox_async._http.budgets import BUDGET_CAPACITY, BUDGET_RESERVE, RetryBudget
from iovox_async._http.throttle import RequestThrottle
from iovox_async.errors import (
    BadRequestError,
    IovoxError,
    RateLimitError,
    RequestTimeout,
    TransportError,
)
from iovox_async.retry import RetryPolicy

# All requests of a session.


def test_one_429_pauses_all_requests():
    """Given a 429 with Retry-After, when other requests start, then they wait for the end of the pause."""

    async def main() -> None:
        throttle, others = new_throttle(), [Script("page") for _ in range(4)]
        first = Script(lambda: rate_limited(60), "page")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(throttle.run, first, RetryPolicy())
            await asyncio.sleep(1)
            for other in others:
                tasks.start_soon(throttle.run, other, RetryPolicy())
        assert all(other.times == [pytest.approx(60, abs=0.001)] for other in others)
        assert first.times[1] == pytest.approx(60, abs=0.001)

    run_skipping_time(main)


@pytest.mark.parametrize("wait", [0.01, 0.5, 1.0, 2.0])
def test_a_short_pause_is_observed_exactly(wait: float):
    """Given a short Retry-After, when another request starts, then it is sent exactly at its end."""

    async def main() -> None:
        throttle, other = new_throttle(), Script("page")
        with pytest.raises(RateLimitError):
            await throttle.run(
                Script(lambda: rate_limited(wait)), RetryPolicy(max_attempts=1, initial_backoff=0)
            )
        await throttle.run(other, RetryPolicy())
        assert other.times == [pytest.approx(wait, rel=1e-6)]

    run_skipping_time(main)


def test_a_throttle_works_with_the_real_clock():
    """Given the default clock, sleep and random source, when a request is retried, then it succeeds."""

    async def main() -> None:
        throttle = RequestThrottle(2)
        page = await throttle.run(Script(broken, "page"), RetryPolicy(initial_backoff=0.001))
        assert (page, throttle.retries, throttle.in_flight) == ("page", 1, 0)

    asyncio.run(main())


def test_a_pause_outlives_the_request_that_caused_it():
    """Given a 429 that is not retried, when another request starts, then it waits for the end of the pause."""

    async def main() -> None:
        throttle, other = new_throttle(), Script("page")
        with pytest.raises(RateLimitError):
            await throttle.run(Script(lambda: rate_limited(10)), RetryPolicy(max_attempts=1))
        await throttle.run(other, RetryPolicy())
        assert other.times == [pytest.approx(10, abs=0.001)]

    run_skipping_time(main)


def test_a_500_pauses_no_other_request():
    """Given a 500, when another request starts, then it is sent at once."""

    async def main() -> None:
        throttle, other = new_throttle(), Script("page")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                throttle.run, Script(overloaded, overloaded, "page"), RetryPolicy(initial_backoff=30)
            )
            await asyncio.sleep(0.001)
            tasks.start_soon(throttle.run, other, RetryPolicy())
        assert other.times == [pytest.approx(0.001)]

    run_skipping_time(main)


def test_a_pause_longer_than_total_timeout_is_raised_at_once():
    """Given a pause beyond a request's deadline, when the request starts, then it fails without waiting."""

    async def main() -> None:
        throttle, patient, hasty, never = (
            new_throttle(),
            Script("page"),
            Script(broken, "page"),
            Script("page"),
        )
        with pytest.raises(RateLimitError):
            await throttle.run(Script(lambda: rate_limited(50)), RetryPolicy(max_attempts=1))
        with pytest.raises(RequestTimeout, match=r"pause.*RetryPolicy.total_timeout"):
            await throttle.run(never, RetryPolicy(total_timeout=20))
        assert (never.times, now()) == ([], 0.0)
        assert await throttle.run(patient, RetryPolicy()) == "page"

        async def pauses() -> None:
            with pytest.raises(RateLimitError):
                await throttle.run(Script(lambda: rate_limited(50)), RetryPolicy(max_attempts=1))

        async with anyio.create_task_group() as tasks:
            began = now()
            tasks.start_soon(pauses)
            with pytest.raises(TransportError, match="cut") as caught:
                await throttle.run(hasty, RetryPolicy(total_timeout=20))
            assert caught.value.attempts == len(hasty.times)
            assert now() - began < 20

    run_skipping_time(main)


faults = st.lists(
    st.sampled_from(
        (overloaded, broken, stale, lambda: rate_limited(1), "page", "page", BadRequestError(400))
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.fault(54)
@examples(60)
@given(
    schedules=st.lists(faults, min_size=1, max_size=60),
    attempts=st.integers(1, 50),
    concurrency=st.integers(1, 16),
    seed=st.integers(0, 99),
)
@example(schedules=[[broken]], attempts=50, concurrency=1, seed=0)
@example(schedules=[[broken]] * 60, attempts=50, concurrency=16, seed=0)
@example(schedules=[[overloaded]] * 5 + [["page"]] * 55, attempts=5, concurrency=8, seed=0)
@example(
    schedules=[
        [overloaded],
        [overloaded],
        [stale, "page"],
        [lambda: rate_limited(1), "page"],
        *[["page"]] * 3,
    ],
    attempts=12,
    concurrency=7,
    seed=0,
)
def test_the_retry_budget_holds_under_any_faults(schedules, attempts, concurrency, seed):
    """Given any faults, when requests run, then attempts are at most 1.2 per request plus 20, and no slot leaks.

    A fault that hits several requests counts once: attempts that were in flight when another failed, and fail too, do not count.
    """

    async def main() -> None:
        throttle = new_throttle(concurrency, seed)
        scripts = [Script(*lines, duration=0.1) for lines in schedules]
        stales = 0

        async def one(script: Script) -> None:
            nonlocal stales
            holder = object()
            await throttle.acquire(holder)
            try:
                await throttle.run(script, RetryPolicy(max_attempts=attempts, total_timeout=1e6))
            except IovoxError:
                pass
            finally:
                throttle.release(holder)

        async with anyio.create_task_group() as tasks:
            for script in scripts:
                tasks.start_soon(one, script)
        sent = sum(len(script.times) for script in scripts)
        stales = sum(stale in lines for lines in schedules)
        failures = sorted((end, start) for script in scripts for start, end in script.failures)
        shared = sum(start <= failures[number - 1][0] for number, (_, start) in enumerate(failures) if number)
        assert sent <= 1.2 * len(scripts) + BUDGET_RESERVE + stales + shared
        assert throttle.requests == len(scripts)
        assert throttle.in_flight == 0
        assert 1 <= throttle.limiter.total_tokens <= concurrency

    run_skipping_time(main)


@pytest.mark.finding("B4")
def test_the_retry_budget_is_exact():
    """Given n successes, when retries are taken from the budget, then there are 20 plus a fifth of n."""
    throttle = RequestThrottle(1)
    assert [throttle.consume_retry() for _ in range(25)] == [True] * 20 + [False] * 5
    for _ in range(11):
        throttle.budget.record_success()
    assert [throttle.consume_retry() for _ in range(5)] == [True] * 2 + [False] * 3


@pytest.mark.finding("B4")
@pytest.mark.parametrize("successes", [400, 401, 10_000, 1_000_000])
def test_a_long_life_saves_up_no_more_than_a_hundred_retries(successes: int):
    """Given any number of successes, when an outage begins, then at most 100 retries are left; new successes add to them again."""
    budget = RetryBudget()
    for _ in range(successes):
        budget.record_success()
    assert budget.available == BUDGET_CAPACITY == 100
    assert sum(budget.take() for _ in range(1000)) == 100
    for _ in range(50):
        budget.record_success()
    assert budget.available == 10


def test_one_failure_in_seven_requests_never_exhausts_the_budget():
    """Given a failure rate of one in seven, when 3,000 requests run, then all succeed."""

    async def main() -> None:
        throttle = new_throttle(1)
        for number in range(3000):
            await throttle.run(Script(broken, "page") if number % 7 == 0 else Script("page"), RetryPolicy())
        assert throttle.retries == 429

    run_skipping_time(main)


def test_an_outage_of_three_hours_causes_no_retry_storm():
    """Given an outage of three hours, when 20 workers keep trying, then retries stay within the budget and recovery is complete."""

    async def main() -> None:
        throttle = new_throttle(8)
        outage = 3 * 3600
        sent = asked = done = 0

        async def exchange(_: float) -> str:
            nonlocal sent
            sent += 1
            await asyncio.sleep(0.2)
            if now() < outage:
                raise overloaded() if sent % 3 else rate_limited(5)
            return "page"

        async def worker() -> None:
            nonlocal asked, done
            while now() < outage + 600:
                holder = object()
                await throttle.acquire(holder)
                asked += 1
                try:
                    await throttle.run(exchange, RetryPolicy())
                    done += 1
                except IovoxError:
                    pass
                finally:
                    throttle.release(holder)
                await asyncio.sleep(60)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(worker)
        assert sent <= 1.2 * asked + BUDGET_RESERVE
        assert done >= 20
        assert throttle.limiter.total_tokens == 8, "the limit has recovered"

    run_skipping_time(main)
