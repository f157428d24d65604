"""The structure of the package: import contracts, module docstrings, module sizes, and what an import loads."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from importlinter.cli import lint_imports_command

import iovox_async

ROOT = Path(iovox_async.__file__).parent
PROJECT = Path(__file__).parents[1]
MODULES = sorted(ROOT.rglob("*.py"))
CLIENT = "from iovox_async import AsyncInsights, Call, InsightsQuery"
OPTIONAL = {
    "aiohttp",
    "click",
    "dask",
    "distributed",
    "dlt",
    "duckdb",
    "fastapi",
    "fsspec",
    "httpx_aiohttp",
    "numpy",
    "opentelemetry",
    "pandas",
    "polars",
    "pyarrow",
    "pytest",
    "rich",
    "rich_click",
    "starlette",
    "uvicorn",
}


def loaded_by(statement):
    """The top-level packages that a fresh interpreter has loaded after this statement."""
    return {name.partition(".")[0] for name in modules_loaded_by(statement)}


def test_given_the_import_contracts_when_linted_then_all_are_kept(monkeypatch):
    """Imports only go down, and each outside library is imported only by the modules that may."""
    monkeypatch.chdir(PROJECT)
    result = CliRunner().invoke(lint_imports_command, ["--no-cache"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_module_when_read_then_it_has_a_docstring_and_at_most_400_lines(path):
    """A module without a docstring explains nothing; a longer one is two modules."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 400


def test_given_the_tree_in_contributing_when_compared_then_it_names_every_module_and_folder():
    """A module that the map leaves out is not found."""
    text = (PROJECT / ".github" / "CONTRIBUTING.md").read_text()
    listed = set(re.findall(r"[\w]+", text))
    top = {path.stem for path in ROOT.glob("*.py")} | {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert top - {"__init__", "__pycache__"} <= listed


@pytest.mark.subprocess
def test_given_a_fresh_interpreter_when_the_package_is_imported_then_nothing_optional_is_loaded():
    """`import iovox_async` needs the core dependencies only."""
    # httpx itself loads click and rich where they are installed.
    assert not OPTIONAL & (loaded_by(CLIENT) - loaded_by("import httpx"))


@pytest.mark.subprocess
def test_given_a_fresh_interpreter_when_the_client_is_imported_then_nothing_that_only_some_calls_need_is_loaded():
    """The import is a part of every short program, so each name of this list has a call that imports it."""
    modules = modules_loaded_by(CLIENT)
    seldom = [
        "arrow",
        "backfill",
        "blocking",
        "cli",
        "integrations",
        "sandbox",
        "pytest_plugin",
        "_pydantic",
        "_encoding",
    ]
    assert not modules & {f"iovox_async.{name}" for name in seldom}
    assert not modules & {"httpx2", "httpcore2"}


@pytest.mark.subprocess
def test_given_a_fresh_interpreter_when_the_help_is_printed_then_neither_the_client_nor_rich_is_loaded():
    """`iovox --help` needs the root command only: a module of `cli` that it imports must not import these at its top."""
    run = (
        "import contextlib, io, runpy; sys.argv = ['iovox', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    runpy.run_module('iovox_async.cli', run_name='__main__')\n"
    )
    modules = modules_loaded_by(run)
    assert "iovox_async.cli.app" in modules
    assert not modules & {
        "anyio",
        "asyncio",
        "attrs",
        "cattrs",
        "httpx",
        "msgspec",
        "rich.console",
        "pyarrow",
    }
    assert not modules & {
        "iovox_async.client",
        "iovox_async.query",
        "iovox_async.models",
        "iovox_async.fields",
    }


@pytest.mark.slow
@pytest.mark.subprocess
def test_given_a_fresh_interpreter_when_a_backfill_is_prepared_then_neither_cattrs_nor_tenacity_is_loaded():
    """Arrow batches and first attempts need neither; the import of the public client loads them, so that no loop has to."""
    backfill = "import iovox_async.client, iovox_async.backfill, iovox_async.arrow._batches"
    assert not modules_loaded_by(backfill) & {"cattrs", "tenacity"}
    assert {"cattrs", "tenacity"} <= modules_loaded_by(CLIENT)


@functools.cache
def modules_loaded_by(program):
    """The modules that a fresh interpreter has loaded after this program."""
    code = f"import sys\n{program}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
