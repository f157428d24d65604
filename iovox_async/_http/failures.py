"""Says what went wrong with one attempt, for `RequestThrottle` to act on: `RetryableFailure`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import RequestError


class RetryableFailure(Exception):
    """Carries an error that a retry may avoid, from `Endpoint` to `RequestThrottle`. Never leaves this package.

    Attributes:
        error: raised when no retry is left.
        overload: the server is overloaded; send fewer requests at a time.
        account_wide: the server limits the requests of the account; all of them pause.
        unreachable: no connection to the server could be made, so the request was not sent; all requests pause.
        refused: and nothing listens at its address.
        connection_lost: the connection broke; when several break at a time, all requests pause.
        retry_after: seconds from the server's `Retry-After` header, or None.
        splittable: a smaller request may succeed.
        max_attempts: attempts after which a retry is pointless, or None.
        stale_connection: a reused connection was found closed; retry at once, and do not count the attempt.
    """

    def __init__(
        self,
        error: RequestError,
        *,
        overload: bool = False,
        account_wide: bool = False,
        unreachable: bool = False,
        refused: bool = False,
        connection_lost: bool = False,
        retry_after: float | None = None,
        splittable: bool = False,
        max_attempts: int | None = None,
        stale_connection: bool = False,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.overload = overload
        self.account_wide = account_wide
        self.unreachable = unreachable
        self.refused = refused
        self.connection_lost = connection_lost
        self.retry_after = retry_after
        self.splittable = splittable
        self.max_attempts = max_attempts
        self.stale_connection = stale_connection


def is_splittable(error: RequestError) -> bool:
    """Whether a smaller request might succeed where this one failed."""
    return error._splittable  # noqa: SLF001 - private to this package
