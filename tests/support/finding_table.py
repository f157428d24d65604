"""The faults found by trying version 0.1, and the tests that cover each: `@pytest.mark.finding("A1")`.

`python tests/support/finding_table.py` prints the table.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fault_table import marked_tests

#: Name: what is right.
FINDINGS = {
    "A1": "one rule for order, ties, duplicates, resume and limit in every reader",
    "A2": "an end that the density of calls contradicts is checked by one more request",
    "A3": "a call with a start in the future moves nothing in follow()",
    "A4": "without a time zone, now is the latest it may be for reading, and the earliest for what is final",
    "A5": "a machine clock that differs from the server's decides nothing as final",
    "A6": "pytz and dateutil time zones give the right instants",
    "A7": "no window is cut in an hour that comes twice or never",
    "A8": "exclusive and rounded bounds lose nothing; unreadable rows are raised or counted",
    "A9": "responses of a cache prove nothing",
    "A10": "a stream ends without an error only when everything was delivered",
    "A11": "dlt loads what an earlier start or another filter leaves out",
    "A12": "half an emoji affects its own record only",
    "A13": "an object with whole-number keys is a list",
    "A14": "verify converges with skipped records",
    "A15": "one CSV encoder",
    "A16": "what a page gives does not depend on the pages before it",
    "A17": "columns exist because they were requested, with one unit for one name",
    "A18": "several values for a filter of one value are refused",
    "B1": "a free retry needs a reused connection, once for each request",
    "B2": "the bound of buffered pages holds for a crowded second, and its figure is true",
    "B3": "memory of many streams, of follow() and of page numbers is bounded",
    "B4": "the retry budget refills with successes and is capped",
    "B5": "follow() caps Retry-After",
    "B6": "page() and get() decode in slices",
    "B7": "the deadline covers the network only",
    "B8": "closing is shielded and bounded; the end of a task ends its stream",
    "B9": "the size of a page is limited by an argument",
    "B10": "an outage is survived for the policy's total timeout at any concurrency",
    "B11": "counts of a backfill are those of the manifest",
    "C1": "the key is masked in every escape, before anything is cut",
    "C2": "messages name keys and shapes of a page, never its values",
    "C3": "no credentials in printed commands, graphs and representations",
    "C4": "error bodies with NUL bytes are refused before they are parsed",
    "D1": "the sandbox responds to mocks",
    "D2": "FastAPI serializes records, and is quiet when a client leaves",
    "D3": "Dask frames survive Parquet, and their limit of requests is documented",
    "D4": "common readers read encodings, types and empty ranges",
    "D5": "outputs: special files, closed and full streams, any character set",
    "D7": "trio, other loops and unclosed sessions are reported clearly",
    "D8": "observers change nothing; started and finished events pair up",
    "D9": "messages fit the cause",
    "D10": "positions are checked and computed once",
    "D11": "transports of the wrong kind are refused; all timeouts are given",
    "D12": "old days may be deleted, directories moved, addresses spelled otherwise",
    "S1": "page numbers read the last second whether the server's end is inclusive or not",
    "S2": "a cancelled backfill releases its lock",
}
#: Rows that other changes cover.
ELSEWHERE = {"D6": "TLS options: arguments for certificates come with the engines"}


def format_table():
    """The table as text: each row with its tests."""
    lines = []
    for name, right in FINDINGS.items():
        lines.append(f"{name:3}  {right}")
        lines += [f"       {test}" for test in marked_tests("finding")[name]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(format_table() + "\n")
