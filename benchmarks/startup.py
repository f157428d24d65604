"""CPU time to import the package and to start the command, beside what they cannot do without."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any, NamedTuple

from .harness import ROOT, Options, environment, keep

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None

#: The direct dependencies, and what they import at their first use in any program that sends a request: httpx its connection
#: pool, and anyio its functions for asyncio. So both sides import the same packages, whatever else is installed (httpcore
#: imports trio where it finds it, and tenacity imports tornado).
DEPENDENCIES = (
    "import anyio, anyio._backends._asyncio, attrs, cattrs, httpcore, httpx, msgspec, sniffio, tenacity"
)


class Pair(NamedTuple):
    """Two commands, and the ratio of their CPU time that is allowed."""

    title: str
    ours: tuple[str, ...]
    peer: tuple[str, ...]
    peer_title: str
    most: float


PAIRS = (
    Pair(
        "import",
        ("-c", "from iovox_async import AsyncInsights"),
        ("-c", DEPENDENCIES),
        "importing its dependencies",
        1.2,
    ),
    Pair(
        "iovox --help",
        ("-m", "iovox_async.cli", "--help"),
        ("-c", "import rich_click"),
        "import rich_click",
        1.6,
    ),
    Pair(
        "iovox --help, beside click",
        ("-m", "iovox_async.cli", "--help"),
        ("-c", "import click"),
        "import click",
        2.5,
    ),
)


def run(options: Options) -> list[dict[str, Any]]:
    if resource is None:
        print("left out: CPU time of processes cannot be measured here")
        return []
    results = []
    for pair in PAIRS:
        rounds = [(_cpu(pair.ours), _cpu(pair.peer)) for _ in range(1 if options.smoke else 3 * options.runs)]
        ours, peer = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(mine / theirs for mine, theirs in rounds)
        word = "met" if ratio <= pair.most else "MISSED"
        print(
            f"{word:>6}  {pair.title}: {ours * 1000:.0f} ms of CPU, {ratio:.2f} of {peer * 1000:.0f} ms "
            f"(goal: at most {pair.most:g})"
        )
        results.append(
            {
                "title": pair.title,
                "ours": ours,
                "peer": peer,
                "ratio": ratio,
                "goal": pair.most,
                "rounds": rounds,
            }
        )
    keep("startup", {"pairs": results}, options)
    return results


def _cpu(words: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
