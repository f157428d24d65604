"""Describes one run: the data, the server, the faults, the client and its users, all drawn from one seed.

A `Schedule` is plain data. It can be written as JSON, changed by hand or by the shrinker, and run again.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["FAULTS", "LEAVES", "MOTIONS", "SLIPS", "Schedule", "Use"]

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
    "401": 0.4,
    "403": 0.2,
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
        leave: how the reader leaves, see `LEAVES`.
        leave_at: after so many calls or pages, or (`cancel`, `scope`, `timeout`, `close`, `close-session`) at this step or second.
        resume: whether a stream that ended early is resumed.
        format: the format of a backfill.
        crash: how a backfill is killed: "", "kill" or "power".
        crash_at: the change of the disk at which it is killed.
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
        skew: seconds by which the clock of the client's machine is ahead of the server's.
        motion: how many changes may happen; `motions` says which.
        rate: how likely a change is after each response.
        faults: a fault for each of these request numbers.
        outage: requests between these two seconds are refused; empty for none.
        slip: one of `SLIPS`, or "future" (a call that begins far ahead), or "".
        latency: the longest time of a request, in seconds; 0 for none.
        concurrency, page_size, timeout, attempts: the client's arguments.
        first_page: the rows of the first page of a range; a full page is then requested with it, as in a long range. 0: as in short ones.
        shuffle, lag, deviations: see `SimulationLoop`.
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
    skew: float = 0.0
    motion: int = 0
    motions: list[str] = field(default_factory=list)
    rate: float = 0.6
    faults: dict[int, str] = field(default_factory=dict)
    outage: list[float] = field(default_factory=list)
    slip: str = ""
    latency: float = 0.0
    concurrency: int = 2
    page_size: int | None = 4
    timeout: float = 60.0
    attempts: int = 5
    first_page: int = 0
    shuffle: float = 0.0
    lag: float = 0.0
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

    @classmethod
    def draw(cls, seed: int) -> Self:
        """Draws the run of a seed."""
        return _draw(cls, seed)


def _changed(plain: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if value != defaults[name]}


def _weighted(rng: random.Random, table: dict[str, float]) -> str:
    return rng.choices(list(table), list(table.values()))[0]


def _draw(cls: type[Schedule], seed: int) -> Schedule:
    rng = random.Random(f"schedule {seed}")
    kind = rng.choices(("stream", "follow", "backfill"), (86, 7, 7))[0]
    span = rng.choice((3, 10, 60, 600, 90_000)) if kind != "backfill" else 86_400 * rng.choice((1, 2, 3))
    schedule = cls(
        seed=seed,
        starts=_starts(rng, span),
        end=rng.choice(("inclusive", "exclusive", "second")),
        cap=rng.choice((None, None, None, 1, 2, 3, 5)),
        offset=rng.choice(("limit", "cap")),
        shown=rng.choice(("second", "exact")),
        id_text=rng.random() < 0.15,
        empty=rng.choice(("[]", "[]", "[]", "null", "{}", None)),
        lone=rng.random() < 0.1,
        gzip=rng.random() < 0.1,
        timezone=rng.choice((None, None, None, None, "Europe/London", "America/New_York")),
        latency=rng.choice((0.0, 0.1, 1.0, 1.0, 20.0)),
        concurrency=rng.choice((1, 2, 2, 3, 4, 8)),
        page_size=rng.choice((1, 2, 2, 3, 4, 4, 6, 10, None)),
        timeout=rng.choice((60.0, 60.0, 5.0)),
        attempts=rng.choice((5, 5, 3, 1)),
        shuffle=rng.choice((0.0, 0.05, 0.3, 1.0)),
        lag=rng.choice((0.0, 0.0, 0.0, 0.02)),
        log=rng.random() < 0.1,
    )
    if rng.random() < 0.6:
        schedule.motion = rng.choice((1, 3, 8, 20))
        schedule.motions = rng.sample(MOTIONS, rng.randint(1, len(MOTIONS)))
        schedule.rate = rng.choice((0.6, 0.6, 0.2, 0.1))
    full_second = rng.random() < 0.25 and kind == "stream"
    if full_second:
        # One second that just overflows a page, and changes while it is read.
        page = schedule.page_size = rng.choice((1, 2, 2, 3))
        page, second = min(page, schedule.cap or page), float(rng.randrange(min(span, 600)))
        schedule.starts = [second] * (page + rng.choice((0, 1, 1, 2, page)))
        schedule.motion, schedule.motions = 8, ["insert", "delete"]
        schedule.rate = rng.choice((0.6, 0.4, 0.2))
    if rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            schedule.faults[rng.randrange(rng.choice((3, 8, 20)))] = _weighted(rng, FAULTS)
    if rng.random() < 0.03:
        # A storm: most of the first requests fail.
        share, kind_of_storm = rng.choice((0.5, 0.9)), rng.choice(("500", "503", "reset", "refused"))
        schedule.faults.update({number: kind_of_storm for number in range(60) if rng.random() < share})
    if rng.random() < 0.04:
        begin = rng.choice((0.0, 0.5, 2.0))
        schedule.outage = [begin, begin + rng.choice((1.0, 10.0, 60.0, 240.0))]
        schedule.concurrency = rng.choice((1, 2, 8, 64))
        schedule.faults.clear()
        if kind == "stream" and not full_second and rng.random() < 0.5:
            # Many requests are in flight when it begins.
            schedule.starts = sorted(float(rng.randrange(span)) for _ in range(60))
            schedule.page_size, schedule.latency = 2, 1.0
    if rng.random() < 0.04:
        schedule.slip = rng.choice(SLIPS)
    if full_second and rng.random() < 0.06:
        schedule.slip = "twice"
    if kind == "follow":
        schedule.slip = rng.choice(("", "", "", "future"))
        # Slower than its timeout, a server would fail every poll.
        schedule.latency = min(schedule.latency, 1.0)
        schedule.uses = [_follow(rng)]
    elif kind == "backfill":
        schedule.uses = [_backfill(rng, span)]
    else:
        schedule.uses = [_use(rng, span) for _ in range(rng.choice((1, 1, 1, 1, 2, 3)))]
        if any(use.leave == "close-session" for use in schedule.uses):
            # It ends whatever else goes on in the session.
            del schedule.uses[1:]
        if full_second and rng.random() < 0.6:
            schedule.uses = [Use(end=span, order=rng.choice(("call_start_ASC", "call_start_DESC")))]
            schedule.faults.clear()
        if schedule.slip in {"empty-late", "short-late", "sink"}:
            _make_dense(schedule, rng)
    _vary_clocks(schedule, random.Random(f"clocks {seed}"), span)
    pages = random.Random(f"pages {seed}")
    if pages.random() < 0.2:
        schedule.first_page = pages.choice((1, 2, 3))
    return schedule


def _vary_clocks(schedule: Schedule, rng: random.Random, span: int) -> None:
    """Sets the machine's clock apart from the account's, and lets ranges end now."""
    if schedule.timezone is None:
        schedule.ahead = rng.choice((0, 0, -12, -5, 9, 14))
    if rng.random() < 0.15:
        schedule.skew = rng.choice((-86_400.0, -7_200.0, -60.0, 60.0, 7_200.0, 6 * 86_400.0))
    use = schedule.uses[0]
    if use.paging == "pages" and not schedule.slip and rng.random() < 0.2:
        # Where the last page is looked for by its number, a wrong one hurts most.
        schedule.slip = "empty-first"
    if use.kind == "follow":
        # From a clock that is ahead, "now" is later than now.
        use.open, use.updates = rng.random() < 0.3 and schedule.skew <= 0, rng.random() < 0.3
    elif use.kind == "backfill":
        use.open = rng.random() < 0.3
    elif schedule.slip not in {"empty-late", "short-late", "sink"} and rng.random() < 0.1:
        # In the last hours a response may be short, since calls are still to come. A start in the future of the machine's clock is refused.
        schedule.skew = max(schedule.skew, -60.0)
        shift = BEGIN - span - 120
        schedule.starts = [start + shift for start in schedule.starts]
        for other in schedule.uses:
            other.start, other.end = other.start + shift, other.end + shift
            if other.kind == "stream":
                other.end, other.open = BEGIN, True


def _make_dense(schedule: Schedule, rng: random.Random) -> None:
    """Gives a slip the many calls without which nobody could notice it."""
    schedule.starts = sorted(float(rng.randrange(4_000)) for _ in range(400))
    schedule.cap, schedule.page_size = None, 60
    use = schedule.uses[0]
    schedule.uses = [Use(end=4_000, mode=use.mode, ordered=use.ordered, fields=use.fields)]
    schedule.uses[0].order = rng.choice(("call_start_ASC", "call_start_DESC"))


def _starts(rng: random.Random, span: int) -> list[float]:
    number = rng.choice((0, 1, 3, 6, 10, 15, 25, 40))
    bursts = [rng.randrange(span) for _ in range(rng.choice((0, 1, 2)))]
    fractions = rng.choice((0.0, 0.0, 0.5))
    starts = []
    for _ in range(number):
        second: float = rng.choice(bursts) if bursts and rng.random() < 0.6 else rng.randrange(span)
        if rng.random() < fractions:
            second += rng.choice((0.412, 0.999999, 0.5))
        starts.append(second)
    return sorted(starts)


def _use(rng: random.Random, span: int) -> Use:
    kind = rng.random()
    if kind < 0.06:
        return Use("page", 0, span, leave_at=rng.randint(1, 3), leave=rng.choice(("end", "end", "cancel")))
    if kind < 0.12:
        return Use("get", leave_at=rng.randint(1, 4), leave=rng.choice(("end", "end", "cancel")))
    use = Use(
        start=rng.choice((0, 0, 0, span // 3)),
        end=rng.choice((span, span, span - 1, span // 2)),
        mode=rng.choices(("records", "pages", "arrow"), (6, 2, 2))[0],
        order=rng.choice(("call_start_ASC", "call_start_ASC", "call_start_DESC")),
        ordered=rng.random() < 0.8,
        fields=rng.choice(("keys", "keys", "keys", "bare", "default", "nested")),
        max_calls=rng.choice((None, None, None, None, 0, 1, 5)),
        filtered=rng.random() < 0.1,
        leave=_weighted(rng, LEAVES),
        resume=rng.random() < 0.8,
    )
    use.end = max(use.start, use.end)
    if rng.random() < 0.1:
        use.paging = "pages"
        use.order = rng.choice(("call_start_ASC", "call_start_DESC", "id_ASC", "call_destination_DESC"))
    use.leave_at = leave_at(rng, use.leave)
    return use


def leave_at(rng: random.Random, leave: str) -> float:
    """Draws when a reader leaves."""
    if leave in {"cancel", "close", "close-session"}:
        return rng.choice((rng.randrange(60), rng.randrange(400)))
    if leave in {"scope", "timeout", "anext"}:
        return rng.choice((0.0, 0.001, 0.05, 0.5, 2.0)) * rng.random()
    return rng.choice((0, 1, 2, 5, 10))


def _follow(rng: random.Random) -> Use:
    return Use(
        "follow",
        leave=rng.choice(("end", "end", "close", "cancel", "anext")),
        leave_at=rng.randrange(20, 400),
        fields=rng.choice(("keys", "bare", "default")),
    )


def _backfill(rng: random.Random, span: int) -> Use:
    use = Use("backfill", 0, span - 1, format=rng.choice(("jsonl", "jsonl", "csv", "parquet")))
    use.crash = rng.choice(("", "kill", "kill", "power"))
    use.crash_at = rng.randrange(1, 40)
    use.leave = rng.choice(("end", "end", "cancel"))
    use.leave_at = rng.randrange(400)
    return use
