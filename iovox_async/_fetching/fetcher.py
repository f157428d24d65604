"""Runs a plan under the pacing, and hands what comes to one reader.

The law of this room: one plain task owns the requests of a stream, the task group lives inside that task, and
results and errors reach the reader as values. A reader that leaves stops the task; a reader that is slow stops the
requests; and the reader awaits the task after the last piece, so a fault in it can never end a stream short.

The bound: requests in flight and answers that wait for their turn are at most twice the concurrency, beyond which
only what the reader waits for is let in; with the page in the reader's hands that is `2 x concurrency + 1` pages.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import anyio
from attrs import define, field

from .._http.throttle import is_splittable
from .._paging import LARGEST, SECOND, PagePlan, PageResult, ServerPageLimit, WindowPlan
from .._telemetry import Telemetry
from ..errors import RequestError, SessionError, format_window

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._http.tasks import TaskSupervisor
    from .._http.throttle import RequestThrottle
    from .._http.transport import Endpoint
    from .._paging import PageRequest, Plan, RowSlice
    from .._paging.spec import ReadSpec
    from .._parsing.splitter import PageFormat, RawPage
    from ..events import Observer
    from ..retry import RetryPolicy

__all__ = ["PageFetcher", "PageSizeEstimator", "plan_for", "watch_for"]

logger: logging.Logger = logging.getLogger("iovox_async")

#: Rows of a page read by page numbers where nothing is asked for: moderate whatever the fields.
PAGE_ROWS: Final = 2_500


@define
class PageSizeEstimator:
    """What a session has learned about the answers for one choice of fields."""

    capacity: ServerPageLimit = field(factory=ServerPageLimit)
    #: Bytes of a row, as the last answers had it.
    row_bytes: float | None = None

    def saw(self, page: RawPage) -> None:
        """Takes notice of a page."""
        if page.rows:
            size = page.size / page.rows
            # Upwards at once, since a page too large is worse than one too small.
            self.row_bytes = size if self.row_bytes is None else max(size, 0.5 * (size + self.row_bytes))

    def limit(self, page_bytes: int) -> int:
        """Rows of a page of about so many bytes."""
        return LARGEST if self.row_bytes is None else max(1, min(LARGEST, int(page_bytes / self.row_bytes)))


def plan_for(
    reading: ReadSpec, profile: PageSizeEstimator, page_size: int | None, page_bytes: int, concurrency: int
) -> tuple[Plan, int | None]:
    """The plan that reads this, and the rows a request if they are fixed."""
    if reading.windows:
        windows = WindowPlan(
            reading.lo,
            reading.hi,
            descending=reading.descending,
            ordered=reading.ordered,
            limit=page_size or profile.limit(page_bytes),
            capacity=profile.capacity,
        )
        return windows, page_size
    size = page_size or PAGE_ROWS
    pages = PagePlan(
        reading.lo,
        reading.hi - SECOND,
        order=reading.query.order or "call_start_ASC",
        limit=size,
        ahead=concurrency,
        capacity=profile.capacity,
    )
    return pages, size


def watch_for(reading: ReadSpec, observer: Observer | None) -> Telemetry:
    """What tells of a stream that reads this, from its beginning on."""
    watch = Telemetry(observer, numbered=True)
    last = reading.hi - SECOND
    resumed = reading.resume is not None
    watch.stream_started(
        reading.lo,
        last,
        paging="windows" if reading.windows else "pages",
        field_count=len(reading.fields),
        resumed=resumed,
    )
    return watch


def _itself(flight: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    return flight


class PageFetcher:
    """The requests of one stream.

    Args:
        plan: which request next.
        params: the query string of a request.
        http: makes an exchange.
        gate: the session's slots and retries.
        shelter: the session's tasks.
        policy: how often a request is tried.
        profile: what is known of the answers.
        watch: is told what happens.
        page_size: rows a request, or None to follow the bytes.
        page_format: how pages are built, and how large they should be.
    """

    def __init__(
        self,
        plan: Plan,
        params: Callable[[PageRequest], str],
        *,
        http: Endpoint,
        gate: RequestThrottle,
        shelter: TaskSupervisor,
        policy: RetryPolicy,
        profile: PageSizeEstimator,
        watch: Telemetry,
        page_size: int | None,
        page_format: PageFormat,
    ) -> None:
        self.plan = plan
        self.watch = watch
        self.requests = 0
        self.retries = 0
        self.window_splits: int = 0
        self.bytes: int = 0
        self.peak: int = 0
        self._params = params
        self._http = http
        self._gate = gate
        self._policy = policy
        self._profile = profile
        self._page_size = page_size
        self._page_format = page_format
        #: The last requests begun; more than can be in flight.
        self._flights: deque[Coroutine[Any, Any, None]] = deque(maxlen=2 * gate.concurrency + 1)
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._failure: Exception | None = None
        self._stopped = False
        self._task, self._scope = shelter.start_task(self._run)
        self._task.add_done_callback(lambda _task: self._ready.set())

    async def take(self) -> RowSlice | None:
        """The next rows, or None after the last.

        Raises:
            IovoxError: what ended the stream; all that came before it in order was handed out.
        """
        while (piece := self.plan.pop()) is None:
            if self._failure is not None:
                await self.stop()
                raise self._failure
            if self._task.done():
                # A fault of ours in the pump is raised here, and never taken for the end.
                await self._task
                if not self.plan.done:
                    closed = "stream" if self._stopped else "session"
                    raise SessionError(f"the {closed} was closed while it was being read")
                return None
            self._ready.clear()
            await self._ready.wait()
        self._wake.set()
        return piece

    async def stop(self) -> None:
        """Ends all requests of the stream, and returns when they have ended."""
        self._stopped = True
        self._scope.cancel()
        while not self._task.done():
            await asyncio.shield(asyncio.wait([self._task]))
        if not self._task.cancelled():
            self._task.exception()

    @property
    def held(self) -> int:
        """Requests in flight and answers that wait for their turn."""
        return self.plan.flying + self.plan.waiting

    async def _run(self) -> None:
        try:
            await self._ask()
        finally:
            # What a dying loop has never begun would be complained of.
            for flight in self._flights:
                if inspect.getcoroutinestate(flight) == inspect.CORO_CREATED:
                    flight.close()

    async def _ask(self) -> None:
        async with anyio.create_task_group() as flights:
            while not self.plan.settled and self._failure is None:
                if self._may_ask():
                    holder = object()
                    try:
                        await self._gate.acquire(holder)
                    except RequestError as error:
                        # The account was refused a moment ago. As a value: a task group would wrap it.
                        self._failed(error)
                        break
                    # The reader and other answers went on while this waited for its slot.
                    if self._may_ask():
                        flight = self._fly(self.plan.next(), holder)
                        self._flights.append(flight)
                        flights.start_soon(_itself, flight)
                    else:
                        self._gate.release(holder)
                else:
                    await self._wake.wait()
                    self._wake.clear()
            flights.cancel_scope.cancel()

    def _may_ask(self) -> bool:
        room = self.held < 2 * self._gate.concurrency
        return self._failure is None and self.plan.ready(room=room)

    async def _fly(self, ask: PageRequest, holder: object) -> None:
        """One request, from its slot to its place in the plan."""
        self.peak = max(self.peak, self.held)
        try:
            await self._request(ask)
        except RequestError as error:
            error.window, error.page = ask.window, ask.page
            if self._may_halve(ask, error) and self._gate.consume_retry():
                self.plan.halve(ask, error.attempts)
                self.window_splits += 1
                logger.info("window halved after %s", type(error).__name__)
            else:
                self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader must learn of it
            self._failed(error)
        finally:
            self._gate.release(holder)
            self._wake.set()
            self._ready.set()

    def _may_halve(self, ask: PageRequest, error: RequestError) -> bool:
        # What a window used up counts for the halves that take its place; three attempts allow for two halvings.
        left = max(3, self._policy.max_attempts) - error.attempts
        return is_splittable(error) and left > 0 and self.plan.halvings(ask) > 0

    def _failed(self, error: Exception) -> None:
        """The first failure ends the stream; another one that comes before it has ended is noted in it."""
        if self._failure is None:
            self._failure = error
        elif type(self._failure) is not type(error):
            self._failure.add_note(f"Another request failed meanwhile: {error}")

    async def _request(self, ask: PageRequest) -> None:
        params = self._params(ask)
        attempts = ask.attempts

        async def exchange(seconds: float) -> RawPage:
            nonlocal attempts
            self.requests += 1
            self.retries += attempts > 0
            attempts += 1
            work = self._http.get_page(params, time_limit=seconds, new_page=self._page_format.new_builder)
            return await self.watch.track_request(work, window=ask.window, page=ask.page, attempt=attempts)

        def notice(attempt: int, delay: float, error: RequestError) -> None:
            self.watch.retry_scheduled(attempt, delay, error, window=ask.window, page=ask.page)

        split_at = max(ask.attempts + 1, self._policy.max_attempts - self.plan.halvings(ask))
        page = await self._gate.run(
            exchange, self._policy, previous_attempts=ask.attempts, split_after=split_at, on_retry=notice
        )
        self.bytes += page.wire
        self._profile.saw(page)
        if self._page_size is None:
            self.plan.limit = self._profile.limit(self._page_format.target_bytes)
        self.plan.answer(ask, PageResult(page.starts, page, page.ids))
        page.starts = []
        self.watch.page_accepted(ask.window, ask.page, attempts=attempts - ask.attempts, response=page)
        logger.debug(
            "%s page %d: %d calls, %d bytes", format_window(ask.window), ask.page, page.rows, page.wire
        )
