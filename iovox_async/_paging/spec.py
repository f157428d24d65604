"""Resolves the arguments of a stream into one frozen `ReadSpec`.

Invariant: both ends of the range are fixed before the first request.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from attrs import evolve

from .._params.dates import is_aware, local_range
from .._params.validators import InvalidValue
from .._wording import Wording
from ..errors import QueryError
from ..fields import Field, Fields
from .cursor import Cursor
from .types import LAST_SECOND, SECOND

if TYPE_CHECKING:
    from .._params.account_time import ClockReading
    from ..query import InsightsQuery

#: How long after its start a call may still arrive or change: long calls, late delivery, transcription.
FINALITY_DELAY: Final = timedelta(hours=2)

Paging = Literal["auto", "windows", "pages"]


class ReadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream reads. All datetimes are naive, in the account's local time.

    Attributes:
        query: the query with resolved dates, as requested: without `added_fields`.
        date_constant: sent instead of dates, where the range only bounds what the server may take it for; else None.
        fingerprint: the fingerprint of the query, for cursors.
        start: the first second to read.
        stop: the second after the last one to read.
        order: the order of delivery, `<field>_ASC` or `_DESC`.
        paging: read by windows or by page numbers.
        ordered: deliver windows in order; else as they finish.
        fields: the fields to request, including `added_fields`.
        added_fields: sort keys that the caller did not request; they are removed before delivery.
        page_size: rows per request; None: chosen by the size of the records.
        max_calls: the number of calls to deliver, at most; None: no limit.
        resume: the cursor to continue after, or None.
        resolved_at: this machine's clock when the spec was made.
    """

    query: InsightsQuery
    date_constant: str | None
    fingerprint: str
    start: datetime
    stop: datetime
    order: str
    paging: Literal["windows", "pages"]
    ordered: bool
    fields: tuple[Field, ...]
    added_fields: tuple[str, ...]
    page_size: int | None
    max_calls: int | None
    resume: Cursor | None
    resolved_at: ClockReading | None

    @property
    def by_windows(self) -> bool:
        """Whether the range is read by windows."""
        return self.paging == "windows"

    @property
    def descending(self) -> bool:
        """Whether the latest calls are read first."""
        return self.order == "call_start_DESC"

    @property
    def resume_after(self) -> tuple[datetime, int] | None:
        """The second and id of the last call that an earlier stream delivered, or None."""
        if self.resume is None or self.resume.id is None:
            return None
        return self.resume.second, self.resume.id

    def cursor_after(self, call_start: datetime | None, call_id: int | None) -> Cursor | None:
        """The cursor after a delivered call; with None, where the stream starts. None if the stream cannot be resumed."""
        if not (self.by_windows and self.ordered):
            return None
        if call_start is None and self.resume is not None:
            return self.resume
        start, end = self.start, self.stop - SECOND
        if self.resume is not None:
            start, end = self.resume.start, self.resume.end
        if call_start is None:
            call_start = end if self.descending else start
        second = call_start.replace(microsecond=0, tzinfo=None)
        return Cursor(self.descending, start, end, second, call_id, self.fingerprint)


def add_fields(
    fields: tuple[Field, ...] | None, names: tuple[str, ...] = ("id", "call_start")
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """The fields (None: the default ones) with the missing ones of `names` after them, and the names that were added."""
    fields = fields or Fields.DEFAULT
    added = tuple(Field(name) for name in names if name not in fields)
    return fields + added, tuple(map(str, added))


def resolve(
    query: InsightsQuery,
    *,
    now: datetime,
    earliest_now: datetime | None = None,
    resolved_at: ClockReading | None = None,
    timezone: tzinfo | None = None,
    ordered: bool = True,
    paging: Paging = "auto",
    page_size: int | None = None,
    max_calls: int | None = None,
    resume: str | None = None,
) -> ReadSpec:
    """Resolves the arguments of a stream.

    Args:
        query: what is requested.
        now: the latest local time it may be in the account; a range without an end ends there.
        earliest_now: the earliest it may be, if that is another; a range without a start begins in its month.
        resolved_at: this machine's clock.
        timezone: the account's time zone.
        ordered: as for `AsyncInsights.stream`.
        paging: as for `AsyncInsights.stream`.
        page_size: rows per request; None: chosen by the size of the records.
        max_calls: as for `AsyncInsights.stream`.
        resume: as for `AsyncInsights.stream`.

    Raises:
        QueryError: the arguments are invalid or contradict each other.
    """
    earliest_now = earliest_now or now
    query = to_local_time(query, timezone)
    order = query.order or "call_start_ASC"
    descending = order == "call_start_DESC"
    by_windows = _resolve_paging(paging, order) == "windows"
    constant = query.date_constant
    if constant is not None:
        first, last = (_day_before(time) for time in (earliest_now, now))
        # The server knows which of two days is meant. Page numbers leave it to the server; windows need dates.
        if first == last:
            constant = None
        elif paging == "auto":
            by_windows = False
        elif by_windows:
            raise QueryError(
                "date_constant",
                f"may be {first:%Y-%m-%d} or {last:%Y-%m-%d}, since the time zone of the account is unknown",
                hint=Wording("Pass {timezone}, or dates; {paging=pages} leaves the day to the server."),
            )
        query = evolve(
            query, date_constant=None, start_date=first, end_date=last + timedelta(days=1) - SECOND
        )
    fingerprint = query.fingerprint()
    start, end = query.start_date, query.end_date
    cursor = None
    if resume is not None:
        if not (by_windows and ordered):
            raise QueryError("resume", "needs an ordered stream that is read by windows")
        cursor = Cursor.parse(resume)
        cursor.check(fingerprint=fingerprint, descending=descending, start=start, end=end)
        start, end = cursor.start, cursor.end
    end = min(LAST_SECOND, now if end is None else end)
    month = earliest_now.replace(day=1, hour=0, minute=0, second=0)
    # A start that is left out means the first of this month. If the end is before it, the stream is empty, and it has no
    # position to resume from.
    is_empty = start is None and end < month
    start = min(month, end) if start is None else start
    if start > end:
        if query.end_date is None and cursor is None:
            raise QueryError(
                "start_date",
                f"({start}) is in the future: it is {end} in the account at the latest",
                hint=Wording(
                    "Without {end_date}, the range ends now. Check {start_date}, or pass {end_date}."
                ),
            )
        raise QueryError(
            "end_date", Wording(f"({end}) is before {{start_date}} ({start})"), hint="Swap them."
        )
    # Rows without ids could not show that the server returns the same page again and again; rows without starts could not
    # be compared with the bounds of the range.
    fields, added = add_fields(query.fields)
    max_calls = _check_max_calls(max_calls)
    first, stop = start, end + SECOND
    if cursor is not None:
        first, stop = (first, cursor.second + SECOND) if descending else (cursor.second, stop)
    return ReadSpec(
        query=evolve(query, start_date=start, end_date=end),
        date_constant=constant,
        fingerprint=fingerprint,
        start=first,
        stop=stop,
        order=order,
        paging="windows" if by_windows else "pages",
        ordered=ordered and not is_empty,
        fields=fields,
        added_fields=added,
        page_size=page_size,
        max_calls=0 if is_empty else max_calls,
        resume=cursor,
        resolved_at=resolved_at,
    )


def _day_before(time: datetime) -> datetime:
    return (time - timedelta(days=1)).replace(hour=0, minute=0, second=0)


def to_local_time(query: InsightsQuery, timezone: tzinfo | None) -> InsightsQuery:
    """Converts the aware dates of a query to the account's naive local time; returns the same object if none is aware.

    A range of instants becomes the range of local times that includes every second of it. If the clock is set back at an
    end of the range, that range is longer, because records do not say which of the two passes through the repeated hour
    they belong to. See `_params.dates` for folds and gaps.

    Raises:
        QueryError: a date is aware and no time zone is given, or the end is then before the start.
    """
    aware = [name for name in ("start_date", "end_date") if is_aware(getattr(query, name))]
    if not aware:
        return query
    if timezone is None:
        raise QueryError(
            aware[0],
            "has a time zone, but the time zone of the account is unknown",
            hint=Wording("Pass {timezone}."),
        )
    try:
        start, end = local_range(query.start_date, query.end_date, timezone)
    except InvalidValue as error:
        raise QueryError(aware[0], str(error), error.hint) from None
    return evolve(query, start_date=start, end_date=end)


def _resolve_paging(paging: Paging, order: str) -> Literal["windows", "pages"]:
    if paging not in {"auto", "windows", "pages"}:
        raise QueryError("paging", f'must be "auto", "windows" or "pages", got {paging!r}')
    by_start = order in {"call_start_ASC", "call_start_DESC"}
    if paging == "windows" and not by_start:
        raise QueryError(
            "paging",
            f'"windows" needs an order by call_start, got {order}',
            hint=Wording("Leave {paging} out."),
        )
    return "windows" if by_start and paging != "pages" else "pages"


def _check_max_calls(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise QueryError("max_calls", f"must be an integer of at least 0, got {value!r}")
    return value
