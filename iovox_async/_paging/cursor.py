"""Where a stream stands, as a short string: enough to go on exactly there.

The law of this room: a position names the query it belongs to, and is refused by any other. Calls are handed out by
second and, within a second, by id, so the last second and id say exactly what is left.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Self

from attrs import frozen

from ..errors import QueryError

__all__ = ["Cursor"]

_FORM: Final = re.compile(
    r"1([ad])-(\d{8}T\d{6})-(\d{8}T\d{6})-(\d{8}T\d{6})-(-?\d{1,40})?-([0-9a-f]{10})", re.ASCII
)


def _stamp(moment: datetime) -> str:
    # Not strftime, which writes years before 1000 with fewer digits.
    return moment.isoformat("T", "seconds").replace("-", "").replace(":", "")


@frozen
class Cursor:
    """A place in a range of calls.

    Attributes:
        descending: the range is read latest first.
        start: the range's first second.
        end: the range's last second.
        second: the second of the last call handed out; where the range begins if there is none.
        id: that call's id, or None.
        query: the fingerprint of the query.
    """

    descending: bool
    start: datetime
    end: datetime
    second: datetime
    id: int | None
    query: str

    def __str__(self) -> str:
        moments = "-".join(map(_stamp, (self.start, self.end, self.second)))
        return (
            f"1{'d' if self.descending else 'a'}-{moments}-{'' if self.id is None else self.id}-{self.query}"
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that a stream gave as a string.

        Raises:
            QueryError: it is no position.
        """
        form = _FORM.fullmatch(text) if isinstance(text, str) else None
        if form is None:
            raise QueryError(
                "resume", "it is no position; pass what a stream's .position or an error's .position held"
            )
        direction, *moments, number, query = form.groups()
        try:
            start, end, second = map(datetime.fromisoformat, moments)
        except ValueError as error:
            raise QueryError("resume", "it is no position: it holds a date that does not exist") from error
        if not start <= second <= end:
            raise QueryError("resume", f"it is no position: {second} is not in its range {start} .. {end}")
        return cls(direction == "d", start, end, second, int(number) if number else None, query)

    def check(self, *, query: str, descending: bool, start: datetime | None, end: datetime | None) -> None:
        """Whether it belongs to this question; dates left out are taken from the position.

        Raises:
            QueryError: it belongs to another.
        """
        if self.query != query or self.descending != descending:
            raise QueryError(
                "resume", "it belongs to another query: filters, order and fields must be the same"
            )
        for name, given, own in (("start", start, self.start), ("end", end, self.end)):
            if given is not None and given != own:
                raise QueryError("resume", f"it belongs to a range with {name} {own}, not {given}")
