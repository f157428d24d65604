"""A model of the endpoint for tests of the plans: pure, deterministic by seed, and in constant motion.

It shares nothing with the package but the words `PageRequest` and `PageResult`. Every request is served at an instant of its own;
between any two of them calls arrive and vanish, calls of one second trade places, and the cap may change, though never
below what an answer has held.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from hypothesis import HealthCheck, settings

from iovox_async._paging import SECOND, PageRequest, PageResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from iovox_async._paging import PagePlan, RowSlice, WindowPlan

BASE = datetime(2024, 1, 1)
#: How many times as many examples a nightly run (HYPOTHESIS_PROFILE=nightly) tries.
NIGHTLY = 25


def examples(number: int) -> settings:
    """Settings for so many examples of a property, or many more at night."""
    factor = NIGHTLY if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=number * factor, deadline=None, suppress_health_check=checks)


by_start = attrgetter("start")
by_id = attrgetter("id")


def at(second: float) -> datetime:
    """The instant so many seconds after the model's first."""
    return BASE + timedelta(seconds=second)


@dataclass(slots=True, eq=False)
class Row:
    """A call, as far as a plan cares."""

    start: datetime
    id: int

    @property
    def second(self) -> datetime:
        return self.start.replace(microsecond=0)

    def __repr__(self) -> str:
        return f"{(self.start - BASE).total_seconds():g}#{self.id}"


@dataclass
class Motion:
    """What happens between two requests.

    Attributes:
        inserts: calls that arrive between two requests, at most.
        deletes: calls that vanish, at most.
        near: it happens where the last answer began and ended, and not anywhere.
        growing: ids grow with time; else they are in no order.
        left: how much more may happen, so that every pull has an end.
    """

    inserts: int = 0
    deletes: int = 0
    near: bool = False
    growing: bool = True
    left: int = 100

    def some(self, rng: random.Random, most: int) -> int:
        """How many of so many happen now."""
        number = min(self.left, rng.randint(0, most)) if most else 0
        self.left -= number
        return number


@dataclass(repr=False)
class Server:
    """The endpoint: rows of a list, filtered by second, ordered with shuffled ties, limited, capped.

    Attributes:
        rng: decides all that is left open.
        span: seconds in which calls arrive.
        end: how the end of a window is read; "second" counts the whole last second in.
        cap: rows an answer holds at most, whatever was asked for.
        cap_moves: the cap may change between requests, but never below what was served.
        offset: what a page number counts: steps of the limit that was asked for, or of the one that was used.
        cut: starts are shown without their microseconds.
        ignores: what the server does not do although it was asked to.
    """

    rng: random.Random
    span: int = 100
    end: Literal["inclusive", "exclusive", "second"] = "inclusive"
    cap: int | None = None
    cap_moves: bool = False
    offset: Literal["limit", "cap"] = "limit"
    cut: bool = False
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
        """Adds calls that begin then."""
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

    def within(self, lo: datetime, hi: datetime) -> set[Row]:
        """The calls that exist now and began in `lo .. hi-1`."""
        begin, end = bisect_left(self.live, lo, key=by_start), bisect_left(self.live, hi, key=by_start)
        return set(self.live[begin:end])

    def serve(self, request: PageRequest) -> PageResult:
        """Answers one request, after which the world moves on."""
        self.served.append(request)
        limit = request.limit if self.cap is None else min(request.limit, self.cap)
        skip = (request.page - 1) * (request.limit if self.offset == "limit" else limit)
        if "page" in self.ignores:
            skip = 0
        rows = self._page(request, skip, limit)
        self.skipped += skip
        self.most = max(self.most, len(rows))
        self._move(rows)
        starts = [row.second if self.cut else row.start for row in rows]
        return PageResult(starts, rows, lambda: [row.id for row in rows])

    def _page(self, request: PageRequest, skip: int, limit: int) -> list[Row]:
        begin, end = 0, len(self.live)
        if "filter" not in self.ignores:
            begin = bisect_left(self.live, request.start, key=by_start)
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

    def _ordered(self, begin: int, end: int, wanted: int, *, descending: bool) -> list[Row]:
        """The first rows between two places, ties in an order of this moment, and perhaps more."""
        if descending:
            first = max(begin, end - wanted)
            while first > begin and self.live[first - 1].start == self.live[first].start:
                first -= 1
            rows = self.live[first:end][::-1]
        else:
            last = min(end, begin + wanted)
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
            victims = self._neighbours(rows) if self.motion.near else self.live
            if victims:
                self._remove(self.rng.choice(victims))
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
        lo, hi = sorted((rows[0].second, rows[-1].second))
        return sorted(self.within(lo, lo + SECOND) | self.within(hi, hi + SECOND), key=by_id)

    def _remove(self, row: Row) -> None:
        place = bisect_left(self.live, row.start, key=by_start)
        while self.live[place] is not row:
            place += 1
        del self.live[place]


@dataclass
class Pull:
    """What came of a pull."""

    slices: list[RowSlice] = field(default_factory=list)
    requests_sent: list[PageRequest] = field(default_factory=list)
    peak: int = 0
    failures: int = 0

    @property
    def rows(self) -> list[Row]:
        """The calls, as they were handed out."""
        return [rows_slice.body[row] for rows_slice in self.slices for row in rows_slice.rows]

    @property
    def requests(self) -> int:
        return len(self.requests_sent)


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
    """Reads a plan as the pump does, with everything that may happen in any order in a random one.

    Args:
        plan: the plan.
        server: who answers; its `rng` also decides what happens next.
        concurrency: requests in flight, at most.
        failing: the share of requests that fail for good, and are halved where they may be.
        patient: the reader takes its time; else it takes what there is at once.
        most: requests after which the plan is taken for a runaway.
        before_request: called before each request.
    """
    rng, found = server.rng, Pull()
    sent: list[PageRequest] = []
    answered: list[tuple[PageRequest, PageResult]] = []

    def may_ask() -> bool:
        room = plan.in_flight + plan.buffered < 2 * concurrency
        return len(sent) + len(answered) < concurrency and plan.can_request(ahead=room)

    def take() -> bool:
        rows_slice = plan.next_rows()
        if rows_slice is not None:
            found.slices.append(rows_slice)
        return rows_slice is not None

    while not plan.done:
        # Requests leave as soon as they may, like in the pump; answers and the reader come when they like.
        while not plan.exhausted and may_ask():
            if before_request is not None:
                before_request()
            request = plan.next_request()
            found.requests_sent.append(request)
            sent.append(request)
            found.peak = max(found.peak, plan.in_flight + plan.buffered)
            assert len(found.requests_sent) <= most, f"a runaway: {most} requests"
            assert plan.in_flight == len(sent) + len(answered)
        if not patient:
            while take():
                pass
        deeds = ["serve"] * bool(sent) + ["deliver"] * bool(answered) + ["take"] * patient
        deed = rng.choice(deeds) if deeds else "take"
        if deed == "serve":
            request = sent.pop(rng.randrange(len(sent)))
            answer = server.serve(request)
            if failing and rng.random() < failing and plan.splits_left(request) > 0:
                assert plan.split(request, request.attempts + 1)
                found.failures += 1
            else:
                answered.append((request, answer))
        elif deed == "deliver":
            plan.accept(*answered.pop(rng.randrange(len(answered))))
        elif not take() and not sent and not answered and not plan.done:
            assert may_ask(), "nothing is under way, nothing may be asked, and nothing is there: a deadlock"
        if plan.exhausted:
            # Pages beyond the end: the pump cancels them.
            sent.clear()
            answered.clear()
    return found
