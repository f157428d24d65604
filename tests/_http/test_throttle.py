"""When a request may start, and when it is tried again: hours of waiting, in no time at all."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.model_server import examples

from iovox_async._http.throttle import (
    BUDGET_RESERVE,
    REFUSED_SECONDS,
    RequestThrottle,
    RetryableFailure,
    is_splittable,
)
from iovox_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    IovoxError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    RequestTimeout,
    ServerError,
    TLSError,
    TransportError,
)
from iovox_async.retry import RetryPolicy, parse_retry_after, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class Skipping(selectors.DefaultSelector):
    """Where the loop would wait, its clock jumps ahead instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "all wait, and nothing will wake them"
            self.now += max(0.0, timeout)
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.skipping.now


def play(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine to its end on a clock that never waits."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def gate(concurrency: int = 8, seed: int = 0) -> RequestThrottle:
    return RequestThrottle(concurrency, clock=now, sleep=asyncio.sleep, random=random.Random(seed))


class Script:
    """An exchange that does what is written, one line an attempt; its last line again and again."""

    def __init__(self, *lines: object, takes: float = 0.0) -> None:
        self.lines = list(lines)
        self.takes = takes
        self.times: list[float] = []
        self.allowed: list[float] = []

    async def __call__(self, allowed: float) -> Any:
        self.times.append(now())
        self.allowed.append(allowed)
        if self.takes:
            await asyncio.sleep(self.takes)
        line = self.lines[0] if len(self.lines) == 1 else self.lines.pop(0)
        if callable(line):
            line = line()
        if isinstance(line, BaseException):
            raise line
        return line

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def busy() -> RetryableFailure:
    return RetryableFailure(ServerError(500, ("Retry later",)), overload=True, splittable=True)


def limited(wait: float | None = None) -> RetryableFailure:
    return RetryableFailure(
        RateLimitError(429, retry_after=wait), overload=True, account_wide=True, retry_after=wait
    )


def broken() -> RetryableFailure:
    return RetryableFailure(TransportError("cut"))


def stale() -> RetryableFailure:
    return RetryableFailure(TransportError("closed"), stale_connection=True)


# One request.


def test_a_success_is_tried_once():
    """No retry, no wait, and the whole time is allowed."""

    async def main() -> None:
        script, own = Script("page"), gate()
        assert await own.run(script, RetryPolicy()) == "page"
        assert (script.times, script.allowed) == ([0.0], [300.0])
        assert (own.requests, own.retries) == (1, 0)

    play(main)


def test_what_may_pass_is_tried_again_until_it_succeeds():
    """Each attempt is counted, and less time is allowed each time."""

    async def main() -> None:
        script, own = Script(busy, broken, "page"), gate()
        assert await own.run(script, RetryPolicy()) == "page"
        assert (len(script.times), own.requests, own.retries) == (3, 1, 2)
        assert script.allowed == [300.0 - moment for moment in script.times]

    play(main)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_failure_is_raised_bare_with_its_attempts(attempts: int):
    """The error of the exchange itself, and no wrapper of the retries."""

    async def main() -> None:
        script = Script(busy)
        with pytest.raises(ServerError, match="HTTP 500: Retry later") as caught:
            await gate().run(script, RetryPolicy(max_attempts=attempts))
        assert caught.value.attempts == len(script.times) == attempts
        assert is_splittable(caught.value)

    play(main)


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError(400, ("Limit not an integer",)),
        AuthenticationError(401),
        PermissionDeniedError(403),
        TLSError("not trusted"),
        DecodeError("no"),
        TransportError("cannot be sent"),
        ConfigurationError("yours"),
        ValueError("a fault of ours"),
        KeyboardInterrupt(),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_pass_is_tried_exactly_once(error: BaseException):
    """Only `RetryableFailure` is tried again, whatever the policy allows."""

    async def main() -> None:
        script, own = Script(error), gate()
        try:
            await own.run(script, RetryPolicy(max_attempts=9))
        except type(error) as caught:
            raised = caught
        assert raised is error
        assert len(script.times) == 1
        assert own.retries == 0
        if isinstance(error, RequestError):
            assert error.attempts == 1
            assert not is_splittable(error)

    play(main)


def test_the_cause_of_a_failure_is_kept():
    """What httpx said is behind our error, and not the retries' own bookkeeping."""

    async def main() -> None:
        cause = OSError("reset")

        async def exchange(_: float) -> None:
            raise broken() from cause

        async def told(_: float) -> None:
            error = TransportError("cut")
            error.__cause__ = cause
            raise RetryableFailure(error)

        for one, known in ((told, cause), (exchange, None)):
            with pytest.raises(TransportError) as caught:
                await gate().run(one, RetryPolicy(max_attempts=2))
            assert caught.value.__cause__ is known

    play(main)


def test_a_failure_that_will_hardly_change_is_tried_no_more_than_it_says():
    """`at_most` is how often, whatever the policy allows; the policy still bounds it."""

    async def main() -> None:
        for at_most, attempts, expected in ((1, 5, 1), (2, 5, 2), (9, 3, 3)):
            script = Script(RetryableFailure(DecodeError("markup"), max_attempts=at_most))
            with pytest.raises(DecodeError):
                await gate().run(script, RetryPolicy(max_attempts=attempts))
            assert len(script.times) == expected

    play(main)


def test_a_failure_that_a_smaller_request_may_avoid_is_raised_in_time_to_halve():
    """`split_at` bounds the attempts of what can be split, and of nothing else."""

    async def main() -> None:
        for failure, expected in ((busy, 3), (broken, 5)):
            script = Script(failure)
            with pytest.raises(RequestError) as caught:
                await gate().run(script, RetryPolicy(max_attempts=5), split_after=3)
            assert len(script.times) == caught.value.attempts == expected

    play(main)


def test_attempts_of_a_larger_window_count():
    """A halved window goes on where its parent stopped, and is no new request to the budget."""

    async def main() -> None:
        script, own = Script(busy), gate()
        with pytest.raises(ServerError) as caught:
            await own.run(script, RetryPolicy(max_attempts=5), previous_attempts=3)
        assert (caught.value.attempts, len(script.times), own.requests) == (5, 2, 0)

    play(main)


# Waiting.


def test_back_off_has_full_jitter_within_its_bounds():
    """Each wait lies anywhere from nothing to a ceiling that doubles up to the maximum."""

    async def main() -> list[list[float]]:
        waits = []
        for seed in range(300):
            script = Script(broken)
            with pytest.raises(TransportError):
                await gate(seed=seed).run(
                    script, RetryPolicy(max_attempts=7, initial_backoff=1, max_backoff=8, total_timeout=1e6)
                )
            waits.append(script.waits)
        return waits

    ceilings = [1, 2, 4, 8, 8, 8]
    for ceiling, waits in zip(ceilings, zip(*play(main), strict=True), strict=True):
        assert all(0 <= wait <= ceiling + 1e-6 for wait in waits)
        # Really spread: each fifth of the range is about as likely (60 of 300 are expected).
        counts = [sum(fifth <= 5 * wait / ceiling < fifth + 1 for wait in waits) for fifth in range(5)]
        assert min(counts) >= 35, (ceiling, counts)
        assert math.isclose(sum(waits) / len(waits), ceiling / 2, rel_tol=0.12)


def test_back_off_of_many_attempts_neither_overflows_nor_grows():
    """A hundred thousand doublings are still the maximum."""

    async def main() -> None:
        own, script = gate(), Script(broken)
        with pytest.raises(TransportError):
            await own.run(
                script,
                RetryPolicy(max_attempts=10**6, initial_backoff=1, max_backoff=8),
                previous_attempts=100_000,
            )
        assert len(script.times) > 1
        assert max(script.waits) <= 8

    play(main)


@pytest.mark.parametrize("wait", [0.0, 1.0, 7.5, 120.0])
def test_the_servers_own_wait_comes_first(wait: float):
    """Never earlier than it asked, and hardly later."""

    async def main() -> None:
        script = Script(lambda: limited(wait), "page")
        assert await gate().run(script, RetryPolicy(initial_backoff=0.1)) == "page"
        assert wait <= script.waits[0] <= max(wait, 0.1) + 1e-6

    play(main)


@pytest.mark.parametrize("wait", [120.1, 3600.0, math.inf])
def test_a_wait_beyond_the_maximum_is_raised_with_its_length(wait: float):
    """At once, so that a job can park; the error says how long."""

    async def main() -> None:
        script, own = Script(lambda: limited(wait)), gate()
        with pytest.raises(RateLimitError, match=f"Wait {wait:g} seconds") as caught:
            await own.run(script, RetryPolicy())
        assert (caught.value.retry_after, caught.value.attempts) == (wait, 1)
        assert (now(), own.retries) == (0.0, 0)
        other = Script("page")
        await own.run(other, RetryPolicy())
        assert other.times == [0.0], "what was not waited for keeps nobody else waiting"

    play(main)


@examples(150)
@given(
    total=st.floats(0.1, 50),
    takes=st.floats(0, 5),
    attempts=st.integers(1, 40),
    initial=st.floats(0, 10),
    waits=st.lists(st.none() | st.floats(0, 30), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_the_time_of_a_request_is_bounded(total, takes, attempts, initial, waits, seed):
    """No attempt begins after `total`, and none is allowed to go on beyond it."""

    async def main() -> None:
        script = Script(*(lambda wait=wait: limited(wait) for wait in [*waits, waits[-1]]), takes=takes)
        policy = RetryPolicy(
            max_attempts=attempts, initial_backoff=initial, total_timeout=total, max_retry_after=20
        )
        with pytest.raises(IovoxError):
            await gate(seed=seed).run(script, policy)
        assert all(moment <= total for moment in script.times)
        assert now() <= total + takes + 1e-6
        for moment, allowed in zip(script.times, script.allowed, strict=True):
            assert math.isclose(moment + allowed, total, abs_tol=1e-6)

    play(main)


NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("1e2", 100.0),
        ("1e999", math.inf),
        ("inf", math.inf),
        ("-1", None),
        ("-inf", None),
        ("nan", None),
        ("soon", None),
        ("12 seconds", None),
        ("Fri, 01 Mar 2024 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 13:00:30 +0100", 30.0),
        ("Fri, 01 Mar 2024 12:00:30 -0000", 30.0),
        ("Friday, 01-Mar-24 12:00:30 GMT", 30.0),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0.0),
        ("Fri, 32 Mar 2024 12:00:30 GMT", None),
        ("Fri, 01 Mar 99999 12:00:30 GMT", None),
        ("Fri, 01 Mar 2024 12:00:30 +9999", None),
        ("2024-03-01 12:00:30", None),
        (",", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, expected: float | None):
    """Garbage says nothing; a date in the past says now; an endless wait is longer than any maximum."""
    assert parse_retry_after(value, NOW) == expected


@pytest.mark.fault(24)
@examples(300)
@given(value=st.text(max_size=40) | st.text("0123456789 :,+-GMTFriJan", max_size=40) | st.floats().map(str))
@example(value="1 2 3 4 5 6 7 8")
@example(value="Sun, 31 Dec 9999 23:59:59 -2359")
@example(value="Mon, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_is_a_wait_or_nothing(value: str):
    """Never an exception, never a negative wait or NaN."""
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait >= 0


@examples(100)
@given(ahead=st.integers(-100_000, 100_000))
def test_dates_are_read_as_they_are_written(ahead: int):
    """Whatever the standard library writes."""
    text = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert parse_retry_after(text, NOW) == max(0, ahead)


# All requests of a session.


def test_one_429_pauses_all():
    """The limit belongs to the account: nothing starts until it has passed, and then everything does."""

    async def main() -> None:
        own, others = gate(), [Script("page") for _ in range(4)]
        first = Script(lambda: limited(60), "page")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own.run, first, RetryPolicy())
            await asyncio.sleep(1)
            for other in others:
                tasks.start_soon(own.run, other, RetryPolicy())
        assert all(other.times == [pytest.approx(60, abs=0.001)] for other in others)
        assert first.times[1] == pytest.approx(60, abs=0.001)

    play(main)


@pytest.mark.parametrize("wait", [0.01, 0.5, 1.0, 2.0])
def test_a_short_pause_is_a_pause(wait: float):
    """To the instant."""

    async def main() -> None:
        own, other = gate(), Script("page")
        with pytest.raises(RateLimitError):
            await own.run(Script(lambda: limited(wait)), RetryPolicy(max_attempts=1, initial_backoff=0))
        await own.run(other, RetryPolicy())
        assert other.times == [pytest.approx(wait, rel=1e-6)]

    play(main)


def test_a_gate_works_with_what_it_brings_along():
    """The real clock, sleep and random source."""

    async def main() -> None:
        own = RequestThrottle(2)
        page = await own.run(Script(broken, "page"), RetryPolicy(initial_backoff=0.001))
        assert (page, own.retries, own.in_flight) == ("page", 1, 0)

    asyncio.run(main())


def test_a_pause_holds_also_when_the_request_that_brought_it_is_given_up():
    """What it was told concerns all, whether it is tried again or not."""

    async def main() -> None:
        own, other = gate(), Script("page")
        with pytest.raises(RateLimitError):
            await own.run(Script(lambda: limited(10)), RetryPolicy(max_attempts=1))
        await own.run(other, RetryPolicy())
        assert other.times == [pytest.approx(10, abs=0.001)]

    play(main)


def test_a_500_pauses_nobody_else():
    """It concerns one request."""

    async def main() -> None:
        own, other = gate(), Script("page")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own.run, Script(busy, busy, "page"), RetryPolicy(initial_backoff=30))
            await asyncio.sleep(0.001)
            tasks.start_soon(own.run, other, RetryPolicy())
        assert other.times == [pytest.approx(0.001)]

    play(main)


def test_a_pause_longer_than_a_request_may_take_is_raised_at_once():
    """Waiting for it would be in vain."""

    async def main() -> None:
        own, patient, hasty, never = gate(), Script("page"), Script(broken, "page"), Script("page")
        with pytest.raises(RateLimitError):
            await own.run(Script(lambda: limited(50)), RetryPolicy(max_attempts=1))
        with pytest.raises(RequestTimeout, match=r"pause.*RetryPolicy.total_timeout"):
            await own.run(never, RetryPolicy(total_timeout=20))
        assert (never.times, now()) == ([], 0.0)
        assert await own.run(patient, RetryPolicy()) == "page"

        async def pauses() -> None:
            with pytest.raises(RateLimitError):
                await own.run(Script(lambda: limited(50)), RetryPolicy(max_attempts=1))

        async with anyio.create_task_group() as tasks:
            began = now()
            tasks.start_soon(pauses)
            with pytest.raises(TransportError, match="cut") as caught:
                await own.run(hasty, RetryPolicy(total_timeout=20))
            assert caught.value.attempts == len(hasty.times)
            assert now() - began < 20

    play(main)


faults = st.lists(
    st.sampled_from((busy, broken, stale, lambda: limited(1), "page", "page", BadRequestError(400))),
    min_size=1,
    max_size=30,
)


@pytest.mark.fault(54)
@examples(120)
@given(
    schedules=st.lists(faults, min_size=1, max_size=60),
    attempts=st.integers(1, 50),
    concurrency=st.integers(1, 16),
    seed=st.integers(0, 99),
)
@example(schedules=[[broken]], attempts=50, concurrency=1, seed=0)
@example(schedules=[[broken]] * 60, attempts=50, concurrency=16, seed=0)
@example(schedules=[[busy]] * 5 + [["page"]] * 55, attempts=5, concurrency=8, seed=0)
def test_attempts_are_bounded_under_any_faults(schedules, attempts, concurrency, seed):
    """At most 1.2 attempts a request and a reserve of 20; a stale connection's free attempt is one a request."""

    async def main() -> None:
        own = gate(concurrency, seed)
        scripts = [Script(*lines, takes=0.1) for lines in schedules]
        stales = 0

        async def one(script: Script) -> None:
            nonlocal stales
            holder = object()
            await own.acquire(holder)
            try:
                await own.run(script, RetryPolicy(max_attempts=attempts, total_timeout=1e6))
            except IovoxError:
                pass
            finally:
                own.release(holder)

        async with anyio.create_task_group() as tasks:
            for script in scripts:
                tasks.start_soon(one, script)
        sent = sum(len(script.times) for script in scripts)
        stales = sum(stale in lines for lines in schedules)
        assert sent <= 1.2 * len(scripts) + BUDGET_RESERVE + stales
        assert own.requests == len(scripts)
        assert own.in_flight == 0
        assert 1 <= own.limiter.total_tokens <= concurrency

    play(main)


def test_the_budget_is_kept_to_the_last_retry():
    """20 and a fifth of the requests, and not one more."""
    own = RequestThrottle(1)
    own.requests = 4
    assert [own.consume_retry() for _ in range(25)] == [True] * 20 + [False] * 5
    own.requests = 10
    assert [own.consume_retry() for _ in range(5)] == [True] * 2 + [False] * 3


def test_one_request_in_seven_may_fail():
    """At that rate the budget never runs out, however long it goes on."""

    async def main() -> None:
        own = gate(1)
        for number in range(3000):
            await own.run(Script(broken, "page") if number % 7 == 0 else Script("page"), RetryPolicy())
        assert own.retries == 429

    play(main)


def test_an_outage_of_three_hours_ends_well_and_costs_little():
    """Twenty workers that come back every minute: no storm, and it goes on where the server does. In no time."""
    began = time.monotonic()

    async def main() -> None:
        own = gate(8)
        outage = 3 * 3600
        sent = asked = done = 0

        async def exchange(_: float) -> str:
            nonlocal sent
            sent += 1
            await asyncio.sleep(0.2)
            if now() < outage:
                raise busy() if sent % 3 else limited(5)
            return "page"

        async def worker() -> None:
            nonlocal asked, done
            while now() < outage + 600:
                holder = object()
                await own.acquire(holder)
                asked += 1
                try:
                    await own.run(exchange, RetryPolicy())
                    done += 1
                except IovoxError:
                    pass
                finally:
                    own.release(holder)
                await asyncio.sleep(60)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(worker)
        assert sent <= 1.2 * asked + BUDGET_RESERVE
        assert done >= 20
        assert own.limiter.total_tokens == 8, "the concurrency has recovered"

    play(main)
    assert time.monotonic() - began < 10


# The account.


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "error", [AuthenticationError(401, ("no",)), PermissionDeniedError(403, ("no",))], ids=["401", "403"]
)
def test_a_refused_account_stops_everything_for_a_while(error: RequestError):
    """Fifty workers must not have it locked: nothing is sent until `REFUSED_SECONDS` seconds have passed."""

    async def main() -> None:
        own, other = gate(), Script("page")
        with pytest.raises(type(error)):
            await own.run(Script(error), RetryPolicy())
        await asyncio.sleep(REFUSED_SECONDS - 1)
        for refused in (own.acquire(object()), own.run(other, RetryPolicy())):
            with pytest.raises(type(error), match="no") as caught:
                await refused
            assert caught.value is not error
            assert caught.value.status_code == error.status_code
        assert other.times == []
        assert own.in_flight == 0
        await asyncio.sleep(1.001)
        assert await own.run(other, RetryPolicy()) == "page"

    play(main)


def test_a_request_in_back_off_is_stopped_too_and_does_not_prolong_it():
    """It finds the account refused when it wakes; nothing was sent, so the wait does not begin anew."""

    async def main() -> None:
        own, waiting = gate(), Script(lambda: RetryableFailure(ServerError(503), retry_after=20), "page")
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(AuthenticationError) as caught:
                    await own.run(waiting, RetryPolicy())
                assert caught.value.attempts == 1

            tasks.start_soon(wait)
            await asyncio.sleep(1)
            with pytest.raises(AuthenticationError):
                await own.run(Script(AuthenticationError(401)), RetryPolicy())
        assert len(waiting.times) == 1
        await asyncio.sleep(1 + REFUSED_SECONDS - now() + 0.001)
        assert await own.run(Script("page"), RetryPolicy()) == "page"

    play(main)


# Stale connections.


@pytest.mark.fault(4)
def test_a_stale_connection_is_tried_again_at_once_and_not_charged():
    """Nothing was wrong but the age of an idle connection."""

    async def main() -> None:
        script, own = Script(stale, "page"), gate()
        assert await own.run(script, RetryPolicy(max_attempts=1)) == "page"
        assert (script.times, own.retries) == ([0.0, 0.0], 0)

    play(main)


def test_a_second_stale_connection_is_a_failure_like_any_other():
    """Once is age; twice is a server that closes connections."""

    async def main() -> None:
        script, own = Script(stale), gate()
        with pytest.raises(TransportError) as caught:
            await own.run(script, RetryPolicy(max_attempts=3))
        assert (len(script.times), caught.value.attempts, own.retries) == (4, 3, 2)
        assert script.waits[0] == 0 < script.waits[1]

    play(main)


# Cancelling.


@pytest.mark.parametrize("moment", [0.5, 5.0, 1.0], ids=["in an exchange", "in back-off", "in between"])
@pytest.mark.parametrize("native", [True, False], ids=["task.cancel", "anyio scope"])
def test_cancelling_is_never_swallowed_or_tried_again(moment: float, native: bool):
    """Wherever a request is, it ends there."""

    async def main() -> None:
        own = gate()
        script = Script(lambda: RetryableFailure(ServerError(500), retry_after=50), takes=1)
        if native:
            task = asyncio.ensure_future(own.run(script, RetryPolicy()))
            await asyncio.sleep(moment)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with anyio.move_on_after(moment) as scope:
                await own.run(script, RetryPolicy())
            assert scope.cancelled_caught
        assert len(script.times) == 1
        assert now() == pytest.approx(moment, abs=0.001)
        assert await own.run(Script("page"), RetryPolicy()) == "page"

    play(main)


def test_cancelling_in_a_pause_or_in_the_queue_leaves_no_slot_behind():
    """A request that was never sent gives back what it held."""

    async def main() -> None:
        own = gate(1)
        with pytest.raises(RateLimitError):
            await own.run(Script(lambda: limited(100)), RetryPolicy(max_attempts=1))

        async def one(holder: object) -> None:
            await own.acquire(holder)
            try:
                await own.run(Script("page"), RetryPolicy())
            finally:
                own.release(holder)

        tasks = [asyncio.ensure_future(one(object())) for _ in range(3)]
        await asyncio.sleep(1)
        assert own.in_flight == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert own.in_flight == 0
        holder = object()
        await own.acquire(holder)
        own.release(holder)

    play(main)


# Slots.


@pytest.mark.fault(53)
def test_slots_are_given_in_the_order_of_asking():
    """First come, first served: a stream with many requests does not starve one with few."""

    async def main() -> None:
        own, order = gate(2), []

        async def one(number: int) -> None:
            holder = object()
            await own.acquire(holder)
            order.append(number)
            await asyncio.sleep(1)
            own.release(holder)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one, number)
                await asyncio.sleep(0)
        assert order == list(range(20))
        assert now() == pytest.approx(10, abs=0.01)

    play(main)


async def fly(own: RequestThrottle, scripts: list[Script], policy: RetryPolicy) -> int:
    """Runs these at once, each in a slot, and returns how many held one at the same time."""
    peak = 0

    async def one(script: Script) -> None:
        nonlocal peak
        holder = object()
        await own.acquire(holder)
        peak = max(peak, own.in_flight)
        try:
            await own.run(script, policy)
        except IovoxError:
            pass
        finally:
            own.release(holder)

    async with anyio.create_task_group() as tasks:
        for script in scripts:
            tasks.start_soon(one, script)
    return peak


def test_requests_in_flight_never_exceed_the_concurrency():
    """Back-off included: a slot is held until a request is done."""

    async def main() -> None:
        assert await fly(gate(3), [Script(broken, "page", takes=1) for _ in range(30)], RetryPolicy()) == 3

    play(main)


def test_an_overload_halves_the_concurrency_once_a_round_and_successes_bring_it_back():
    """Eight that fail together are one overload; after a full round of successes there is one more."""

    async def main() -> None:
        own, once = gate(8), RetryPolicy(max_attempts=1)
        await fly(own, [Script(busy, takes=1) for _ in range(8)], once)
        assert own.limiter.total_tokens == 4
        await asyncio.sleep(1)
        await fly(own, [Script(busy, takes=1) for _ in range(4)], once)
        assert own.limiter.total_tokens == 2
        await fly(own, [Script(broken, takes=1) for _ in range(4)], once)
        assert own.limiter.total_tokens == 2, "a broken connection is no overload"
        for expected in (2, 3, 3, 3, 4):
            await own.run(Script("page"), once)
            assert own.limiter.total_tokens == expected
        for _ in range(4 + 5 + 6 + 7 + 50):
            await own.run(Script("page"), once)
        assert own.limiter.total_tokens == 8
        for _ in range(9):
            await asyncio.sleep(1)
            await fly(own, [Script(busy, takes=1)], once)
        assert own.limiter.total_tokens == 1
        await own.run(Script("page"), once)
        assert own.limiter.total_tokens == 2

    play(main)


def test_failures_of_one_instant_are_one_overload():
    """Also on a clock too coarse to tell when each began."""

    async def main() -> None:
        own = gate(8)
        for _ in range(8):
            with pytest.raises(ServerError):
                await own.run(Script(busy), RetryPolicy(max_attempts=1))
        assert own.limiter.total_tokens == 4

    play(main)


def test_a_failure_breaks_a_round_of_successes():
    """A full round without overload is wanted, not a sum of successes."""

    async def main() -> None:
        own, once = gate(8), RetryPolicy(max_attempts=1)
        await fly(own, [Script(busy)], once)
        for _ in range(3):
            await own.run(Script("page"), once)
        await asyncio.sleep(1)
        await fly(own, [Script(busy)], once)
        assert own.limiter.total_tokens == 2
        await own.run(Script("page"), once)
        assert own.limiter.total_tokens == 2

    play(main)


# Durations.


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (1.5, 1.5), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=3), 0.003), (10**9, 1e9)],
)
def test_durations_are_seconds_or_timedeltas(value: float | timedelta, expected: float):
    """Either is taken wherever seconds are."""
    assert seconds(value, "timeout") == expected
    assert isinstance(seconds(value, "timeout"), float)
    assert RetryPolicy(max_backoff=value).maximum == expected


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, timedelta(seconds=-1), math.nan, math.inf, -math.inf, 10**400, True, None, "5", [1]],
    ids=repr,
)
@pytest.mark.parametrize("name", ["initial", "maximum", "total", "retry_after_maximum"])
def test_what_is_no_duration_is_refused_by_name(name: str, value: Any):
    """Before anything starts, with the name of the setting."""
    with pytest.raises(ConfigurationError, match=f"RetryPolicy.{name}"):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("value", [0, 0.0, timedelta()], ids=repr)
def test_a_request_that_may_take_no_time_is_refused(value: float | timedelta):
    """The first attempt counts too, so it could never succeed; the error names what was probably meant."""
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\.total.*attempts=1"):
        RetryPolicy(total_timeout=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "3", math.inf], ids=repr)
def test_attempts_are_a_whole_number_from_1(value: Any):
    """1 means no retries; 0 would mean no request."""
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\.attempts"):
        RetryPolicy(max_attempts=value)


def test_a_policy_is_a_value():
    """Frozen, comparable, and safe to share."""
    assert RetryPolicy() == RetryPolicy(5, 0.5, 30.0, 300.0, 120.0)
    with pytest.raises(AttributeError):
        RetryPolicy().attempts = 9  # type: ignore[misc]
