"""Calls in SQL.

The law of this room: one connection, one lock, one snapshot a page. A page is made by one statement, whole and as
bytes: SQLite writes the JSON without the interpreter's lock, so the client beside it in the process is not held up.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from . import _columns
from ._generator import COLUMNS, Row
from ._nested_values import Fragments, shown

if TYPE_CHECKING:
    from ._request import ParsedRequest

_CALLS = ", ".join(("id INTEGER PRIMARY KEY", *(f"{column} NOT NULL" for column in COLUMNS[1:])))
_SCHEMA = f"""
CREATE TABLE calls ({_CALLS});
CREATE TABLE fragments (id INTEGER PRIMARY KEY, kind TEXT, json TEXT NOT NULL);
CREATE TABLE marks (kind TEXT, value TEXT, fragment INTEGER, PRIMARY KEY (kind, value, fragment)) WITHOUT ROWID;
INSERT INTO fragments VALUES (0, NULL, '[]');
"""  # noqa: S608 - own names
#: Made after the first calls are in, which is faster.
_INDEX = "CREATE INDEX IF NOT EXISTS calls_by_start ON calls (call_start)"
_INSERT = f"INSERT INTO calls VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608 - question marks only


@attrs.frozen
class Found:
    """The rows of one page."""

    rows: int
    #: The JSON of the rows, an array.
    body: bytes
    #: Rows that OFFSET walked over.
    skipped: int


class CallStore:
    """The sandbox's calls; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._sql.executescript(_SCHEMA)
        self.fragments: Fragments = Fragments()
        self._views: dict[tuple[str, frozenset[str]], int] = {}
        self.close: weakref.finalize[[], CallStore] = weakref.finalize(self, self._sql.close)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change for readers, whatever is done inside."""
        with self._lock:
            nested = self._sql.in_transaction
            if not nested:
                self._sql.execute("BEGIN")
            try:
                yield
            except BaseException:
                if not nested:
                    self._sql.execute("ROLLBACK")
                raise
            if not nested:
                self._sql.execute("COMMIT")

    def insert(self, rows: Iterable[Row]) -> None:
        """Puts calls in; their ids must be free."""
        with self.changing():
            self._sql.executemany(_INSERT, rows)
            self._sql.execute(_INDEX)
            self._take_fragments()

    def delete(self, ids: Iterable[int]) -> list[int]:
        """Takes calls out; gives the ids that were there."""
        with self.changing():
            here = [number for number in ids if self.has(number)]
            self._sql.executemany("DELETE FROM calls WHERE id=?", ((number,) for number in here))
        return here

    def update(self, number: int, changes: Mapping[str, Any]) -> None:
        """Changes columns of one call."""
        with self.changing():
            columns = ",".join(f"{column}=?" for column in changes)
            self._sql.execute(f"UPDATE calls SET {columns} WHERE id=?", (*changes.values(), number))  # noqa: S608 - own names
            self._take_fragments()

    def has(self, number: int) -> bool:
        """Whether a call with this id is there."""
        # A larger number is nobody's, and SQL would not even take it.
        fits = number.bit_length() <= _columns.INTEGER_BITS
        return fits and bool(self._one("SELECT 1 FROM calls WHERE id=?", number))

    def get(self, number: int) -> dict[str, Any] | None:
        """The columns of one call."""
        if not self.has(number):
            return None
        return dict(zip(COLUMNS, self._one("SELECT * FROM calls WHERE id=?", number), strict=True))

    def count(self) -> int:
        """How many calls there are."""
        return int(self._one("SELECT count(*) FROM calls")[0])

    def at(self, share: float) -> int | None:
        """The id of a call at this share of the range of ids, 0 to 1; None: there are no calls."""
        row = self._one(
            "SELECT id FROM calls WHERE id >= (SELECT min(id) + CAST(? * (max(id) - min(id)) AS INTEGER) FROM calls)"
            " ORDER BY id LIMIT 1",
            share,
        )
        return int(row[0]) if row else None

    def ids(self, ask: ParsedRequest) -> list[int]:
        """Ids that a query finds, all pages, by `call_start` and id."""
        where, values = _where(ask, exclusive_end=False)
        with self._lock:
            return [
                number
                for (number,) in self._sql.execute(
                    f"SELECT c.id FROM calls c{where} ORDER BY c.call_start, c.id",  # noqa: S608 - values are bound
                    values,
                )
            ]

    def page(self, ask: ParsedRequest, *, exclusive_end: bool = False, shuffle: int | None = None) -> Found:
        """One page of a query.

        Args:
            ask: the query; `limit` and `page` say which of its rows.
            exclusive_end: leave out the very second of the end.
            shuffle: an odd number that sets the order of rows of equal rank; None: as the store has them.
        """
        where, values = _where(ask, exclusive_end=exclusive_end)
        direction = "DESC" if ask.descending else "ASC"
        ties = "" if shuffle is None else f",(c.id%1000003*{shuffle})%1000003"
        offset = (ask.page - 1) * ask.limit
        with self._lock:
            # The page is found first, by index where there is one, and only its rows are written.
            row = _columns.row_sql(ask.fields, self._view)
            rows, body = self._one(
                f"SELECT count(*),CAST('['||coalesce(group_concat({row},','),'')||']' AS BLOB) FROM"  # noqa: S608 - own names, values are bound
                f" (SELECT c.id AS k FROM calls c{where} ORDER BY {_columns.order_sql(ask.order)} {direction}{ties}"
                " LIMIT ? OFFSET ?) p CROSS JOIN calls c ON c.id=p.k",
                *values,
                ask.limit,
                offset,
            )
            skipped = offset if rows or not offset else min(offset, self._matching(where, values))
        return Found(rows, body, skipped)

    def _matching(self, where: str, values: tuple[Any, ...]) -> int:
        return int(self._one(f"SELECT count(*) FROM calls c{where}", *values)[0])  # noqa: S608 - values are bound

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock:
            return self._sql.execute(statement, values).fetchone()

    def _take_fragments(self) -> None:
        fresh, marks = self.fragments.fresh, self.fragments.marks
        self._sql.executemany("INSERT INTO fragments VALUES (?,?,?)", fresh)
        self._sql.executemany("INSERT OR IGNORE INTO marks VALUES (?,?,?)", marks)
        for (column, keys), view in self._views.items():
            self._show(view, keys, [(number, text) for number, kind, text in fresh if kind == column])
        fresh.clear()
        marks.clear()

    def _view(self, column: str, keys: frozenset[str]) -> int:
        """The number of the view of a column's fragments with these keys, made when it is first asked for."""
        if (column, keys) not in self._views:
            view = self._views[column, keys] = len(self._views) + 1
            every = self._sql.execute("SELECT id,json FROM fragments WHERE kind=?", (column,)).fetchall()
            self._show(view, keys, [(0, "[]"), *every])
        return self._views[column, keys]

    def _show(self, view: int, keys: frozenset[str], every: Iterable[tuple[int, str]]) -> None:
        self._sql.executemany(
            "INSERT INTO fragments VALUES (?,NULL,?)",
            [((view << _columns.VIEW_BITS) + number, shown(text, keys)) for number, text in every],
        )


def _where(ask: ParsedRequest, *, exclusive_end: bool) -> tuple[str, tuple[Any, ...]]:
    pieces = list(ask.conditions)
    if ask.start is not None:
        pieces.append(("c.call_start>=?", (ask.start,)))
    if ask.end is not None:
        pieces.append((f"c.call_start<{'' if exclusive_end else '='}?", (ask.end,)))
    if not pieces:
        return "", ()
    return " WHERE " + " AND ".join(sql for sql, _ in pieces), tuple(
        v for _, values in pieces for v in values
    )


def parsed(body: bytes) -> list[dict[str, Any]]:
    """The rows of a page as dictionaries."""
    rows: list[dict[str, Any]] = json.loads(body)
    return rows
