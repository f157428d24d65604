"""The faults that the client must survive, and the tests that cover each: `@pytest.mark.fault(number)`.

`python tests/support/fault_table.py` prints the table.
"""

import ast
import functools
import sys
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]

#: Number: (fault, what the client does).
FAULTS = {
    # Network and HTTP.
    1: ("address does not resolve, connection refused", "retry, then TransportError"),
    2: ("certificate self-signed, expired or for another host", "TLSError at once; no request is sent"),
    3: ("TLS handshake interrupted", "retry"),
    4: ("idle connection closed by the server", "immediate retry that is not counted"),
    5: ("connection reset or closed in the middle of a body", "discard the partial page and retry"),
    6: ("truncated body without a length", "retry, split, then DecodeError without the bytes"),
    7: ("gzip truncated, without trailer, with a wrong checksum", "retry"),
    8: ("gzip with several members", "decode all"),
    9: ("decompression bomb, page too large", "stop while reading; split the window, or DecodeError"),
    10: ("unknown or repeated encoding", "DecodeError at once"),
    11: ("server sends one byte at a time", "wall-clock deadline for each attempt"),
    12: ("server accepts the connection and never responds", "RequestTimeout, retry, split"),
    13: ("200 KB of headers, flood of 100 Continue, not HTTP", "one retry, then TransportError"),
    14: ("redirect", "UnexpectedRedirectError with the origin only; never followed"),
    15: ("200 with a login page", "one retry, then DecodeError"),
    16: ("200 without a body; 204, null, {}", "retry for the first; the others are no calls"),
    17: (
        "proxy returns 407 or 502, SOCKS proxy refuses",
        "BadRequestError at once for 407, retry for others",
    ),
    18: ("HTTP/2 GOAWAY", "cannot happen: only HTTP/1.1 is used"),
    # Responses of the endpoint.
    19: (
        "400 for a parameter",
        "BadRequestError with all messages at once; most are rejected before sending",
    ),
    20: ("400 because a window is too large", "BadRequestError: the endpoint documents no such message"),
    21: ("401, 403", "raise at once; send nothing for 30 seconds"),
    22: ("404, 405, 410, 415", "BadRequestError with the hint to check base_url"),
    23: ("408, 425, 429, 500, 502-504, 520-529", "retry"),
    24: ("Retry-After in any form", "wait up to the policy's maximum; raise if longer; ignore if invalid"),
    25: ("500 for every request of one window", "split the window, and remember the size"),
    26: (
        "error body as XML, JSON, HTML, 10 MB, endless",
        "read up to 64 KB and 5 seconds; the status decides",
    ),
    27: (
        "200 with an error object, a string, a number",
        "DecodeError; a single call's object is a list of one",
    ),
    28: ("page limit lower than requested", "detect it; a short page alone ends nothing"),
    29: ("server ignores page", "PagingError, never an endless loop"),
    30: ("server ignores order or dates", "PagingError with a hint"),
    31: ("more calls in one second than fit a page", "read by page numbers until two passes agree"),
    32: ("calls in the second between two windows", "both windows request it, one owns it"),
    33: ("call starts with fractions of a second", "windows share their boundary second"),
    34: ("new calls while reading", "fix the end before the first request; stats.complete_until"),
    35: ("late calls, late transcripts", "follow reads again; updates on request"),
    36: ("calls deleted while reading", "no other call is lost: no page numbers are used"),
    37: ("id twice in one page", "keep the last and count the others"),
    38: ("missing id", "RecordError, or skip and count"),
    39: ("clocks differ", "fix the end; follow reads one day beyond now"),
    40: ("daylight saving time changes", "cover every instant of an aware range"),
    41: ("dates left out mean this month", "a stream always sends both dates"),
    42: ("unknown, missing, unusual values", "coerce by rule and count, keep in extra, or RecordError"),
    43: (
        "NaN, 1e999, surrogates, 5,000 digits, deep nesting, BOM, latin-1",
        "DecodeError or RecordError only",
    ),
    44: ("rows of 50 KB", "choose the rows of a page by its bytes"),
    # Processes and concurrency.
    45: ("cancellation at any await", "no slot, task or socket leaks"),
    46: ("break", "all requests end"),
    47: ("slow reader", "requests stop; at most 2 x concurrency + 1 pages are buffered"),
    48: ("reader raises", "its own exception, not wrapped"),
    49: ("two requests fail together", "raise the first, with the other as a note"),
    50: ("two consumers", "RuntimeError if at the same time; SessionError if in two forms"),
    51: ("use after close, in another loop, after fork", "SessionError that names the mistake"),
    52: ("httpx's pool loses slots", "cannot happen: no native cancellation reaches it"),
    53: ("hundreds of callers", "first come, first served; no pool timeout"),
    54: ("outage", "retries up to 20 % of requests plus 20; one error within total_timeout"),
    55: ("Ctrl-C, SIGTERM", "keep the checkpoint; exit code for unfinished"),
    56: ("kill -9, power cut", "resume to the same set of calls"),
    57: ("full disk, I/O error", "BackfillError; finished partitions stay"),
    58: ("two processes on one backfill", "BackfillLockedError; the lock ends with its process"),
    59: ("damaged, newer or foreign manifest", "error with a hint; never a silent restart"),
    60: ("wall clock jumps", "no effect: deadlines use the monotonic clock"),
    61: ("-O, -W error, asyncio debug, uvloop", "same behaviour, no warning"),
    # Secrets and input.
    62: ("key with a line break, NUL, space, non-ASCII, empty", "reject without showing it"),
    63: ("key in a repr, pickle, log, traceback, error", "never"),
    64: ("filter values with & # % and line breaks, long id lists", "encode or reject; split below 4 KiB"),
    65: ("base_url with http, credentials, a lookalike of localhost", "ConfigurationError"),
    66: ("hostile environment variables", 'ignored, unless proxy="environment"'),
    67: ("ids that are paths", "file names contain dates only"),
    68: ("formulas in CSV", "escape"),
}

#: Faults without a test of their own, and why.
WITHOUT_TEST = {18: "http2 is off in httpcore by default"}


@functools.cache
def marked_tests(mark="fault"):
    """The tests with each argument of a mark, as `path::name`."""
    tests = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{mark}":
                    for number in decorator.args:
                        tests[ast.literal_eval(number)].append(f"{path.relative_to(TESTS)}::{node.name}")
    return tests


def format_table():
    """The table as text: each fault with its tests."""
    lines = []
    for number, (fault, behaviour) in FAULTS.items():
        lines.append(f"{number:2}  {fault}: {behaviour}")
        lines += [f"      {test}" for test in marked_tests()[number] or [WITHOUT_TEST[number]]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(format_table() + "\n")
