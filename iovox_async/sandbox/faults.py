"""Describes the faults that a sandbox can simulate.

Which request fails, and how, depends only on its number and the sandbox's seed, so a run can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import attrs

from iovox_async.errors import ConfigurationError

from ._generator import seeded_random

__all__ = ["FAULT_KINDS", "FaultKind", "Faults"]

ErrorFormat: TypeAlias = Literal["xml", "json", "text"]
#: How a request fails.
FaultKind: TypeAlias = Literal[
    # A status, with an error body in `error_format`; "429" and "503" with Retry-After, "302" with Location.
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
    # Half of the body: less than Content-Length, without the last chunk, or ended by closing the connection.
    "cut",
    "cut_chunked",
    "cut_clean",
    # The connection is closed or reset before the first byte, or reset after half of the body.
    "close",
    "reset",
    "reset_midway",
    # No byte is sent, none after half of the body, or one every `drip_interval` seconds.
    "hang",
    "hang_midway",
    "drip",
    # A complete response whose gzip body is cut in half, has no trailer, or has a wrong checksum.
    "gzip_cut",
    "gzip_no_trailer",
    "gzip_crc",
    # 200 with a body that is not JSON, an empty body, or a web page.
    "garbage",
    "empty",
    "html",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


def _to_kinds(value: FaultKind | Iterable[FaultKind]) -> tuple[FaultKind, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _check_kinds(_: Any, __: Any, kinds: tuple[str, ...]) -> None:
    if not kinds or not set(kinds) <= set(FAULT_KINDS):
        raise ConfigurationError("kinds", f"must be one or more of {', '.join(FAULT_KINDS)}, got {kinds}")


def _check_format(_: Any, __: Any, error_format: str) -> None:
    if error_format not in get_args(ErrorFormat):
        expected = ", ".join(get_args(ErrorFormat))
        raise ConfigurationError("error_format", f"must be one of {expected}, got {error_format!r}")


def _between(minimum: float, maximum: float = math.inf) -> Any:
    def check(_: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not minimum <= value <= maximum:
            bounds = (
                f"at least {minimum:g}" if maximum == math.inf else f"between {minimum:g} and {maximum:g}"
            )
            raise ConfigurationError(attribute.name, f"must be {bounds}, got {value!r}")

    return check


# `iovox sandbox --help` shows the description of each attribute, which is one line.
@attrs.frozen(kw_only=True)
class Faults:
    """The faults of a sandbox; without arguments there are none.

    Requests are numbered from 1, in order of arrival, since the sandbox was created or its counters were reset.
    Invalid requests (401, 400) have no fault but count as requests. A request fails if any of the conditions
    `error_rate`, `every_nth`, `fail_first`, `fail_at`, `fail_after`, `fail_above_rows` applies to it.

    Attributes:
        latency: seconds before every response.
        jitter: maximum of random seconds added to `latency`.
        error_rate: share of the requests that fail, 0 to 1.
        every_nth: every n-th request fails; 0 for none.
        fail_first: the first n requests fail.
        fail_at: numbers of the requests that fail.
        fail_after: all requests after the n-th fail.
        fail_above_rows: requests fail whose page would have more than n rows.
        kinds: how requests fail; one is drawn for each.
        retry_after: the Retry-After header of "429" and "503": seconds, or any text; by default there is none.
        location: the Location header of "302".
        drip_interval: seconds between the bytes of "drip".
        error_format: the format of error bodies.
        max_page_rows: a page has at most n rows, whatever limit is requested.
        max_page_rows_after: number of requests after which `max_page_rows` applies.
        shuffle_ties: the order of rows with equal sort keys changes between requests.
        exclusive_end: calls in the last second of the range are left out.
        ignore_page: every page is the first page.
        ignore_dates: the dates of requests are ignored.
        inserts_per_request: calls inserted before each request at random times of the range; 0.5 for every second request.
        deletes_per_request: calls deleted before each request.
        gzip: responses are compressed for clients that accept gzip.
        keep_alive: seconds after which an idle connection is closed; connections keep the value they were opened with.

    Raises:
        ConfigurationError: an argument is out of range.
    """

    latency: float = attrs.field(default=0.0, validator=_between(0))
    jitter: float = attrs.field(default=0.0, validator=_between(0))
    error_rate: float = attrs.field(default=0.0, validator=_between(0, 1))
    every_nth: int = attrs.field(default=0, validator=_between(0))
    fail_first: int = attrs.field(default=0, validator=_between(0))
    fail_at: tuple[int, ...] = attrs.field(default=(), converter=tuple[int, ...])
    fail_after: int | None = attrs.field(default=None, validator=_between(0))
    fail_above_rows: int | None = attrs.field(default=None, validator=_between(0))
    kinds: tuple[FaultKind, ...] = attrs.field(default=("500",), converter=_to_kinds, validator=_check_kinds)
    retry_after: str | float | None = None
    location: str = "https://elsewhere.example.com/rest/v1/calls/insights"
    drip_interval: float = attrs.field(default=0.05, validator=_between(0))
    error_format: ErrorFormat = attrs.field(default="xml", validator=_check_format)
    max_page_rows: int | None = attrs.field(default=None, validator=_between(1))
    max_page_rows_after: int = attrs.field(default=0, validator=_between(0))
    shuffle_ties: bool = False
    exclusive_end: bool = False
    ignore_page: bool = False
    ignore_dates: bool = False
    inserts_per_request: float = attrs.field(default=0.0, validator=_between(0))
    deletes_per_request: float = attrs.field(default=0.0, validator=_between(0))
    gzip: bool = False
    keep_alive: float = attrs.field(default=75.0, validator=_between(0))


def choose_fault(faults: Faults, number: int, seed: int) -> FaultKind | None:
    """Returns how request `number` fails, apart from `fail_above_rows`; None if it does not."""
    fails = (
        number <= faults.fail_first
        or number in faults.fail_at
        or (faults.every_nth and number % faults.every_nth == 0)
        or (faults.fail_after is not None and number > faults.fail_after)
        or (faults.error_rate and seeded_random("rate", seed, number).random() < faults.error_rate)
    )
    return choose_kind(faults, number, seed) if fails else None


def choose_kind(faults: Faults, number: int, seed: int) -> FaultKind:
    """Returns how request `number` fails if it fails."""
    return seeded_random("kind", seed, number).choice(faults.kinds)


def choose_delay(faults: Faults, number: int, seed: int) -> float:
    """Returns the seconds before the response to request `number`."""
    return faults.latency + faults.jitter * seeded_random("delay", seed, number).random()
