"""Makes errors of HTTP status codes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from .._params.account_time import parse_http_date
from ..errors import (
    AuthenticationError,
    BadRequestError,
    PermissionDeniedError,
    RateLimitError,
    ResponseError,
    ServerError,
    UnexpectedRedirectError,
)
from ..retry import parse_retry_after
from .failures import RetryableFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Status codes that are retried, besides 429. Source: the endpoint's table (500) and common practice (the others).
RETRYABLE: Final = frozenset({408, 425, 500, 502, 503, 504, *range(520, 530)})
#: Status codes that may be caused by the size of the request.
SPLITTABLE: Final = frozenset({500, 502, 504})


def error_for_status(
    status_code: int, headers: Mapping[str, str], messages: tuple[str, ...], redirect_origin: str
) -> RetryableFailure | ResponseError:
    """Returns the error for a status other than 200 and 204.

    Args:
        status_code: the status.
        headers: the response's headers.
        messages: the messages in its body.
        redirect_origin: the origin that its Location header points to.
    """
    # A date means the server's clock, which this machine's may differ from.
    now = parse_http_date(headers.get("date", "")) or datetime.now(UTC)
    retry_after = parse_retry_after(headers.get("retry-after"), now)
    if status_code == 429:
        return RetryableFailure(
            RateLimitError(status_code, messages, retry_after=retry_after),
            overload=True,
            account_wide=True,
            retry_after=retry_after,
        )
    if status_code in RETRYABLE:
        return RetryableFailure(
            ServerError(status_code, messages, retry_after=retry_after),
            overload=status_code >= 500,
            account_wide=status_code == 503,
            retry_after=retry_after,
            splittable=status_code in SPLITTABLE,
        )
    match status_code:
        case 401:
            return AuthenticationError(status_code, messages)
        case 403:
            return PermissionDeniedError(status_code, messages)
    if 300 <= status_code < 400:
        return UnexpectedRedirectError(status_code, redirect_origin)
    if 400 <= status_code < 500:
        return BadRequestError(status_code, messages)
    return (ServerError if status_code >= 500 else ResponseError)(status_code, messages)
