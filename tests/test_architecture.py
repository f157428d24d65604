"""The rooms: imports go down, each module states its law, none is too large, nothing optional is loaded."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import iovox_async

ROOT = Path(iovox_async.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
#: The table of `.github/CONTRIBUTING.md`; rooms of one level know nothing of each other unless named in one row.
LEVELS = {
    0: [["errors"]],
    1: [
        ["values", "fields", "dates", "query"],
        ["records", "convert", "rows", "structure"],
        ["wire", "messages"],
        ["observe"],
    ],
    2: [["plan"], ["pacing"], ["position"]],
    3: [
        [
            "settings",
            "failures",
            "http",
            "shelter",
            "pump",
            "reading",
            "reader",
            "arrow",
            "stream",
            "follow",
            "lookup",
            "session",
        ]
    ],
    4: [["sinks", "backfill"]],
    5: [["sandbox"]],
    6: [["cli", "integrations"], ["pytest_plugin"]],
}
PLACE = {
    room: (level, row) for level, rows in LEVELS.items() for row, group in enumerate(rows) for room in group
}
OPTIONAL = [
    "aiohttp",
    "click",
    "dask",
    "distributed",
    "dlt",
    "duckdb",
    "fastapi",
    "fsspec",
    "httpx_aiohttp",
    "opentelemetry",
    "pandas",
    "polars",
    "pyarrow",
    "rich",
    "rich_click",
    "starlette",
    "uvicorn",
    "pytest",
]


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports_of(path):
    """The rooms that a module imports when it is loaded (imports inside functions are the doors' way to be lazy)."""
    package = ["iovox_async", *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            names = [base[1]] if len(base) > 1 else [alias.name for alias in node.names]
            yield from names
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("iovox_async."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    """A room knows those below it, and those of its own row; nothing else."""
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    level, row = PLACE[room]
    for other in imports_of(path):
        if other == room or other not in PLACE:
            continue
        below, other_row = PLACE[other]
        assert (below, other_row) == (level, row) or below < level, f"{room} imports {other}"


def test_the_table_for_contributors_names_every_room_at_its_level():
    """A room that nobody is told of is not found."""
    table = (ROOT.parent / ".github" / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.+?) \|", table, re.MULTILINE)
    told = {name: int(level) for level, names in rows for name in re.findall(r"`(\w+)/?`", names)}
    assert told == {room: level for room, (level, _) in PLACE.items()}
    assert told.keys() == {room_of(path) for path in MODULES} - {"__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_its_law_and_stays_within_400_lines(path):
    """A docstring of one law a module; a module beyond 400 lines is two."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 400


def test_importing_the_package_loads_nothing_optional():
    """`import iovox_async` needs the core's packages only."""

    def loaded(packages):
        code = f"import sys, {packages}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    # httpx itself loads click and rich where they are installed.
    assert not set(OPTIONAL) & (loaded("iovox_async") - loaded("httpx"))


def test_only_the_http_room_knows_httpx_and_only_structure_knows_cattrs():
    """A change of engine costs one file."""
    allowed = {
        "httpx": {"failures", "http", "session", "integrations", "cli", "pytest_plugin"},
        "cattrs": {"convert", "structure"},
        "tenacity": {"pacing"},
        "zlib": {"wire", "sandbox"},
        "aiohttp": {"integrations"},
        "httpx_aiohttp": set(),
    }
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                rooms = allowed.get(name.split(".")[0])
                assert rooms is None or room_of(path) in rooms, f"{path.name} imports {name}"
