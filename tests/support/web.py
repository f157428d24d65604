"""Helpers of the web tests: the range of a sandbox, and parsing of streamed responses."""

import json

#: The range of a sandbox's calls by default.
START, END = "2024-01-01", "2024-03-31"


def parse_lines(text):
    """The JSON documents of an NDJSON response."""
    return [json.loads(line) for line in text.splitlines()]


def parse_events(text):
    """The server-sent events of a response, without comments."""
    return [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.split("\n\n")
        if block and not block.startswith(":")
    ]
