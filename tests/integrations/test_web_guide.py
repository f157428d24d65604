"""The applications of the guide to web frameworks, taken from its text and requested."""

import re
import sys
import types
from pathlib import Path

import pytest
from litestar.testing import TestClient as LitestarClient
from starlette.testclient import TestClient
from support.sandbox import shared_sandbox
from support.web import END, START, parse_events, parse_lines
from support.web_apps import Site, serve_aiohttp

import iovox_async

GUIDE = Path(iovox_async.__file__).with_name("docs").joinpath("web.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
RANGE = f"start={START}&end={END}"


served, _ = shared_sandbox(calls=200)


@pytest.fixture
def load(served, monkeypatch):
    """Runs the only block of the guide that contains a text, and returns its application."""

    def load_app(text):
        (block,) = [block for block in BLOCKS if text in block and "def test_" not in block]
        # Frameworks look annotations up in the module of a function.
        module = types.ModuleType("guide")
        monkeypatch.setitem(sys.modules, "guide", module)
        exec(compile(block, "web.md", "exec"), vars(module))
        return module.app

    monkeypatch.setenv("IOVOX_URL", served[1])
    monkeypatch.setenv("IOVOX_USERNAME", "demo")
    monkeypatch.setenv("IOVOX_SECURE_KEY", "demo-key")
    return load_app


def test_given_the_guide_when_its_fastapi_application_is_requested_then_it_does_what_the_guide_says(
    load, served
):
    """Given the first program, when calls, a call and a wrong filter are requested, then the responses are as described."""
    ids = served[0].ids()
    with TestClient(load("class CallQuery(CallFilters)")) as client:
        assert [call["id"] for call in parse_lines(client.get(f"/calls?{RANGE}").text)] == ids
        assert [call["id"] for call in client.get(f"/calls/{ids[3]}").json()] == [ids[3]]
        assert client.get(f"/calls?{RANGE}&tag_colour=PINK").json()["detail"][0]["loc"] == [
            "query",
            "tag_colour",
        ]
        assert client.get(f"/calls?{RANGE}&id={ids[3]}").status_code == 422, "the parameter is ids"


def test_given_the_guide_when_accounts_and_events_are_requested_then_they_work(load, served):
    """Given the programs with two accounts and with events, when requested, then each account and each call is there."""
    with TestClient(load("insights_for(")) as client:
        assert client.get("/london/latest").status_code == client.get("/paris/latest").status_code == 200
    pytest.importorskip("fastapi.sse", reason="FastAPI has its own response from 0.135 on")
    with TestClient(load("EventSourceResponse")) as client:
        events = parse_events(client.get(f"/events?{RANGE}").text)
        assert len(events) == 201
        resumed = client.get(f"/events?{RANGE}", headers={"Last-Event-ID": events[99]["id"]})
        assert parse_events(resumed.text) == events[100:]
        wrong = client.get(f"/events?{RANGE}", headers={"Last-Event-ID": "nonsense"})
        assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["header", "Last-Event-ID"])
        assert client.get("/events?start=2024-02-01&end=2024-01-01").status_code == 422


def test_given_the_guide_when_starlette_and_litestar_are_requested_then_calls_and_errors_are_right(
    load, served
):
    """Given the programs for Starlette and Litestar, when a range and a wrong range are requested, then 200 and 422."""
    for client_class, text in ((TestClient, "import Starlette\n"), (LitestarClient, "import Litestar")):
        with client_class(load(text)) as client:
            assert [call["id"] for call in parse_lines(client.get(f"/calls?{RANGE}").text)] == served[0].ids()
            response = client.get("/calls?start=2024-02-01&end=2024-01-01")
            assert (response.status_code, "detail" in response.json()) == (422, True)


async def test_given_the_guide_when_aiohttp_is_requested_then_calls_and_errors_are_right(load, served):
    """Given the program for aiohttp, when a range, filters and a wrong filter are requested, then 200 and 422."""
    site = Site()
    async with serve_aiohttp(load("from aiohttp import web"), site), site.connect() as client:
        assert [call["id"] for call in parse_lines((await client.get(f"/calls?{RANGE}")).text)] == served[
            0
        ].ids()
        response = await client.get(f"/calls?{RANGE}&tag_colour=PINK")
        assert (response.status_code, response.json()["parameter"]) == (422, "tag_colour")
