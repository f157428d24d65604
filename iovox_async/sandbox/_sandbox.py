"""The `Sandbox`: its calls, its faults, its counters, and its server.

`Sandbox.rows` and `Sandbox.ids` read the same store as the responses do, without faults, so tests compare with them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import attrs

from iovox_async.errors import ConfigurationError, MissingExtraError, QueryError

from . import _columns, _request
from ._app import SandboxApp, SandboxState
from ._generator import COLUMNS, CallGenerator, Row, seeded_random
from ._mock import respond
from ._store import CallStore, StoredPage
from ._timestamps import format_timestamp, parse_timestamp
from .faults import Faults

if TYPE_CHECKING:
    import random

    import httpx
    from starlette.applications import Starlette

    from ._server import SandboxServer
    from .stats import Request, SandboxStats

#: The credentials that a sandbox accepts.
USERNAME = "demo"
KEY = "demo-key"
#: The path of the base URL, as in `https://rest.iovox.com/rest/v1`.
ROOT = "/rest/v1"
_NO_FAULTS = Faults()
_DATE_FORMAT = "must be a date, a datetime, or a text like 2024-01-31 23:59:59"


class Sandbox:
    """A local server with the endpoint's behaviour, `GET {base}/calls/insights`, and generated calls.

    >>> sandbox = Sandbox(calls=1_000, faults=Faults(every_nth=7))
    >>> async with sandbox.serve() as base_url:  # doctest: +SKIP
    ...     async with AsyncInsights("demo", "demo-key", base_url=base_url) as insights:
    ...         assert [c.id async for c in insights.stream("2024-01-01", "2024-03-31")] == sandbox.ids()

    Args:
        calls: number of calls to generate.
        start: first day or second of their range.
        end: last day or second of their range, included.
        seed: the same seed gives the same calls and the same faults.
        faults: the faults to simulate; `sandbox.faults` may be replaced at any time.
        username: the user name that requests must have.
        key: the secure key that requests must have.
        now: returns the account's local time, for dates that a query leaves out.

    Raises:
        ConfigurationError: `start` or `end` is not a date, `end` is before `start`, or `calls` is no number of at least 0.
    """

    def __init__(
        self,
        calls: int = 10_000,
        start: str | date = "2024-01-01",
        end: str | date = "2024-03-31",
        seed: int = 0,
        faults: Faults = _NO_FAULTS,
        *,
        username: str = USERNAME,
        key: str = KEY,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        try:
            self._first, self._last = parse_timestamp(start), parse_timestamp(end, "23:59:59")
        except (TypeError, ValueError) as error:
            raise ConfigurationError("start and end", f"{_DATE_FORMAT}; {error}") from error
        if self._last < self._first:
            raise ConfigurationError("end", f"({end}) must not be before the start ({start})")
        if not isinstance(calls, int) or calls < 0:
            raise ConfigurationError("calls", f"must be a whole number of at least 0, got {calls!r}")
        self._state = SandboxState(seed, faults, username, key, now)
        self._generator = CallGenerator(seed)
        self._store = CallStore(self._generator.fragments)
        self._added = 0
        self._inserted: set[int] = set()
        self._deleted: set[int] = set()
        # Numbers of calls inserted and deleted by faults since the counters were reset.
        self._inserted_by_faults = self._deleted_by_faults = 0
        rng = seeded_random("calls", seed)
        self._store.insert(self._generator.draw_calls(calls, self._first, self._last, rng))

    def __repr__(self) -> str:
        return f"<Sandbox {self._store.count()} calls, {self.start} to {self.end}, seed {self.seed}>"

    @property
    def start(self) -> str:
        """First second of the range of the generated calls."""
        return format_timestamp(self._first)

    @property
    def end(self) -> str:
        """Last second of the range of the generated calls."""
        return format_timestamp(self._last)

    @property
    def seed(self) -> int:
        """The seed of the calls and the faults."""
        return self._state.seed

    @property
    def username(self) -> str:
        """The user name that requests must have."""
        return self._state.username

    @property
    def key(self) -> str:
        """The secure key that requests must have."""
        return self._state.key

    @property
    def faults(self) -> Faults:
        """The faults to simulate; may be replaced at any time."""
        return self._state.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._state.faults = faults

    # ---------------------------------------------------------------------------------------------- server

    @functools.cached_property
    def app(self) -> Starlette:
        """The ASGI application. Routes may be added to `app.router.routes`.

        Raises:
            MissingExtraError: starlette is not installed.
        """
        try:
            from starlette.applications import Starlette
            from starlette.routing import Route
        except ImportError as error:
            raise MissingExtraError("the sandbox", "sandbox") from error
        # For an endpoint that is an instance, Starlette does not restrict the method.
        return Starlette(routes=[Route(f"{ROOT}/calls/insights", endpoint=self._endpoint)])

    @functools.cached_property
    def _endpoint(self) -> SandboxApp:
        return SandboxApp(self._state, self._read_page)

    async def respond(self, request: httpx.Request) -> httpx.Response:
        """Responds to a request without a server: a side effect for respx, or a handler for `httpx.MockTransport`.

        Requests need this sandbox's `username` and `key`. Faults that need a real connection, such as `reset`, raise
        `TransportError`. Works with httpx2 as well.
        """
        response: httpx.Response = await respond(self._endpoint, request)
        return response

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> SandboxServer:
        """Serves the application in a thread of its own.

        Use it as `async with` or `with`; both return the base URL. Port 0 selects a free port.

        Raises:
            MissingExtraError: starlette or uvicorn is not installed.
        """
        app = self.app
        try:
            from ._server import SandboxServer
        except ImportError as error:
            raise MissingExtraError("the sandbox", "sandbox") from error
        return SandboxServer(app, self._state, host, port, ROOT)

    def close(self) -> None:
        """Deletes all calls and closes the store. Optional: a sandbox that is no longer referenced is closed."""
        self._store.close()

    # -------------------------------------------------------------------------------------------- counters

    @property
    def stats(self) -> SandboxStats:
        """The current counters."""
        return self._state.counters.stats

    @property
    def requests(self) -> tuple[Request, ...]:
        """The finished requests, oldest first; at most 10,000."""
        return self._state.counters.requests

    def reset_stats(self) -> None:
        """Sets the counters to zero; the next request has number 1, also for the faults."""
        self._state.counters.reset()
        self._inserted_by_faults = self._deleted_by_faults = 0

    # ----------------------------------------------------------------------------------------- read calls

    def rows(
        self,
        start: str | date | None = None,
        end: str | date | None = None,
        *,
        fields: Iterable[str] | None = None,
        **filters: object,
    ) -> list[dict[str, Any]]:
        """Returns the calls of a range in the form of a response, by `call_start` and id.

        Args:
            start: first day, hour, minute or second; None for no bound.
            end: last day, hour, minute or second, included; None for no bound.
            fields: names of `response_fields`; None for all.
            filters: the endpoint's filter parameters; comma lists may be any iterable.

        Raises:
            QueryError: a filter or a field does not exist, or a date is invalid.
        """
        request = self._build_request(start, end, filters, fields)
        with self._store.transaction():
            page = self._store.page(attrs.evolve(request, limit=max(self._store.count(), 1)))
        rows: list[dict[str, Any]] = json.loads(page.body)
        return rows

    def ids(
        self, start: str | date | None = None, end: str | date | None = None, **filters: object
    ) -> list[int]:
        """Returns the ids of a range's calls, by `call_start` and id; arguments as in `rows`."""
        return self._store.ids(self._build_request(start, end, filters, None))

    def _build_request(
        self,
        start: str | date | None,
        end: str | date | None,
        filters: Mapping[str, object],
        fields: Iterable[str] | None,
    ) -> _request.ParsedRequest:
        for name in filters:
            if name not in _request.FILTERS:
                raise QueryError(name, f"is not a filter; the filters are {', '.join(_request.FILTERS)}")
        names = tuple(fields or _columns.NAMES)
        if unknown := set(names) - _columns.NAMES:
            raise QueryError("fields", f"must be names of response_fields, got {', '.join(sorted(unknown))}")
        try:
            first, last = (
                None if value is None else format_timestamp(parse_timestamp(value, default_time))
                for value, default_time in ((start, "00:00:00"), (end, "23:59:59"))
            )
        except (TypeError, ValueError) as error:
            raise QueryError("start and end", f"{_DATE_FORMAT}; {error}") from error
        parameters = {
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
            start=first,
            end=last,
            conditions=_request.filter_conditions(parameters),
            fields=names,
        )

    def _read_page(self, request: _request.ParsedRequest, number: int) -> StoredPage:
        """Reads the page of request `number`, with the faults that concern the list of calls."""
        faults = self.faults
        limit = request.limit
        if faults.max_page_rows is not None and number > faults.max_page_rows_after:
            limit = min(limit, faults.max_page_rows)
        rng = seeded_random("live", self.seed, number)
        with self._store.transaction():
            # Includes what was due before requests that failed without reading a page.
            inserts = int(number * faults.inserts_per_request) - self._inserted_by_faults
            deletes = int(number * faults.deletes_per_request) - self._deleted_by_faults
            self._insert(({}, rng) for _ in range(inserts))
            ids = [self._store.id_at(rng.random()) for _ in range(deletes)]
            self._deleted.update(self._store.delete([call_id for call_id in ids if call_id is not None]))
            self._inserted_by_faults += max(inserts, 0)
            self._deleted_by_faults += max(deletes, 0)
            request = attrs.evolve(
                request,
                page=1 if faults.ignore_page else request.page,
                limit=limit,
                start=None if faults.ignore_dates else request.start,
                end=None if faults.ignore_dates else request.end,
            )
            # Odd, so that few ids get the same rank.
            shuffle = rng.randrange(1, 1_000_003, 2) if faults.shuffle_ties else None
            return self._store.page(request, exclusive_end=faults.exclusive_end, shuffle=shuffle)

    # --------------------------------------------------------------------------------------- change calls

    @property
    def inserted_ids(self) -> frozenset[int]:
        """Ids of the calls that were inserted after the sandbox was created."""
        return frozenset(self._inserted)

    @property
    def deleted_ids(self) -> frozenset[int]:
        """Ids of the calls that were deleted."""
        return frozenset(self._deleted)

    def add(self, calls: int | Iterable[Mapping[str, Any]]) -> list[int]:
        """Inserts calls in one transaction and returns their ids.

        Args:
            calls: a number of calls at random times of the range; or values for each call in the form of a response
                (`{"call_start": "2024-01-02 10:00:00", "talk_time": "00:01:00", "tags": [...]}`). Other values are
                generated.

        Raises:
            QueryError: a field does not exist, a value is invalid, or an id is taken.
        """
        if isinstance(calls, str | Mapping) or not isinstance(calls, int | Iterable):
            raise QueryError("calls", f"must be a number or a list of dicts, got {type(calls).__name__}")
        values: list[Mapping[str, Any]] = [{}] * calls if isinstance(calls, int) else list(calls)
        if wrong := [call for call in values if not isinstance(call, Mapping)]:
            raise QueryError("calls", f"must be a list of dicts, got one of {type(wrong[0]).__name__}")
        with self._store.transaction():
            sources = [seeded_random("add", self.seed, self._added + n) for n in range(len(values))]
            ids = self._insert(zip(values, sources, strict=True))
            self._added += len(values)
        return ids

    def remove(self, ids: Iterable[int]) -> int:
        """Deletes calls and returns how many of them existed."""
        deleted = self._store.delete(ids)
        self._deleted.update(deleted)
        return len(deleted)

    def update(self, id: int, /, **changes: Any) -> None:  # noqa: A002 - the endpoint's name
        """Changes a call, for example `update(id, transcriptions=[...], tags=[...])` for a late transcription.

        Raises:
            QueryError: there is no such call, a field does not exist, or a value is invalid.
        """
        with self._store.transaction():
            call = self._store.get(id)
            if call is None:
                raise QueryError("id", "must be the id of a call in the sandbox")
            columns = _columns.parse_columns(changes, self._store.fragments)
            if columns.get("id", id) != id:
                raise QueryError("id", "cannot be changed", hint="Remove the call and add another.")
            if columns := _columns.add_call_end(call, columns):
                self._store.update(id, columns)

    def _insert(self, calls: Iterable[tuple[Mapping[str, Any], random.Random]]) -> list[int]:
        # All rows are built before the first is inserted, so an invalid value inserts none of them.
        rows: dict[int, Row] = {}
        for values, rng in calls:
            columns = _columns.parse_columns(values, self._store.fragments)
            start = columns.get("call_start")
            timestamp = rng.randint(self._first, self._last) if start is None else parse_timestamp(start)
            row = self._generator.draw_call(timestamp, rng)
            while "id" not in columns and (row[0] in rows or self._store.contains(row[0])):
                row[0] = self._generator.draw_id(timestamp, rng)
            call = dict(zip(COLUMNS, row, strict=True))
            call |= _columns.add_call_end(call, columns)
            if call["id"] in rows or self._store.contains(call["id"]):
                raise QueryError("id", "must be unused, but the sandbox has a call with this id")
            rows[call["id"]] = list(call.values())
        self._store.insert(rows.values())
        self._inserted.update(rows)
        return list(rows)
