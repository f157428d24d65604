"""The exceptions that iovox_async raises.

Every error of this package is an `IovoxError`. Each class says who can fix the problem and whether the
request was retried::

    IovoxError
      ConfigurationError (ValueError)     caller: a client argument or environment variable is missing or invalid
      QueryError (ValueError)             caller: the endpoint does not accept this argument
      SessionError (RuntimeError)         caller: used after close, in another event loop or in another process
      MissingExtraError (ImportError)     caller: an optional package is not installed
      RequestError                        a request failed; has attempts, window and page
        TransportError                    network; retried
          RequestTimeout                  network or server; retried
          TLSError                        network; not retried
        ResponseError                     the server sent an error status
          BadRequestError                 400 and other 4xx: caller; not retried
          AuthenticationError             401: caller; not retried
          PermissionDeniedError           403: caller; not retried
          RateLimitError                  429; retried
          ServerError                     408, 425, 5xx: server; retried
          UnexpectedRedirectError         3xx: never followed
        DecodeError                       server: a page cannot be decoded; retried
          RecordError                     server: one record cannot be decoded
      PagingError                         server: the pages are inconsistent, so an exact result is impossible
      BackfillError                       a backfill cannot use its directory
        BackfillLockedError               another process is writing to the directory
        BackfillMismatchError             the directory belongs to a different backfill
        ManifestCorruptedError            the manifest or a file it lists is damaged

Invariants:

- No message contains the secure key or a phone number.
- Every error can be pickled and keeps its attributes.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ._wording import Wording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = [
    "AuthenticationError",
    "BackfillError",
    "BackfillLockedError",
    "BackfillMismatchError",
    "BadRequestError",
    "ConfigurationError",
    "DecodeError",
    "IovoxError",
    "ManifestCorruptedError",
    "MissingExtraError",
    "PagingError",
    "PermissionDeniedError",
    "QueryError",
    "RateLimitError",
    "RecordError",
    "RequestError",
    "RequestTimeout",
    "ResponseError",
    "ServerError",
    "SessionError",
    "TLSError",
    "TransportError",
    "UnexpectedRedirectError",
]


class IovoxError(Exception):
    """Base class of every error that this package raises.

    Attributes:
        hint: what to do about it, as one or more sentences; None if there is no advice. `str(error)` ends with it.
        position: where a stream was when it failed; `stream(resume=error.position)` continues exactly there.
            None if no stream was involved, or if the stream cannot be resumed.
    """

    hint: str | None = None
    position: str | None = None

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        message = self._message()
        if not self.hint:
            return message
        end = "" if message.endswith((".", "?", "!")) else "."
        return f"{message}{end} {self.hint}"

    def _message(self) -> str:
        """The message without the hint."""
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors build the message, so an error cannot be recreated by calling its class with `args`.
        return _unpickle, (type(self), self.args, self.__dict__)


def _unpickle(cls: type[IovoxError], args: tuple[Any, ...], state: dict[str, Any]) -> IovoxError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(IovoxError, ValueError):
    """A client argument or an environment variable is missing or invalid.

    Attributes:
        parameter: the name of the Python argument, or of the environment variable if it has no argument; None if the
            error is not about a single one.
        problem: the message without the parameter's name: `must be a positive integer, got 0`.
    """

    def __init__(self, parameter: str | None, problem: str, hint: str | None = None) -> None:
        super().__init__(f"{parameter} {problem}" if parameter else problem, hint=hint)
        self.parameter = parameter
        self.problem = problem


class QueryError(IovoxError, ValueError):
    """The endpoint does not accept an argument. Raised before any request is sent.

    Attributes:
        parameter: the name of the parameter, as the endpoint spells it.
        problem: the message without the parameter's name: `must be between 1 and 20000, got 0`.
    """

    def __init__(self, parameter: str, problem: str, hint: str | None = None) -> None:
        super().__init__(f"{parameter} {problem}", hint=hint)
        self.parameter = parameter
        self.problem = problem


class SessionError(IovoxError, RuntimeError):
    """A client or stream was used after it was closed, in another event loop, or in another process."""


#: The packages of each extra, as in `pyproject.toml`.
EXTRAS: dict[str, tuple[str, ...]] = {
    "aiohttp": ("aiohttp", "httpx-aiohttp"),
    "arrow": ("numpy", "pyarrow"),
    "cli": ("click", "rich-click", "rich"),
    "dask": ("dask[dataframe]", "distributed", "numpy", "pyarrow"),
    "delta": ("deltalake", "numpy", "obstore", "pyarrow"),
    "dlt": ("dlt[duckdb]", "numpy", "pyarrow"),
    "fastapi": ("fastapi", "pydantic"),
    "httpx2": ("httpx2",),
    "otel": ("opentelemetry-api",),
    "remote": ("fsspec",),
    "sandbox": ("starlette", "uvicorn"),
    "socks": ("socksio",),
    "starlette": ("starlette",),
    "truststore": ("truststore",),
}


class MissingExtraError(IovoxError, ImportError):
    """An optional package is not installed. The hint is the command that installs it.

    Attributes:
        extra: the name of the extra that contains the package.
    """

    def __init__(self, feature: str, extra: str) -> None:
        packages = ", ".join(EXTRAS[extra])
        super().__init__(
            f"{feature} needs the extra {extra} ({packages})",
            hint=f'Install it with: pip install "iovox-async[{extra}]"',
        )
        self.extra = extra


def format_window(window: tuple[datetime, datetime]) -> str:
    """A window as messages show it: `2024-01-01 00:00:00 .. 2024-01-31 23:59:59`."""
    return f"{window[0]} .. {window[1]}"


class RequestError(IovoxError):
    """A request failed.

    Attributes:
        attempts: how many times the request was sent. This counts those that found the server unreachable, and those for
            larger windows that were split because they failed, so it may be more than `RetryPolicy.max_attempts`.
        window: first and last second requested, as naive datetimes in the account's local time; None outside a stream.
        page: the page number requested, from 1; None outside a stream.
    """

    attempts: int = 1
    window: tuple[datetime, datetime] | None = None
    page: int | None = None
    #: True if a smaller request might succeed.
    _splittable = False

    def _message(self) -> str:
        attempts = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        context = [f"window {format_window(self.window)}"] if self.window else []
        context += [f"page {self.page}"] if self.page else []
        return f"{self.args[0]}{attempts}" + (f" ({', '.join(context)})" if context else "")


class TransportError(RequestError):
    """No response: the address cannot be resolved, the connection fails, or it is closed too early."""


class RequestTimeout(TransportError):
    """An attempt took longer than the client's `timeout` (wall-clock time from start to last byte)."""


class TLSError(TransportError):
    """The server's certificate cannot be verified. Never retried."""


#: What to do about a response that reports success and is not accepted as a page: its status is neither 200 nor 204.
_UNUSABLE_PAGES: dict[int, str] = {
    203: "A proxy has changed this response; let it pass the endpoint's responses as they are.",
    206: "It is a part of a page, which was not requested: a proxy or cache before the endpoint is at fault.",
}
_NO_PAGE = Wording("Check {base_url}: the endpoint sends pages with the status 200.")


class ResponseError(RequestError):
    """The server sent a status other than 200 and 204: in most cases that of an error.

    Attributes:
        status_code: the HTTP status code.
        messages: the server's error messages, from an XML, JSON or plain text body.
        retry_after: seconds from the server's `Retry-After` header, or None.
        headers: the headers of the response; a name matches in any case. Empty if the error does not come from a response.
    """

    hint: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, status_code: int, messages: tuple[str, ...] = (), *, retry_after: float | None = None
    ) -> None:
        # Some of the endpoint's messages begin with the status themselves.
        text = "; ".join(message.removeprefix(f"HTTP {status_code}: ") for message in messages)
        super().__init__(f"HTTP {status_code}: {text}" if text else f"HTTP {status_code}")
        self.status_code = status_code
        self.messages: tuple[str, ...] = tuple(messages)
        self.retry_after = retry_after
        self._set_hint()

    def _set_hint(self) -> None:
        """Sets the hint, where it depends on the response."""
        if self.retry_after == math.inf:
            self.hint = "Try again later: the server requests a wait without an end (Retry-After)."
        elif self.retry_after is not None:
            length = f"{self.retry_after:,.0f}" if self.retry_after > 1e5 else f"{self.retry_after:g}"
            self.hint = f"Wait {length} seconds before trying again, as the server requests (Retry-After)."
        elif 200 <= self.status_code < 300:
            self.hint = _UNUSABLE_PAGES.get(self.status_code, _NO_PAGE)


#: The endpoint's table of 400 responses: how the message begins, the parameter, the resolution.
#: Source: the error table in the documentation of calls/insights.
BAD_REQUEST_ERRORS: tuple[tuple[str, str | None, str], ...] = (
    ("Request Method must be GET", None, "Send the request with the method GET."),
    ("Order Field Invalid", "order", "Check the allowed fields in the documentation."),
    ("Order Direction Invalid", "order", "End the order in _ASC or _DESC."),
    ("Page number not an integer", "page", "Remove non-numerics from page."),
    ("Limit not an integer", "limit", "Remove non-numerics from limit."),
    ("Limit must be between", "limit", "Choose a limit from 1 to 20000."),
    ("Start Date invalid", "start_date", "Give start_date as YYYY-MM-DD HH:MM:SS."),
    ("End Date invalid", "end_date", "Give end_date as YYYY-MM-DD HH:MM:SS."),
    ("Iovox Number not an integer", "iovox_number", "Give iovox_number in digits only."),
    ("Required fields", "response_fields", "Correct or remove the invalid fields."),
)


class BadRequestError(ResponseError):
    """The endpoint rejected the request: 400, or another 4xx without a class of its own. Never retried.

    Attributes:
        parameter: the name of the invalid parameter, as the endpoint spells it; None if its message names none.
    """

    parameter: str | None = None
    hint: str | None = None

    def _set_hint(self) -> None:
        text = " ".join(self.messages).casefold()
        for prefix, parameter, hint in BAD_REQUEST_ERRORS:
            if prefix.casefold() in text:
                self.parameter, self.hint = parameter, hint
                return
        if self.status_code in {404, 405, 410, 415}:
            self.hint = Wording("Check {base_url}: there is no insights endpoint at this address.")
        elif self.status_code == 407:
            self.hint = Wording("The proxy requires credentials: give them in {proxy}.")
        else:
            self.hint = "Correct the request; sending it again will not help."


class AuthenticationError(ResponseError):
    """401: the username or secure key is wrong, or this machine's IP address is not on the account's list."""

    hint: str | None = (
        "Check IOVOX_USERNAME and IOVOX_SECURE_KEY. The key works only from the IP addresses listed in the iovox portal "
        "under Admin, API Settings; a valid key from another address gets this response too."
    )


class PermissionDeniedError(ResponseError):
    """403: the account may not read this data."""

    hint: str | None = (
        "Ask the account's administrator for API access, and check that this machine's IP address is listed in the iovox "
        "portal under Admin, API Settings."
    )


class RateLimitError(ResponseError):
    """429: too many requests. Retried, after the time in the server's `Retry-After` header if there is one."""

    hint: str | None = Wording("Lower {concurrency}, or try again later.")


class ServerError(ResponseError):
    """The server failed (408, 425, 5xx). Retried."""

    hint: str | None = "The server failed; try again later."


class UnexpectedRedirectError(ResponseError):
    """3xx. The endpoint never redirects, so the response comes from another server. Never followed.

    Attributes:
        location: the origin of the redirect's target, without path and query; None if there is none.
    """

    hint: str | None = Wording("Check {base_url}.")

    def __init__(self, status_code: int, location: str | None = None) -> None:
        super().__init__(status_code)
        target = f" to {location}" if location else ""
        self.args: tuple[Any, ...] = (
            f"HTTP {status_code}: the redirect{target} was not followed, so no credential was sent there",
        )
        self.location = location


class DecodeError(RequestError):
    """A page cannot be decoded: it is not JSON, incomplete, too large, or not a list of calls."""


class RecordError(DecodeError):
    """One record cannot be decoded. With `on_error="skip"`, such records are skipped and counted.

    Attributes:
        index: the record's position in its page, from 0.
        path: the location of the invalid value, as a JSON path: `$[17].call_start`.
    """

    hint: str | None = Wording("Pass {on_error=skip} to skip and count such records.")

    def __init__(self, index: int, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.index = index
        self.path = path


class PagingError(IovoxError):
    """The server's pages are inconsistent, so an exact result is impossible."""


class BackfillError(IovoxError):
    """A backfill cannot use its directory."""


class BackfillLockedError(BackfillError):
    """Another process is writing to the directory."""


class BackfillMismatchError(BackfillError):
    """The directory belongs to a different backfill: its query, fields, format, partitioning or account differ."""


class ManifestCorruptedError(BackfillError):
    """The manifest or a file it lists is damaged. `repair=True` downloads the affected calls again."""


#: Errors after which the same request may succeed later. This does not hold for one `DecodeError`: `RecordError`.
TRANSIENT_ERRORS = (TransportError, ServerError, RateLimitError, DecodeError)
