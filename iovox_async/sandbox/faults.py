"""What may go wrong with the sandbox, on request.

The law of this room: a `Faults` is a description and nothing runs here. Which request fails, and how, follows from its
number and the sandbox's seed alone, so a run can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import attrs

from iovox_async.errors import ConfigurationError

from ._random import chance

Format: TypeAlias = Literal["xml", "json", "text"]
#: How a request fails: with a status, on the wire, or with a 200 that is no answer.
FaultKind: TypeAlias = Literal[
    # A status, with an error body in `error_format`; "429" and "503" carry `retry_after`, "302" a Location.
    "302",
    "401",
    "403",
    "404",
    "408",
    "429",
    "500",
    "502",
    "503",
    "504",
    # The body is cut in half: by a Content-Length that is not met, a last chunk that never comes, or a plain close.
    "cut",
    "cut_chunked",
    "cut_clean",
    # The connection is closed before the first byte, or reset, before the first byte or after half of the body.
    "close",
    "reset",
    "reset_midway",
    # Nothing comes, nothing comes after half of the body, or a byte comes every `drip_interval`.
    "hang",
    "hang_midway",
    "drip",
    # The framing is right, and the gzip body is cut in half, lacks its trailer, or has a wrong checksum.
    "gzip_cut",
    "gzip_no_trailer",
    "gzip_crc",
    # 200 with bytes that are no JSON, with no bytes, or with a web page.
    "garbage",
    "empty",
    "html",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


def _kinds(value: FaultKind | Iterable[FaultKind]) -> tuple[FaultKind, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _known(_: Any, __: Any, kinds: tuple[str, ...]) -> None:
    if not kinds:
        raise ConfigurationError("Faults(kinds=...) names no kind of fault")
    for kind in kinds:
        if kind not in FAULT_KINDS:
            raise ConfigurationError(f"no such kind of fault: {kind!r}; there are {', '.join(FAULT_KINDS)}")


def _written(_: Any, __: Any, form: str) -> None:
    if form not in get_args(Format):
        raise ConfigurationError(f"Faults(error_format=...) must be one of {', '.join(get_args(Format))}")


def _from(least: float, most: float = math.inf) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not least <= value <= most:
            bound = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ConfigurationError(f"Faults({attribute.name}=...) must be {bound}")

    return check


@attrs.frozen(kw_only=True)
class Faults:
    """How the sandbox misbehaves; without arguments, it does not.

    Requests are numbered from 1, in the order of arrival, since the sandbox was made or its counters were reset.
    A request that is refused (401, 400) meets no fault and still has a number.
    """

    #: Seconds before every answer, and random seconds on top of them, at most.
    latency: float = attrs.field(default=0.0, validator=_from(0))
    jitter: float = attrs.field(default=0.0, validator=_from(0))

    #: Which requests fail: this share of them, every n-th, the first n, these, all that come after n,
    #: and those whose answer would hold more rows than n. Whatever applies, applies.
    error_rate: float = attrs.field(default=0.0, validator=_from(0, 1))
    every_nth: int = attrs.field(default=0, validator=_from(0))
    fail_first: int = attrs.field(default=0, validator=_from(0))
    fail_at: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...])
    fail_after: int | None = attrs.field(default=None, validator=_from(0))
    fail_above_rows: int | None = attrs.field(default=None, validator=_from(0))
    #: How they fail; of several kinds, one is drawn for each request.
    kinds: tuple[FaultKind, ...] = attrs.field(default=("500",), converter=_kinds, validator=_known)
    #: The Retry-After of "429" and "503": seconds, or any text; None: the header is left out.
    retry_after: float | str | None = None
    #: Where "302" sends the client.
    location: str = "https://elsewhere.example.com/rest/v1/calls/insights"
    #: Seconds between the bytes of "drip".
    drip_interval: float = attrs.field(default=0.05, validator=_from(0))
    #: How error bodies are written.
    error_format: Format = attrs.field(default="xml", validator=_written)

    #: The server holds at most this many rows a page, whatever is asked, once it had `max_page_rows_after` requests.
    max_page_rows: int | None = attrs.field(default=None, validator=_from(1))
    max_page_rows_after: int = attrs.field(default=0, validator=_from(0))
    #: Rows of equal rank change places from request to request.
    shuffle_ties: bool = False
    #: Calls of the very second of `end_date` are left out.
    exclusive_end: bool = False
    #: Every page is the first one; the dates are not looked at.
    ignore_page: bool = False
    ignore_dates: bool = False

    #: Rows that come and go before each request, at random times of the sandbox's range; 0.5: before every second.
    inserts_per_request: float = attrs.field(default=0.0, validator=_from(0))
    deletes_per_request: float = attrs.field(default=0.0, validator=_from(0))

    #: Answers are compressed for clients that accept gzip.
    gzip: bool = False
    #: Seconds after which an idle connection is closed; those that are open keep what they were opened with.
    keep_alive: float = attrs.field(default=75.0, validator=_from(0))

    def verdict(self, number: int, seed: int) -> FaultKind | None:
        """How request `number` fails, `fail_above_rows` apart; None: it does not."""
        fails = (
            number <= self.fail_first
            or number in self.fail_at
            or (self.every_nth and number % self.every_nth == 0)
            or (self.fail_after is not None and number > self.fail_after)
            or (self.error_rate and chance("rate", seed, number).random() < self.error_rate)
        )
        return self.drawn(number, seed) if fails else None

    def drawn(self, number: int, seed: int) -> FaultKind:
        """The kind of failure that request `number` meets if it fails."""
        if len(self.kinds) == 1:
            return self.kinds[0]
        return chance("kind", seed, number).choice(self.kinds)

    def delay(self, number: int, seed: int) -> float:
        """Seconds before request `number` is answered."""
        if not self.jitter:
            return self.latency
        return self.latency + self.jitter * chance("delay", seed, number).random()

    def cap(self, number: int) -> int | None:
        """Most rows that the answer to request `number` may hold."""
        return self.max_page_rows if number > self.max_page_rows_after else None

    def due(self, number: int) -> tuple[int, int]:
        """Rows that have come and gone by the time of request `number`."""
        return int(number * self.inserts_per_request), int(number * self.deletes_per_request)
