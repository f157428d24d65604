"""Checks the arguments of `AsyncInsights`, and keeps its credentials out of every repr, log and traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from ._params.validators import InvalidValue, as_limit
from ._redaction import shorten_repr
from ._wording import Wording
from .errors import ConfigurationError, QueryError
from .retry import seconds

Sign = Callable[[], list[tuple[bytes, bytes]]]

#: The largest integer argument: twice as much is still the size of something.
_MAX_INTEGER: Final = 1 << 60


class Secret:
    """A credential argument; its repr does not show the value.

    Args:
        parameter: the name of the argument.
        value: its value; None: read the environment variable.
    """

    __slots__ = ("_value", "parameter", "variable")

    def __init__(self, parameter: str, value: str | Secret | None) -> None:
        self.parameter = parameter
        self.variable = f"IOVOX_{parameter.upper()}"
        if isinstance(value, Secret):
            value = value._value  # noqa: SLF001 - of the same class
        self._value: str | None = os.environ.get(self.variable) if value is None else value

    def __repr__(self) -> str:
        return "<Secret>"

    def reveal(self) -> bytes:
        """Returns the value as bytes.

        Raises:
            ConfigurationError: it cannot be sent as a header; the message does not contain the value.
        """
        problem = self._problem()
        if problem:
            hint = Wording(f"Set {{{self.parameter}}} as shown in the iovox portal.")
            raise ConfigurationError(self.parameter, problem, hint=hint)
        return str(self._value).encode("ascii")

    def _problem(self) -> str | None:
        # A function of its own: its frame, which holds the value, must not be part of the traceback.
        value = self._value
        if value is None:
            return "is missing"
        if not isinstance(value, str) or not value:
            return "must be a non-empty string"
        if value != value.strip():
            return "must not start or end with a space or a line break"
        if not value.isascii() or not value.isprintable():
            return "must contain printable ASCII characters only"
        return None


def hide_key(arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a client with the key as a `Secret`, so that a traceback of the caller cannot show it."""
    if len(arguments) > 1:
        arguments = (arguments[0], Secret("secure_key", arguments[1]), *arguments[2:])
    if "secure_key" in options:
        options = {**options, "secure_key": Secret("secure_key", options["secure_key"])}
    return arguments, options


def make_signer(username: Secret, secure_key: Secret) -> Sign:
    """Returns a function that returns the credential headers.

    Only its closure holds them, which no repr, `vars` or pickle shows.

    Raises:
        ConfigurationError: a credential is missing or cannot be sent.
    """
    headers = [(b"username", username.reveal()), (b"secureKey", secure_key.reveal())]
    return lambda: list(headers)


def check_page_size(
    value: int | None, error: type[ConfigurationError | QueryError] = ConfigurationError
) -> int | None:
    """Checks the number of rows per request; None is valid.

    Args:
        value: the number.
        error: the class of the error: `QueryError` for an argument of a method, not of the client.
    """
    try:
        return as_limit(value)
    except InvalidValue as invalid:
        raise error("page_size", str(invalid)) from None


def check_positive_integer(name: str, value: int) -> int:
    """Checks an integer argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(name, f"must be a positive integer, got {value!r}")
    if value > _MAX_INTEGER:
        raise ConfigurationError(
            name, f"must be at most {_MAX_INTEGER}, got an integer of {value.bit_length()} bits"
        )
    return value


def check_flag(
    name: str, value: object, error: type[ConfigurationError | QueryError] = ConfigurationError
) -> None:
    """Checks an argument that is True or False: "no" would be true."""
    if not isinstance(value, bool):
        raise error(name, f"must be True or False, got {shorten_repr(value)}")


def environment_flag(name: str) -> bool:
    """Whether an environment variable is 1 or true; it may also be 0, false or empty.

    Raises:
        ConfigurationError: it is something else.
    """
    value = os.environ.get(name, "").strip().lower()
    if value not in {"", "0", "1", "false", "true"}:
        raise ConfigurationError(name, f"must be 1 or 0, got {shorten_repr(value)}")
    return value in {"1", "true"}


def positive_seconds(name: str, value: float | timedelta) -> float:
    """Converts a duration to seconds, and checks that it is longer than 0."""
    duration = seconds(value, name)
    if not duration:
        raise ConfigurationError(name, "must be longer than 0 seconds, got 0")
    return duration
