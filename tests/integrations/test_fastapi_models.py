"""Records as FastAPI responses: their JSON, the OpenAPI document, and the messages of a missing lifespan."""

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware

from iovox_async import Call, ConfigurationError, Tag
from iovox_async.integrations.fastapi import InsightsDep, NDJSONResponse, insights_lifespan

CALL = {
    "id": 7,
    "call_start": "2024-02-26 04:39:59",
    "talk_time": "00:02:05",
    "has_recording": "TRUE",
    "tags": [{"text": "sale", "colour": "GREEN"}],
    "transcriptions": [],
    "new_field": {"a": [1]},
}


@pytest.fixture(scope="module")
def call():
    from iovox_async import make_converter

    return make_converter().structure(CALL, Call)


@pytest.fixture
def client(call):
    app = FastAPI()

    @app.get("/one")
    async def one() -> Call:
        return call

    @app.get("/many")
    async def many() -> list[Call]:
        return [call, call]

    @app.get("/maybe")
    async def maybe() -> Call | None:
        return None

    @app.get("/nested")
    async def nested() -> dict[str, list[Tag]]:
        return {"tags": list(call.tags)}

    @app.get("/plain")
    async def plain():
        return {"calls": [call]}

    return TestClient(app)


@pytest.mark.finding("D2")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/one", CALL),
        ("/many", [CALL, CALL]),
        ("/maybe", None),
        ("/nested", {"tags": CALL["tags"]}),
        ("/plain", {"calls": [CALL]}),
    ],
)
def test_given_a_route_that_returns_records_when_requested_then_they_are_the_endpoints_json(
    client, path, body
):
    """Alone, in lists, in dicts, and without an annotation."""
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, body)


@pytest.mark.finding("D2")
def test_given_a_response_model_when_openapi_is_generated_then_fields_have_types_and_descriptions(client):
    """Each class is one component, which others refer to."""
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"Call", "Tag", "Transcription", "Phrase"} <= schemas.keys()
    properties = schemas["Call"]["properties"]
    assert properties["id"]["type"] == "integer"
    assert properties["tags"]["items"] == {"$ref": "#/components/schemas/Tag"}
    assert "HH:MM:SS" in properties["talk_time"]["description"]
    assert "unique within the account" in properties["id"]["description"]
    response = document["paths"]["/many"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert response["items"] == {"$ref": "#/components/schemas/Call"}


@pytest.mark.finding("D2")
def test_given_a_test_client_without_its_lifespan_when_requested_then_the_error_names_the_lifespan():
    """A `TestClient` runs the lifespan only as a context manager."""
    app = FastAPI(lifespan=insights_lifespan())

    @app.get("/calls")
    async def calls(insights: InsightsDep) -> NDJSONResponse:
        return NDJSONResponse(insights.stream("2024-01-01", "2024-01-02"))

    with pytest.raises(ConfigurationError, match="with TestClient"):
        TestClient(app).get("/calls")


@pytest.mark.finding("D2")
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["no middleware", "one", "two"])
async def test_given_middleware_when_the_client_leaves_before_the_first_byte_then_nothing_is_raised(depth):
    """`BaseHTTPMiddleware` raises "No response returned" where an application sends nothing."""
    app = FastAPI()
    for _ in range(depth):
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    reading = asyncio.Event()

    async def endless():
        reading.set()
        await asyncio.Event().wait()
        yield

    @app.get("/calls")
    async def calls():
        return NDJSONResponse(endless())

    sent = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await reading.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/calls",
        "raw_path": b"/calls",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    assert all(message.get("status", 499) == 499 for message in sent)
