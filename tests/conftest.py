"""Fixtures of all tests: a clean environment, and sessions whose retries take no time."""

import gc
import logging
import os

import hypothesis
import pytest
from support.clock import Clock, fake_runtime
from support.faults import engine_options, nothing_left

from iovox_async import AsyncInsights
from iovox_async._runtime import use_runtime

hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

BASE = "https://rest.iovox.test/rest/v1"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a test with the mark `sweep(n)`, the default run takes every n-th case; the others are slow.

    It is a wrapper, so that the cases are counted before a plugin shuffles them, and are the same ones in each run.
    """
    cases = {}
    for item in items:
        if sweep := item.get_closest_marker("sweep"):
            name = item.nodeid.partition("[")[0]
            number = cases[name] = cases.get(name, -1) + 1
            if number % sweep.args[0]:
                item.add_marker(pytest.mark.slow)
    return (yield)


def pytest_collection_finish(session):
    """Collected tests and imported modules stay to the end: no garbage collection has to go through them again."""
    gc.collect()
    gc.freeze()
    # By default, a tenth of the time of all tests goes into searches for garbage, most of which find none.
    gc.set_threshold(10_000)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("IOVOX_", "SSL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _restored_log_settings():
    names = ("iovox_async", "uvicorn", "uvicorn.access", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    # A library that configures logging while it is imported may have disabled ours.
    loggers[0].disabled = False
    for logger in loggers[1:]:
        # A server of another test may have configured it to log every request.
        logger.setLevel(logging.WARNING)
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
def logs():
    """The records of all loggers at all levels, as text with all attributes."""
    lines = []

    class Everything(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.name} {record.levelname} {self.format(record)} {record.__dict__!r}")

    root, handler = logging.getLogger(), Everything(level=0)
    all_loggers = [root, *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    levels = [(logger, logger.level) for logger in all_loggers]
    for logger in all_loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield lines
    root.removeHandler(handler)
    for logger, level in levels:
        logger.setLevel(level)


@pytest.fixture
async def nothing_is_left():
    """Checks that the test leaves no task, socket or file open."""
    async with nothing_left():
        yield


@pytest.fixture
def clock():
    """Time that passes only when somebody waits for it."""
    return Clock()


@pytest.fixture
def engine():
    """The HTTP library of `open_session`; a test that is marked `every_engine` runs with the others too."""
    return "httpx"


@pytest.fixture
def open_session(clock, engine):
    """Returns a function that makes sessions whose retries wait on the fake clock; `sleep=` and `utcnow=` replace its own."""

    def make(base_url=BASE, *, sleep=clock.sleep, utcnow=None, **options):
        options = {"username": "demo", "secure_key": "demo-key", **options}
        if not options.keys() & {"transport", "engine"}:
            options |= engine_options(engine, options.pop("verify", None))
        times = {} if utcnow is None else {"utcnow": utcnow}
        with use_runtime(fake_runtime(clock, sleep=sleep, **times)):
            return AsyncInsights(base_url=base_url, **options)

    return make
