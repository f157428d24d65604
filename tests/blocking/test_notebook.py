"""The client in a notebook: a Jupyter kernel, in whose thread an event loop runs while a cell does."""

import re
from pathlib import Path

import pytest

import iovox_async
from iovox_async.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

GUIDE = Path(iovox_async.__file__).with_name("docs").joinpath("blocking.md").read_text(encoding="utf-8")
#: The async client in cells of its own: the session stays open between them.
ASYNC_CELLS = (
    "from iovox_async import AsyncInsights\ninsights = AsyncInsights()",
    "calls = [call async for call in insights.stream('2024-01-01', '2024-01-31')]\nprint(len(calls))",
    "page = await insights.page('2024-01-01', '2024-01-31', page_size=5)\nprint(len(page.calls))",
    "await insights.aclose()",
)
#: A stream of the blocking client that is left in one cell, and read on in another.
BLOCKING_CELLS = (
    "from iovox_async.blocking import Insights\ninsights = Insights()\nstream = insights.stream('2024-01-01', '2024-01-31')",
    "print(next(iter(stream)).id)",
    "print(sum(1 for call in stream))",
    "insights.close()",
)


@pytest.fixture
def run_cells(monkeypatch):
    """Runs cells in a kernel with the variables of a sandbox; returns what each printed."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat.v4")
    pytest.importorskip("ipykernel")
    sandbox = Sandbox(calls=500, start="2024-01-01", end="2024-01-31")

    def run(*cells):
        notebook = nbformat.new_notebook(cells=[nbformat.new_code_cell(cell) for cell in cells])
        with sandbox.serve() as base_url:
            monkeypatch.setenv("IOVOX_USERNAME", "demo")
            monkeypatch.setenv("IOVOX_SECURE_KEY", "demo-key")
            monkeypatch.setenv("IOVOX_URL", base_url)
            nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
        outputs = [[dict(output) for output in cell.outputs] for cell in notebook.cells]
        assert [output for cell in outputs for output in cell if output.get("name") != "stdout"] == []
        return ["".join(output["text"] for output in cell) for cell in outputs]

    return run, sandbox


def test_the_blocks_of_the_guide_run_as_cells(run_cells):
    """Given the guide's blocks, the calls by hour among them, when run as cells, then they print what the sandbox has."""
    run, sandbox = run_cells
    blocks = [
        block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "Backfill" not in block
    ]
    *_, hours, plotted = run(*blocks, "print(by_hour.sum())")
    assert "call_start" in hours
    assert int(plotted) == len(sandbox.ids())


def test_sessions_stay_open_from_one_cell_to_the_next(run_cells):
    """Given a session opened in a cell, when later cells use it, async or blocking, then each gets its calls."""
    run, sandbox = run_cells
    ids = sandbox.ids()
    _, calls, page, _, _, first, rest, _ = run(*ASYNC_CELLS, *BLOCKING_CELLS)
    assert (int(calls), int(page), int(first), int(rest)) == (len(ids), 5, ids[0], len(ids) - 1)
