"""A clock for tests that moves only when somebody waits for it."""


class Clock:
    """Time that passes only when somebody waits for it."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
