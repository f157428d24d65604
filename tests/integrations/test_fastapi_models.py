"""Records as FastAPI responses: their JSON, the OpenAPI document, and the messages of a missing lifespan."""

import asyncio

import attrs
import msgspec
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.middleware.base import BaseHTTPMiddleware

from iovox_async import AsyncInsights, Call, ConfigurationError, Tag, make_converter
from iovox_async.integrations.fastapi import InsightsDep, NDJSONResponse, insights_lifespan
from iovox_async.models import Model, types_of
from iovox_async.sandbox import Sandbox

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


def test_given_the_openapi_document_when_read_then_every_class_and_field_has_a_description(client):
    """The descriptions are those of the docstrings and the glossary; a reference has that of its class."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    models = [Call, *(model for model in Model.__subclasses__() if model is not Call)]
    for model in models:
        schema = schemas[model.__name__]
        assert schema["description"]
        for name, field in schema["properties"].items():
            assert "$ref" in field or field["description"].endswith("."), f"{model.__name__}.{name}"
        assert schema["properties"].keys() == types_of(model).keys()


def test_given_a_response_model_when_fields_are_included_or_excluded_then_the_others_are_left_out(call):
    """FastAPI's own options apply; fields that were not requested are left out in any case."""
    app = FastAPI()
    options = {
        "include": {"response_model_include": {"id", "tags"}},
        "exclude": {"response_model_exclude": {"new_field": True, "tags": {"__all__": {"colour"}}}},
        "unset": {"response_model_exclude_unset": True, "response_model_exclude_none": True},
    }
    for name, option in options.items():

        @app.get(f"/{name}", **option)
        async def one() -> Call:
            return call

    client = TestClient(app)
    assert client.get("/include").json() == {"id": 7, "tags": CALL["tags"]}
    assert client.get("/exclude").json() == {
        **{name: value for name, value in CALL.items() if name != "new_field"},
        "tags": [{"text": "sale"}],
    }
    assert client.get("/unset").json() == CALL


def test_given_json_data_when_pydantic_validates_it_then_it_becomes_records(call):
    """In models of the application, from JSON, and back; a wrong value is pydantic's own error, with its place."""

    class Report(BaseModel):
        title: str
        calls: list[Call]
        latest: Call | None = None

    report = Report(title="today", calls=[call, CALL])
    assert report.calls == [call, call]
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.model_dump()["calls"] == [CALL, CALL]
    assert Report.model_json_schema()["$defs"]["Call"]["properties"]["id"]["type"] == "integer"
    for wrong in ({**CALL, "id": "x"}, [], {**CALL, "tags": 3}):
        with pytest.raises(ValidationError, match=r"calls\.0"):
            Report(title="wrong", calls=[wrong])


async def test_given_streamed_calls_when_other_libraries_convert_them_then_all_agree():
    """Given calls of a few fields, when pydantic, msgspec and cattrs convert them, then values return as they were."""
    with Sandbox(calls=20).serve() as url:
        async with AsyncInsights("demo", "demo-key", base_url=url) as insights:
            calls = await insights.stream(
                "2024-01-01", "2024-03-31", fields="id,call_start,tag_text"
            ).collect()
            all_fields = await insights.stream("2024-01-01", "2024-03-31", fields="all").collect()
    converter = make_converter()
    for call in [*calls, *all_fields]:
        data = call.to_dict()
        assert converter.unstructure(call) == data
        assert converter.structure(data, Call) == call
        assert TypeAdapter(Call).dump_python(call) == data
        assert TypeAdapter(Call).validate_python(data) == call
        # msgspec writes its own forms of dates and durations, and an empty list where none was requested.
        assert msgspec.json.decode(msgspec.json.encode(call), type=Call) == call
        assert msgspec.json.decode(msgspec.json.encode(call.to_dict())) == data
    assert calls[0].to_dict().keys() == {"id", "call_start", "tags"}

    @attrs.define
    class Report:
        calls: list[Call]

    data = converter.unstructure(Report(calls))
    assert data == {"calls": [call.to_dict() for call in calls]}
    assert converter.structure(data, Report) == Report(calls)


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
