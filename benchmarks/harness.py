"""Starts the server, runs the programs in turn, and compares their figures.

Invariants:
- Programs of one comparison alternate against the same server. Ratios are computed within a round, then their median is taken.
- A run that did not receive every call exactly once is an error, never a figure.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

from .programs import PROGRAMS, Program

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
RESULTS_FILE = "results.json"
PACKAGES = ("iovox-async", "httpx", "aiohttp", "cattrs", "msgspec", "httpx2", "pyarrow", "pandas", "dlt")
MEASURES = (
    *(
        "cpu_us",
        "cpu",
        "process_cpu",
        "wall",
        "process_wall",
        "first_record",
        "peak_mb",
        "base_mb",
        "stall_ms",
        "stall_own_ms",
        "switches",
    ),
    *("requests", "skipped", "bytes", "files", "file_bytes"),
)

Run = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the command line may change for every benchmark."""

    runs: int = 5
    calls: int = 300_000
    latency: float = 0.1
    concurrency: int = 8
    smoke: bool = False
    only: frozenset[str] = frozenset()  # names of programs; empty means all
    results: Path | None = RESULTS  # None writes nothing


class Goal(NamedTuple):
    """A goal: `measure` of program `ours` is at most `most` times that of `peer`."""

    ours: str
    peer: str
    measure: str
    most: float


@dataclass
class Comparison:
    """All runs of one benchmark, round by round."""

    title: str
    setting: dict[str, Any]
    rounds: list[dict[str, Run]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for runs in self.rounds for name in runs))

    def values(self, name: str, measure: str) -> list[float]:
        runs = (one[name].get(measure) for one in self.rounds if name in one)
        return [value for value in runs if value is not None]

    def median(self, name: str, measure: str) -> float | None:
        values = self.values(name, measure)
        return median(values) if values else None

    def ratio(self, ours: str, peer: str, measure: str) -> float | None:
        """The median over rounds of the ratio within a round, so that a slow minute affects both programs."""
        pairs = [
            (one[ours].get(measure), one[peer].get(measure))
            for one in self.rounds
            if ours in one and peer in one
        ]
        ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        return median(ratios) if ratios else None

    def judged(self, goals: tuple[Goal, ...]) -> list[dict[str, Any]]:
        judged = []
        for goal in goals:
            ratio = self.ratio(goal.ours, goal.peer, goal.measure)
            if ratio is None:
                continue
            result = {**goal._asdict(), "ratio": ratio, "met": ratio <= goal.most}
            if goal.measure == "first_record" and self.setting["latency"]:
                # The least that any client can reach.
                result["latency_alone"] = self.setting["latency"] / self.median(goal.peer, goal.measure)
            judged.append(result)
        return judged

    def to_dict(self, goals: tuple[Goal, ...] = ()) -> dict[str, Any]:
        medians = {
            name: {
                measure: value for measure in MEASURES if (value := self.median(name, measure)) is not None
            }
            for name in self.names
        }
        return {
            "title": self.title,
            "setting": self.setting,
            "labels": {name: PROGRAMS[name].label for name in self.names},
            "medians": medians,
            "goals": self.judged(goals),
            "rounds": self.rounds,
        }


class ProgramError(RuntimeError):
    """A program failed, or did not receive every call exactly once."""


class Server:
    """The server process.

    Attributes:
        facts: what calls it serves.
        folder: for the files of the programs. They are kept until the server ends: for half a minute after files were deleted,
            ext4 takes longer to create others, so a program would pay for the files of the runs before it.
    """

    def __init__(self, process: subprocess.Popen[str], facts: dict[str, Any], folder: str) -> None:
        self._process = process
        self.facts = facts
        self.folder = folder
        self.origin = f"http://127.0.0.1:{facts['port']}"

    def request(self, path: str, **settings: Any) -> dict[str, Any]:
        with urlopen(f"{self.origin}/{path}?{urlencode(settings)}", timeout=10) as response:
            return json.load(response)


@contextmanager
def server(calls: int, *, shape: str = "daily", kind: str = "default") -> Iterator[Server]:
    """Run the server on a core of its own until the block ends."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.server",
        "--calls",
        str(calls),
        "--shape",
        shape,
        "--kind",
        kind,
    ]
    if (core := _cores()[1]) is not None:
        command += ["--core", str(core)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        try:
            line = process.stdout.readline()
            if not line:
                raise ProgramError(f"the benchmark server did not start (exit code {process.wait()})")
            yield Server(process, json.loads(line), folder)
        finally:
            process.terminate()
            process.wait(timeout=30)


def run(
    service: Server, program: Program, *, settings: dict[str, Any], watch: bool = False, **job: Any
) -> Run:
    """Run one program once in a fresh process; its figures and those that the server counted."""
    facts = service.facts
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=service.folder)) if program.writes else None
    order = {
        "program": program.name,
        "base_url": f"{service.origin}/rest/v1",
        "start": facts["start"],
        "end": facts["end"],
        "core": _cores()[0],
        "watch": watch,
        "folder": folder and str(folder),
        **job,
    }
    service.request("reset", **settings)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure", json.dumps(order | {"launched": time.time()})],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise ProgramError(f"{program.name} failed:\n{done.stderr[-4000:]}")
    figures: Run = json.loads(done.stdout.splitlines()[-1])
    if folder is not None:
        figures |= count_files(folder)
    stats = service.request("stats")
    figures |= {name: stats[name] for name in ("requests", "rows", "bytes", "skipped", "max_in_flight")}
    whole = program.name != "httpx_page"
    if whole and (figures["calls"], figures["checksum"]) != (facts["calls"], facts["checksum"]):
        raise ProgramError(
            f"{program.name} received {figures['calls']} calls of {facts['calls']}, or the wrong ones"
        )
    figures["cpu_us"] = figures["cpu"] / max(1, figures["calls"]) * 1e6
    return figures


def count_files(folder: Path) -> Run:
    """The calls in the Parquet files below `folder`, and the sum of their ids and bytes."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    # dlt stores its own state beside the data, in directories with these prefixes.
    names = [
        path
        for path in sorted(folder.rglob("*.parquet"))
        if not any(part.startswith(("_dlt", "pipelines")) for part in path.relative_to(folder).parts)
    ]
    # Each file is opened alone: a path such as day=2024-01-01 would otherwise add a column.
    columns = [pq.ParquetFile(name).read(columns=["id"])["id"] for name in names]
    return {
        "calls": sum(map(len, columns)),
        "checksum": sum(pc.sum(column).as_py() or 0 for column in columns),
        "file_bytes": sum(name.stat().st_size for name in names),
        "files": len(names),
    }


def compare(
    service: Server,
    title: str,
    names: tuple[str, ...],
    options: Options,
    *,
    settings: dict[str, Any],
    watch: bool = True,
    jobs: dict[str, dict[str, Any]] | None = None,
) -> Comparison:
    """Run all programs in `options.runs` rounds, alternating the order from round to round.

    A round runs every program once for its cost and, with `watch`, the asynchronous ones once more to measure stalls.
    """
    setting = {
        "calls": service.facts["calls"],
        "start": service.facts["start"],
        "end": service.facts["end"],
        "runs": options.runs,
        "concurrency": options.concurrency,
        **settings,
    }
    comparison = Comparison(title, setting)
    programs = present(names, options)
    for number in range(options.runs):
        figures: dict[str, Run] = {}
        for program in programs if number % 2 == 0 else programs[::-1]:
            job = {"concurrency": options.concurrency} | (jobs or {}).get(program.name, {})
            figures[program.name] = run(
                service, program, settings=settings, watch=watch and options.smoke, **job
            )
            if watch and not options.smoke:  # a smoke run reports no cost, so one run is enough
                seen = run(service, program, settings=settings, watch=True, **job)
                figures[program.name] |= {measure: seen[measure] for measure in ("stall_ms", "stall_own_ms")}
        comparison.rounds.append({program.name: figures[program.name] for program in programs})
    return comparison


_reported: set[str] = set()


def present(names: tuple[str, ...], options: Options) -> list[Program]:
    """The programs that can run here; prints one line, once, for each that cannot."""
    programs = []
    for name in names:
        program = PROGRAMS[name]
        if options.only and name not in options.only:
            continue
        if missing := program.missing():
            if name not in _reported:
                print(f"left out: {program.label} (not installed: {', '.join(missing)})")
            _reported.add(name)
        else:
            programs.append(program)
    return programs


def read_results(folder: Path = RESULTS) -> dict[str, Any]:
    """The results of every benchmark that was run, by its name."""
    file = folder / RESULTS_FILE
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return results


def keep(name: str, result: dict[str, Any], options: Options) -> None:
    """Put the result of a benchmark into the file of results, with a description of the machine."""
    if options.results is None:
        return
    options.results.mkdir(parents=True, exist_ok=True)
    results = {**read_results(options.results), name: {"machine": machine(), **result}}
    (options.results / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Versions and hardware that the figures depend on; no host names."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": {"client": _cores()[0], "server": _cores()[1]},
        "packages": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> tuple[int | None, int | None]:
    """The cores of client and server; None where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def environment() -> dict[str, str]:
    """The environment of a measured process."""
    # Neither the user's settings nor coverage may affect the programs.
    dropped = ("IOVOX_", "PYTHON", "COV_", "COVERAGE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    return kept | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
