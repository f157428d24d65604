"""Runs one program and prints its figures as one JSON line: `python -m benchmarks.measure '{"program": ...}'`.

The process stays on one core. Imports happen before the clock starts. Stalls are measured only on request, because a task that
wakes a thousand times a second uses CPU itself.

A program is a module of `benchmarks.programs` with `run(job, probe)`, plain or async; it returns how many calls it got and
the sum of their ids. With `IN_CHILD`, it runs in a process of its own, and figures of the whole process are those of that one.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import os
import sys
import time
from pathlib import Path
from time import perf_counter, process_time, thread_time
from types import SimpleNamespace

try:
    import resource
except ImportError:  # Windows has no such module; CPU and wall clock are still measured
    resource = None


class Job(SimpleNamespace):
    """What a program is to do.

    Attributes:
        program: its module's name.
        base_url: up to `/rest/v1`; `url` has the whole path.
        start: the first second of the range, inclusive. `end`: the last, inclusive.
        concurrency: requests in flight, at most.
        page_size: rows a request; None lets the program choose.
        fields: the fields that iovox_async programs request, a name of `Fields`; the server always sends the same.
        folder: directory for programs that write files.
        core: the core to run on, or None.
        launched: when this process was started, as `time.time()`.
        watch: whether to measure stalls of the event loop.
    """

    page_size = None
    concurrency = 8
    fields = "DEFAULT"
    folder = None
    core = None
    watch = False

    @property
    def url(self) -> str:
        return f"{self.base_url}/calls/insights"

    def parameters(self, page: int = 1, limit: int | None = None) -> dict[str, str | int]:
        """The query of one page, as a careful user of the endpoint writes it."""
        return {
            "start_date": self.start,
            "end_date": self.end,
            "order": "call_start_ASC",
            "page": page,
            "limit": limit or self.rows,
        }

    @property
    def rows(self) -> int:
        """Rows a request, for programs that do not choose: the endpoint's default."""
        return self.page_size or 10_000


HEADERS = {"username": "bench", "secureKey": "bench-key"}


class Probe:
    """Records when a program received its first record."""

    def __init__(self) -> None:
        self.first_record: float | None = None
        self.started = 0.0

    def first(self) -> None:
        """The program has received its first record."""
        if self.first_record is None:
            self.first_record = perf_counter() - self.started


async def _watch(stalls: list[float]) -> None:
    """Sleep for a millisecond repeatedly; the excess is the time during which no other task could run either.

    The second figure is the most CPU that the loop's thread used between two wake-ups. Where it is far below the
    first, another process was using the core, and the first figure says little about the program.
    """
    while True:
        before, worked = perf_counter(), thread_time()
        await asyncio.sleep(0.001)
        stalls[0] = max(stalls[0], perf_counter() - before - 0.001)
        stalls[1] = max(stalls[1], thread_time() - worked)


async def _watched(run, job: Job, probe: Probe, stalls: list[float]):
    watcher = asyncio.create_task(_watch(stalls))
    await asyncio.sleep(0.01)  # excludes the start of the loop
    stalls[:] = [0.0, 0.0]
    probe.started = perf_counter()
    try:
        return await run(job, probe)
    finally:
        await asyncio.sleep(0)  # so that a stall in the last iteration is measured
        await asyncio.sleep(0.002)
        watcher.cancel()


def peak_megabytes() -> float:
    """Peak memory of this process, or of a larger one that it has run, in MB.

    `VmHWM` where the system has it: `ru_maxrss` of a child that was started by a larger process begins at that one's size.
    """
    held = _status("VmHWM") or 0.0
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        who = [resource.RUSAGE_CHILDREN, *([] if held else [resource.RUSAGE_SELF])]
        held = max(held, *(resource.getrusage(each).ru_maxrss * unit / 1e6 for each in who))
    return held


def _status(name: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _cpu(*, children: bool) -> float:
    if resource is None:
        return 0.0 if children else process_time()
    used = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _switches() -> int:
    """Involuntary context switches; many mean that the machine was busy with other work."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0


def main(text: str) -> None:
    job = Job(**json.loads(text))
    if job.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})
    began = perf_counter()
    program = importlib.import_module(f"benchmarks.programs.{job.program}")
    run, imported = program.run, perf_counter() - began
    gc.collect()
    base = peak_megabytes()
    watched = job.watch and inspect.iscoroutinefunction(run)
    switches = _switches()
    probe, stalls = Probe(), [0.0, 0.0]
    cpu, probe.started = _cpu(children=False), perf_counter()
    began = probe.started
    if not inspect.iscoroutinefunction(run):
        calls, checksum = run(job, probe)
    elif watched:
        calls, checksum = asyncio.run(_watched(run, job, probe, stalls))
    else:
        calls, checksum = asyncio.run(run(job, probe))
    wall = perf_counter() - began
    whole_wall = time.time() - job.launched
    own, child = _cpu(children=False), _cpu(children=True)
    in_child = getattr(program, "IN_CHILD", False)
    print(
        json.dumps(
            {
                "calls": calls,
                "checksum": checksum,
                "cpu": own - cpu + child,
                # This process only waits for a command that runs in a process of its own.
                "process_cpu": child if in_child else own + child,
                "wall": wall,
                "process_wall": wall if in_child else whole_wall,
                "peak_mb": peak_megabytes(),
                "base_mb": base,
                "import": imported,
                "first_record": probe.first_record,
                "stall_ms": stalls[0] * 1000 if watched else None,
                "stall_own_ms": stalls[1] * 1000 if watched else None,
                "switches": _switches() - switches,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
