"""Type checkers accept and refuse the right lines of programs that use the package: the files in `tests/typing`, which never run."""

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
#: Packages that the programs use or that the package's annotations name.
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
    pytest.mark.typing,
    pytest.mark.subprocess,
]
pyright = pytest.mark.skipif(
    not installed("basedpyright"), reason='basedpyright is not installed: pip install "iovox-async[dev]"'
)


def run(module, *arguments, cwd):
    """The output of a type checker, run with this interpreter and its environment."""
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
    """A copy of the files in a directory of its own, without the project's settings."""
    folder = tmp_path_factory.mktemp("program")
    for file in PROGRAMS.glob("*.py"):
        shutil.copy(file, folder)
    (folder / "mypy.ini").write_text(MYPY)
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    return folder


@pytest.fixture(scope="module")
def mypy(program, pytestconfig):
    """The findings of mypy --strict: (file, line, code, message)."""
    names = [file.name for file in program.glob("*.py")]
    # What it knows of the libraries stays from run to run; it is absent with `-p no:cacheprovider`.
    cache = getattr(pytestconfig, "cache", None)
    cache_directory = cache.mkdir("mypy") if cache else program / ".cache"
    printed = run(
        "mypy", "--config-file=mypy.ini", "--cache-dir", cache_directory, "--no-pretty", *names, cwd=program
    )
    errors = re.findall(r"^(.+?):(\d+): error: (.+)  \[([\w-]+)\]$", printed, re.MULTILINE)
    assert len(errors) == printed.count(": error: "), printed
    return [(file, int(line), code, message) for file, line, message, code in errors]


@pytest.fixture(scope="module")
def strict_pyright(program):
    """The findings of pyright in strict mode: (file, line, rule, message)."""
    printed = run("basedpyright", "--pythonpath", sys.executable, "--outputjson", cwd=program)
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one.get("rule"), one["message"])
        for one in json.loads(printed)["generalDiagnostics"]
        if one["severity"] != "information"
    ]


def marked():
    """The marked lines of `wrong.py`, each with its code."""
    lines = (PROGRAMS / "wrong.py").read_text().splitlines()
    marks = ((number, re.search(r"# wrong: ([\w-]+)$", line)) for number, line in enumerate(lines, 1))
    return {number: mark[1] for number, mark in marks if mark}


def in_wrong(errors):
    """The findings in `wrong.py`: the codes of each line."""
    lines = {}
    for file, line, code, _ in errors:
        if file == "wrong.py":
            lines.setdefault(line, set()).add(code)
    return lines


@pytest.mark.slow
def test_given_a_program_that_uses_the_public_surface_when_mypy_checks_it_then_nothing_is_found(mypy):
    """`mypy --strict` finds nothing in a program that uses the whole public surface."""
    assert [one for one in mypy if one[0] != "wrong.py"] == []


@pytest.mark.slow
def test_given_wrong_lines_when_mypy_checks_them_then_each_is_found_with_its_code(mypy):
    """`mypy --strict` finds every wrong name and type with the expected code, and nothing else."""
    errors = in_wrong(mypy)
    assert errors.keys() == marked().keys()
    assert {line: code for line, code in marked().items() if code not in errors[line]} == {}


@pytest.mark.slow
@pyright
def test_given_a_program_that_uses_the_public_surface_when_pyright_checks_it_then_nothing_is_found(
    strict_pyright,
):
    """Pyright in its strict mode finds nothing in the same program."""
    assert [one for one in strict_pyright if one[0] != "wrong.py"] == []


@pytest.mark.slow
@pyright
def test_given_wrong_lines_when_pyright_checks_them_then_each_is_found(strict_pyright):
    """Pyright finds every wrong line, and nothing else."""
    assert in_wrong(strict_pyright).keys() == marked().keys()


@pytest.mark.slow
@pyright
def test_given_the_installed_package_when_types_are_verified_then_every_public_name_is_annotated(tmp_path):
    """`pyright --verifytypes` reports 100 %."""
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


def test_given_the_public_names_when_the_programs_are_read_then_each_is_used():
    """Each name in `__all__` of a public module is used by a checked program."""
    import iovox_async
    import iovox_async.backfill
    import iovox_async.blocking
    import iovox_async.events
    import iovox_async.integrations.aiohttp
    import iovox_async.integrations.fastapi
    import iovox_async.integrations.starlette
    import iovox_async.sandbox

    text = "".join((PROGRAMS / name).read_text() for name in RIGHT)
    used = set(re.findall(r"\w+", text))
    modules = (
        iovox_async,
        iovox_async.backfill,
        iovox_async.blocking,
        iovox_async.integrations.aiohttp,
        iovox_async.integrations.fastapi,
        iovox_async.integrations.starlette,
        iovox_async.events,
        iovox_async.sandbox,
    )
    # A session's own tool, which takes no part in a program.
    assert {name for module in modules for name in module.__all__} - used - {"Telemetry"} == set()
