"""Tests of the throttle: the attempts of one request, its waits, and its cancellation."""

from __future__ import annotations

import asyncio
import math

import anyio
import pytest
from hypothesis import given
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

from iovox_async._http.failures import RetryableFailure, is_splittable
from iovox_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    IovoxError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    ServerError,
    TLSError,
    TransportError,
)
from iovox_async.retry import RetryPolicy

# One request.


def test_a_successful_request_is_sent_once():
    """Given a request that succeeds, when it runs, then it is sent once, without a wait, and may use the whole time."""

    async def main() -> None:
        script, throttle = Script("page"), new_throttle()
        assert await throttle.run(script, RetryPolicy()) == "page"
        assert (script.times, script.allowed) == ([0.0], [300.0])
        assert (throttle.requests, throttle.retries) == (1, 0)

    run_skipping_time(main)


def test_a_retryable_failure_is_retried_until_it_succeeds():
    """Given two failures, then a success, when the request runs, then each retry is counted and has less time."""

    async def main() -> None:
        script, throttle = Script(overloaded, broken, "page"), new_throttle()
        assert await throttle.run(script, RetryPolicy()) == "page"
        assert (len(script.times), throttle.requests, throttle.retries) == (3, 1, 2)
        assert script.allowed == [300.0 - moment for moment in script.times]

    run_skipping_time(main)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_error_is_raised_unwrapped_with_its_attempts(attempts: int):
    """Given a lasting failure, when attempts run out, then the error itself is raised, not a wrapper."""

    async def main() -> None:
        script = Script(overloaded)
        with pytest.raises(ServerError, match="HTTP 500: Retry later") as caught:
            await new_throttle().run(script, RetryPolicy(max_attempts=attempts))
        assert caught.value.attempts == len(script.times) == attempts
        assert is_splittable(caught.value)

    run_skipping_time(main)


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError(400, ("Limit not an integer",)),
        AuthenticationError(401),
        PermissionDeniedError(403),
        TLSError("not trusted"),
        DecodeError("no"),
        TransportError("cannot be sent"),
        ConfigurationError("timeout", "must be positive"),
        ValueError("a fault of ours"),
        KeyboardInterrupt(),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_exceptions_are_never_retried(error: BaseException):
    """Given an exception other than RetryableFailure, when the request runs, then it is raised after one attempt."""

    async def main() -> None:
        script, throttle = Script(error), new_throttle()
        try:
            await throttle.run(script, RetryPolicy(max_attempts=9))
        except type(error) as caught:
            raised = caught
        assert raised is error
        assert len(script.times) == 1
        assert throttle.retries == 0
        if isinstance(error, RequestError):
            assert error.attempts == 1
            assert not is_splittable(error)

    run_skipping_time(main)


def test_the_cause_of_an_error_is_kept():
    """Given an error with a cause, when it is raised, then its cause is the library's exception."""

    async def main() -> None:
        cause = OSError("reset")

        async def exchange(_: float) -> None:
            raise broken() from cause

        async def with_explicit_cause(_: float) -> None:
            error = TransportError("cut")
            error.__cause__ = cause
            raise RetryableFailure(error)

        for send, expected in ((with_explicit_cause, cause), (exchange, None)):
            with pytest.raises(TransportError) as caught:
                await new_throttle().run(send, RetryPolicy(max_attempts=2))
            assert caught.value.__cause__ is expected

    run_skipping_time(main)


def test_a_failure_with_max_attempts_is_retried_no_more_often():
    """Given a failure with max_attempts, when the policy allows more, then the lower number applies."""

    async def main() -> None:
        for at_most, attempts, expected in ((1, 5, 1), (2, 5, 2), (9, 3, 3)):
            script = Script(RetryableFailure(DecodeError("markup"), max_attempts=at_most))
            with pytest.raises(DecodeError):
                await new_throttle().run(script, RetryPolicy(max_attempts=attempts))
            assert len(script.times) == expected

    run_skipping_time(main)


def test_a_splittable_failure_is_raised_after_split_after_attempts():
    """Given split_after, when a splittable failure lasts, then it is raised early; other failures are not."""

    async def main() -> None:
        for failure, expected in ((overloaded, 3), (broken, 5)):
            script = Script(failure)
            with pytest.raises(RequestError) as caught:
                await new_throttle().run(script, RetryPolicy(max_attempts=5), split_after=3)
            assert len(script.times) == caught.value.attempts == expected

    run_skipping_time(main)


def test_previous_attempts_count():
    """Given attempts of a larger window, when its half runs, then they count, and it is not a new request."""

    async def main() -> None:
        script, throttle = Script(overloaded), new_throttle()
        with pytest.raises(ServerError) as caught:
            await throttle.run(script, RetryPolicy(max_attempts=5), previous_attempts=3)
        assert (caught.value.attempts, len(script.times), throttle.requests) == (5, 2, 0)

    run_skipping_time(main)


# Waiting.


def test_backoff_has_full_jitter_within_its_limits():
    """Given many seeds, when requests fail, then waits are spread evenly from 0 to a limit that doubles up to the maximum."""

    async def main() -> list[list[float]]:
        waits = []
        for seed in range(300):
            script = Script(broken)
            with pytest.raises(TransportError):
                await new_throttle(seed=seed).run(
                    script, RetryPolicy(max_attempts=7, initial_backoff=1, max_backoff=8, total_timeout=1e6)
                )
            waits.append(script.waits)
        return waits

    ceilings = [1, 2, 4, 8, 8, 8]
    for ceiling, waits in zip(ceilings, zip(*run_skipping_time(main), strict=True), strict=True):
        assert all(0 <= wait <= ceiling + 1e-6 for wait in waits)
        # Really spread: each fifth of the range is about as likely (60 of 300 are expected).
        counts = [sum(fifth <= 5 * wait / ceiling < fifth + 1 for wait in waits) for fifth in range(5)]
        assert min(counts) >= 35, (ceiling, counts)
        assert math.isclose(sum(waits) / len(waits), ceiling / 2, rel_tol=0.12)


def test_backoff_after_many_attempts_does_not_overflow():
    """Given 100,000 previous attempts, when a request fails, then no wait exceeds the maximum."""

    async def main() -> None:
        throttle, script = new_throttle(), Script(broken)
        with pytest.raises(TransportError):
            await throttle.run(
                script,
                RetryPolicy(max_attempts=10**6, initial_backoff=1, max_backoff=8),
                previous_attempts=100_000,
            )
        assert len(script.times) > 1
        assert max(script.waits) <= 8

    run_skipping_time(main)


@pytest.mark.parametrize("wait", [0.0, 1.0, 7.5, 120.0])
def test_retry_after_takes_precedence_over_backoff(wait: float):
    """Given a Retry-After header, when the request is retried, then it waits that long."""

    async def main() -> None:
        script = Script(lambda: rate_limited(wait), "page")
        assert await new_throttle().run(script, RetryPolicy(initial_backoff=0.1)) == "page"
        assert wait <= script.waits[0] <= max(wait, 1) + 1e-6

    run_skipping_time(main)


@pytest.mark.parametrize("wait", [120.1, 3600.0, math.inf])
def test_a_retry_after_beyond_the_maximum_is_raised_at_once(wait: float):
    """Given a Retry-After above the maximum, when the request fails, then the error has its length, and nobody waits."""

    async def main() -> None:
        script, throttle = Script(lambda: rate_limited(wait)), new_throttle()
        length = "a wait without an end" if wait == math.inf else f"Wait {wait:g} seconds"
        with pytest.raises(RateLimitError, match=length) as caught:
            await throttle.run(script, RetryPolicy())
        assert (caught.value.retry_after, caught.value.attempts) == (wait, 1)
        assert (now(), throttle.retries) == (0.0, 0)
        other = Script("page")
        await throttle.run(other, RetryPolicy())
        assert other.times == [0.0], "a rejected wait pauses no other request"

    run_skipping_time(main)


@examples(75)
@given(
    total=st.floats(0.1, 50),
    duration=st.floats(0, 5),
    attempts=st.integers(1, 40),
    initial=st.floats(0, 10),
    waits=st.lists(st.none() | st.floats(0, 30), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_total_timeout_limits_attempts_and_waits(total, duration, attempts, initial, waits, seed):
    """Given any policy, when a request keeps failing, then no attempt starts after total_timeout or may exceed it."""

    async def main() -> None:
        script = Script(
            *(lambda wait=wait: rate_limited(wait) for wait in [*waits, waits[-1]]), duration=duration
        )
        policy = RetryPolicy(
            max_attempts=attempts, initial_backoff=initial, total_timeout=total, max_retry_after=20
        )
        with pytest.raises(IovoxError):
            await new_throttle(seed=seed).run(script, policy)
        assert all(moment <= total for moment in script.times)
        assert now() <= total + duration + 1e-6
        for moment, allowed in zip(script.times, script.allowed, strict=True):
            assert math.isclose(moment + allowed, total, abs_tol=1e-6)

    run_skipping_time(main)


# Stale connections.


@pytest.mark.fault(4)
def test_a_stale_connection_is_retried_at_once_and_not_counted():
    """Given a stale connection, when the request runs, then its retry costs no wait, no attempt and no budget."""

    async def main() -> None:
        script, throttle = Script(stale, "page"), new_throttle()
        assert await throttle.run(script, RetryPolicy(max_attempts=1)) == "page"
        assert (script.times, throttle.retries) == ([0.0, 0.0], 0)

    run_skipping_time(main)


def test_a_second_stale_connection_counts_as_a_failure():
    """Given a server that closes every connection, when the request runs, then only the first retry is free."""

    async def main() -> None:
        script, throttle = Script(stale), new_throttle()
        with pytest.raises(TransportError) as caught:
            await throttle.run(script, RetryPolicy(max_attempts=3))
        assert (len(script.times), caught.value.attempts, throttle.retries) == (4, 3, 2)
        assert script.waits[0] == 0 < script.waits[1]

    run_skipping_time(main)


# Cancelling.


@pytest.mark.parametrize("moment", [0.5, 5.0, 1.0], ids=["in an exchange", "in back-off", "in between"])
@pytest.mark.parametrize("native", [True, False], ids=["task.cancel", "anyio scope"])
def test_cancellation_ends_a_request_at_once(moment: float, native: bool):
    """Given a request in an attempt or in backoff, when it is cancelled, then it ends there and is not retried."""

    async def main() -> None:
        throttle = new_throttle()
        script = Script(lambda: RetryableFailure(ServerError(500), retry_after=50), duration=1)
        if native:
            task = asyncio.ensure_future(throttle.run(script, RetryPolicy()))
            await asyncio.sleep(moment)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with anyio.move_on_after(moment) as scope:
                await throttle.run(script, RetryPolicy())
            assert scope.cancelled_caught
        assert len(script.times) == 1
        assert now() == pytest.approx(moment, abs=0.001)
        assert await throttle.run(Script("page"), RetryPolicy()) == "page"

    run_skipping_time(main)


def test_cancellation_in_a_pause_or_in_the_queue_leaks_no_slot():
    """Given requests that wait, when they are cancelled, then all slots are free."""

    async def main() -> None:
        throttle = new_throttle(1)
        with pytest.raises(RateLimitError):
            await throttle.run(Script(lambda: rate_limited(100)), RetryPolicy(max_attempts=1))

        async def one(holder: object) -> None:
            await throttle.acquire(holder)
            try:
                await throttle.run(Script("page"), RetryPolicy())
            finally:
                throttle.release(holder)

        tasks = [asyncio.ensure_future(one(object())) for _ in range(3)]
        await asyncio.sleep(1)
        assert throttle.in_flight == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert throttle.in_flight == 0
        holder = object()
        await throttle.acquire(holder)
        throttle.release(holder)

    run_skipping_time(main)
