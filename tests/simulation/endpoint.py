"""Answers `GET /calls/insights` as its documentation says, from calls that it keeps in memory.

Written from the endpoint's documentation alone; it shares no code with the client or with `iovox_async.sandbox`. What the documentation
leaves open is an argument: how the end of a range is read, what a page number counts, how many rows a page may hold.

Each change of the data advances `tick`. `history` holds every version of every call with the ticks between which it
existed, so that the checker can say which calls existed during a whole pull.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    import random

    from .zones import AccountClock

__all__ = ["BASE", "Endpoint", "Reply", "Row", "Version", "at"]

BASE = datetime(2024, 1, 1)
SECOND = timedelta(seconds=1)
LARGEST = 20_000
#: The fields of the documentation that a row of this model has.
FIELDS = {
    *(
        "id",
        "call_start",
        "call_end",
        "call_origin",
        "iovox_number",
        "call_destination",
        "talk_time",
        "call_result",
    ),
    *("node_id", "link_id", "has_recording", "talk_time_seconds", "tag_text", "tag_colour"),
}
DEFAULT_FIELDS = "id,call_start,call_end,call_origin,iovox_number,call_destination,talk_time,call_result,node_id,link_id,has_recording"
_by_start = attrgetter("start")
_by_instant = attrgetter("instant")
_by_id = attrgetter("id")


def at(second: float) -> datetime:
    """Gives the time so many seconds after the first."""
    return BASE + timedelta(seconds=second)


@dataclass(slots=True, eq=False)
class Row:
    """A call as it is now.

    Attributes:
        start: when it began on the account's clock.
        instant: by what the server orders and selects it.
    """

    id: int
    start: datetime
    version: int
    instant: datetime


@dataclass(slots=True)
class Version:
    """A call between two ticks; `died` is None while it exists."""

    id: int
    start: datetime
    version: int
    born: int
    died: int | None = None


@dataclass(slots=True)
class Reply:
    """A response before it is sent: the status, the body, and the rows in it."""

    status: int
    body: bytes
    rows: list[Row] = field(default_factory=list)
    #: How many calls match the query, on whatever page.
    matched: int = 0


class _BadRequest(Exception):
    pass


class Endpoint:
    """The calls of one account, and the page of them that a query string selects.

    Args:
        rng: decides the order of ties.
        end: how the end of a range is read: "inclusive", "exclusive", or "second" (the whole last second).
        cap: the most rows of a page, whatever is requested; None for the documented maximum.
        offset: what a page number counts: pages of the "limit" requested, or of the "cap" in force.
        shown: starts are shown to the "second", or "exact" with their microseconds.
        id_text: ids are shown as text.
        lone: a page with a single call is that call, and not a list.
        empty: the body of a page without calls; None stands for status 204.
        clock: the account's clock, if the server keeps instants and the clock is changed.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        end: str = "inclusive",
        cap: int | None = None,
        offset: str = "limit",
        shown: str = "second",
        id_text: bool = False,
        lone: bool = False,
        empty: bytes | None = b"[]",
        clock: AccountClock | None = None,
    ) -> None:
        self.rng = rng
        self.end, self.offset, self.shown, self.id_text, self.empty = end, offset, shown, id_text, empty
        self.cap, self.lone, self.clock = cap, lone, clock
        self.first_excluded = False
        #: Every fourth call is listed twice, whatever page that is.
        self.lists_twice = False
        self.tick = 0
        self.rows: list[Row] = []
        self.history: dict[int, list[Version]] = {}
        self.next_id = 5000
        #: The longest page so far: a cap never sinks below it.
        self.longest = 0

    # Changes.

    def insert(self, start: datetime, number: int | None = None, version: int = 0) -> Row:
        """Adds a call."""
        self.tick += 1
        if number is None:
            self.next_id += self.rng.choice((1, 1, 1, 7))
            number = self.next_id if self.rng.random() < 0.7 else 10_000 - self.next_id % 5000
            while number in self.history:
                number += 1
            if self.clock is not None:
                start = start.replace(fold=self.rng.randrange(2))
        if self.clock is not None:
            start = self.clock.real(start)
        row = self._row(number, start, version)
        insort(self.rows, row, key=_by_start)
        self.history.setdefault(number, []).append(Version(number, start, version, self.tick))
        return row

    def _row(self, number: int, start: datetime, version: int) -> Row:
        return Row(number, start, version, start if self.clock is None else self.clock.instant(start))

    def delete(self, row: Row) -> None:
        """Removes a call."""
        self.tick += 1
        place = bisect_left(self.rows, row.start, key=_by_start)
        while self.rows[place] is not row:
            place += 1
        del self.rows[place]
        self.history[row.id][-1].died = self.tick

    def move(self, row: Row, start: datetime) -> None:
        """Changes when a call began."""
        self.delete(row)
        self.insert(start, row.id, row.version + 1)

    def within(self, start: datetime, stop: datetime) -> list[Row]:
        """Lists the calls that began from `start` to before `stop`."""
        begin = bisect_left(self.rows, start, key=_by_start)
        return self.rows[begin : bisect_left(self.rows, stop, key=_by_start)]

    def _rows_at(self, tick: int) -> list[Row]:
        """The calls as they were after an earlier change."""
        versions = [one for versions in self.history.values() for one in versions]
        alive = [one for one in versions if one.born <= tick and (one.died is None or one.died > tick)]
        return sorted([self._row(one.id, one.start, one.version) for one in alive], key=_by_start)

    # Answers.

    def reply(self, query: str, token: str, now: datetime, *, tick: int | None = None) -> Reply:
        """Answers a query string.

        Args:
            query: the query string.
            token: is written into each row, so that the row names its response.
            now: what the account's clock shows.
            tick: the response is that of this earlier tick.
        """
        all_rows, params = self.rows, dict(parse_qsl(query, keep_blank_values=True))
        try:
            if tick is not None:
                self.rows = self._rows_at(tick)
            rows, fields, matched = self._select(params, now)
        except _BadRequest as error:
            return Reply(400, json.dumps({"error": str(error)}).encode())
        finally:
            self.rows = all_rows
        self.longest = max(self.longest, len(rows))
        if not rows:
            return Reply(204, b"") if self.empty is None else Reply(200, self.empty)
        body = ",".join([self._shown_row(row, fields, token) for row in rows])
        return Reply(200, (body if self.lone and len(rows) == 1 else f"[{body}]").encode(), rows, matched)

    def _select(self, params: dict[str, str], now: datetime) -> tuple[list[Row], set[str], int]:
        fields = params.get("response_fields", DEFAULT_FIELDS).split(",")
        if unknown := [name for name in fields if name not in FIELDS]:
            raise _BadRequest(f"Required fields invalid: {', '.join(unknown)}")
        page, limit = _whole(params, "page", 1, "Page number not an integer"), _limit(params)
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        first = _date(params.get("start_date"), month, "Start Date invalid")
        day_end = now.replace(hour=23, minute=59, second=59, microsecond=0)
        last = _date(params.get("end_date"), day_end, "End Date invalid", end=True)
        name, _, direction = params.get("order", "call_start_DESC").rpartition("_")
        if direction not in {"ASC", "DESC"}:
            raise _BadRequest("Order Direction Invalid")
        if name not in FIELDS:
            raise _BadRequest("Order Field Invalid")
        rows = self._filtered(params, first, last)
        used = limit if self.cap is None else min(limit, self.cap)
        skip = (page - 1) * (limit if self.offset == "limit" else used)
        if self.lists_twice:
            rows = [row for row in rows for _ in range(1 + (row.id % 4 == 0))]
        rows = self._sorted(rows, name, descending=direction == "DESC")
        return rows[skip : skip + used], set(fields), len(rows)

    def _filtered(self, params: dict[str, str], first: datetime, last: datetime) -> list[Row]:
        if self.clock is not None:
            first, last = self.clock.bounds(first, last)
        first += timedelta(microseconds=self.first_excluded)
        stop = {"inclusive": last + timedelta(microseconds=1), "exclusive": last, "second": last + SECOND}[
            self.end
        ]
        if self.clock is None:
            rows = self.within(first, stop)
        else:
            rows = [row for row in self.rows if first <= row.instant < stop]
        if "id" in params:
            ids = {int(text) for text in params["id"].split(",")}
            rows = [row for row in rows if row.id in ids]
        if "call_result" in params:
            rows = [row for row in rows if _result(row) == params["call_result"]]
        return rows

    def _sorted(self, rows: list[Row], name: str, *, descending: bool) -> list[Row]:
        if name == "id":
            return sorted(rows, key=_by_id, reverse=descending)
        # Ties come in no order at all, and in another one at each request.
        rows = rows[:]
        self.rng.shuffle(rows)
        keys = {"call_start": _by_instant, "call_result": _result, "call_destination": _destination}
        return sorted(rows, key=keys.get(name, lambda _: 0), reverse=descending)

    def _shown_row(self, row: Row, fields: set[str], token: str) -> str:
        start = row.start.isoformat(
            " ", "microseconds" if self.shown == "exact" and row.start.microsecond else "seconds"
        )
        parts = []
        if "id" in fields:
            parts.append(f'"id":"{row.id}"' if self.id_text else f'"id":{row.id}')
        if "call_start" in fields:
            parts.append(f'"call_start":"{start}"')
        if "call_end" in fields:
            parts.append(f'"call_end":"{start[:19]}"')
        if "call_origin" in fields:
            parts.append(f'"call_origin":"{token}"')
        if "call_destination" in fields:
            parts.append(f'"call_destination":"{_destination(row)}"')
        if "talk_time" in fields:
            parts.append('"talk_time":"00:01:39"')
        if "call_result" in fields:
            parts.append(f'"call_result":"{_result(row)}"')
        if "node_id" in fields:
            parts.append('"iovox_number":"441273083510","node_id":"2","link_id":"53","has_recording":"TRUE"')
        if "tag_text" in fields:
            parts.append('"tags":[{"text":"a tag","colour":"RED"}]')
        return f"{{{','.join(parts)}}}"


def _destination(row: Row) -> str:
    return f"{row.id}:{row.version}"


def _result(row: Row) -> str:
    return "ANSWERED" if row.id % 3 else "MISSED"


def _whole(params: dict[str, str], name: str, default: int, message: str) -> int:
    try:
        return int(params.get(name, default))
    except ValueError:
        raise _BadRequest(message) from None


def _limit(params: dict[str, str]) -> int:
    limit = _whole(params, "limit", 10_000, "Limit not an integer")
    if not 1 <= limit <= LARGEST:
        raise _BadRequest("Limit must be between 1 and 20000")
    return limit


def _date(text: str | None, default: datetime, message: str, *, end: bool = False) -> datetime:
    if text is None:
        return default
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise _BadRequest(message) from None
    return value.replace(hour=23, minute=59, second=59) if end and len(text) == 10 else value
