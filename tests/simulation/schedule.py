"""Describes one run: the data, the server, the faults, the client and its users.

A `Schedule` is plain data. It is drawn from a seed (`drawing`), can be written as JSON, changed by hand or by the shrinker, and run again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["BEGIN", "FAULTS", "LEAVES", "LEAVES_BETWEEN", "MOTIONS", "SLIPS", "SWAP", "Schedule", "Use"]

#: The second at which a run begins.
BEGIN = 4 * 86_400
#: What may go wrong with a request, and how often it is drawn.
FAULTS = {
    "500": 3,
    "502": 1,
    "503": 2,
    "503-after": 2,
    "429": 2,
    "429-after": 3,
    "429-date": 1,
    "429-long": 0.3,
    "408": 1,
    "401": 1,
    "403": 0.5,
    "400": 0.2,
    "redirect": 0.2,
    "timeout": 2,
    "silence": 1,
    "drip": 1,
    "refused": 2,
    "reset": 2,
    "cut": 2,
    "stale": 2,
    "garbage": 1,
    "torn": 1,
    "gzip-cut": 1,
    "gzip-crc": 1,
    "html": 1,
    "nothing": 1,
    "error-body": 0.5,
    "error-key": 0.3,
}
#: How the data may change between two requests.
MOTIONS = ("insert", "delete", "move", "vanish", "return", "grow", "edit")
#: The same, drawn apart: a call is deleted after its second's page 1, and another one inserted after page 2.
SWAP = "swap"
#: What a server may do that no client can read exactly without a rule for it; each stands in FINDINGS as a fault of 0.1.
SLIPS = ("double", "twice", "empty-first", "empty-late", "short-late", "sink", "first-excluded", "slow-close")
#: How a reader may leave a stream before its end.
LEAVES = {
    "end": 6,
    "slow": 2,
    "break": 2,
    "break-bare": 1,
    "raise": 1,
    "cancel": 4,
    "scope": 2,
    "timeout": 2,
    "anext": 1,
    "close": 1,
    "close-session": 1,
    "drop": 1,
}
#: The same, drawn apart: the stream or the session is closed by another task between two steps of the reader.
LEAVES_BETWEEN = ("close-between", "close-session-between")


@dataclass
class Use:
    """What one task of the program does.

    Attributes:
        kind: "stream", "page", "get", "follow" or "backfill".
        start: the first second of the range.
        end: the last second of the range.
        open: no end is given, so that the range ends now; `end` is then the second at which the run begins.
        updates: calls that changed are to come again.
        mode: how a stream is read: "records", "pages" or "arrow".
        order: the order of a stream.
        ordered: whether windows come in order.
        paging: "auto" or "pages".
        fields: "keys", "bare" (neither id nor start), "default" or "nested".
        max_calls: the most calls of a stream, or None.
        filtered: whether only answered calls are requested.
        leave: how the reader leaves, see `LEAVES` and `LEAVES_BETWEEN`.
        leave_at: after so many calls or pages, or (`cancel`, `scope`, `timeout`, `close`, `close-session`) at this step or second.
        resume: whether a stream that ended early is resumed.
        format: the format of a backfill.
        crash: how a backfill is killed: "", "kill" or "power".
        crash_at: the change of the disk at which it is killed.
        refresh: when a backfill is complete, all is read again by a run that is killed in the same way, and by another one.
        crash_after: the method of `Disk` of whose calls that number is the last before it is killed; "" for any change.
    """

    kind: str = "stream"
    start: int = 0
    end: int = 60
    open: bool = False
    updates: bool = False
    mode: str = "records"
    order: str = "call_start_ASC"
    ordered: bool = True
    paging: str = "auto"
    fields: str = "keys"
    max_calls: int | None = None
    filtered: bool = False
    leave: str = "end"
    leave_at: float = 0
    resume: bool = True
    format: str = "jsonl"
    crash: str = ""
    crash_at: int = 0
    crash_after: str = ""
    refresh: bool = False


@dataclass
class Schedule:
    """One run.

    Attributes:
        seed: decides all that is not decided below.
        starts: when each call began, in seconds.
        end, cap, offset, shown, id_text, empty, lone: see `Endpoint`.
        gzip: bodies are compressed.
        timezone: the account's time zone, if the client is given one.
        ahead: where it is given none, the hours by which the account's clock is ahead of UTC.
        shift: seconds by which the account's clock is set forward (back, if negative) when it shows the second `shift_at`; the server then
            keeps instants, and the client is given the zone.
        shift_at: see `shift`.
        folds: see `AccountClock`.
        skew: seconds by which the clock of the client's machine is ahead of the server's.
        motion: how many changes may happen; `motions` says which.
        rate: how likely a change is after each response.
        faults: a fault for each of these request numbers.
        outage: requests between these two seconds are refused; empty for none.
        slip: one of `SLIPS`, or "future" (a call that begins far ahead), "replica" (one response shows an earlier moment of the run), or "".
        cached: a cache keeps the wrong response of a slip, and answers equal requests with it.
        latency: the longest time of a request, in seconds; 0 for none.
        concurrency, page_size, timeout, attempts: the client's arguments.
        first_page: the rows of the first page of a range; a full page is then requested with it, as in a long range, and
            the last third is requested early. 0: as in short ones.
        shuffle, lag, work, deviations: see `SimulationLoop`.
        log: whether debug messages are written and searched for the key.
        uses: what the program does, all at once.
    """

    seed: int = 0
    starts: list[float] = field(default_factory=list)
    end: str = "inclusive"
    cap: int | None = None
    offset: str = "limit"
    shown: str = "second"
    id_text: bool = False
    empty: str | None = "[]"
    lone: bool = False
    gzip: bool = False
    timezone: str | None = None
    ahead: int = 0
    shift: int = 0
    shift_at: float = 0.0
    folds: list[int] = field(default_factory=lambda: [0, 0])
    skew: float = 0.0
    motion: int = 0
    motions: list[str] = field(default_factory=list)
    rate: float = 0.6
    faults: dict[int, str] = field(default_factory=dict)
    outage: list[float] = field(default_factory=list)
    slip: str = ""
    cached: bool = False
    latency: float = 0.0
    concurrency: int = 2
    page_size: int | None = 4
    timeout: float = 60.0
    attempts: int = 5
    first_page: int = 0
    shuffle: float = 0.0
    lag: float = 0.0
    work: float = 0.0
    deviations: dict[int, int] = field(default_factory=dict)
    log: bool = False
    uses: list[Use] = field(default_factory=list)

    def to_json(self) -> str:
        """Writes it as JSON, without what has its default value."""
        plain = asdict(self)
        plain["uses"] = [_changed(use, asdict(Use())) for use in plain["uses"]]
        return json.dumps(_changed(plain, asdict(Schedule())))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        plain: dict[str, Any] = json.loads(text)
        plain["uses"] = [Use(**use) for use in plain.get("uses", [])]
        for name in ("faults", "deviations"):
            plain[name] = {int(key): value for key, value in plain.get(name, {}).items()}
        return cls(**plain)

    @staticmethod
    def draw(seed: int) -> Schedule:
        """Draws the run of a seed."""
        from .drawing import draw

        return draw(seed)


def _changed(plain: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if value != defaults[name]}
