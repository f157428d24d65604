"""Helpers of the tests of the command line."""

import json
import shlex

#: Longer than any process of these tests needs, on any machine.
TIMEOUT = 60


def finish(process):
    """Waits for a process; returns its exit code and what was not yet read of stdout and stderr."""
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, (out or b"").decode(), err.decode()


def parse_lines(text):
    """The JSON documents of a text, one per line."""
    return [json.loads(line) for line in text.splitlines()]


def call_ids(text):
    """The ids of calls in JSON Lines."""
    return [call["id"] for call in parse_lines(text)]


def resume_arguments(stderr):
    """The arguments of the command that continues, as printed on stderr."""
    return shlex.split(stderr.partition("Continue with:")[2])[1:]
