"""Maps the errors of this package to HTTP responses, for the web integrations.

Invariants:

- A response contains the detail of an error only if the client can correct it (422). Details of the service, its
  credentials and its address are only logged.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection
from typing import Any, Final

from attrs import frozen

from iovox_async._redaction import redact
from iovox_async.errors import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    PagingError,
    PermissionDeniedError,
    QueryError,
    RateLimitError,
    RequestTimeout,
    ResponseError,
    TLSError,
    TransportError,
    UnexpectedRedirectError,
)
from iovox_async.query import PHONE_PARAMETERS

logger: logging.Logger = logging.getLogger("iovox_async")

#: Retry-After in seconds, if the endpoint sent none.
RETRY_AFTER: Final = 30.0
#: Maximum of Retry-After, in seconds.
MAX_RETRY_AFTER: Final = 3600.0

#: Errors of the service's setup, whose names are not sent to clients either.
CONFIDENTIAL = (AuthenticationError, PermissionDeniedError, TLSError, UnexpectedRedirectError)
UPSTREAM = (TransportError, ResponseError, DecodeError, PagingError)
DETAILS: Final = {
    500: "The calls cannot be read: internal error of this service.",
    502: "The calls cannot be read: the upstream service failed.",
    503: "The upstream service is overloaded; try again later.",
    504: "The upstream service did not respond in time.",
}


#: The names that routes usually have for a parameter of the endpoint, the most common first.
ROUTE_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "start_date": ("start", "start_date", "from", "since"),
    "end_date": ("end", "end_date", "to", "until"),
    "id": ("ids", "id"),
    "response_fields": ("fields", "response_fields"),
    "limit": ("limit", "page_size", "size"),
    "resume": ("resume", "position", "last-event-id", "last_event_id"),
}


@frozen
class ErrorResponse:
    """The response to a request that failed.

    Attributes:
        status: the HTTP status.
        error: the name of the error's class; another word if clients must not know it.
        detail: what is wrong, in a sentence that clients may read.
        parameter: the endpoint's name of the parameter that is invalid (422), or None.
        headers: Retry-After, if it makes sense to retry.
    """

    status: int
    error: str
    detail: str
    parameter: str | None
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        """`error`, `detail`, and `parameter` if a parameter is invalid, as a JSON object."""
        body = {"error": self.error, "detail": self.detail}
        return body if self.parameter is None else {**body, "parameter": self.parameter}

    @property
    def is_phone(self) -> bool:
        """Whether the value of the invalid parameter is a phone number."""
        return self.parameter in PHONE_PARAMETERS


def sent_name(response: ErrorResponse, names: Collection[str]) -> tuple[str, str]:
    """The route's own name of the invalid parameter, and the detail with the route's names in it.

    Args:
        response: the response for an invalid parameter.
        names: the names of the parameters of the request or the route.
    """
    by_lower_case = {name.lower(): name for name in names}

    def own_name(parameter: str) -> str:
        candidates = ROUTE_NAMES.get(parameter, (parameter,))
        matches = (by_lower_case[candidate] for candidate in candidates if candidate in by_lower_case)
        return next(matches, candidates[0])

    words = "|".join(map(re.escape, ROUTE_NAMES))
    detail = re.sub(rf"\b(?:{words})\b(?==?)", lambda match: own_name(match[0]), response.detail)
    return own_name(str(response.parameter)), detail


def error_response(error: Exception) -> ErrorResponse:
    """Returns the response for an error, and logs the error as a warning unless the client can correct it.

    422: an invalid parameter, with the detail. 503 with Retry-After: the endpoint sent 429. 504: a timeout, also the
    application's own (`TimeoutError`). 502: the endpoint failed or refused. 500: any other error, such as a missing setting.
    """
    name, headers = type(error).__name__, {}
    if isinstance(error, QueryError | BadRequestError) and error.parameter:
        detail = f"{error.parameter}: {error.hint}" if isinstance(error, BadRequestError) else str(error)
        return ErrorResponse(422, name, detail, error.parameter, {})
    retry_after = error.retry_after if isinstance(error, ResponseError) else None
    if isinstance(error, CONFIDENTIAL):
        status, name = 502, "Unavailable"
    elif isinstance(error, RateLimitError):
        status, retry_after = 503, RETRY_AFTER if retry_after is None else retry_after
    elif isinstance(error, RequestTimeout | TimeoutError):
        status = 504
    elif isinstance(error, UPSTREAM):
        status = 502
    else:
        status, name = 500, "InternalError"
    if retry_after is not None:
        headers["retry-after"] = str(math.ceil(min(retry_after, MAX_RETRY_AFTER)))
    # The application's own errors may quote anything.
    logger.warning("responded with %d: %s: %s", status, type(error).__name__, redact(str(error)))
    return ErrorResponse(status, name, DETAILS[status], None, headers)
