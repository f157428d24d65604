"""Keeps what one run has in common: the endpoint, all exchanges, the violations, and the changes of the data.

Every request passes `World.begin`, which checks what needs its exact moment: concurrency, pauses, refused accounts, the address
and the key. After every response the data changes, mostly at the edges of the page.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .endpoint import BASE, SECOND, Endpoint, Row, at
from .schedule import SWAP
from .zones import AccountClock

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from .loop import SimulationLoop
    from .schedule import Schedule

__all__ = ["KEY", "NOW", "Exchange", "Violation", "World"]

#: The key of the session. It may appear in the headers of requests and nowhere else.
KEY = "canary-5f1e77d0c0ffee"
#: What the account's clock shows when a run begins.
NOW = BASE + timedelta(days=4)
#: Faults after which the same request is not sent again.
FINAL = frozenset({"400", "401", "403", "redirect"})


#: Calls that a response must lack before a reader can notice it.
NOTICEABLE = 40
#: Calls in the first response of a read that are believed to be all, see `exactness.md`.
TOO_FEW = 5


@dataclass(frozen=True)
class Violation:
    """A broken invariant: its name, and what happened."""

    kind: str
    text: str


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what became of it. Steps are those of the loop."""

    number: int
    query: str
    began: int
    time: float
    #: Whether a cache may answer it.
    cacheable: bool = False
    fault: str = ""
    status: int = 0
    #: Version and start of each call in the response, by id.
    rows: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    #: The step at which the body had been read to its end.
    read: int | None = None
    #: The step at which nothing of it was open any more, and the time.
    ended: int | None = None
    ended_at: float = 0.0
    #: The client gave the request up before there was a response or an error.
    was_cancelled: bool = False


class World:
    """Everything outside the client."""

    def __init__(self, schedule: Schedule, loop: SimulationLoop, *, trace: bool = False) -> None:
        self.schedule = schedule
        self.loop = loop
        self.rng = random.Random(f"world {schedule.seed}")
        self.exchanges: list[Exchange] = []
        self.violations: list[Violation] = []
        self.active = 0
        self.lines: list[str] | None = [] if trace else None
        self.events = 0
        self.zone: tzinfo = timezone(timedelta(hours=schedule.ahead))
        clock = None
        if schedule.shift:
            clock = AccountClock(schedule.shift_at, schedule.shift, schedule.folds)
            self.zone = clock.zone
        elif schedule.timezone:
            self.zone = ZoneInfo(schedule.timezone)
        #: The tick of the calls in a cache, which was filled before the run.
        self._cached_tick = 0
        self.endpoint = self._endpoint(clock)
        self._first_tick = self.endpoint.tick
        #: The request that a replica answers, which is behind.
        self._behind = self.rng.randrange(8) if schedule.slip == "replica" else -1
        #: The wrong response of a slip that a cache keeps, and its query.
        self._kept: tuple[str, int, bytes, list[Row]] | None = None
        self._motion_left = schedule.motion
        self._gone: list[list[Row]] = []
        self._slip_done = self._swapped = False
        #: Whether an unreachable server refuses connections, rather than cannot be found.
        self.refuses = schedule.seed % 2 == 1
        #: Whether all faults have ended, and the requests sent before.
        self.healed = False
        self.sent_before = 0
        #: Whether the client has ever reached it.
        self.reached = False
        #: Counts the pages that the client has received and still keeps.
        self.pages_in_memory: Callable[[], int] | None = None
        #: Of each second that is read by page numbers, the pages of the current pass.
        self._pass_pages: dict[str, int] = {}
        #: The most of them.
        self.longest_pass = 0
        #: Times between which nothing may be sent, and why.
        self.pauses: list[tuple[float, float, str]] = []

    def _endpoint(self, clock: AccountClock | None) -> Endpoint:
        schedule = self.schedule
        empty = None if schedule.empty is None else schedule.empty.encode()
        endpoint = Endpoint(
            self.rng,
            end=schedule.end,
            cap=schedule.cap,
            offset=schedule.offset,
            shown=schedule.shown,
            id_text=schedule.id_text,
            # A slip cuts and repeats the rows of lists.
            lone=schedule.lone and not schedule.slip,
            empty=empty,
            clock=clock,
        )
        endpoint.first_excluded = schedule.slip == "first-excluded"
        endpoint.lists_twice = schedule.slip == "twice"
        for number, start in enumerate(schedule.starts):
            endpoint.insert(at(start))
            if number < len(schedule.starts) // 2:
                self._cached_tick = endpoint.tick
        return endpoint

    # Words for others.

    def now(self) -> datetime:
        """What the account's clock shows."""
        return NOW + timedelta(seconds=self.loop.time() - 1000)

    def utcnow(self) -> datetime:
        """What time it is in UTC."""
        return self.now().replace(tzinfo=self.zone).astimezone(UTC)

    def machine_utc(self) -> datetime:
        """What the clock of the client's machine shows."""
        return self.utcnow() + timedelta(seconds=self.schedule.skew)

    def violated(self, kind: str, text: str) -> None:
        """Records a broken invariant."""
        self.violations.append(Violation(kind, text))
        self.trace("VIOLATED", f"{kind}: {text}")

    def trace(self, who: str, text: str) -> None:
        """Writes a line of the trace, where there is one."""
        self.events += 1
        if self.lines is not None:
            self.lines.append(f"{self.loop.time() - 1000:10.3f} s  step {self.loop.step:5}  {who:<9} {text}")

    # Requests.

    def begin(self, request: httpx.Request) -> Exchange:
        """Takes notice of a request, and checks what must hold at this moment."""
        now, url = self.loop.time(), request.url
        query = url.query.decode()
        cacheable = "no-cache" not in request.headers.get("cache-control", "")
        exchange = Exchange(len(self.exchanges), query, self.loop.step, now, cacheable)
        self.exchanges.append(exchange)
        self.active += 1
        if self.active > self.schedule.concurrency:
            self.violated(
                "concurrency", f"{self.active} requests at once, {self.schedule.concurrency} allowed"
            )
        self._check_memory(query)
        if url.host != "rest.iovox.test" or url.scheme != "https" or KEY in str(url):
            self.violated("origin", f"request to {url.scheme}://{url.host}")
        if request.headers.get("securekey") != KEY:
            self.violated("origin", "the request carries no key")
        for start, stop, why in self.pauses:
            if start < now < stop - 1e-6 and not self.schedule.lag:
                self.violated("pause", f"request {exchange.number} sent {now - start:g} s after {why}")
        outage = self.schedule.outage
        if not self.healed:
            in_outage = outage and outage[0] <= now - 1000 < outage[1]
            exchange.fault = "refused" if in_outage else self.schedule.faults.get(exchange.number, "")
        self.trace("request", f"#{exchange.number} {_short(query)}")
        return exchange

    def _check_memory(self, query: str) -> None:
        """Counts the pages in flight and in memory, at the only moments at which there can be more of them.

        A second fuller than a page is kept as a whole until it is known to be complete, so its pages count as one.
        """
        uses = self.schedule.uses
        if self.pages_in_memory is None or any(use.kind == "backfill" for use in uses):
            return
        by_id = [use.paging == "pages" and use.order == "id_ASC" for use in uses]
        # Windows use page numbers for such a second only; its first pages may be in the order of starts.
        by_number = _page(query) > 1 and all(use.paging != "pages" for use in uses)
        if by_number or ("order=id_ASC" in query and not all(by_id)):
            second, before = query.partition("start_date=")[2].partition("&")[0], _page(query) - 1
            # Several streams may read the same second, one of them behind the other.
            most = max(before * len(uses), self._pass_pages.get(second, 0))
            # They are kept while the second is read once more.
            self._pass_pages[second] = most
        self.longest_pass = max([self.longest_pass, *self._pass_pages.values()])
        pages = self.active + self.pages_in_memory()
        bound = (2 * self.schedule.concurrency + 1) * len(uses)
        if pages > bound + sum(self._pass_pages.values()):
            self.violated("buffer", f"{pages} pages in flight and in memory, {bound} allowed")

    def end(self, exchange: Exchange) -> None:
        """Takes notice that nothing of an exchange is open any more."""
        if exchange.ended is None:
            exchange.ended, exchange.ended_at = self.loop.step, self.loop.time()
            self.reached = self.reached or exchange.fault != "refused"
            self.active -= 1
            waited = exchange.ended_at - exchange.time
            if exchange.fault == "silence" and waited > 2 * self.schedule.timeout:
                self.violated("deadline", f"request #{exchange.number} waited {waited:g} s for a response")
            self.trace("closed", f"#{exchange.number}")

    def pause(self, until: float, why: str) -> None:
        """Nothing may be sent from the next instant on until a time of the loop."""
        self.pauses.append((self.loop.time(), until, why))

    def serve(self, exchange: Exchange) -> tuple[int, bytes]:
        """Answers from the data of this moment, after which the data changes."""
        if self._kept is not None and self._kept[0] == exchange.query:
            _query, status, body, rows = self._kept
        else:
            status, body, rows = self._reply(exchange)
        exchange.status = status
        exchange.rows = {row.id: (row.version, row.start) for row in rows}
        self.trace("response", f"#{exchange.number} {status}: {_listed(rows)}")
        self._move(rows, _page(exchange.query))
        return status, body

    def _reply(self, exchange: Exchange) -> tuple[int, bytes, list[Row]]:
        slip = "" if self._slip_done else self.schedule.slip
        tick = None
        if exchange.cacheable:
            tick = self._cached_tick
        elif exchange.number == self._behind:
            tick = self.rng.randint(self._first_tick, self.endpoint.tick)
        reply = self.endpoint.reply(exchange.query, str(1_000_000 + exchange.number), self.now(), tick=tick)
        rows, body = reply.rows, reply.body
        # So many calls are missing that it shows.
        missing = reply.matched - len(rows) * 3 // 4 > NOTICEABLE
        if (slip == "empty-first" and rows) or (slip == "empty-late" and exchange.number > 3 and missing):
            rows, body, self._slip_done = [], b"[]", True
        elif slip in {"short-late", "sink"} and exchange.number > 3 and missing and self._may_cut(slip, rows):
            keep = len(rows) * 3 // 4
            rows, self._slip_done = rows[:keep], True
            body = b"[" + b",".join(_split(body)[:keep]) + b"]"
            if slip == "sink":
                self.endpoint.cap = keep
        elif slip == "double" and rows:
            body = body[:-1] + b"," + _split(body)[-1] + b"]"
        # A cache does not keep what a fault spoils on the way.
        if self._slip_done and slip and self.schedule.cached and not exchange.fault:
            self._kept = exchange.query, reply.status, body, rows
        return reply.status, body, rows

    def _may_cut(self, slip: str, rows: list[Row]) -> bool:
        # A first page of so few calls says nothing about the traffic. Pages that hold no more than the calls of one second look the
        # same whether calls follow it or not.
        few = TOO_FEW
        if slip == "sink":
            seconds = Counter(row.start.replace(microsecond=0) for row in self.endpoint.rows)
            few = max([few, *seconds.values()])
        return len(rows) * 3 // 4 > few

    # Motion.

    def _move(self, rows: list[Row], page: int) -> None:
        schedule, rng = self.schedule, self.rng
        while self._motion_left > 0 and rng.random() < schedule.rate:
            self._motion_left -= 1
            motion = rng.choice(schedule.motions)
            if motion == SWAP:
                self._swap(rows, page)
                return
            second = self._second(rows)
            _MOTIONS[motion](self, second)

    def heal(self) -> None:
        """Lets nothing fail from now on."""
        self.healed, self.sent_before = True, len(self.exchanges)

    def stop_motion(self) -> None:
        """Lets nothing change from now on."""
        self._motion_left = 0

    def _second(self, rows: list[Row]) -> datetime:
        """A second at the edge of a page, where changes hurt most, or any."""
        if rows and self.rng.random() < 0.8:
            edge = self.rng.choice((rows[0], rows[-1], rows[-1])).start.replace(microsecond=0)
            return edge + self.rng.choice((-1, 0, 0, 0, 1)) * SECOND
        last = max([use.end for use in self.schedule.uses], default=60)
        return at(self.rng.randrange(max(1, last)))

    def _insert(self, second: datetime) -> None:
        row = self.endpoint.insert(second + timedelta(seconds=self.rng.choice((0, 0, 0.412, 0.7))))
        self.trace("data", f"call {row.id} inserted at {row.start.time()}")

    def _swap(self, rows: list[Row], page: int) -> None:
        """Lets the pages of a second be as long as before, and hold other calls."""
        alive = [row for row in rows if row in self.endpoint.rows]
        if page == 1 and alive and not self._swapped:
            row, self._swapped = self.rng.choice(alive), True
            self.endpoint.delete(row)
            self.trace("data", f"call {row.id} deleted at {row.start.time()}")
        elif page > 1 and self._swapped:
            row, self._swapped = self.endpoint.insert(at(self.schedule.starts[0])), False
            self.trace("data", f"call {row.id} inserted at {row.start.time()}")

    def _victims(self, second: datetime) -> list[Row]:
        return self.endpoint.within(second, second + SECOND)

    def _delete(self, second: datetime) -> None:
        if victims := self._victims(second):
            row = self.rng.choice(victims)
            self.endpoint.delete(row)
            self.trace("data", f"call {row.id} deleted at {row.start.time()}")

    def _move_row(self, second: datetime) -> None:
        if victims := self._victims(second):
            row = self.rng.choice(victims)
            start = second + self.rng.choice((-2, -1, 1, 2, 5)) * SECOND
            self.endpoint.move(row, start)
            self.trace("data", f"call {row.id} moved from {row.start.time()} to {start.time()}")

    def _edit(self, second: datetime) -> None:
        if victims := self._victims(second):
            row = self.rng.choice(victims)
            self.endpoint.move(row, row.start)
            self.trace("data", f"call {row.id} edited")

    def _vanish(self, second: datetime) -> None:
        if victims := self._victims(second):
            for row in victims:
                self.endpoint.delete(row)
            self._gone.append(victims)
            self.trace("data", f"all {len(victims)} calls of {second.time()} deleted")

    def _return(self, _second: datetime) -> None:
        if self._gone:
            rows = self._gone.pop(self.rng.randrange(len(self._gone)))
            for row in rows:
                self.endpoint.insert(row.start, row.id, row.version)
            self.trace("data", f"{len(rows)} calls of {rows[0].start.time()} came back")

    def _grow(self, _second: datetime) -> None:
        endpoint = self.endpoint
        if endpoint.cap is not None:
            endpoint.cap = self.rng.choice((endpoint.cap + 1, 2 * endpoint.cap))
            # It changes what a page number means, so it counts as a change of the data.
            endpoint.tick += 1
            self.trace("data", f"pages may now hold {endpoint.cap} calls")


_MOTIONS = {
    "insert": World._insert,
    "delete": World._delete,
    "move": World._move_row,
    "vanish": World._vanish,
    "return": World._return,
    "edit": World._edit,
    "grow": World._grow,
}


def _split(body: bytes) -> list[bytes]:
    """The objects of a list."""
    return body[1:-1].replace(b"},{", b"}\n{").split(b"\n")


def _page(query: str) -> int:
    return int(query.partition("page=")[2].partition("&")[0])


def _short(query: str) -> str:
    """A query string without the fields, which are the same each time."""
    parts = [part for part in query.split("&") if not part.startswith("response_fields")]
    return " ".join(parts).replace("2024-01-", "")


def _listed(rows: list[Row]) -> str:
    shown = " ".join(f"{row.id}@{row.start.time().isoformat('seconds')}" for row in rows[:12])
    return f"{len(rows)} calls {shown}{' ...' if len(rows) > 12 else ''}"
