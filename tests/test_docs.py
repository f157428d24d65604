"""The README: its programs run, its commands exist, its tests are there."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iovox_async.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGURATION = re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def service():
    """The sandbox, served to programs that know nothing of it."""
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


@pytest.mark.parametrize("program", PROGRAMS, ids=[f"block {n}" for n in range(1, len(PROGRAMS) + 1)])
def test_every_python_block_of_the_readme_runs_as_it_stands(program, service, tmp_path):
    """Copied into a file and run, with nothing but the three variables set; blocks of tests run under pytest.

    No warning is printed, by us or by what we stand on.
    """
    file = tmp_path / ("test_block.py" if "def test_" in program else "block.py")
    file.write_text(program)
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION)
    runner = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in program else []
    environment = {
        "IOVOX_USERNAME": "demo",
        "IOVOX_SECURE_KEY": "demo-key",
        "IOVOX_URL": service,
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(tmp_path),
        # Else root's would be one for the machine, and a run that was broken off would be gone on with.
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


def test_every_test_that_the_readme_names_exists():
    """A promise without its test is none."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", README)
    assert named
    for file, test in named:
        text = (ROOT / file).read_text()
        assert not test or re.search(rf"def {test}\b", text), f"{file}::{test}"


def test_every_command_of_the_terminal_is_in_the_readme():
    """Each command of `iovox` is mentioned with its name."""
    from iovox_async.cli.app import iovox

    missing = [name for name in iovox.commands if f"iovox {name}" not in README]
    assert missing == []


def test_the_readme_points_only_at_files_that_exist():
    """Links within the repository lead somewhere."""
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_changelog_has_the_version_of_the_package():
    """What is released is described."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
