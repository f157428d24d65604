"""A clock for tests that moves only when code sleeps on it."""

from random import Random

from iovox_async._runtime import Runtime


class Clock:
    """Monotonic seconds that advance only by `sleep`; `waits` lists the durations slept."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def fake_runtime(clock, *, sleep=None, **options):
    """Returns a `Runtime` on the fake clock with a fixed random seed."""
    return Runtime(clock=clock, sleep=sleep or clock.sleep, random=Random(7), **options)
