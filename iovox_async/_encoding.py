"""Encodes calls as JSON Lines, CSV and TSV, for the command line, the backfill and NDJSON responses.

Invariants:

- Names and values are those of the endpoint's responses (`Call.to_dict`).
- A spreadsheet that opens the CSV evaluates nothing that a caller or an agent wrote.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from ._parsing.compiled import requested_keys

if TYPE_CHECKING:
    from .models import Call

#: Calls encoded at a time: enough to be fast, few enough that an event loop or a memory limit is not strained.
_SLICE: Final = 500
#: Spreadsheets take text that begins so for a formula, also in the full-width forms of Japanese input.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)

#: What a spreadsheet takes for a number and changes: phone numbers, and digits after a zero.
_LONG_NUMBER: Final = re.compile(r"\+?\d{7,}|0\d+", re.ASCII)
#: Digits of a number that spreadsheets keep.
_EXACT_DIGITS: Final = 15

_json_encoder = msgspec.json.Encoder()


def encode_json(call: Call) -> bytes:
    """One call as a JSON document, without a line end."""
    return _json_encoder.encode(call.to_dict())


class JsonLinesEncoder:
    """One JSON document per line, UTF-8."""

    def __init__(self, fields: Iterable[str]) -> None:
        """A document holds the fields that the call holds; `fields` is accepted for the sake of `CsvEncoder`."""

    def header(self) -> bytes:
        """The bytes before the first call."""
        return b""

    def encode(self, calls: Sequence[Call]) -> bytes:
        """The bytes of these calls."""
        return _json_encoder.encode_lines([call.to_dict() for call in calls])


class CsvEncoder:
    """One column per requested field, under its name in responses; nested fields are JSON, formulas are escaped.

    Args:
        fields: the requested fields.
        delimiter: what separates the columns.
        excel: begin with a byte-order mark, and write phone numbers and other long numbers as `="..."`, which spreadsheets
            keep as text.

    Attributes:
        columns: the names of the columns. Fields of the same nested list share one.
    """

    def __init__(self, fields: Iterable[str], *, delimiter: str = ",", excel: bool = False) -> None:
        self.columns: tuple[str, ...] = requested_keys(fields)
        self._delimiter = delimiter
        self._excel = excel

    def header(self) -> bytes:
        return (codecs.BOM_UTF8 if self._excel else b"") + self._text([self.columns])

    def encode(self, calls: Sequence[Call]) -> bytes:
        cell = excel_cell if self._excel else csv_cell
        rows = (call.to_dict() for call in calls)
        return self._text([cell(row.get(column)) for column in self.columns] for row in rows)

    def _text(self, rows: Iterable[Iterable[str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def csv_cell(value: Any) -> str:
    """One value of `Call.to_dict` as the text of a CSV cell."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return _json_encoder.encode(value).decode()
    return escape_formula(value) if isinstance(value, str) else str(value)


def excel_cell(value: Any) -> str:
    """As `csv_cell`, but a number that a spreadsheet would round, shorten or show in powers of ten is kept as text."""
    text = csv_cell(value)
    is_long = len(text) > _EXACT_DIGITS and text.isdecimal()
    return f'="{text}"' if is_long or (isinstance(value, str) and _LONG_NUMBER.fullmatch(text)) else text


def escape_formula(text: str) -> str:
    """The text with a `'` in front if a spreadsheet would evaluate it; numbers, also phone numbers, are unchanged."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


CallEncoder: TypeAlias = JsonLinesEncoder | CsvEncoder


def encode_in_slices(encoder: CallEncoder, calls: Sequence[Call]) -> Iterator[bytes]:
    """Encodes a page a few calls at a time, so that the caller can write or yield to the event loop in between."""
    for start in range(0, len(calls), _SLICE):
        yield encoder.encode(calls[start : start + _SLICE])


#: The text formats by name; called with the fields, and for CSV and TSV with `excel`.
ENCODERS: Final[dict[str, Callable[..., CallEncoder]]] = {
    "jsonl": JsonLinesEncoder,
    "csv": CsvEncoder,
    "tsv": functools.partial(CsvEncoder, delimiter="\t"),
}
