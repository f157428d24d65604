"""All failures as one tree: whose fault is it, and may it be tried again.

The law of this room: whatever goes wrong in this package leaves it as a member of this tree, with a message
that says what happened, where, and what to do. No message holds the secure key or a phone number.

::

    IovoxError
      ConfigurationError (ValueError)     yours: the session cannot be built as asked
      QueryError (ValueError)             yours: the question is not one the endpoint takes
      SessionError (RuntimeError)         yours: closed, or used from another loop or process
      MissingExtraError (ImportError)     yours: an optional package is not installed
      RequestError                       what follows knows its attempts, window and page
        TransportError                    the network; tried again
          RequestTimeout                        the network or the server; tried again
          TLSError                        the network; never tried again
        ResponseError                     the server answered, and not with calls
          BadRequestError                      400; yours
          AuthenticationError             401; yours
          PermissionDeniedError                403; yours
          RateLimitError                     429; tried again
          ServerError                     408, 425, 5xx; tried again
          UnexpectedRedirectError              3xx; never followed
        DecodeError                       the server's: a page that cannot be read; tried again
          RecordError                     the server's: one record that cannot be read
      PagingError                         the server's: the list cannot be read exactly
      BackfillError                       a job and its folder do not fit
        BackfillLockedError                         another process is at work there
        BackfillMismatchError                       the folder belongs to another job
        ManifestCorruptedError                   what is on disk cannot be trusted
"""

from __future__ import annotations

from typing import Any

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
    """The root of every error this package raises."""

    #: Where a stream stood when it failed: `stream(resume=error.position)` goes on exactly there.
    #: None where no stream was involved, or where it cannot be resumed.
    position: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Messages are built by constructors, so `args` alone would not bring an error back across processes.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[IovoxError], args: tuple[Any, ...], state: dict[str, Any]) -> IovoxError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(IovoxError, ValueError):
    """The session cannot be built as asked: a credential, address or limit is missing or malformed."""


class QueryError(IovoxError, ValueError):
    """The question is not one the endpoint takes; found before any request was sent.

    Attributes:
        parameter: the endpoint's name of the parameter that is wrong.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter


class SessionError(IovoxError, RuntimeError):
    """A session or stream was used in a way that it cannot serve: after its end, in another loop or process."""


#: The packages of each extra, as `pyproject.toml` has them.
EXTRAS: dict[str, tuple[str, ...]] = {
    "aiohttp": ("aiohttp", "httpx-aiohttp"),
    "arrow": ("numpy", "pyarrow"),
    "cli": ("rich-click", "rich"),
    "dask": ("dask[dataframe]", "distributed", "numpy", "pyarrow"),
    "dlt": ("dlt[duckdb]", "numpy", "pyarrow"),
    "fastapi": ("fastapi",),
    "otel": ("opentelemetry-api",),
    "remote": ("fsspec",),
    "sandbox": ("starlette", "uvicorn"),
    "socks": ("httpx[socks]",),
}


class MissingExtraError(IovoxError, ImportError):
    """An optional package is not installed; the message names it, and holds the line that installs it.

    Attributes:
        extra: the extra that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        packages = ", ".join(EXTRAS[extra])
        super().__init__(
            f'{feature} needs the extra {extra} ({packages}): pip install "iovox-async[{extra}]"'
        )
        self.extra = extra


class RequestError(IovoxError):
    """What the failures of an exchange share: how often it was tried, and which calls it was after.

    Attributes:
        attempts: how many times the request was sent.
        window: the stretch of time that was asked for, as `start .. end`, or None.
        page: the number of the page that was asked for, or None.
    """

    #: A smaller request in the place of this one may fare better.
    splittable = False

    def __init__(
        self, problem: str, *, attempts: int = 1, window: str | None = None, page: int | None = None
    ) -> None:
        super().__init__(problem)
        self.attempts = attempts
        self.window = window
        self.page = page

    def __str__(self) -> str:
        tried = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        where = [f"window {self.window}"] if self.window else []
        where += [f"page {self.page}"] if self.page else []
        at = f" ({', '.join(where)})" if where else ""
        advice = self._advice()
        return f"{self.args[0]}{tried}{at}{f'. {advice}' if advice else ''}"

    def _advice(self) -> str:
        return ""


class TransportError(RequestError):
    """The exchange broke below HTTP: no address, no connection, or a connection cut on the way."""

    #: What to look at, where that is known.
    hint = ""

    def _advice(self) -> str:
        return self.hint


class RequestTimeout(TransportError):
    """An attempt reached its deadline (the session's `timeout`, wall clock, from start to last byte)."""


class TLSError(TransportError):
    """The server's certificate cannot be trusted. Never tried again, since it will not mend itself."""


class ResponseError(RequestError):
    """The server answered, and not with calls.

    Attributes:
        status_code: the HTTP status code.
        messages: what the server said, one string an error, from XML, JSON or text.
        attempts: how many times the request was sent.
        window: the stretch of time that was asked for, as `start .. end`, or None.
        page: the number of the page that was asked for, or None.
        retry_after: seconds the server asked to wait, or None.
    """

    def __init__(
        self,
        status_code: int,
        messages: tuple[str, ...] = (),
        attempts: int = 1,
        window: str | None = None,
        page: int | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        # Some messages begin with the status themselves.
        said = "; ".join(message.removeprefix(f"HTTP {status_code}: ") for message in messages)
        super().__init__(
            f"HTTP {status_code}: {said}" if said else f"HTTP {status_code}",
            attempts=attempts,
            window=window,
            page=page,
        )
        self.status_code = status_code
        self.messages: tuple[str, ...] = tuple(messages)
        self.retry_after = retry_after


#: The endpoint's own table of 400 answers: how its error begins, the parameter it blames, the resolution.
#: Source: the error table of the documentation of calls/insights.
BAD_REQUEST_ERRORS: tuple[tuple[str, str | None, str], ...] = (
    ("Request Method must be GET", None, "Send the request with the method GET"),
    ("Order Field Invalid", "order", "Check the allowed fields in the documentation"),
    ("Order Direction Invalid", "order", "End the order in _ASC or _DESC"),
    ("Page number not an integer", "page", "Remove non-numerics from page"),
    ("Limit not an integer", "limit", "Remove non-numerics from limit"),
    ("Limit must be between", "limit", "Choose a limit from 1 to 20000"),
    ("Start Date invalid", "start_date", "Give start_date as YYYY-MM-DD HH:MM:SS"),
    ("End Date invalid", "end_date", "Give end_date as YYYY-MM-DD HH:MM:SS"),
    ("Iovox Number not an integer", "iovox_number", "Give iovox_number in digits only"),
    ("Required fields", "response_fields", "Correct or remove the invalid fields"),
)


class BadRequestError(ResponseError):
    """The endpoint refused a parameter (400, or another 4xx that blames the request). Never tried again.

    Attributes:
        parameter: the endpoint's name of the parameter, where its message names one; else None.
        hint: what to do, from the endpoint's own error table.
    """

    @property
    def _row(self) -> tuple[str, str | None, str] | None:
        said = " ".join(self.messages).casefold()
        return next((row for row in BAD_REQUEST_ERRORS if row[0].casefold() in said), None)

    @property
    def parameter(self) -> str | None:
        """The endpoint's name of the parameter that is wrong, or None."""
        row = self._row
        return row[1] if row else None

    @property
    def hint(self) -> str:
        """What to do about it."""
        row = self._row
        if row:
            return row[2]
        if self.status_code in {404, 405, 410, 415}:
            return "Check base_url: no insights endpoint answers there"
        if self.status_code == 407:
            return "The proxy wants credentials: give them in proxy="
        return "Correct the request; sending it again will not help"

    def _advice(self) -> str:
        return f"{self.hint}."


class AuthenticationError(ResponseError):
    """401: the username or key is wrong, or this machine's address is not on the account's list."""

    def _advice(self) -> str:
        return (
            "Check IOVOX_USERNAME and IOVOX_SECURE_KEY; the key works only from the IP addresses listed in the "
            "iovox portal under Admin, API Settings (a right key from an unlisted address gets this answer too)."
        )


class PermissionDeniedError(ResponseError):
    """403: the account may not read this."""

    def _advice(self) -> str:
        return (
            "Ask the account's administrator for API access, and check that this machine's IP address is "
            "listed in the iovox portal under Admin, API Settings."
        )


class RateLimitError(ResponseError):
    """429: too many requests. Tried again, after the server's own Retry-After where it gives one."""

    def _advice(self) -> str:
        return _wait(self.retry_after) or "Lower concurrency, or try again later."


class ServerError(ResponseError):
    """The server failed (408, 425, 5xx). Tried again; the endpoint's own resolution is to retry later."""

    def _advice(self) -> str:
        return _wait(self.retry_after) or "The server failed; try again later."


class UnexpectedRedirectError(ResponseError):
    """3xx: the endpoint never redirects, so this is another server's word. Never followed.

    Attributes:
        location: the origin it points to, without path and query.
    """

    def __init__(self, status_code: int, location: str | None = None) -> None:
        super().__init__(status_code)
        self.location = location

    def _advice(self) -> str:
        target = f" to {self.location}" if self.location else ""
        return f"A redirect{target} was not followed, so no credential was sent there. Check base_url."


class DecodeError(RequestError):
    """A page that cannot be read: not JSON, cut, too large, or not a list of calls."""


class RecordError(DecodeError):
    """One record that cannot be read. `on_error="skip"` leaves such records out and counts them.

    Attributes:
        index: the record's place in its page, from 0.
        path: what is wrong, as a JSON path: `$[17].call_start`.
    """

    def __init__(self, index: int, path: str, problem: str) -> None:
        super().__init__(f'{path}: {problem}. Pass on_error="skip" to leave such records out and count them')
        self.index = index
        self.path = path


class PagingError(IovoxError):
    """The list cannot be read exactly: the server ignores a parameter that exactness stands on."""


class BackfillError(IovoxError):
    """A backfill and its folder do not fit together."""


class BackfillLockedError(BackfillError):
    """Another process is at work in this folder."""


class BackfillMismatchError(BackfillError):
    """The folder belongs to another job: its query, fields, format, partitioning or account differ."""


class ManifestCorruptedError(BackfillError):
    """The manifest or a file it names is damaged; `--repair` reads again what it covers."""


def _wait(seconds: float | None) -> str:
    return f"The server asks to wait {seconds:g} seconds." if seconds is not None else ""
