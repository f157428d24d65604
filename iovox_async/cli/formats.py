"""Calls as text: JSON Lines and CSV.

The law of this room: one call is one line of JSON or one record of CSV, in the words of an answer, and a spreadsheet
that opens the CSV runs nothing of what is in it.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from iovox_async.backfill._formats import cell, harmless

from .field_places import answered_under

if TYPE_CHECKING:
    from iovox_async import Call, Field

__all__ = ["FORMATS", "Csv", "Format", "JsonLines", "harmless"]

#: Calls that are turned into text before the loop turns.
_SLICE: Final = 500


class Format(Protocol):
    """How calls are written."""

    def head(self) -> bytes:
        """What stands before the first call."""

    def body(self, calls: Sequence[Call]) -> bytes:
        """Some calls."""


async def written(form: Format, calls: Sequence[Call]) -> bytes:
    """A page of calls as text, made in slices, so that the requests go on meanwhile."""
    parts = []
    for begin in range(0, len(calls), _SLICE):
        parts.append(form.body(calls[begin : begin + _SLICE]))
        await asyncio.sleep(0)
    return b"".join(parts)


class JsonLines:
    """One JSON document a line, UTF-8."""

    def __init__(self, fields: Iterable[Field]) -> None:
        """A document holds what the answer holds, so the fields do not matter."""

    def head(self) -> bytes:
        return b""

    def body(self, calls: Sequence[Call]) -> bytes:
        return msgspec.json.Encoder().encode_lines([call.to_dict() for call in calls])


class Csv:
    """A column for each field that was asked for, under the answer's name; nested fields are one column of JSON."""

    def __init__(self, fields: Iterable[Field]) -> None:
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(answered_under(field) for field in fields))

    def head(self) -> bytes:
        return self._text([self.columns])

    def body(self, calls: Sequence[Call]) -> bytes:
        rows = (call.to_dict() for call in calls)
        return self._text([cell(row.get(column)) for column in self.columns] for row in rows)

    def _text(self, rows: Iterable[Iterable[str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


FORMATS: Final[dict[str, Callable[[Iterable[Field]], Format]]] = {"jsonl": JsonLines, "csv": Csv}
