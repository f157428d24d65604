"""Maps the errors of this package to HTTP responses, for the web integrations.

Invariants:

- A response contains the detail of an error only if the client can correct it (422). Details of the service, its
  credentials and its address are only logged.
"""

from __future__ import annotations

import logging
import math
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

__all__ = ["ErrorResponse", "error_response"]

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


@frozen
class ErrorResponse:
    """The response to a request that failed.

    Attributes:
        status: the HTTP status.
        body: `error` (the name of the error) and `detail`; `parameter` if a parameter is invalid.
        headers: Retry-After, if it makes sense to retry.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def error_response(error: Exception) -> ErrorResponse:
    """Returns the response for an error, and logs the error as a warning unless the client can correct it.

    422: an invalid parameter, with the detail. 503 with Retry-After: the endpoint sent 429. 504: a timeout. 502: the
    endpoint failed or refused. 500: any other error, such as a missing setting.
    """
    name, headers = type(error).__name__, {}
    if isinstance(error, QueryError | BadRequestError) and error.parameter:
        detail = f"{error.parameter}: {error.hint}" if isinstance(error, BadRequestError) else str(error)
        return ErrorResponse(422, {"error": name, "detail": detail, "parameter": error.parameter}, {})
    retry_after = error.retry_after if isinstance(error, ResponseError) else None
    if isinstance(error, CONFIDENTIAL):
        status, name = 502, "Unavailable"
    elif isinstance(error, RateLimitError):
        status, retry_after = 503, RETRY_AFTER if retry_after is None else retry_after
    elif isinstance(error, UPSTREAM):
        status = 504 if isinstance(error, RequestTimeout) else 502
    else:
        status, name = 500, "InternalError"
    if retry_after is not None:
        headers["retry-after"] = str(math.ceil(min(retry_after, MAX_RETRY_AFTER)))
    # The application's own errors may quote anything.
    logger.warning("responded with %d: %s: %s", status, type(error).__name__, redact(str(error)))
    return ErrorResponse(status, {"error": name, "detail": DETAILS[status]}, headers)
