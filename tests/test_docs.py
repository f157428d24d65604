"""README and guides: their programs run, the tests and files they name exist, and each command is described."""

import inspect
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.api_reference import PAGE, render

import iovox_async
from iovox_async import AsyncInsights, Field, errors
from iovox_async.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
#: The installed package, which need not be that of the checkout.
PACKAGE = Path(iovox_async.__file__).parent
GUIDES = sorted((PACKAGE / "docs").glob("*.md"))
PAGES = [README, *GUIDES]
TEXT = {"README.md": README.read_text()} | {
    f"iovox_async/docs/{page.name}": page.read_text() for page in GUIDES
}
CONFIGURATION = re.search(r"```toml\n(.*?)```", TEXT["iovox_async/docs/testing.md"], re.DOTALL)[1]
PROGRAMS = [
    pytest.param(program, id=f"{Path(name).name} block {number}")
    for name, text in TEXT.items()
    for number, program in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1)
]


@pytest.fixture(scope="module")
def sandbox_url():
    """The address of a sandbox that serves programs in other processes."""
    import asyncio

    sandbox = Sandbox(calls=3_000, start="2024-01-01", end="2024-03-31")
    ready, done, address = threading.Event(), threading.Event(), []

    async def serve():
        async with sandbox.serve() as base_url:
            address.append(base_url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    yield address[0]
    done.set()
    thread.join()


@pytest.mark.sweep(7)
@pytest.mark.subprocess
@pytest.mark.parametrize("program", PROGRAMS)
def test_given_a_python_block_when_run_as_it_stands_then_it_succeeds_and_warns_of_nothing(
    program, sandbox_url, tmp_path
):
    """Each block is saved to a file and run with only the three variables set; blocks of tests run under pytest."""
    if "fastapi.sse" in program:
        pytest.importorskip("fastapi.sse", reason="FastAPI has its own response from 0.135 on")
    file = tmp_path / ("test_block.py" if "def test_" in program else "block.py")
    file.write_text(program)
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION)
    runner = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in program else []
    environment = {
        "IOVOX_USERNAME": "demo",
        "IOVOX_SECURE_KEY": "demo-key",
        "IOVOX_URL": sandbox_url,
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(tmp_path),
        # dlt keeps its state for each machine otherwise, and an interrupted run would be continued.
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, *runner, str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", TEXT)
def test_given_a_block_that_needs_another_program_when_compiled_then_its_syntax_is_right(name):
    """Blocks with a title are files for programs that are not installed here, such as Airflow."""
    for block in re.findall(r"```python title=.*?\n(.*?)```", TEXT[name], re.DOTALL):
        compile(block, name, "exec")


@pytest.mark.parametrize("name", TEXT)
def test_given_a_page_when_it_names_a_test_then_the_test_exists(name):
    """A promise names the test that checks it."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT[name])
    if name == "README.md":
        assert named
    for file, test in named:
        text = (ROOT / file).read_text()
        assert not test or re.search(rf"def {test}\b", text), f"{file}::{test}"


@pytest.mark.parametrize("name", TEXT)
def test_given_a_page_when_it_links_to_a_file_then_the_file_exists(name):
    """Links within the repository lead to something."""
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", TEXT[name]):
        path = os.path.normpath(Path(name).parent / target)
        assert Path(path).as_posix() in TEXT or (ROOT / path).exists(), target


def test_given_the_readme_when_read_then_it_fits_two_screens_and_links_every_guide():
    """The README has at most 120 lines; each guide is one click away."""
    readme = TEXT["README.md"]
    assert len(readme.splitlines()) <= 120
    missing = [name for name in TEXT if name != "README.md" and f"({name})" not in readme]
    assert missing == []


def test_given_the_commands_of_iovox_when_the_guides_are_read_then_each_is_described():
    """Each command appears in the guide to the terminal."""
    from iovox_async.cli.app import iovox

    missing = [name for name in iovox.commands if f"iovox {name}" not in TEXT["iovox_async/docs/terminal.md"]]
    assert missing == []


def test_given_the_api_reference_when_written_again_then_it_is_the_same():
    """Given the docstrings, when the reference is generated, then it equals the file."""
    assert PAGE.read_text() == render(), "run: PYTHONPATH=tests python -m support.api_reference --write"


def test_given_the_guide_to_errors_when_read_then_each_class_has_its_cause_and_remedy():
    """Given the error classes, when the table of the guide is read, then it has a row for each but the base."""
    rows = re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", TEXT["iovox_async/docs/errors.md"], re.MULTILINE)
    assert sorted(rows) == sorted(set(errors.__all__) - {"IovoxError"})


def test_given_the_settings_when_compared_with_the_client_and_the_command_then_none_is_missing():
    """Given arguments, variables, options and profile entries, when the guide is read, then it names each."""
    from iovox_async._profiles import ENTRIES
    from iovox_async.cli.app import load_command

    text = TEXT["iovox_async/docs/settings.md"]
    arguments = set(inspect.signature(AsyncInsights).parameters)
    variables = {str(option.envvar) for option in load_command("calls").params if option.envvar}
    assert [name for name in (*arguments, *variables, *ENTRIES) if f"`{name}`" not in text] == []


def test_given_the_glossary_when_compared_with_the_fields_then_it_describes_each_under_its_path():
    """Given the 56 fields, when the glossary is read, then each has a row with the path that `iovox fields` shows."""
    from iovox_async.cli.commands.fields import locate_field

    rows = dict(
        re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", TEXT["iovox_async/docs/glossary.md"], re.MULTILINE)
    )
    paths = {str(field): locate_field(field)[0] for field in Field}
    lists = {"call_outcomes", "keyword_rules", "transcription_phrases"}
    assert {name: path.removesuffix("[]") for name, path in rows.items()} == paths
    assert {name for name, path in rows.items() if path.endswith("[]")} == lists


def test_given_the_schema_when_the_guide_to_tables_is_read_then_each_column_is_described():
    """Each column, and each member of a nested one, has its name in the guide."""
    from iovox_async.arrow import SCHEMA

    def names(types):
        for member in types:
            yield member.name
            inner = getattr(member.type, "value_type", member.type)
            yield from names(inner) if hasattr(inner, "num_fields") and inner.num_fields else ()

    text = TEXT["iovox_async/docs/tables.md"]
    assert [name for name in names(SCHEMA) if f"`{name}`" not in text] == []


def test_given_the_version_of_the_package_when_the_changelog_is_read_then_it_describes_it():
    """What is released is described."""
    from iovox_async import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_given_all_texts_when_searched_then_nothing_is_left_of_the_former_dialect():
    """The words that 0.1 used for modules are gone from code, tests, README and notes."""
    files = [
        *PAGES,
        *PACKAGE.rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / ".github").rglob("*.md"),
    ]
    # Written in two parts, so that this file does not contain what it searches for.
    pattern = re.compile("law" + " of|" + r"\bro" + "om", re.IGNORECASE)
    assert [str(file) for file in files if pattern.search(file.read_text())] == []
