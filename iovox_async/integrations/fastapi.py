"""FastAPI integration: clients for the application, filters as query parameters, streamed responses, and error handlers.

::

    from iovox_async.integrations.fastapi import CallFilters, InsightsDep, NDJSONResponse, insights_lifespan, install_error_handlers

    app = FastAPI(lifespan=insights_lifespan())
    install_error_handlers(app)

    @app.get("/calls", response_class=NDJSONResponse)  # for the media type in the OpenAPI document
    async def calls(insights: InsightsDep, start: date, end: date, filters: Annotated[CallFilters, Query()]) -> NDJSONResponse:
        return NDJSONResponse(insights.stream(start, end, **filters.arguments()))
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from iovox_async import AsyncInsights
from iovox_async._encoding import encode_json
from iovox_async.errors import ConfigurationError, MissingExtraError, QueryError
from iovox_async.models import Call, Model
from iovox_async.query import Filters, InsightsQuery

from ._streaming import encode_error

try:
    from fastapi import Depends, Header
    from fastapi.encoders import ENCODERS_BY_TYPE
    from pydantic import BaseModel, Field, ValidationInfo, field_validator
    from pydantic_core import PydanticCustomError
except ImportError as _error:
    raise MissingExtraError("iovox_async.integrations.fastapi", "fastapi") from _error

from .starlette import (
    NDJSONResponse,
    SSEResponse,
    get_insights,
    insights_for,
    insights_lifespan,
    install_error_handlers,
)

if TYPE_CHECKING:
    from fastapi.sse import ServerSentEvent
else:
    try:
        from fastapi.sse import ServerSentEvent
    except ImportError:  # before FastAPI 0.135
        ServerSentEvent = None

# A route without a return annotation is encoded by class, not by pydantic's schema.
ENCODERS_BY_TYPE.update(dict.fromkeys((Model, *Model.__subclasses__()), Model.to_dict))

__all__ = [
    "CallFilters",
    "InsightsDep",
    "LastEventID",
    "NDJSONResponse",
    "SSEResponse",
    "get_insights",
    "insights_for",
    "insights_lifespan",
    "install_error_handlers",
    "server_sent_events",
]

#: The type of an endpoint's parameter that receives the application's client.
InsightsDep: TypeAlias = Annotated[AsyncInsights, Depends(get_insights)]
#: The type of an endpoint's parameter that receives the header `Last-Event-ID`, for `stream(resume=)`; its default is None.
LastEventID: TypeAlias = Annotated[str | None, Header(alias="Last-Event-ID")]


def _filter(description: str) -> Any:
    return Field(default=None, description=description)


class CallFilters(BaseModel):
    """All filters of the endpoint as query parameters: `filters: Annotated[CallFilters, Query()]`.

    Several are combined with "and". A wrong value becomes FastAPI's own 422. A list is sent as `tag_colour=RED,BLUE` or as
    `tag_colour=RED&tag_colour=BLUE`. Unknown names are ignored, as FastAPI does; a subclass with
    `model_config = ConfigDict(extra="forbid")` refuses them, if the endpoint has no other query parameters.
    """

    ids: list[str] | None = _filter("Ids of calls.")
    node_id: str | None = _filter("Id of the node.")
    node_name: str | None = _filter("Name of the node.")
    node_type: str | None = _filter("Type of the node.")
    link_id: str | None = _filter("Id of the link.")
    link_name: str | None = _filter("Name of the link.")
    link_type: str | None = _filter("Type of the link.")
    call_result: str | None = _filter("How the call ended, such as ANSWERED.")
    rule_result: str | None = _filter("What the rule did with the call.")
    call_origin: str | None = _filter("Number of the caller.")
    call_origin_encoded: str | None = _filter("Number of the caller, encoded.")
    iovox_number: str | None = _filter("Number that was dialled.")
    call_destination: str | None = _filter("Number that the call was forwarded to.")
    direction: str | None = _filter("Direction, such as IN.")
    link_category_ids: list[str] | None = _filter("Ids of categories of the link.")
    call_category_ids: list[str] | None = _filter("Ids of categories of the call.")
    node_category_ids: list[str] | None = _filter("Ids of categories of the node.")
    contact_category_ids: list[str] | None = _filter("Ids of categories of the contact.")
    tag_text: str | None = _filter("Text of a tag.")
    tag_colour: list[str] | None = _filter("Colours of tags: BLUE, GREEN, GOLD, RED.")
    keyword_rules: str | None = _filter("A keyword rule that matched.")
    call_outcomes: str | None = _filter("An outcome of the call.")

    @field_validator("*")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value is None or name not in CallFilters.model_fields:
            return value
        if isinstance(value, list):
            value = [item for part in value for item in part.split(",")]
        try:
            InsightsQuery(**{name: value})
        except QueryError as error:
            hint = f". {error.hint}" if error.hint else ""
            raise PydanticCustomError("value_error", "{problem}", {"problem": error.problem + hint}) from None
        return value

    def arguments(self) -> Filters:
        """The filters that are set, as keyword arguments: `insights.stream(start, end, **filters.arguments())`."""
        values = {name: getattr(self, name) for name in CallFilters.model_fields}
        return cast("Filters", {name: value for name, value in values.items() if value is not None})


async def server_sent_events(calls: AsyncIterable[Call]) -> AsyncIterator[ServerSentEvent]:
    """Yields an event for each call, for endpoints with FastAPI's own response for server-sent events (FastAPI 0.135 and newer).

    ::

        async def open_stream(insights: InsightsDep, last_event_id: LastEventID = None) -> CallStream:
            return insights.stream("2024-01-01", resume=last_event_id)

        @app.get("/events", response_class=EventSourceResponse)
        async def events(stream: Annotated[CallStream, Depends(open_stream)]) -> AsyncIterable[ServerSentEvent]:
            async for event in server_sent_events(stream):
                yield event

    The events are those of `SSEResponse`: an event's `id` is the stream's position, and the last one is `end`, or `failure` after
    an error. FastAPI sends the status 200 before the endpoint runs, so make the stream in a dependency, where a wrong parameter is
    still a 422. `SSEResponse` also gives an error of the first second its own status.

    Raises:
        ConfigurationError: FastAPI is too old.
    """
    if ServerSentEvent is None:
        raise ConfigurationError(
            None,
            "this version of FastAPI has no server-sent events",
            hint="Use SSEResponse, or update FastAPI.",
        )
    try:
        async for call in calls:
            yield ServerSentEvent(raw_data=encode_json(call).decode(), id=getattr(calls, "position", None))
        yield ServerSentEvent(event="end", raw_data="{}")
    except Exception as error:  # noqa: BLE001 - FastAPI would log it, and the client would not know of it
        yield ServerSentEvent(event="failure", raw_data=encode_error(error).decode())
    finally:
        if close := getattr(calls, "aclose", None):
            await close()
