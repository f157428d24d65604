"""How the traffic of an account is measured."""

from __future__ import annotations

import random

import pytest
from support.model_server import at
from support.traffic import DAY, bursty, daily, smooth

from iovox_async._paging.traffic import Traffic


@pytest.mark.parametrize(("pattern", "least", "most"), [(smooth, 0.5, 2), (daily, 0.5, 3), (bursty, 10, 200)])
def test_calls_in_bursts_vary_more_than_by_chance(pattern, least: float, most: float):
    """Given some days of calls, then the calls of an hour vary as by chance, unless they come in bursts."""
    traffic = Traffic()
    starts = sorted(map(at, pattern(random.Random(1), 6_000, 10)))
    traffic.add(at(0), at(10 * DAY), starts)
    assert traffic.dispersion is not None
    assert least <= traffic.dispersion <= most


def test_a_day_does_not_show_how_much_calls_vary():
    """Given each hour of the day once, then it is unknown how much its calls vary; half a day later it is known."""
    traffic = Traffic()
    starts = sorted(map(at, smooth(random.Random(1), 1_000, 1)))
    traffic.add(at(0), at(DAY), starts)
    assert traffic.dispersion is None
    traffic.add(at(DAY), at(1.5 * DAY), [])
    assert traffic.dispersion is not None
