"""A server that sends the same odd rows, byte for byte, to every reader: filtered, ordered and limited as documented."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

MAX_ROWS = 20_000


def call(call_id, second, **values):
    """The bytes of a call that starts at this time."""
    return json.dumps({"id": call_id, "call_start": second, "call_result": "ANSWERED", **values}).encode()


@dataclass
class OddServer:
    """Rows with the second by which the server filters and orders them; rows of one second keep their order, or are reversed.

    Attributes:
        rows: the second and the bytes of each row.
        cap: the largest page.
        requests: the query of each request.
    """

    rows: list = field(default_factory=list)
    cap: int = MAX_ROWS
    requests: list = field(default_factory=list)

    def add(self, second, *rows):
        """Adds rows that the server believes to start at this time."""
        at = datetime.fromisoformat(second)
        self.rows += [(at, row) for row in rows]

    def respond(self, request):
        """The response to a request."""
        query = request.url.params
        self.requests.append(dict(query))
        start, end = (datetime.fromisoformat(query[name]) for name in ("start_date", "end_date"))
        rows = [row for row in self.rows if start <= row[0] < end + timedelta(seconds=1)]
        order = query.get("order", "call_start_DESC")
        if order.startswith("id"):
            rows.sort(key=lambda row: self._id(row[1]))
        else:
            rows.sort(key=lambda row: row[0])
            rows = rows[::-1] if order.endswith("DESC") else rows
        size = int(query["limit"])
        skip = (int(query.get("page", 1)) - 1) * size
        rows = rows[skip : skip + min(size, self.cap)]
        return httpx.Response(200, content=b"[" + b",".join(row for _, row in rows) + b"]")

    @staticmethod
    def _id(row):
        try:
            return int(json.loads(row)["id"])
        except (ValueError, TypeError, KeyError):
            return 0

    @property
    def transport(self):
        """A transport for a session."""
        return httpx.MockTransport(self.respond)
