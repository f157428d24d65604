"""Draws schedules from seeds: one seed decides the data, the server, the faults, the client and its users.

What was added later is drawn from a random source of its own, so that most seeds stay what they were.
"""

from __future__ import annotations

import random

from .schedule import BEGIN, FAULTS, LEAVES, LEAVES_BETWEEN, MOTIONS, SLIPS, SWAP, Schedule, Use

__all__ = ["draw"]


def _weighted(rng: random.Random, table: dict[str, float]) -> str:
    return rng.choices(list(table), list(table.values()))[0]


def draw(seed: int) -> Schedule:
    """Draws the run of a seed."""
    rng = random.Random(f"schedule {seed}")
    kind = rng.choices(("stream", "follow", "backfill"), (86, 7, 7))[0]
    span = rng.choice((3, 10, 60, 600, 90_000)) if kind != "backfill" else 86_400 * rng.choice((1, 2, 3))
    schedule = Schedule(
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
        _close_between(schedule.uses[0], random.Random(f"between {seed}"))
        if any(use.leave.startswith("close-session") for use in schedule.uses):
            # It ends whatever else goes on in the session.
            del schedule.uses[1:]
        if full_second and rng.random() < 0.6:
            schedule.uses = [Use(end=span, order=rng.choice(("call_start_ASC", "call_start_DESC")))]
            schedule.faults.clear()
        if schedule.slip in {"empty-late", "short-late", "sink"}:
            _make_dense(schedule, rng)
    _vary_clocks(schedule, random.Random(f"clocks {seed}"), span)
    if kind == "stream" and not full_second and not schedule.slip:
        _change_clock(schedule, random.Random(f"change {seed}"))
    if kind == "stream":
        _add_caches(schedule, random.Random(f"caches {seed}"), span)
        if not (full_second or schedule.slip or schedule.outage or schedule.shift or schedule.uses[0].open):
            _leave_within(schedule, random.Random(f"within {seed}"))
    if full_second:
        _swap_calls(schedule, random.Random(f"swap {seed}"))
    elif kind == "backfill":
        _crash_after(schedule.uses[0], random.Random(f"crash {seed}"))
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


def _swap_calls(schedule: Schedule, rng: random.Random) -> None:
    """Lets calls of a full second come and go by turns while its pages are read."""
    if schedule.slip or rng.random() >= 0.3:
        return
    page = schedule.page_size = rng.choice((2, 3, 3, 4))
    page = min(page, schedule.cap or page)
    schedule.starts = schedule.starts[:1] * (page + rng.choice((0, 1, 1, 1, 1, 2)))
    schedule.motion, schedule.motions, schedule.rate = 20, [SWAP], 0.7


def _crash_after(use: Use, rng: random.Random) -> None:
    """Lets a backfill be killed right after a change of one kind."""
    if rng.random() < 0.8:
        use.crash = rng.choice(("kill", "power", "power", "power"))
        use.crash_after = rng.choice((*["rename"] * 8, "create", "make_directory", "unlink", "sync"))
        use.crash_at = rng.choice((1, 2, 3, 3, 4, 4, 5, 6))
        use.refresh = rng.random() < 0.9


def _leave_within(schedule: Schedule, rng: random.Random) -> None:
    """Lets a reader leave, and go on, among pages that hold several calls each."""
    if rng.random() >= 0.08:
        return
    schedule.starts = sorted(float(rng.randrange(60)) for _ in range(rng.choice((8, 15, 25))))
    schedule.cap, schedule.page_size = None, rng.choice((3, 4, 6, 10))
    use = Use(end=60, mode=rng.choice(("arrow", "arrow", "pages", "records")))
    use.order = rng.choice(("call_start_ASC", "call_start_DESC"))
    use.fields = rng.choice(("keys", "bare", "nested", "nested"))
    use.leave = rng.choice(("break", "raise", "cancel", "anext", "anext"))
    use.leave_at = rng.choice((0, 1, 2, 40, 80))
    if use.leave == "anext":
        # It gives up while a thread works for it.
        use.leave_at, schedule.work, schedule.latency = 0.2 * rng.random(), 0.3, 0.0
        schedule.faults.clear()
    schedule.uses = [use]


def _close_between(use: Use, rng: random.Random) -> None:
    """Lets another task close the stream or the session between two steps of the reader."""
    if use.kind == "stream" and rng.random() < 0.05:
        use.leave, use.leave_at = rng.choice(LEAVES_BETWEEN), rng.choice((0, 0, 1, 2, 5, 10))


def _change_clock(schedule: Schedule, rng: random.Random) -> None:
    """Sets the account's clock back or forward within the range, in which calls and bounds lie near the change."""
    if rng.random() >= 0.04 or any(use.open for use in schedule.uses):
        return
    schedule.shift, schedule.shift_at = rng.choice((-3_600, -3_600, -1_800, 3_600)), 7_200.0
    schedule.folds = [rng.randrange(2), rng.randrange(2)]
    first, last = sorted((7_200, 7_200 + schedule.shift))
    near = (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1)

    def second() -> int:
        return rng.choice((rng.randrange(10_800), rng.randrange(first, last), rng.choice(near)))

    schedule.starts = sorted(float(second()) for _ in range(rng.choice((3, 6, 15, 30))))
    for use in schedule.uses:
        if use.kind == "stream":
            bounds = sorted((second(), second()))
            use.start, use.end = rng.choice(
                ((0, 10_800), (0, bounds[1]), (bounds[0], max(10_800, bounds[0])), tuple(bounds))
            )


def _add_caches(schedule: Schedule, rng: random.Random, span: int) -> None:
    """Lets a cache keep a wrong response, or a replica that is behind answer once."""
    by_windows = all(use.paging == "auto" for use in schedule.uses)
    if schedule.slip in {"empty-first", "empty-late", "short-late"}:
        # By page numbers, the requests that are compared are equal.
        schedule.cached = by_windows and rng.random() < 0.5
    elif not (schedule.slip or schedule.shift) and by_windows and rng.random() < 0.02:
        # The pages of a full second are compared, which is beyond a replica.
        schedule.slip, schedule.cap, schedule.page_size = "replica", None, 10
        schedule.starts = sorted(float(rng.randrange(span)) for _ in range(rng.choice((6, 15, 40))))
        schedule.motion, schedule.motions, schedule.rate = 8, list(MOTIONS), 0.6


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
    use.leave_at = _leave_at(rng, use.leave)
    return use


def _leave_at(rng: random.Random, leave: str) -> float:
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
