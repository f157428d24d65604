"""Mistakes that are planted in the package are found."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .mutations import MUTATIONS
from .planting import changed_source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MUTATIONS)
def test_given_a_planted_mistake_when_it_is_applied_then_the_module_still_compiles(name):
    mutation = MUTATIONS[name]
    spec = importlib.util.find_spec(mutation.module)
    source = Path(spec.origin).read_text(encoding="utf-8")
    changed = changed_source(mutation, source)
    assert changed != source
    compile(changed, spec.origin, "exec")


#: Schedules in which a mistake must be found: less than a minute of one core.
SCHEDULES = 4_000


@pytest.mark.soak
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", MUTATIONS)
def test_given_a_planted_mistake_when_seeds_run_then_it_is_found(name):
    limits = ["--number", str(SCHEDULES), "--seconds", "1200", "--first", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--mutation", name, *limits],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
