"""Keeps the sandbox's calls in an SQLite database in memory.

Each different list inside a call (its tags, categories, transcriptions and so on) is stored once, as a numbered fragment of
JSON; number 0 is the empty list. So 100,000 calls share a few hundred fragments, and filters search those.

Invariants:

- A page is written by one SQL statement, so it shows one state of the calls. SQLite writes the JSON without holding the
  interpreter lock, so a client in the same process is not blocked.
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
from ._fragments import FragmentPool, to_json
from ._generator import COLUMNS, Row

if TYPE_CHECKING:
    from ._request import ParsedRequest

_CALLS = ", ".join(("id INTEGER PRIMARY KEY", *(f"{column} NOT NULL" for column in COLUMNS[1:])))
_SCHEMA = f"""
CREATE TABLE calls ({_CALLS});
CREATE TABLE fragments (id INTEGER PRIMARY KEY, kind TEXT, json TEXT NOT NULL);
CREATE TABLE fragment_values (kind TEXT, value TEXT, fragment INTEGER, PRIMARY KEY (kind, value, fragment)) WITHOUT ROWID;
INSERT INTO fragments VALUES (0, NULL, '[]');
"""  # noqa: S608 - own names
#: Created after the first calls are inserted, which is faster.
_INDEX = "CREATE INDEX IF NOT EXISTS calls_by_start ON calls (call_start)"
_INSERT = f"INSERT INTO calls VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608 - question marks only


def _select_keys(text: str, keys: frozenset[str]) -> str:
    """Returns the JSON of a list with only these keys of its items; a single object stays an object."""

    def select(item: Any) -> Any:
        return {key: item[key] for key in item if key in keys} if isinstance(item, dict) else item

    items = json.loads(text)
    return to_json([select(item) for item in items] if isinstance(items, list) else select(items))


@attrs.frozen
class StoredPage:
    """One page of calls.

    Attributes:
        rows: the number of its calls.
        body: its calls as a JSON array.
        offset_rows: rows that OFFSET skipped.
    """

    rows: int
    body: bytes
    offset_rows: int


class CallStore:
    """The sandbox's calls; safe to use from any thread."""

    def __init__(self, fragments: FragmentPool) -> None:
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._sql.executescript(_SCHEMA)
        self.fragments = fragments
        self._projections: dict[tuple[str, frozenset[str]], int] = {}
        self.close: weakref.finalize[[], CallStore] = weakref.finalize(self, self._sql.close)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes all changes inside visible to readers at once; rolls them back on an error."""
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
        """Inserts calls; their ids must be free."""
        with self.transaction():
            self._sql.executemany(_INSERT, rows)
            self._sql.execute(_INDEX)
            self._insert_fragments()

    def delete(self, ids: Iterable[int]) -> list[int]:
        """Deletes calls and returns the ids of those that existed."""
        with self.transaction():
            existing = [call_id for call_id in ids if self.contains(call_id)]
            self._sql.executemany("DELETE FROM calls WHERE id=?", ((call_id,) for call_id in existing))
        return existing

    def update(self, call_id: int, changes: Mapping[str, Any]) -> None:
        """Changes columns of one call."""
        with self.transaction():
            columns = ",".join(f"{column}=?" for column in changes)
            self._sql.execute(f"UPDATE calls SET {columns} WHERE id=?", (*changes.values(), call_id))  # noqa: S608 - own names
            self._insert_fragments()

    def contains(self, call_id: int) -> bool:
        """Returns whether there is a call with this id."""
        # SQLite does not accept larger numbers.
        valid = call_id.bit_length() <= _columns.INTEGER_BITS
        return valid and bool(self._fetch("SELECT 1 FROM calls WHERE id=?", call_id))

    def get(self, call_id: int) -> dict[str, Any] | None:
        """Returns the columns of one call; None if there is no such call."""
        if not self.contains(call_id):
            return None
        return dict(zip(COLUMNS, self._fetch("SELECT * FROM calls WHERE id=?", call_id), strict=True))

    def count(self) -> int:
        """Returns the number of calls."""
        return int(self._fetch("SELECT count(*) FROM calls")[0])

    def id_at(self, share: float) -> int | None:
        """Returns the id of the call at this share (0 to 1) of the range of ids; None if there are no calls."""
        row = self._fetch(
            "SELECT id FROM calls WHERE id >= (SELECT min(id) + CAST(? * (max(id) - min(id)) AS INTEGER) FROM calls)"
            " ORDER BY id LIMIT 1",
            share,
        )
        return int(row[0]) if row else None

    def ids(self, request: ParsedRequest) -> list[int]:
        """Returns the ids on all pages of a request, by `call_start` and id."""
        where, values = _where(request, exclusive_end=False)
        statement = f"SELECT c.id FROM calls c{where} ORDER BY c.call_start, c.id"  # noqa: S608 - values are bound
        with self._lock:
            return [call_id for (call_id,) in self._sql.execute(statement, values)]

    def page(
        self, request: ParsedRequest, *, exclusive_end: bool = False, shuffle: int | None = None
    ) -> StoredPage:
        """Returns one page of a request.

        Args:
            request: the request; its `limit` and `page` select the rows.
            exclusive_end: leaves out the last second of the range.
            shuffle: an odd number that determines the order of rows with equal sort keys; None for the store's order.
        """
        where, values = _where(request, exclusive_end=exclusive_end)
        direction = "DESC" if request.descending else "ASC"
        ties = "" if shuffle is None else f",(c.id%1000003*{shuffle})%1000003"
        offset = (request.page - 1) * request.limit
        with self._lock:
            # The inner query finds the rows of the page, by index if there is one; only those are written as JSON.
            row = _columns.row_sql(request.fields, self._projection)
            rows, body = self._fetch(
                f"SELECT count(*),CAST('['||coalesce(group_concat({row},','),'')||']' AS BLOB) FROM"  # noqa: S608 - own names, values are bound
                f" (SELECT c.id AS k FROM calls c{where} ORDER BY {_columns.order_sql(request.order)} {direction}{ties}"
                " LIMIT ? OFFSET ?) p CROSS JOIN calls c ON c.id=p.k",
                *values,
                request.limit,
                offset,
            )
            if offset and not rows:
                matching = self._fetch(f"SELECT count(*) FROM calls c{where}", *values)[0]  # noqa: S608 - values are bound
                offset = min(offset, int(matching))
        return StoredPage(rows, body, offset)

    def _fetch(self, statement: str, *values: Any) -> Any:
        with self._lock:
            return self._sql.execute(statement, values).fetchone()

    def _insert_fragments(self) -> None:
        pending, values = self.fragments.pending, self.fragments.pending_values
        self._sql.executemany("INSERT INTO fragments VALUES (?,?,?)", pending)
        self._sql.executemany("INSERT OR IGNORE INTO fragment_values VALUES (?,?,?)", values)
        for (column, keys), projection in self._projections.items():
            self._project(
                projection, keys, [(number, text) for number, kind, text in pending if kind == column]
            )
        pending.clear()
        values.clear()

    def _projection(self, column: str, keys: frozenset[str]) -> int:
        """Returns the number of the projection of a column's fragments to these keys; creates it the first time."""
        if (column, keys) not in self._projections:
            projection = self._projections[column, keys] = len(self._projections) + 1
            stored = self._sql.execute("SELECT id,json FROM fragments WHERE kind=?", (column,)).fetchall()
            self._project(projection, keys, [(0, "[]"), *stored])
        return self._projections[column, keys]

    def _project(self, projection: int, keys: frozenset[str], fragments: Iterable[tuple[int, str]]) -> None:
        self._sql.executemany(
            "INSERT INTO fragments VALUES (?,NULL,?)",
            [
                ((projection << _columns.PROJECTION_BITS) + number, _select_keys(text, keys))
                for number, text in fragments
            ],
        )


def _where(request: ParsedRequest, *, exclusive_end: bool) -> tuple[str, tuple[Any, ...]]:
    conditions = list(request.conditions)
    if request.start is not None:
        conditions.append(("c.call_start>=?", (request.start,)))
    if request.end is not None:
        conditions.append((f"c.call_start<{'' if exclusive_end else '='}?", (request.end,)))
    if not conditions:
        return "", ()
    values = tuple(value for _, condition_values in conditions for value in condition_values)
    return " WHERE " + " AND ".join(sql for sql, _ in conditions), values
