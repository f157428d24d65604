"""The sandbox as one object: its calls, its faults, its counters, its address.

The law of this room: tests learn the truth here. What `rows` and `ids` say comes from the same store as the answers,
and no fault touches it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import attrs

from iovox_async.errors import ConfigurationError, MissingExtraError, QueryError

from . import _columns, _given_values, _request, _timestamps
from ._generator import COLUMNS, CallGenerator, Row
from ._random import chance
from ._store import CallStore, Found, parsed
from .faults import Faults
from .stats import Request, RequestCounters, SandboxStats

if TYPE_CHECKING:
    import random

    from starlette.applications import Starlette

    from ._server import SandboxServer

USERNAME, KEY = "demo", "demo-key"
#: The path of the endpoint's base, as in `https://rest.iovox.com/rest/v1`.
ROOT = "/rest/v1"
_FAULTLESS = Faults()
_NO_DATE = "give a date, a datetime, or a text like 2024-01-31 23:59:59"
#: Requests that are at work on the store or in gzip at a time.
_WORKERS = 4


class Sandbox:
    """The endpoint `GET {base}/calls/insights` in miniature: real HTTP, real SQL, calls drawn from a seed.

    >>> sandbox = Sandbox(calls=1_000, faults=Faults(every_nth=7))
    >>> async with sandbox.serve() as base_url:  # doctest: +SKIP
    ...     async with AsyncInsights("demo", "demo-key", base_url=base_url) as insights:
    ...         assert [c.id async for c in insights.stream("2024-01-01", "2024-03-31")] == sandbox.ids()

    Args:
        calls: how many calls are drawn.
        start: first day or second of their range.
        end: last day or second of it, included.
        seed: same seed, same calls and same faults.
        faults: what goes wrong; may be replaced while it runs (`sandbox.faults = ...`).
        username: the one user.
        key: that user's secure key.
        now: the account's clock, for the dates that a query leaves out.

    Raises:
        ConfigurationError: the range is empty or no range of dates, or `calls` is negative.
    """

    def __init__(
        self,
        calls: int = 10_000,
        start: str | date = "2024-01-01",
        end: str | date = "2024-03-31",
        seed: int = 0,
        faults: Faults = _FAULTLESS,
        *,
        username: str = USERNAME,
        key: str = KEY,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        try:
            self._first, self._last = _timestamps.second(start), _timestamps.second(end, "23:59:59")
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"Sandbox(start=..., end=...): {_NO_DATE}; {error}") from error
        if self._last < self._first or calls < 0:
            raise ConfigurationError("Sandbox(...): end must not be before start, nor calls negative")
        self.seed = seed
        self.faults = faults
        self.username = username
        self.key = key
        self.now = now
        self.tally: RequestCounters = RequestCounters()
        self._store = CallStore()
        self._drawing = CallGenerator(seed, self._store.fragments)
        self._added = 0
        self._arrived: set[int] = set()
        self._vanished: set[int] = set()
        # Rows that the faults have let come and go since the counters were reset.
        self._moved = (0, 0)
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._served = 0
        self._store.insert(self._drawing.calls(calls, self._first, self._last, chance("calls", seed)))

    def __repr__(self) -> str:
        return f"<Sandbox {self._store.count()} calls, {self.start} to {self.end}, seed {self.seed}>"

    @property
    def start(self) -> str:
        """First second of the range that was drawn."""
        return _timestamps.text(self._first)

    @property
    def end(self) -> str:
        """Last second of the range that was drawn."""
        return _timestamps.text(self._last)

    # ------------------------------------------------------------------------------------------ its address

    @functools.cached_property
    def app(self) -> Starlette:
        """The ASGI application. Further routes may be added to `app.router.routes`.

        Raises:
            MissingExtraError: starlette is not installed.
        """
        try:
            from starlette.applications import Starlette
            from starlette.routing import Route
        except ImportError as error:
            raise MissingExtraError("the sandbox", "sandbox") from error
        from ._app import SandboxApp

        # An endpoint that is no function is called as it is, with any method.
        return Starlette(routes=[Route(f"{ROOT}/calls/insights", endpoint=SandboxApp(self))])

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> SandboxServer:
        """Runs the application on a loopback port, in a thread and loop of its own.

        Works as `async with` and as `with`; both give the base URL. Port 0 means any free one.

        Raises:
            MissingExtraError: starlette or uvicorn is not installed.
        """
        app = self.app
        try:
            from ._server import SandboxServer
        except ImportError as error:
            raise MissingExtraError("the sandbox", "sandbox") from error
        return SandboxServer(app, self, host, port, ROOT)

    @property
    def workers(self) -> ThreadPoolExecutor:
        """Threads for what would hold up the server's loop."""
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="iovox-sandbox")
            return self._workers

    def held(self, more: int) -> None:
        """One server more, or one less; with the last one the threads end, to come back when they are needed."""
        with self._lock:
            self._served += more
            workers = None if self._served > 0 else self._workers
            self._workers = self._workers if workers is None else None
        if workers is not None:
            workers.shutdown()

    def close(self) -> None:
        """Ends the threads and forgets the calls. Not needed after `serve`; a sandbox that is dropped is closed."""
        self.held(0)
        self._store.close()

    # ----------------------------------------------------------------------------------------- its counters

    @property
    def stats(self) -> SandboxStats:
        """The counters at this moment."""
        return self.tally.now

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests that ended, oldest first; at most 10,000."""
        return self.tally.log

    def reset_stats(self) -> None:
        """Counters back to zero; the next request is number 1, also for the faults."""
        self.tally.reset()
        self._moved = (0, 0)

    # -------------------------------------------------------------------------------------------- its truth

    def rows(
        self,
        start: str | date | None = None,
        end: str | date | None = None,
        *,
        fields: Iterable[str] | None = None,
        **filters: object,
    ) -> list[dict[str, Any]]:
        """The calls of a range as they are answered, by `call_start` and id.

        Args:
            start: first day, hour, minute or second; None: no bound.
            end: last day, hour, minute or second, the whole of it; None: no bound.
            fields: asked names; None: all of them.
            filters: the endpoint's parameters that choose calls; comma lists take any iterable.

        Raises:
            QueryError: there is no such filter or field, or a date is none.
        """
        ask = self._ask(start, end, filters, fields)
        with self._store.changing():
            return parsed(self._store.page(attrs.evolve(ask, limit=max(self._store.count(), 1))).body)

    def ids(
        self, start: str | date | None = None, end: str | date | None = None, **filters: object
    ) -> list[int]:
        """The ids of a range's calls, by `call_start` and id; arguments as those of `rows`."""
        return self._store.ids(self._ask(start, end, filters, None))

    def _ask(
        self,
        start: str | date | None,
        end: str | date | None,
        filters: Mapping[str, object],
        names: Iterable[str] | None,
    ) -> _request.ParsedRequest:
        for name in filters:
            if name not in _request.FILTERS:
                raise QueryError(name, f"no filter of the sandbox; there are {', '.join(_request.FILTERS)}")
        asked = tuple(names or _columns.NAMES)
        if unknown := set(asked) - _columns.NAMES:
            raise QueryError("fields", f"unknown: {', '.join(sorted(unknown))}")
        try:
            bounds = [
                None if day is None else _timestamps.text(_timestamps.second(day, rest))
                for day, rest in ((start, "00:00:00"), (end, "23:59:59"))
            ]
        except (TypeError, ValueError) as error:
            raise QueryError("start or end", f"{_NO_DATE}; {error}") from error
        given = {
            name: ",".join(map(str, value))
            if isinstance(value, Iterable) and not isinstance(value, str)
            else str(value)
            for name, value in filters.items()
            if value is not None
        }
        return _request.ParsedRequest(
            page=1,
            limit=1,
            order="call_start",
            descending=False,
            start=bounds[0],
            end=bounds[1],
            conditions=_request.conditions(given),
            fields=asked,
        )

    @property
    def inserted_ids(self) -> frozenset[int]:
        """Ids of calls that came after the sandbox was made."""
        return frozenset(self._arrived)

    @property
    def deleted_ids(self) -> frozenset[int]:
        """Ids of calls that were there once and are no more."""
        return frozenset(self._vanished)

    # ---------------------------------------------------------------------------------------- its live data

    def add(self, calls: int | Iterable[Mapping[str, Any]]) -> list[int]:
        """Lets calls arrive, all at the same instant; gives their ids.

        Args:
            calls: how many, at random times of the range; or what is to be known of each, in the words of an
                answer (`{"call_start": "2024-01-02 10:00:00", "talk_time": "00:01:00", "tags": [...]}`). What is
                left out is drawn.

        Raises:
            QueryError: a field is unknown, a value is none of its kind, or an id is taken.
        """
        given: list[Mapping[str, Any]] = [{}] * calls if isinstance(calls, int) else list(calls)
        with self._store.changing():
            draws = [chance("add", self.seed, self._added + n) for n in range(len(given))]
            arriving = self._arrive(zip(given, draws, strict=True))
            self._added += len(given)
        return arriving

    def remove(self, ids: Iterable[int]) -> int:
        """Lets calls vanish; gives how many were there."""
        gone = self._store.delete(ids)
        self._vanished.update(gone)
        return len(gone)

    def update(self, id: int, /, **changes: Any) -> None:  # noqa: A002 - the endpoint's own word
        """Changes a call, as a late transcript does: `update(id, transcriptions=[...], tags=[...])`.

        Raises:
            QueryError: there is no such call, a field is unknown, or a value is none of its kind.
        """
        with self._store.changing():
            now = self._store.get(id)
            if now is None:
                raise QueryError("id", "the sandbox has no call with this id")
            found = _given_values.columns(changes, self._store.fragments)
            if found.get("id", id) != id:
                raise QueryError("id", "a call keeps its id; remove it and add another")
            if done := _given_values.completed(now, found):
                self._store.update(id, done)

    def _arrive(self, described: Iterable[tuple[Mapping[str, Any], random.Random]]) -> list[int]:
        # All are made before the first is put in, so a mistake in the last leaves none of them.
        rows: dict[int, Row] = {}
        for given, draw in described:
            found = _given_values.columns(given, self._store.fragments)
            start = found.get("call_start")
            second = draw.randint(self._first, self._last) if start is None else _timestamps.second(start)
            row = self._drawing.call(second, draw)
            while "id" not in found and (row[0] in rows or self._store.has(row[0])):
                row[0] = self._drawing.another_id(second, draw)
            whole = dict(zip(COLUMNS, row, strict=True))
            whole |= _given_values.completed(whole, found)
            if whole["id"] in rows or self._store.has(whole["id"]):
                raise QueryError("id", "the sandbox has a call with this id already")
            rows[whole["id"]] = list(whole.values())
        self._store.insert(rows.values())
        self._arrived.update(rows)
        return list(rows)

    def find(self, ask: _request.ParsedRequest, number: int) -> Found:
        """The page that request `number` gets, with the faults that concern the list."""
        faults = self.faults
        cap = faults.cap(number)
        draw = chance("live", self.seed, number)
        with self._store.changing():
            # What was due before requests that failed is made up for.
            due = faults.due(number)
            self._arrive(({}, draw) for _ in range(due[0] - self._moved[0]))
            gone = [self._store.at(draw.random()) for _ in range(due[1] - self._moved[1])]
            self._vanished.update(self._store.delete([each for each in gone if each is not None]))
            self._moved = (max(due[0], self._moved[0]), max(due[1], self._moved[1]))
            ask = attrs.evolve(
                ask,
                page=1 if faults.ignore_page else ask.page,
                limit=ask.limit if cap is None else min(ask.limit, cap),
                start=None if faults.ignore_dates else ask.start,
                end=None if faults.ignore_dates else ask.end,
            )
            # Odd, so that different ids stay different as long as they can.
            shuffle = draw.randrange(1, 1_000_003, 2) if faults.shuffle_ties else None
            return self._store.page(ask, exclusive_end=faults.exclusive_end, shuffle=shuffle)
