"""Headers: those that the caller adds to requests, the `User-Agent`, and those of a response."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .. import __version__
from ..errors import ConfigurationError
from .engines import describe_type

if TYPE_CHECKING:
    from .engines import Engine

#: Names and values as they are sent.
RequestHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = r"[\t\x20-\x7e]*"
#: What the client itself sets: the credentials, what the response's format depends on, and what belongs to the connection.
_RESERVED: Final = frozenset(
    (
        "username",
        "securekey",
        "accept",
        "accept-encoding",
        "cache-control",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_MASKED_NAME: Final = r"(?i)auth|cookie|credential|key|passw|secret|session|signature|token"
#: Characters of a value from which it is masked in messages: shorter ones are no secrets, and occur in other words.
_SECRET_LENGTH: Final = 6


def user_agent(engine: Engine) -> bytes:
    """The header `User-Agent`: this package, Python and the library, with their versions."""
    python = ".".join(platform.python_version_tuple()[:2])
    library = f"{engine.name} {engine.library.__version__}"
    return f"iovox-async/{__version__} (Python {python}; {library})".encode()


def check_headers(headers: Mapping[str, str] | None) -> RequestHeaders:
    """Checks the headers that a caller adds to requests.

    Raises:
        ConfigurationError: a name or value is invalid, or the client sets this header itself. No message contains a value.
    """
    if headers is None:
        return ()
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            "headers", f"must be a mapping of names to values, got {describe_type(headers)}"
        )
    return tuple((_checked_name(name), _checked_value(name, value)) for name, value in headers.items())


def _checked_name(name: object) -> bytes:
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise ConfigurationError("headers", "must have names of letters, digits and hyphens")
    if name.lower() in _RESERVED:
        hint = (
            "Pass username= and secure_key= instead." if name.lower() in {"username", "securekey"} else None
        )
        raise ConfigurationError("headers", f"must not contain {name}, which the client sets itself", hint)
    return name.encode()


def _checked_value(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise ConfigurationError(
            "headers", f"must have strings as values, got {describe_type(value)} for {name}"
        )
    if not re.fullmatch(_VALUE, value) or value != value.strip():
        raise ConfigurationError(
            "headers",
            f"must have values of printable ASCII characters without spaces around them, see {name}",
        )
    return value.encode()


def secret_values(headers: RequestHeaders) -> list[str]:
    """The values that no message may contain: of headers that are named like a token, a cookie or a key."""
    values = [value.decode() for name, value in headers if re.search(_MASKED_NAME, name.decode())]
    # A scheme such as "Bearer" comes before the secret.
    secrets = [value.rpartition(" ")[2] for value in values]
    return [secret for secret in secrets if len(secret) >= _SECRET_LENGTH]


class ResponseHeaders(Mapping[str, str]):
    """The headers of a response; a name matches in any case. Values of a name that comes several times are joined by commas."""

    __slots__ = ("_values",)

    def __init__(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in headers:
            key = name.lower()
            before = self._values.get(key)
            self._values[key] = value if before is None else f"{before}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __repr__(self) -> str:
        return repr(self._values)

    def __reduce__(self) -> Any:
        return type(self), (tuple(self._values.items()),)
