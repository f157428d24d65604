"""Sends the requests of one stream and buffers the pages for one reader.

Invariants:
- One task owns all requests of the stream, and the task group lives inside that task. Rows and errors reach the reader as
  values.
- A reader that leaves stops the task, and a slow reader stops new requests. The reader awaits the task after the last
  rows, so an internal error cannot end a stream early.
- At most `2 * concurrency` pages are in flight or buffered, or `concurrency` large ones, and the pages of all streams of the
  session stay within its `PageBudget`; beyond that, only the page the reader needs next may start.
- While a page waits for the reader, only its next page and the end of the range are received, unless a server might close the
  connections of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from attrs import evolve

from .._http.budgets import STREAM_BYTES, PageBudget
from .._http.failures import is_splittable
from .._http.turns import REQUESTING, take_turn
from .._paging import SECOND, PagePlan, PageResult, WindowPlan
from .._paging.spec import FINALITY_DELAY
from .._params.account_time import UncutHours
from .._telemetry import Telemetry
from ..errors import IovoxError, RequestError, SessionError, format_window

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .._paging import PageRequest, Plan, RowSlice
    from .._paging.spec import ReadSpec
    from .._parsing.page import PageFormat, RawPage
    from ..results import StreamStats
    from .connection import Connection

logger: logging.Logger = logging.getLogger("iovox_async")

#: Rows per page when reading by page numbers without a page size: moderate for every selection of fields.
DEFAULT_PAGE_ROWS: Final = 2_500
#: Bytes of pages that the reader has or that wait for it, from which on only its next page is received; what the others send stays in
#: the buffers of the network. With less, all are received.
WAITING_BYTES: Final = 1_000_000
#: Seconds from the start of a request after which its page is received in any case, since servers close connections that are not read.
UNREAD_SECONDS: Final = 10.0
#: Ranges from which on a full page is requested along with the first, small one: a shorter range may well fit into that.
EARLY_PAGE_RANGE: Final = timedelta(days=28)


def _identity(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """The function that a task group calls to get a coroutine, where the coroutine is made before, to be closed at need."""
    return coroutine


class PageFetcher:
    """The requests of one stream; they start when this is created.

    The counters are those of `StreamStats`; `peak_buffered` is the most pages in flight or buffered at a time.
    """

    def __init__(self, spec: ReadSpec, connection: Connection, page_format: PageFormat) -> None:
        connection.supervisor.check_usable()
        self.requests = 0
        self.retries = 0
        self.window_splits: int = 0
        self.bytes_received: int = 0
        self.peak_buffered: int = 0
        self._connection = connection
        self._throttle = connection.throttle
        self._page_format = page_format
        self._page_sizes = connection.page_sizes(spec.fields)
        self._budgets = connection.page_budget, PageBudget(self._throttle.concurrency * STREAM_BYTES)
        self.plan: Plan = self._make_plan(spec)
        self._adjusts_limit = spec.by_windows and spec.page_size is None
        # Made once: checking the fields takes longer than everything else that a query string needs.
        self._query = evolve(spec.query, fields=spec.fields)
        self._date_constant = spec.date_constant
        # Nothing is reported as started that cannot start.
        connection.supervisor.check_usable()
        self.telemetry: Telemetry = Telemetry(connection.observer, numbered=True)
        self.telemetry.stream_started(
            spec.start,
            spec.stop - SECOND,
            paging=spec.paging,
            field_count=len(spec.fields),
            resumed=spec.resume is not None,
        )
        self._loop = asyncio.get_running_loop()
        #: The latest requests started; more than can be in flight.
        self._recent: deque[Coroutine[Any, Any, None]] = deque(maxlen=2 * self._throttle.concurrency + 1)
        self._waiting = PageBudget(WAITING_BYTES)
        self._may_receive = asyncio.Event()
        self._may_request = asyncio.Event()
        self._has_result = asyncio.Event()
        self._error: Exception | None = None
        self._stopped = self._warned = False
        self._task, self._scope = connection.supervisor.start_task(self._run)
        self._task.add_done_callback(lambda _task: self._has_result.set())

    def _make_plan(self, spec: ReadSpec) -> Plan:
        server_limit = self._page_sizes.server_limit
        hours = UncutHours.between(spec.start, spec.stop, self._connection.timezone)
        if spec.by_windows:
            expected_until = self._connection.time.final_until(FINALITY_DELAY, spec.resolved_at)
            return WindowPlan(
                spec.start,
                spec.stop,
                descending=spec.descending,
                ordered=spec.ordered,
                limit=spec.page_size or self._page_sizes.rows_for(self._page_format.target_bytes),
                server_limit=server_limit,
                resume=spec.resume_after,
                hours=hours,
                expected_until=expected_until,
                early_page=spec.max_calls is None and spec.stop - spec.start >= EARLY_PAGE_RANGE,
                early_tail=spec.max_calls is None,
            )
        return PagePlan(
            spec.start,
            spec.stop - SECOND,
            order=spec.order,
            limit=spec.page_size or DEFAULT_PAGE_ROWS,
            max_ahead=self._throttle.concurrency,
            server_limit=server_limit,
            hours=hours,
        )

    async def next_rows(self) -> RowSlice | None:
        """Returns the next rows, or None after the last.

        Raises:
            IovoxError: the error that ended the stream, after all rows before it were returned.
        """
        while (rows := self.plan.next_rows()) is None:
            if self._error is not None:
                await self.stop()
                raise self._error
            if self._task.done():
                # An internal error of the task is raised here, so it cannot pass for the end of the stream.
                await self._task
                if not self.plan.done:
                    closed = "stream" if self._stopped else "session"
                    raise SessionError(f"the {closed} was closed while it was being read")
                return None
            self._has_result.clear()
            await self._has_result.wait()
        self._may_request.set()
        self._may_receive.set()
        if not self._warned and isinstance(self.plan, PagePlan) and self.plan.has_moved_calls:
            self._warned = True
            logger.warning(
                "a call was on two pages, so others may be missing: the data, or the order of calls with the same value of "
                "%s, changes while it is read by page numbers; an order by call_start, read by windows, is exact",
                self.plan.order.rpartition("_")[0],
            )
        return rows

    def abandon(self, stats: StreamStats) -> None:
        """Cancels all requests of the stream soon, and reports its end. May be called in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it all requests
            self._loop.call_soon_threadsafe(self._abandon, stats)

    def _abandon(self, stats: StreamStats) -> None:
        self._stopped = True
        self._scope.cancel()
        if self._task.done():
            self.plan.discard()
        self.telemetry.stream_finished(stats, complete=False, error=None)

    async def stop(self) -> None:
        """Cancels all requests of the stream, and returns when they have ended."""
        self._stopped = True
        self._scope.cancel()
        # Shielded from a scope around the caller that is cancelled: no request may outlive the block that it belongs to.
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                await asyncio.shield(asyncio.wait([self._task]))
        if not self._task.cancelled():
            self._task.exception()
        self.plan.discard()

    async def _run(self) -> None:
        try:
            await self._send_requests()
        finally:
            if self._stopped:
                self.plan.discard()
            # When an event loop shuts down early, it warns about coroutines that never started.
            for coroutine in self._recent:
                if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.close()

    async def _send_requests(self) -> None:
        async with anyio.create_task_group() as tasks:
            while not self.plan.exhausted and self._error is None:
                if self._can_request():
                    holder = object()
                    await take_turn(REQUESTING)
                    try:
                        await self._connection.slots.acquire(self._throttle, holder, owner=self)
                    except RequestError as error:
                        # The account was refused a moment ago. Not raised: the task group would wrap it.
                        self._fail(error)
                        break
                    # The plan may have changed while this waited.
                    if self._can_request():
                        coroutine = self._fetch(self.plan.next_request(), holder)
                        self._recent.append(coroutine)
                        tasks.start_soon(_identity, coroutine)
                    else:
                        self._throttle.release(holder)
                else:
                    await self._may_request.wait()
                    self._may_request.clear()
            tasks.cancel_scope.cancel()

    def _can_request(self) -> bool:
        pages = self.plan.in_flight + self.plan.buffered
        ahead = pages < 2 * self._throttle.concurrency
        if ahead and pages:
            ahead = all(budget.has_room(self._may_request) for budget in self._budgets)
        return self._error is None and self.plan.can_request(ahead=ahead)

    async def _wait_for_room(self, request: PageRequest, latest: float) -> bool:
        """Waits before a part of a page is received, until the reader needs it or has nothing else, or others wait for the slot.

        Returns whether the reader needs it.
        """
        while not (is_next := self.plan.is_next(request)) and not self._waiting.has_room(self._may_receive):
            if self._connection.slots.has_others(self, self._may_receive) or self._loop.time() >= latest:
                break
            self._may_receive.clear()
            with anyio.move_on_after(latest - self._loop.time()):
                await self._may_receive.wait()
        return is_next

    async def _fetch(self, request: PageRequest, holder: object) -> None:
        """Sends one request and adds its page to the plan; releases the slot of `holder`."""
        self.peak_buffered = max(self.peak_buffered, self.plan.in_flight + self.plan.buffered)
        try:
            await self._fetch_page(request)
        except RequestError as error:
            error.window, error.page = request.window, request.page
            if self._may_split(request, error) and self._throttle.consume_retry():
                self.plan.split(request, error.attempts)
                self.window_splits += 1
                logger.info("window split after %s", type(error).__name__)
            else:
                self._fail(error)
        except Exception as error:  # noqa: BLE001 - the reader raises it
            self._fail(error)
        finally:
            self._throttle.release(holder)
            self._may_request.set()
            self._may_receive.set()
            self._has_result.set()

    def _may_split(self, request: PageRequest, error: RequestError) -> bool:
        # The attempts of a window count for the windows that replace it. Three attempts allow for two splits.
        attempts_left = max(3, self._connection.retry.max_attempts) - error.attempts
        return is_splittable(error) and attempts_left > 0 and self.plan.splits_left(request) > 0

    def _fail(self, error: Exception) -> None:
        """Ends the stream with the first error; a later error of another type is added to it as a note."""
        if self._error is None:
            # The frames of a traceback hold the page; that of a bug is worth it.
            self._error = error.with_traceback(None) if isinstance(error, IovoxError) else error
        elif type(self._error) is not type(error):
            self._error.add_note(f"Another request failed meanwhile: {error}")

    async def _fetch_page(self, request: PageRequest) -> None:
        constant = self._date_constant
        query_string = self._query.to_query_string(
            page=request.page,
            limit=request.limit,
            start_date=None if constant else request.start,
            end_date=None if constant else request.stop,
            date_constant=constant,
            order=request.order,
        )
        retry = self._connection.retry
        attempts = request.attempts

        async def send(seconds: float) -> RawPage:
            nonlocal attempts
            self.requests += 1
            self.retries += attempts > 0
            attempts += 1
            response = self._connection.endpoint.get_page(
                query_string,
                time_limit=seconds,
                new_page=self._page_format.new_builder,
                wait_for_room=partial(self._wait_for_room, request, self._loop.time() + UNREAD_SECONDS),
            )
            return await self.telemetry.track_request(
                response, window=request.window, page=request.page, attempt=attempts
            )

        def on_retry(attempt: int, delay: float, error: RequestError) -> None:
            self.telemetry.retry_scheduled(attempt, delay, error, window=request.window, page=request.page)

        size = self._page_sizes.bytes_for(request.limit)
        with contextlib.ExitStack() as expected:
            for budget in self._budgets:
                expected.enter_context(budget.expect(size))
            page = await self._throttle.run(
                send,
                retry,
                previous_attempts=request.attempts,
                split_after=max(request.attempts + 1, retry.max_attempts - self.plan.splits_left(request)),
                on_retry=on_retry,
            )
            await take_turn(REQUESTING)
        page.attempts = attempts
        for budget in (*self._budgets, self._waiting):
            budget.hold(page, page.size)
        self.bytes_received += page.wire_bytes
        self._page_sizes.record(page)
        # A page larger than those of the default size was requested by the caller.
        self._budgets[1].limit = self._throttle.concurrency * max(
            STREAM_BYTES, self._page_sizes.bytes_for(self.plan.limit)
        )
        if self._adjusts_limit:
            self.plan.limit = self._page_sizes.rows_for(self._page_format.target_bytes)
        self.plan.accept(request, PageResult(page.starts, page, lambda: page.ids, page.ties, page.ids_ascend))
        page.forget_keys()
        self.telemetry.page_accepted(
            request.window, request.page, attempts=attempts - request.attempts, response=page
        )
        logger.debug(
            "%s page %d: %d calls, %d bytes",
            format_window(request.window),
            request.page,
            page.rows,
            page.wire_bytes,
        )
