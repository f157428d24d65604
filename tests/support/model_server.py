"""Simulates the endpoint for tests of the plans: no I/O, and the same behaviour for the same seed.

It uses only the values `PageRequest` and `PageResult` of the package. Between any two requests calls are inserted and
deleted, calls of one second change places, and the page limit may change, though never below the largest page served.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from hypothesis import HealthCheck, settings

from iovox_async._paging import SECOND, PageRequest, PageResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from iovox_async._paging import PagePlan, RowSlice, WindowPlan

BASE = datetime(2024, 1, 1)
#: Factors for the number of examples, by HYPOTHESIS_PROFILE.
FACTORS = {"nightly": 25.0, "thorough": 1.0}


def examples(number: int) -> settings:
    """Settings for an eighth of `number` examples; for all or more of them in a thorough or nightly run."""
    factor = FACTORS.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 0.125)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=int(number * factor), deadline=None, suppress_health_check=checks)


by_start = attrgetter("start")
by_id = attrgetter("id")


def at(second: float) -> datetime:
    """The datetime `second` seconds after the first one of the simulation."""
    return BASE + timedelta(seconds=second)


@dataclass(slots=True, eq=False)
class Row:
    """A call: its start and id."""

    start: datetime
    id: int

    @property
    def second(self) -> datetime:
        return self.start.replace(microsecond=0)

    def __repr__(self) -> str:
        return f"{(self.start - BASE).total_seconds():g}#{self.id}"


@dataclass
class Motion:
    """The changes between two requests.

    Attributes:
        inserts: the most calls inserted between two requests.
        deletes: the most calls deleted between two requests.
        near: changes are made around the first and last row of the latest page; else anywhere.
        growing: new ids are larger than all before; else they are random.
        left: the number of changes left, so that every read ends.
    """

    inserts: int = 0
    deletes: int = 0
    near: bool = False
    growing: bool = True
    left: int = 100

    def some(self, rng: random.Random, most: int) -> int:
        """Returns how many of at most `most` changes to make now."""
        number = min(self.left, rng.randint(0, most)) if most else 0
        self.left -= number
        return number


@dataclass(repr=False)
class Server:
    """The endpoint: filters rows by second, orders them with shuffled ties, and limits pages.

    Attributes:
        rng: makes all random choices.
        span: the seconds in which calls are inserted.
        end: how `end_date` is read; "second" includes the whole last second.
        begin: how `start_date` is read.
        cap: the server's own page limit.
        cap_moves: the page limit may change between requests, but not below the largest page served.
        offset: what page numbers count in: the limit requested, or the one used.
        cut: starts have no microseconds.
        rounds: starts are shown rounded to the second, but compared exactly.
        faults: changes the rows of a page before they are returned; called with the number of the request and its rows.
        ignores: parameters that the server ignores.
    """

    rng: random.Random
    span: int = 100
    end: Literal["inclusive", "exclusive", "second"] = "inclusive"
    begin: Literal["inclusive", "exclusive"] = "inclusive"
    cap: int | None = None
    cap_moves: bool = False
    offset: Literal["limit", "cap"] = "limit"
    cut: bool = False
    rounds: bool = False
    faults: Callable[[int, list[Row]], list[Row]] | None = None
    motion: Motion = field(default_factory=Motion)
    ignores: frozenset[str] = frozenset()
    #: All calls that exist, by start.
    live: list[Row] = field(default_factory=list)
    #: Every call that ever existed.
    ever: set[Row] = field(default_factory=set)
    served: list[PageRequest] = field(default_factory=list)
    most: int = 0
    #: Rows skipped by page numbers.
    skipped: int = 0
    _ids: set[int] = field(default_factory=set)

    def fill(self, starts: Iterable[datetime]) -> None:
        """Inserts calls with these starts."""
        new = [Row(start, self._new_id()) for start in starts]
        self.live = sorted(self.live + new, key=by_start)
        self.ever.update(new)

    def _new_id(self) -> int:
        if self.motion.growing:
            number = 1000 + len(self._ids)
        else:
            while (number := self.rng.randrange(1_000_000)) in self._ids:
                pass
        self._ids.add(number)
        return number

    def within(self, start: datetime, stop: datetime) -> set[Row]:
        """The calls that exist now and start in `[start, stop)`."""
        begin, end = bisect_left(self.live, start, key=by_start), bisect_left(self.live, stop, key=by_start)
        return set(self.live[begin:end])

    def serve(self, request: PageRequest) -> PageResult:
        """Returns the page for a request, and then changes the data."""
        self.served.append(request)
        limit = request.limit if self.cap is None else min(request.limit, self.cap)
        skip = (request.page - 1) * (request.limit if self.offset == "limit" else limit)
        if "page" in self.ignores:
            skip = 0
        rows = self._page(request, skip, limit)
        self.skipped += skip
        self.most = max(self.most, len(rows))
        self._move(rows)
        if self.faults is not None:
            rows = self.faults(len(self.served), rows)
        starts = [row.second if self.cut else row.start for row in rows]
        if self.rounds:
            starts = [(start + SECOND / 2).replace(microsecond=0) for start in starts]
        return PageResult(starts, rows, lambda: [row.id for row in rows])

    def _page(self, request: PageRequest, skip: int, limit: int) -> list[Row]:
        begin, end = 0, len(self.live)
        if "filter" not in self.ignores:
            bisect = bisect_left if self.begin == "inclusive" else bisect_right
            begin = bisect(self.live, request.start, key=by_start)
            end = {
                "inclusive": lambda: bisect_right(self.live, request.stop, key=by_start),
                "exclusive": lambda: bisect_left(self.live, request.stop, key=by_start),
                "second": lambda: bisect_left(self.live, request.stop + SECOND, key=by_start),
            }[self.end]()
        if "order" in self.ignores:
            rows = self.live[begin:end]
            self.rng.shuffle(rows)
            return rows[skip : skip + limit]
        if request.order.startswith("id_"):
            rows = sorted(self.live[begin:end], key=by_id, reverse=request.order.endswith("DESC"))
            return rows[skip : skip + limit]
        return self._ordered(begin, end, skip + limit, descending=request.order.endswith("DESC"))[
            skip : skip + limit
        ]

    def _ordered(self, begin: int, end: int, row_count: int, *, descending: bool) -> list[Row]:
        """The first rows between two indexes, with ties in a random order, and perhaps more rows."""
        if descending:
            first = max(begin, end - row_count)
            while first > begin and self.live[first - 1].start == self.live[first].start:
                first -= 1
            rows = self.live[first:end][::-1]
        else:
            last = min(end, begin + row_count)
            while begin < last < end and self.live[last].start == self.live[last - 1].start:
                last += 1
            rows = self.live[begin:last]
        begin = 0
        for place in range(1, len(rows) + 1):
            if place == len(rows) or rows[place].start != rows[begin].start:
                if place - begin > 1:
                    ties = rows[begin:place]
                    self.rng.shuffle(ties)
                    rows[begin:place] = ties
                begin = place
        return rows

    def _move(self, rows: Sequence[Row]) -> None:
        for _ in range(self.motion.some(self.rng, self.motion.deletes)):
            candidates = self._neighbours(rows) if self.motion.near else self.live
            if candidates:
                self._remove(self.rng.choice(candidates))
        for _ in range(self.motion.some(self.rng, self.motion.inserts)):
            if self.motion.near and rows:
                start = (
                    self.rng.choice((rows[0], rows[-1])).second + self.rng.choice((-1, 0, 0, 0, 1)) * SECOND
                )
            else:
                start = at(self.rng.randrange(self.span))
            row = Row(start, self._new_id())
            insort(self.live, row, key=by_start)
            self.ever.add(row)
        if self.cap_moves and self.rng.random() < 0.3:
            self.cap = self.rng.choice((self.most, self.most + 1, 2 * self.most, 20_000)) or 1

    def _neighbours(self, rows: Sequence[Row]) -> list[Row]:
        if not rows:
            return []
        first, last = sorted((rows[0].second, rows[-1].second))
        return sorted(self.within(first, first + SECOND) | self.within(last, last + SECOND), key=by_id)

    def _remove(self, row: Row) -> None:
        place = bisect_left(self.live, row.start, key=by_start)
        while self.live[place] is not row:
            place += 1
        del self.live[place]


@dataclass(repr=False)
class InstantServer(Server):
    """A server that keeps instants, shows them on the account's clock, and reads date bounds on that clock.

    Attributes:
        zone: the account's time zone.
        fold: how it reads a bound that occurs twice or never: as the earlier (0) or later (1) of two offsets.
        stop_fold: the same for the end of a range; by default as `fold`.
    """

    zone: tzinfo = UTC
    fold: int = 0
    stop_fold: int | None = None
    #: The instant of each call.
    instants: dict[Row, datetime] = field(default_factory=dict)

    def fill_instants(self, instants: Iterable[datetime]) -> None:
        """Inserts calls that start at these instants."""
        for instant in instants:
            row = Row(instant.astimezone(self.zone).replace(tzinfo=None, fold=0), self._new_id())
            self.instants[row] = instant
            self.ever.add(row)
        self.live = sorted(self.instants, key=self.instants.__getitem__)

    def _page(self, request: PageRequest, skip: int, limit: int) -> list[Row]:
        stop_fold = self.fold if self.stop_fold is None else self.stop_fold
        first = request.start.replace(tzinfo=self.zone, fold=self.fold).astimezone(UTC)
        last = request.stop.replace(tzinfo=self.zone, fold=stop_fold).astimezone(UTC)
        # Starts have whole microseconds: the last one that is returned.
        last += {"inclusive": 0, "exclusive": -1, "second": 999_999}[self.end] * timedelta(microseconds=1)
        rows = [row for row in self.live if first <= self.instants[row] <= last]
        self.rng.shuffle(rows)
        descending = request.order.endswith("DESC")
        key = by_id if request.order.startswith("id_") else self.instants.__getitem__
        return sorted(rows, key=key, reverse=descending)[skip : skip + limit]


@dataclass
class Pull:
    """The result of reading a plan to its end."""

    slices: list[RowSlice] = field(default_factory=list)
    requests_sent: list[PageRequest] = field(default_factory=list)
    peak: int = 0
    failures: int = 0

    @property
    def rows(self) -> list[Row]:
        """The calls in the order of delivery."""
        return [rows_slice.body[row] for rows_slice in self.slices for row in rows_slice.rows]

    @property
    def requests(self) -> int:
        return len(self.requests_sent)

    @property
    def duplicates(self) -> int:
        """The rows that were left out because their call came twice."""
        return sum(rows_slice.duplicates for rows_slice in self.slices)


def pull(
    plan: WindowPlan | PagePlan,
    server: Server,
    *,
    concurrency: int = 4,
    failing: float = 0.0,
    patient: bool = True,
    most: int = 5_000,
    before_request: Callable[[], None] | None = None,
) -> Pull:
    """Reads a plan as `PageFetcher` does, with events in a random order.

    Args:
        plan: the plan.
        server: returns the pages; its `rng` also chooses the next event.
        concurrency: requests in flight, at most.
        failing: the share of requests that fail for good, and are split where possible.
        patient: the reader takes rows at random times; else as soon as there are any.
        most: fail after so many requests.
        before_request: called before each request.
    """
    rng, result = server.rng, Pull()
    sent: list[PageRequest] = []
    received: list[tuple[PageRequest, PageResult]] = []

    def can_request() -> bool:
        has_space = plan.in_flight + plan.buffered < 2 * concurrency
        return len(sent) + len(received) < concurrency and plan.can_request(ahead=has_space)

    def take() -> bool:
        rows_slice = plan.next_rows()
        if rows_slice is not None:
            result.slices.append(rows_slice)
        return rows_slice is not None

    while not plan.done:
        # Requests start as soon as they may, as in the fetcher. Pages and the reader come at random.
        while not plan.exhausted and can_request():
            if before_request is not None:
                before_request()
            request = plan.next_request()
            result.requests_sent.append(request)
            sent.append(request)
            result.peak = max(result.peak, plan.in_flight + plan.buffered)
            assert len(result.requests_sent) <= most, f"more than {most} requests"
            assert plan.in_flight == len(sent) + len(received)
        if not patient:
            while take():
                pass
        actions = ["serve"] * bool(sent) + ["deliver"] * bool(received) + ["take"] * patient
        action = rng.choice(actions) if actions else "take"
        if action == "serve":
            request = sent.pop(rng.randrange(len(sent)))
            page = server.serve(request)
            if failing and rng.random() < failing and plan.splits_left(request) > 0:
                plan.split(request, request.attempts + 1)
                result.failures += 1
            else:
                received.append((request, page))
        elif action == "deliver":
            plan.accept(*received.pop(rng.randrange(len(received))))
        elif not take() and not sent and not received and not plan.done:
            assert can_request(), "deadlock: nothing is in flight or buffered, and nothing may be requested"
        if plan.exhausted:
            # Pages after the last: the fetcher cancels their requests.
            sent.clear()
            received.clear()
    return result
