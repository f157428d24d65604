"""What a client of ours is told when calls cannot be read.

The law of this room: the one table from errors to HTTP. A client learns whether to mend its question, to wait, or to
give up; what is ours to mend stays in our log.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Final

from attrs import frozen

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

__all__ = ["ErrorResponse", "answer"]

logger: logging.Logger = logging.getLogger("iovox_async")

#: Seconds to wait where the server did not say how long.
RETRY_AFTER: Final = 30.0
#: The longest wait that is passed on, in seconds.
RETRY_AFTER_MAXIMUM: Final = 3600.0

#: Ours to mend, whatever the client does: the client learns nothing but that.
SECRET = (AuthenticationError, PermissionDeniedError, TLSError, UnexpectedRedirectError)
UPSTREAM = (TransportError, ResponseError, DecodeError, PagingError)
DETAILS: Final = {
    500: "The calls cannot be read: this service has a fault of its own.",
    502: "The calls cannot be read: the service that holds them failed.",
    503: "The service that holds the calls has too much to do; try again later.",
    504: "The service that holds the calls took too long to answer.",
}


@frozen
class ErrorResponse:
    """What a client is told of an error.

    Attributes:
        status: the HTTP status.
        body: `error` (its name) and `detail`; `parameter` where one is to blame.
        headers: Retry-After, where waiting helps.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def answer(error: Exception) -> ErrorResponse:
    """The answer to a request that failed.

    A wrong question is 422, with the parameter. All else is told by its name alone (the detail is in the log, at WARNING):
    503 with Retry-After (429 from the service), 504 (too slow), 502 (the service failed or refused), 500 (our own setup).
    """
    name, headers = type(error).__name__, {}
    if isinstance(error, QueryError | BadRequestError) and error.parameter:
        detail = f"{error.parameter}: {error.hint}" if isinstance(error, BadRequestError) else str(error)
        return ErrorResponse(422, {"error": name, "detail": detail, "parameter": error.parameter}, {})
    wait = error.retry_after if isinstance(error, ResponseError) else None
    if isinstance(error, SECRET):
        status, name = 502, "Unavailable"
    elif isinstance(error, RateLimitError):
        status, wait = 503, RETRY_AFTER if wait is None else wait
    elif isinstance(error, UPSTREAM):
        status = 504 if isinstance(error, RequestTimeout) else 502
    else:
        status, name = 500, "InternalError"
    if wait is not None:
        headers["retry-after"] = str(math.ceil(min(wait, RETRY_AFTER_MAXIMUM)))
    logger.warning("answered %d: %s: %s", status, type(error).__name__, error)
    return ErrorResponse(status, {"error": name, "detail": DETAILS[status]}, headers)
