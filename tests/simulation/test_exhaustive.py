"""Every schedule of a small pull within bounds keeps every invariant."""

import pytest

from .exhaustive import PULLS, QUICK_PULLS, search
from .reports import say


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow, pytest.mark.soak][name not in QUICK_PULLS])
        for name in PULLS
    ],
)
def test_given_a_small_pull_when_every_schedule_within_the_bounds_runs_then_every_invariant_holds(
    name, noise
):
    report = search(PULLS[name], noise)
    say(f"{name}: {report}")
    assert report.failures == []
    assert report.complete
    assert report.number > 1_000
