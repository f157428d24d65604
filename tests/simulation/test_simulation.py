"""Every seed keeps every invariant."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from . import reports
from .runner import run
from .schedule import FAULTS, LEAVES, LEAVES_BETWEEN, MOTIONS, SWAP, Schedule, Use
from .shrink import shrink

ROOT = Path(__file__).parents[2]
#: How many seeds a test runs.
CHUNK = 50
#: The random part starts here; printed by a failing test.
RANDOM = random.SystemRandom().randrange(1_000_000, 1_000_000_000)


def violations(first, number, noise):
    """Runs seeds, and describes the first violation."""
    for seed in range(first, first + number):
        schedule = Schedule.draw(seed)
        for violation in run(schedule, noise).violations:
            return reports.failure(schedule, violation, noise)
    return None


@pytest.mark.sweep(4)
@pytest.mark.parametrize("first", range(0, 4 * CHUNK, CHUNK))
def test_given_fixed_seeds_when_they_run_then_every_invariant_holds(first, noise):
    assert violations(first, CHUNK, noise) is None


@pytest.mark.soak
def test_given_a_random_seed_when_it_and_those_after_it_run_then_every_invariant_holds(noise):
    reports.say(f"seeds from {RANDOM} on: python -m tests.simulation --first {RANDOM}")
    assert violations(RANDOM, CHUNK, noise) is None


def test_given_a_seed_when_it_runs_twice_then_the_same_happens(noise):
    for seed in range(15):
        assert run(Schedule.draw(seed), noise).print == run(Schedule.draw(seed), noise).print


@pytest.mark.slow
def test_given_another_process_and_hash_seed_when_a_seed_runs_then_the_same_happens():
    program = (
        "from tests.simulation.patches import patched\n"
        "from tests.simulation.runner import run\n"
        "from tests.simulation.schedule import Schedule\n"
        "with patched() as noise:\n"
        "    print([run(Schedule.draw(seed), noise).print for seed in range(10)])\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]


def test_given_a_schedule_when_it_is_written_and_read_then_it_is_the_same():
    for seed in range(200):
        schedule = Schedule.draw(seed)
        assert Schedule.from_json(schedule.to_json()) == schedule


def test_given_many_seeds_when_they_are_drawn_then_every_fault_leave_and_motion_occurs():
    schedules = [Schedule.draw(seed) for seed in range(3000)]
    assert {fault for one in schedules for fault in one.faults.values()} == set(FAULTS)
    assert {motion for one in schedules for motion in one.motions} == {*MOTIONS, SWAP}
    assert {use.leave for one in schedules for use in one.uses} == {*LEAVES, *LEAVES_BETWEEN}
    assert {use.kind for one in schedules for use in one.uses} == {
        "stream",
        "page",
        "get",
        "follow",
        "backfill",
    }
    assert {use.mode for one in schedules for use in one.uses} == {"records", "pages", "arrow"}


def test_given_a_failing_schedule_when_it_is_shrunk_then_it_is_smaller_and_fails_alike(noise, monkeypatch):
    # A planted mistake: calls of one second are not sorted.
    monkeypatch.setattr("iovox_async._paging.order.sorted", lambda items, **_: list(items), raising=False)
    schedule = Schedule(
        seed=5,
        starts=[float(second // 5) for second in range(30)],
        latency=1.0,
        shuffle=1.0,
        faults={3: "500"},
        motion=4,
        motions=["insert"],
        uses=[Use(end=40), Use(end=3, mode="arrow")],
    )
    smaller = shrink(schedule, "order", noise)
    assert any(violation.kind == "order" for violation in run(smaller, noise).violations)
    assert len(smaller.starts) <= 4
    assert len(smaller.uses) == 1
    assert not smaller.faults
    assert not smaller.shuffle


def test_given_a_seed_when_it_is_replayed_then_the_trace_shows_requests_responses_and_steps(capsys):
    assert reports.one(6) == 0
    said = capsys.readouterr().out
    assert "request   #0" in said
    assert "response  #0" in said
    assert "step" in said
