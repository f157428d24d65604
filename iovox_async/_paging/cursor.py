"""Encodes the position of a stream as a short string, from which a later stream continues.

Calls are delivered by second and, within a second, by id, so the last second and id determine what is left.
A cursor contains the fingerprint of its query, and any other query rejects it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Self

import msgspec

from .._redaction import shorten_repr
from ..errors import QueryError

_FORMAT: Final = r"(?a)1([ad])-(\d{8}T\d{6})-(\d{8}T\d{6})-(\d{8}T\d{6})-(-?\d{1,40})?-([0-9a-f]{10})"

#: The largest id of a call.
MAX_ID: Final = 2**63 - 1


def _format_datetime(value: datetime) -> str:
    # Not strftime, which writes years before 1000 with fewer digits.
    return value.isoformat("T", "seconds").replace("-", "").replace(":", "")


class Cursor(msgspec.Struct, frozen=True):
    """A position in a range of calls.

    Attributes:
        descending: the range is read latest first.
        start: the first second of the range.
        end: the last second of the range.
        second: the second of the last call delivered; the first second read if there is none.
        id: the id of that call, or None.
        fingerprint: the fingerprint of the query.
    """

    descending: bool
    start: datetime
    end: datetime
    second: datetime
    id: int | None
    fingerprint: str

    def __str__(self) -> str:
        datetimes = "-".join(map(_format_datetime, (self.start, self.end, self.second)))
        return (
            f"1{'d' if self.descending else 'a'}-{datetimes}-"
            f"{'' if self.id is None else self.id}-{self.fingerprint}"
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses the string form of a cursor.

        Raises:
            QueryError: the string is not a cursor.
        """
        match = re.fullmatch(_FORMAT, text) if isinstance(text, str) else None
        if match is None:
            raise QueryError("resume", f"must be the position of an earlier run, got {shorten_repr(text)}")
        direction, *datetimes, call_id, fingerprint = match.groups()
        try:
            start, end, second = map(datetime.fromisoformat, datetimes)
        except ValueError as error:
            raise QueryError(
                "resume", "must be the position of an earlier run, but contains a date that does not exist"
            ) from error
        if not start <= second <= end:
            raise QueryError(
                "resume",
                f"must be the position of an earlier run, but {second} is outside its range {start} .. {end}",
            )
        number = int(call_id) if call_id else None
        if number is not None and not -MAX_ID - 1 <= number <= MAX_ID:
            raise QueryError("resume", "must be the position of an earlier run, but its id is beyond 64 bits")
        return cls(direction == "d", start, end, second, number, fingerprint)

    def check(
        self, *, fingerprint: str, descending: bool, start: datetime | None, end: datetime | None
    ) -> None:
        """Checks that the cursor belongs to a query; a start or end of None is not compared.

        Raises:
            QueryError: it belongs to another query or range.
        """
        if self.fingerprint != fingerprint or self.descending != descending:
            raise QueryError(
                "resume", "belongs to another query", hint="Pass the same filters, order and fields."
            )
        for name, argument, expected in (("start", start, self.start), ("end", end, self.end)):
            if argument is not None and argument != expected:
                raise QueryError("resume", f"belongs to a range with {name} {expected}, not {argument}")
