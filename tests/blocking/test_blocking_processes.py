"""The blocking client at the end of a program and after a fork, each in a process of its own."""

import os
import subprocess
import sys

import pytest

from iovox_async.sandbox import Sandbox

pytestmark = pytest.mark.subprocess

#: Leaves a stream, a session and a waiting daemon thread open, and ends by an error that the program raises.
UNCLOSED = """
import sys, threading
from iovox_async.blocking import Insights

insights = Insights("demo", "demo-key")
calls = insights.stream("2024-01-01", "2024-03-31", page_size=50)
first = next(iter(calls))
followed = []

def follow():
    for call in insights.follow("2024-03-31 23:59:59", interval=3600):
        pass

threading.Thread(target=follow, daemon=True).start()
for call in Insights("demo", "demo-key").stream("2024-01-01", "2024-03-31", page_size=50):
    sys.exit(7)
"""

#: Uses a session that its parent opened; the parent's own stream goes on.
FORKED = """
import gc, os, sys
from iovox_async import SessionError
from iovox_async.blocking import Insights

insights = Insights("demo", "demo-key")
calls = insights.stream("2024-01-01", "2024-03-31", page_size=50)
reading = iter(calls)
read = 1 if next(reading) else 0
paging = insights.stream("2024-01-01", "2024-03-31", page_size=50).pages()
following = iter(insights.follow("2024-01-01"))
pages, followed = [next(paging)], next(following)
unused = Insights("demo", "demo-key")
child = os.fork()
if not child:
    for use in (
        lambda: next(reading),
        lambda: next(paging),
        lambda: next(following),
        lambda: list(calls),
        lambda: insights.page(),
        insights.close,
        lambda: list(insights.follow()),
    ):
        try:
            use()
        except SessionError as error:
            assert "Open one in each process" in str(error)
        else:
            raise AssertionError("no error")
    assert unused.page("2024-01-01", "2024-03-31", page_size=5).calls
    unused.close()
    del insights, calls, reading, paging, following, use
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(read + sum(1 for _ in reading))
assert sum(len(page.calls) for page in [*pages, *paging]) == 1000
assert len({followed.id, *(next(following).id for _ in range(999))}) == 1000
insights.close()
"""


@pytest.fixture
def run():
    """Runs a program beside a sandbox of 1,000 calls; returns its exit code and what it printed."""

    def run_program(text, *options):
        with Sandbox(calls=1_000).serve() as url:
            done = subprocess.run(
                [sys.executable, *options, "-c", text],
                env={**os.environ, "IOVOX_URL": url},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
        return done.returncode, done.stdout, done.stderr

    return run_program


def test_given_a_program_that_closes_nothing_when_it_ends_then_it_ends_at_once_and_prints_nothing(run):
    """Given open streams, sessions and a thread that waits, when the interpreter ends, then no deadlock and no message."""
    assert run(UNCLOSED) == (7, "", "")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_given_a_forked_process_when_it_uses_its_parents_session_then_a_clear_error(run):
    """Given a session in use, when the process is forked, then the child gets `SessionError`, and the parent reads on."""
    assert run(FORKED, "-W", "ignore::DeprecationWarning") == (0, "1000\n", "")
