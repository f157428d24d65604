"""What the tests of the simulation share: the patches of a run."""

import pytest

from .patches import patched


@pytest.fixture
def noise():
    """Patches threads, warnings and address-dependent orders, and hears what is complained of."""
    with patched() as heard:
        yield heard
