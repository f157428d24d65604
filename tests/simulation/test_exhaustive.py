"""Every schedule of a small pull within bounds keeps every invariant."""

import pytest

from .exhaustive import PULLS, SMALL_BOUNDS, search
from .reports import say


@pytest.mark.slow
def test_given_small_pulls_when_schedules_with_one_deviation_run_then_every_invariant_holds(noise):
    reports = [search(pull, noise, bounds=SMALL_BOUNDS) for pull in list(PULLS.values())[:3]]
    assert [report.failures for report in reports] == [[] for _ in reports]
    assert sum(report.number for report in reports) > 200


@pytest.mark.soak
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("name", PULLS)
def test_given_a_small_pull_when_every_schedule_within_the_bounds_runs_then_every_invariant_holds(
    name, noise
):
    report = search(PULLS[name], noise)
    say(f"{name}: {report}")
    assert report.failures == []
    assert report.complete
