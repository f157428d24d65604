"""What type checkers make of the package, seen from a stranger's program: the files in `tests/typing`, which never run."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "typing"
RIGHT = ("api.py", "arrow_api.py")
#: What the programs use, and what the package's own annotations name.
NEEDED = (
    "aiohttp",
    "dask",
    "dlt",
    "fastapi",
    "fsspec",
    "opentelemetry.metrics",
    "pyarrow",
    "rich_click",
    "uvicorn",
)

# pyarrow and fsspec are untyped: a program that uses them has to say so.
MYPY = """
[mypy]
strict = true
[mypy-pyarrow.*]
ignore_missing_imports = true
"""
PYRIGHT = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}


def installed(module):
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


missing = [module for module in NEEDED if not installed(module)]
pytestmark = [
    pytest.mark.skipif(
        bool(missing), reason=f"types are checked with all extras; missing: {', '.join(missing)}"
    ),
    pytest.mark.xdist_group("typing"),
]
pyright = pytest.mark.skipif(
    not installed("basedpyright"), reason='basedpyright is not installed: pip install "iovox-async[dev]"'
)


def run(module, *arguments, cwd):
    """What a checker prints, by this interpreter's eyes and in this interpreter's environment."""
    here = str(Path(sys.executable).parent)
    environ = {**os.environ, "PATH": os.pathsep.join((here, os.environ.get("PATH", "")))}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The files as a program of its own, away from the package and its settings."""
    folder = tmp_path_factory.mktemp("program")
    for file in PROGRAMS.glob("*.py"):
        shutil.copy(file, folder)
    (folder / "mypy.ini").write_text(MYPY)
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    return folder


@pytest.fixture(scope="module")
def mypy(program, pytestconfig):
    """What mypy --strict finds: (file, line, code, message)."""
    names = [file.name for file in program.glob("*.py")]
    # What it knows of the libraries stays from run to run; it is absent with `-p no:cacheprovider`.
    cache = getattr(pytestconfig, "cache", None)
    known = cache.mkdir("mypy") if cache else program / ".cache"
    printed = run("mypy", "--config-file=mypy.ini", "--cache-dir", known, "--no-pretty", *names, cwd=program)
    found = re.findall(r"^(.+?):(\d+): error: (.+)  \[([\w-]+)\]$", printed, re.MULTILINE)
    assert len(found) == printed.count(": error: "), printed
    return [(file, int(line), code, message) for file, line, message, code in found]


@pytest.fixture(scope="module")
def strict_pyright(program):
    """What pyright finds in its strict mode: (file, line, rule, message)."""
    printed = run("basedpyright", "--pythonpath", sys.executable, "--outputjson", cwd=program)
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one.get("rule"), one["message"])
        for one in json.loads(printed)["generalDiagnostics"]
        if one["severity"] != "information"
    ]


def marked():
    """The lines of `wrong.py` that are marked, with the code of each."""
    lines = (PROGRAMS / "wrong.py").read_text().splitlines()
    marks = ((number, re.search(r"# wrong: ([\w-]+)$", line)) for number, line in enumerate(lines, 1))
    return {number: mark[1] for number, mark in marks if mark}


def in_wrong(found):
    """What was found in `wrong.py`: the codes of each line."""
    lines = {}
    for file, line, code, _ in found:
        if file == "wrong.py":
            lines.setdefault(line, set()).add(code)
    return lines


def test_mypy_accepts_a_program_that_uses_all_that_is_public(mypy):
    """`mypy --strict` finds nothing in a program that uses the whole public surface."""
    assert [one for one in mypy if one[0] != "wrong.py"] == []


def test_mypy_refuses_each_wrong_line(mypy):
    """`mypy --strict` finds every wrong name, type and word with the code that is meant, and nothing else."""
    found = in_wrong(mypy)
    assert found.keys() == marked().keys()
    assert {line: code for line, code in marked().items() if code not in found[line]} == {}


@pyright
def test_pyright_accepts_a_program_that_uses_all_that_is_public(strict_pyright):
    """Pyright in its strict mode finds nothing in the same program."""
    assert [one for one in strict_pyright if one[0] != "wrong.py"] == []


@pyright
def test_pyright_refuses_each_wrong_line(strict_pyright):
    """Pyright finds every wrong line too, and nothing else."""
    assert in_wrong(strict_pyright).keys() == marked().keys()


@pyright
def test_every_public_name_has_a_type(tmp_path):
    """Pyright --verifytypes: every name that a program could import is annotated, and all checkers read it alike."""
    printed = run(
        "basedpyright", "--verifytypes=iovox_async", "--ignoreexternal", "--outputjson", cwd=tmp_path
    )
    report = json.loads(printed)["typeCompleteness"]
    partial = [
        f"{symbol['name']}: {'; '.join(one['message'] for one in symbol['diagnostics'])}"
        for symbol in report["symbols"]
        if symbol["isExported"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
    ]
    assert partial == []
    assert report["completenessScore"] == 1


def test_the_programs_use_every_public_name():
    """What is in `__all__` of the public modules is used by a program that is checked."""
    import iovox_async
    import iovox_async.backfill
    import iovox_async.events
    import iovox_async.integrations.aiohttp
    import iovox_async.integrations.fastapi
    import iovox_async.sandbox

    text = "".join((PROGRAMS / name).read_text() for name in RIGHT)
    used = set(re.findall(r"\w+", text))
    modules = (
        iovox_async,
        iovox_async.backfill,
        iovox_async.integrations.aiohttp,
        iovox_async.integrations.fastapi,
        iovox_async.events,
        iovox_async.sandbox,
    )
    # A session's own tool, which takes no part in a program.
    assert {name for module in modules for name in module.__all__} - used - {"Telemetry"} == set()
