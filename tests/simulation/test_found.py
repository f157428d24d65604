"""Schedules that once violated an invariant: what the simulation found, as it was shrunk."""

import pytest

from .runner import run
from .schedule import Schedule

FOUND = {
    "a request that fails just before the pause of an earlier failure ends": (
        '{"seed": 401, "starts": [154.0, 154.0, 154.0], "end": "second", "outage": [0.0, 10.0], "latency": 1.0, '
        '"concurrency": 64, "page_size": 1, "timeout": 5.0, "attempts": 3, "uses": [{"end": 600, "ordered": false, '
        '"leave": "timeout", "leave_at": 0.012192554380128895}, {"end": 600, "ordered": false, "fields": "bare"}]}'
    ),
    "a block that a scope around it cancels": (
        '{"seed": 25, "starts": [48352, 69868, 70307], "latency": 0.1, "concurrency": 1, "shuffle": 0.3, '
        '"uses": [{"end": 90000, "leave": "scope", "leave_at": 0.017942218376549225}]}'
    ),
    "a step of a follower that is cancelled in the pause": (
        '{"seed": 17, "starts": [6], "concurrency": 1, "uses": [{"kind": "follow", "leave": "anext", "leave_at": 371}]}'
    ),
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_given_a_schedule_that_was_found_when_it_runs_then_every_invariant_holds(text, noise):
    assert run(Schedule.from_json(text), noise).violations == []
