"""The arguments of a session, checked.

The law of this room: a session that cannot work is never built, and what is wrong is said with the name of the argument
and of the environment variable. No value of a credential is part of a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from ._paging import LARGEST
from .errors import ConfigurationError
from .retry import seconds

__all__ = ["Secret", "Sign", "checked_page_size", "positive_seconds", "signer", "whole"]

Sign = Callable[[], list[tuple[bytes, bytes]]]


class Secret:
    """A credential on its way into the session: variables that hold it show nothing of it."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None, variable: str) -> None:
        self._value = os.environ.get(variable) if value is None else value

    def __repr__(self) -> str:
        return "<Secret>"

    def problem(self) -> str | None:
        """Why it cannot be sent as a header, or None."""
        value = self._value
        if value is None:
            return "it is missing"
        if not isinstance(value, str) or not value:
            return "it is empty"
        if value != value.strip():
            return "it begins or ends with a blank or a line break"
        if not value.isascii() or not value.isprintable():
            return "it holds a line break, a control character or a letter outside ASCII"
        return None

    def reveal(self) -> bytes:
        """Its bytes."""
        return str(self._value).encode("ascii")


def signer(username: Secret, secure_key: Secret) -> Sign:
    """A function that gives the credential headers; only its closure holds them.

    No repr, `vars` or pickle shows a closure. What could not be sent is refused unseen.
    """
    for name, secret in (("username", username), ("secure_key", secure_key)):
        problem = secret.problem()
        if problem is not None:
            variable = f"IOVOX_{name.upper()}"
            raise ConfigurationError(
                f"{name}: {problem}; pass {name}= or set {variable}, as the iovox portal shows it"
            )
    headers = [(b"username", username.reveal()), (b"secureKey", secure_key.reveal())]
    return lambda: list(headers)


def checked_page_size(value: int | None) -> int | None:
    """Rows a request, or None."""
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST
    ):
        raise ConfigurationError(f"page_size: a whole number from 1 to {LARGEST} is wanted, not {value!r}")
    return value


def whole(value: int, name: str) -> int:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name}: a whole number from 1 is wanted, not {value!r}")
    return value


def positive_seconds(value: float | timedelta, name: str) -> float:
    """A duration longer than none, in seconds."""
    duration = seconds(value, name)
    if not duration:
        raise ConfigurationError(f"{name}: more than 0 seconds are wanted")
    return duration
