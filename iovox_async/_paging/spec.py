"""What a stream is to read: arguments, with everything in them resolved.

The law of this room: both ends of a range are fixed before its first request, and nothing is resolved twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, Literal

from attrs import evolve, frozen

from .._params.dates import is_aware, wall_range
from .._params.validators import InvalidValue
from ..errors import QueryError
from ..fields import Field, Fields
from . import SECOND
from .cursor import Cursor

if TYPE_CHECKING:
    from ..query import InsightsQuery

__all__ = ["FINALITY_DELAY", "Paging", "ReadSpec", "resolve", "to_local_time", "with_keys"]

#: How long a call may still change or arrive after it began: long calls, late delivery, transcription.
FINALITY_DELAY: Final = timedelta(hours=2)
#: The last second that leaves room for one more.
LATEST: Final = datetime(9999, 12, 31, 23, 59, 58)  # noqa: DTZ001 - the endpoint's dates have no zone

Paging = Literal["auto", "windows", "pages"]


@frozen
class ReadSpec:
    """What a stream is to read, with everything resolved.

    Attributes:
        query: the question, with fixed naive dates.
        lo: the first second.
        hi: the second after the last.
        descending: latest first.
        windows: read by windows; else by page numbers.
        ordered: hand windows out in order.
        fields: what to ask for, keys included.
        hidden: names of fields that were asked for only to keep order, and are not handed out.
        max_calls: calls to hand out, at most.
        resume: where an earlier stream stood.
        began: when the stream began, in the account's local time.
    """

    query: InsightsQuery
    lo: datetime
    hi: datetime
    descending: bool
    windows: bool
    ordered: bool
    fields: tuple[Field, ...]
    hidden: tuple[str, ...]
    max_calls: int | None
    resume: Cursor | None
    began: datetime


def with_keys(fields: tuple[Field, ...], keys: tuple[str, ...] = ("id", "call_start")) -> tuple[Field, ...]:
    """The fields, and after them those that order and position stand on, where they are missing."""
    return fields + tuple(Field(key) for key in keys if key not in fields)


def resolve(
    asked: InsightsQuery,
    *,
    now: datetime,
    timezone: tzinfo | None = None,
    ordered: bool = True,
    paging: Paging = "auto",
    max_calls: int | None = None,
    resume: str | None = None,
) -> ReadSpec:
    """What these arguments mean at this moment of the account's local time.

    Raises:
        QueryError: they contradict each other.
    """
    query = to_local_time(asked, timezone)
    if query.date_constant is not None:
        day = (now - timedelta(days=1)).replace(hour=0, minute=0, second=0)
        query = evolve(query, date_constant=None, start_date=day, end_date=day + timedelta(days=1) - SECOND)
    order = query.order or "call_start_ASC"
    windows = _windows(paging, order)
    descending = order == "call_start_DESC"
    start, end = query.start_date, query.end_date
    position = None
    if resume is not None:
        if not (windows and ordered):
            raise QueryError("resume", "only a stream in order, by windows, can be resumed")
        position = Cursor.parse(resume)
        position.check(query=query.fingerprint(), descending=descending, start=start, end=end)
        start, end = position.start, position.end
    end = min(LATEST, now if end is None else end)
    month = now.replace(day=1, hour=0, minute=0, second=0)
    # Before what a start that is left out means, nothing is asked for: an empty stream, and no place to go on from.
    nothing = start is None and end < month
    start = min(month, end) if start is None else start
    if start > end:
        raise QueryError("end_date", f"{end} lies before start_date {start}; swap them")
    query = evolve(query, start_date=start, end_date=end)
    lo, hi = start, end + SECOND
    if position is not None:
        lo, hi = (lo, position.second + SECOND) if descending else (position.second, hi)
    chosen = query.fields or Fields.DEFAULT
    # Without ids nobody could tell that a server answers the same page again and again.
    fields = with_keys(chosen) if windows else with_keys(chosen, ("id",))
    hidden = tuple(str(name) for name in fields[len(chosen) :])
    most = _max_calls(max_calls)
    return ReadSpec(
        query,
        lo,
        hi,
        descending,
        windows,
        ordered and not nothing,
        fields,
        hidden,
        0 if nothing else most,
        position,
        now,
    )


def to_local_time(query: InsightsQuery, timezone: tzinfo | None) -> InsightsQuery:
    """The query with its aware dates converted to the account's naive local time; the same object if none is aware.

    A range of instants becomes the local time that covers every second the instants pass through. Where the clock is
    set back at an end of the range, that is more than the range: records do not say which of the two passes through
    the repeated hour they belong to. `_params.dates` documents folds and gaps.

    Raises:
        QueryError: a date is aware and no time zone is given, or the end is then before the start.
    """
    aware = [name for name in ("start_date", "end_date") if is_aware(getattr(query, name))]
    if not aware:
        return query
    if timezone is None:
        raise QueryError(
            aware[0], "has a time zone, and the session knows none: give the session the account's timezone="
        )
    try:
        start, end = wall_range(query.start_date, query.end_date, timezone)
    except InvalidValue as error:
        raise QueryError(aware[0], str(error)) from None
    return evolve(query, start_date=start, end_date=end)


def _windows(paging: Paging, order: str) -> bool:
    if paging not in {"auto", "windows", "pages"}:
        raise QueryError("paging", f'"auto", "windows" or "pages" is wanted, not {paging!r}')
    by_start = order in {"call_start_ASC", "call_start_DESC"}
    if paging == "windows" and not by_start:
        raise QueryError("paging", f"windows need an order by call_start, not {order}; leave paging out")
    return by_start and paging != "pages"


def _max_calls(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise QueryError("max_calls", f"a whole number from 0 is wanted, not {value!r}")
    return value
