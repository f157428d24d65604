"""Checks what readers got, and what is left behind, against the invariants.

`Pull` is what one reader did with one range, over one stream or several that resume each other. `check_pull` compares it with
the history of the endpoint:

- every call that existed, unchanged in its start, during the whole pull came exactly once;
- no call came twice, unless its start was changed meanwhile;
- every call is one that a response held, byte for byte, and lies in the range;
- calls came in order, by second and then by id;
- a stream ended without an error only when all was delivered.

`check_end` looks at what must hold when the program has ended: every response closed, every slot back, no task left,
no warning, no exception that nobody retrieved, attempts and retries within the budget, no key in an error or in the log.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import _names
from .endpoint import SECOND, at
from .loop import LAG
from .world import FINAL, KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .endpoint import Version
    from .schedule import Use
    from .world import Exchange, World

__all__ = ["Got", "Pull", "check_end", "check_error", "check_pull"]


@dataclass(slots=True)
class Got:
    """A call as a reader got it.

    Attributes:
        id: the call's id.
        version: which version of the call it is; each update of a call makes a new one.
        start: when the call began, as it was sent.
        token: the number of the response that held it; 0 if it is unknown.
        step: the step of the event loop in which it came.
        segment: the number of the stream among those that resumed each other, from 1; 0 if it is unknown.
    """

    id: int
    version: int
    start: datetime
    token: int
    step: int
    segment: int


@dataclass
class Pull:
    """What one reader did with one range.

    Attributes:
        use: what it was to do.
        began: the tick of the endpoint before the first request.
        ended: the tick after the last call.
        got: the calls, as they came.
        complete: the last stream ended without an error and was not left.
        until: where the range ends now: the latest time at which a call must have begun to be in it.
        limit: the most calls that were to come, or None.
        segments: first and last step of each stream.
        counts: what each stream counted itself.
    """

    use: Use
    began: int
    ended: int = 0
    got: list[Got] = field(default_factory=list)
    complete: bool = False
    until: datetime | None = None
    limit: int | None = None
    segments: list[list[int]] = field(default_factory=list)
    counts: list[dict[str, int]] = field(default_factory=list)

    def take_version(self, world: World, destination: str) -> None:
        """Takes a call that does not name its response."""
        number, _, version = destination.partition(":")
        for one in world.endpoint.history.get(int(number), ()):
            if one.version == int(version):
                self.got.append(Got(one.id, one.version, one.start, 0, world.loop.step, 0))
                return
        world.violated("invented", f"call {destination} never existed")

    def take(
        self, world: World, destination: str, token: str, number: int | None, start: datetime | None
    ) -> None:
        """Takes a call, and checks that it is one that a response held."""
        number_text, _, version_text = destination.partition(":")
        exchange = world.exchanges[int(token) - 1_000_000]
        name, version = int(number_text), int(version_text)
        sent = exchange.rows.get(name)
        if sent is None or sent[0] != version:
            world.violated("invented", f"call {destination} is not in response #{exchange.number}")
            return
        shown = sent[1] if world.schedule.shown == "exact" else sent[1].replace(microsecond=0)
        if (number is not None and number != name) or (
            start is not None and start.replace(tzinfo=None) != shown
        ):
            world.violated("changed", f"call {destination} came as {number} at {start}, sent as {shown}")
        self.got.append(Got(name, version, sent[1], exchange.number, world.loop.step, len(self.segments)))


def _lived(versions: list[Version], began: int, ended: int) -> list[Version]:
    """The versions that existed at some moment between two ticks."""
    return [
        version
        for version in versions
        if version.born <= ended and (version.died is None or version.died > began)
    ]


def _required(world: World, pull: Pull) -> dict[int, datetime]:
    """The calls of the range that existed during the whole pull, and when they began."""
    use = pull.use
    first, stop = at(use.start), at(use.end) + SECOND
    if pull.until is not None:
        stop = pull.until.replace(microsecond=0) + SECOND
    required = {}
    for number, versions in world.endpoint.history.items():
        if use.filtered and number % 3 == 0:
            continue
        for version in versions:
            stayed = version.born <= pull.began and (version.died is None or version.died > pull.ended)
            if stayed and first <= version.start < stop:
                required[number] = version.start
    return required


def _moved(world: World, pull: Pull, number: int) -> bool:
    versions = _lived(world.endpoint.history[number], pull.began, pull.ended)
    return len({version.start for version in versions}) > 1


def check_pull(world: World, pull: Pull) -> None:
    """Checks a pull that is over."""
    use, got = pull.use, pull.got
    windows = use.paging == "auto" and use.order.startswith("call_start")
    _check_doubles(world, pull)
    first, stop = at(use.start), at(use.end) + SECOND
    for one in got:
        if not (first <= one.start and (use.open or one.start < stop)):
            world.violated("outside", f"call {one.id} began at {one.start}, outside the range")
            break
    if windows and use.ordered and use.kind == "stream":
        _check_order(world, pull)
    if pull.limit is not None and len(got) > pull.limit:
        world.violated("limit", f"{len(got)} calls came, {pull.limit} were requested")
    if windows or (pull.began == pull.ended and not _has_ties(world, pull)):
        _check_lost(world, pull, ordered=windows and use.ordered)


def _has_ties(world: World, pull: Pull) -> bool:
    """Whether calls of a range share a sort key: then page numbers cannot be exact, since ties have no fixed order."""
    if not pull.use.order.startswith("call_start"):
        return False
    starts = [row.start for row in world.endpoint.rows]
    return len(set(starts)) < len(starts)


def _check_doubles(world: World, pull: Pull) -> None:
    seen: dict[int, int] = {}
    by_pages = pull.use.paging == "pages"
    for one in pull.got:
        if (
            one.id in seen
            and not _moved(world, pull, one.id)
            # Read by page numbers, the ids of so many pages are remembered.
            and not (
                by_pages and _page(world, one.token) - _page(world, seen[one.id]) > world.schedule.concurrency
            )
        ):
            world.violated("double", f"call {one.id} came in response #{seen[one.id]} and in #{one.token}")
            return
        seen[one.id] = one.token


def _page(world: World, number: int) -> int:
    return int(world.exchanges[number].query.partition("page=")[2].partition("&")[0])


def _key(one: Got) -> tuple[datetime, int]:
    return one.start.replace(microsecond=0), one.id


def _check_order(world: World, pull: Pull) -> None:
    descending = pull.use.order.endswith("DESC")
    for one, other in pairwise(pull.got):
        if (_key(one) < _key(other)) if descending else (_key(one) > _key(other)):
            world.violated("order", f"call {one.id} at {one.start} came before {other.id} at {other.start}")
            return


def _check_lost(world: World, pull: Pull, *, ordered: bool) -> None:
    """Looks for calls that had to come; of a pull that is not complete, only before the last call that came."""
    use, required = pull.use, _required(world, pull)
    for one in pull.got:
        required.pop(one.id, None)
    full = pull.limit is not None and len(pull.got) >= pull.limit
    if full or not pull.complete:
        if not (ordered and pull.got):
            return
        last = _key(pull.got[-1])
        down = pull.use.order.endswith("DESC")
        keys = {number: (start.replace(microsecond=0), number) for number, start in required.items()}
        required = {
            number: start
            for number, start in required.items()
            if (keys[number] > last if down else keys[number] < last)
        }
    if world.schedule.slip in SHORT and len(required) <= UNNOTICED:
        # So many calls at the end may be left out by a response, unnoticed in a read of a few requests.
        return
    if required:
        shown = ", ".join(f"{number} at {start.time()}" for number, start in sorted(required.items())[:5])
        how = "the stream ended without an error" if pull.complete else "later calls came"
        # The last second of a range that is read by page numbers has a kind of its own.
        only_last = (
            use.paging == "pages"
            and not use.open
            and all(start >= at(use.end) for start in required.values())
        )
        kind = "lost-end" if only_last else "lost"
        world.violated(kind, f"{len(required)} calls never came, and {how}: {shown}")


# The end of a program.


def check_error(world: World, error: BaseException, where: str) -> None:
    """Checks what was raised: one of the package's errors, without the key."""
    if not isinstance(error, _names.IovoxError):
        world.violated("foreign", f"{where} raised {type(error).__name__}: {error}")
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        words = [str(link), repr(link), repr(link.args), repr(vars(link)), *getattr(link, "__notes__", ())]
        if any(KEY in text for text in words):
            world.violated("secret", f"{where} raised {type(link).__name__} with the key in it")
            return
        todo += [link.__cause__, link.__context__]


#: What counts neither as an attempt nor as a retry: the server was not reached.
UNCOUNTED = frozenset({"refused"})


#: Slips by which a response leaves out calls at its end, and how many of them a short read need not notice.
SHORT, UNNOTICED = frozenset({"empty-late", "short-late", "sink"}), 10


#: Faults that may pause all requests.
PAUSING = frozenset({"refused", "reset", "cut", "stale", "503", "503-after", "429", "429-after", "429-date"})


def check_end(world: World, insights: Any, pulls: list[Pull]) -> None:
    """Checks what must hold when the session is closed and nothing is under way."""
    loop = world.loop
    for exchange in world.exchanges:
        if exchange.ended is None:
            world.violated("unclosed", f"response #{exchange.number} was never closed")
            break
    if used := _names.slots_in_use(insights):
        world.violated("slots", f"{used} slots are still in use")
    left = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task(loop)]
    if left:
        world.violated("tasks", f"{len(left)} tasks are left, one of them {left[0].get_coro()}")
    _check_attempts(world, pulls)
    _check_budget(world, pulls)
    _check_probes(world, pulls)


def _check_probes(world: World, pulls: list[Pull]) -> None:
    """While the server cannot be reached, one request at a time tries, less and less often."""
    schedule = world.schedule
    if not schedule.outage:
        return
    begin, end = schedule.outage
    tries = [exchange for exchange in world.exchanges if begin <= exchange.time - 1000 < end]
    # Each stream that begins anew tries anew.
    streams = max(len(schedule.uses), sum(len(pull.segments) for pull in pulls))
    if any(use.kind in {"follow", "backfill"} for use in schedule.uses):
        # So does each poll, and each run of a backfill: there is one in half a minute.
        streams += int((end - begin) / 30)
    # Waits that double, and are halved again before the end of the patience with an address that has never answered.
    allowed = (schedule.concurrency + 14 + (end - begin) / 10) * streams
    if len(tries) > allowed:
        world.violated(
            "probes", f"{len(tries)} requests in an outage of {end - begin:g} s, {allowed:g} allowed"
        )
    if schedule.attempts == 1 or not tries or schedule.latency > schedule.timeout:
        # A request that times out does not show that the server cannot be reached.
        return
    for phase in _phases(tries):
        # What was sent before the first one failed, or just then, fails by itself.
        first_response_at = min(exchange.ended_at for exchange in phase) + 2 * LAG
        probes = [exchange for exchange in phase if exchange.time > first_response_at]
        for probe, other in pairwise(probes):
            if probe.ended is None or probe.ended > other.began:
                numbers = f"#{probe.number} and #{other.number}"
                world.violated("probes", f"requests {numbers} both try to reach the server")
                return


def _phases(tries: list[Exchange]) -> Iterator[list[Exchange]]:
    """Divides requests where the failures before them are forgotten, so that a stream begins anew."""
    phase: list[Exchange] = []
    failed_at = tries[0].time
    for exchange in tries:
        if phase and exchange.time - failed_at > _names.FORGET:
            yield phase
            phase = []
        phase.append(exchange)
        failed_at = max(
            [
                failed_at,
                *(one.ended_at for one in phase if not one.was_cancelled and one.ended_at <= exchange.time),
            ]
        )
    yield phase


def _check_attempts(world: World, pulls: list[Pull]) -> None:
    schedule = world.schedule
    streams = sum(len(pull.segments) for pull in pulls)
    if len(pulls) != len(schedule.uses) or streams != sum(len(pull.counts) for pull in pulls):
        return
    counts = [count for pull in pulls for count in pull.counts]
    requests, retries = (sum(count[name] for count in counts) for name in ("requests", "retries"))
    sent = world.sent_before if world.healed else len(world.exchanges)
    if requests != sent:
        world.violated("count", f"the streams count {requests} requests, {sent} were sent")
    failed = sum(not _succeeded(exchange) for exchange in world.exchanges)
    if retries > failed:
        world.violated("retries", f"{retries} retries after {failed} failures")
    if len(pulls) == 1:
        _check_each(world, pulls[0])


def _check_budget(world: World, pulls: list[Pull]) -> None:
    """Counts the retries against a budget that successes refill, up to its capacity."""
    if [use.kind for use in world.schedule.uses] != ["stream"]:
        return
    left: float = _names.BUDGET_RESERVE
    # What a new stream requests is no retry.
    fresh = [first for pull in pulls for first, _last in pull.segments]
    failed: dict[str, bool] = {}
    events: list[tuple[int, int, Exchange]] = []
    for exchange in world.exchanges:
        events += [(exchange.began, 1, exchange), (exchange.ended or exchange.began, 0, exchange)]
    for _step, begins, exchange in sorted(events, key=lambda event: event[:2]):
        if not begins:
            if _succeeded(exchange):
                left = min(_names.BUDGET_CAPACITY, left + _names.BUDGET_SHARE)
            # Of the requests that wait for the end of a pause, only the probe takes a retry from the budget.
            failed[exchange.query] = not _succeeded(exchange) and exchange.fault not in PAUSING
            continue
        while fresh and fresh[0] <= exchange.began:
            failed.clear()
            del fresh[0]
        if failed.pop(exchange.query, False):
            left -= 1
            if left < -1:
                world.violated("budget", f"request #{exchange.number} is a retry beyond the budget")
                return


def _check_each(world: World, pull: Pull) -> None:
    """Checks how often the requests of one stream were repeated."""
    # A part of a window that was split, or the check of its end, may repeat the query of an earlier request.
    split = any(counts["splits"] for counts in pull.counts)
    allowed = 2 * max(3, world.schedule.attempts) if split else world.schedule.attempts
    for first, last in pull.segments:
        tries: dict[str, int] = {}
        over: set[str] = set()
        for exchange in world.exchanges:
            if not first <= exchange.began <= last:
                continue
            query = exchange.query
            if query in over:
                world.violated("repeat", f"request #{exchange.number} repeats one that was refused for good")
                return
            tries[query] = tries.get(query, 0) + (exchange.fault not in UNCOUNTED)
            if tries[query] > allowed:
                world.violated("attempts", f"request #{exchange.number} is attempt {tries[query]}")
                return
            if _succeeded(exchange):
                tries[query] = 0
            elif exchange.fault in FINAL and exchange.read is not None:
                over.add(query)


def _succeeded(exchange: Exchange) -> bool:
    # Nobody reads the body of a 204, so no fault of the body matters.
    return exchange.status == 204 or (not exchange.fault and exchange.read is not None)
