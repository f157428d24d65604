"""The HTTP libraries that requests may be sent with: httpx, and its fork httpx2, which has the same API.

Invariants:

- A library is imported when a session chooses it, and never otherwise.
- Which libraries are installed changes nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from attrs import frozen

from .._redaction import shorten_repr
from ..errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    import httpx
    import httpx2

    #: What sends one request.
    Transport: TypeAlias = httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport

__all__ = ["Engine", "EngineName", "choose_engine", "describe_type", "load_engine"]

EngineName: TypeAlias = Literal["httpx", "httpx2"]
#: The package of the connection pool below each library.
_POOL_PACKAGES: Final[dict[EngineName, str]] = {"httpx": "httpcore", "httpx2": "httpcore2"}


@frozen
class Engine:
    """An HTTP library.

    Attributes:
        name: its name.
        library: the module `httpx` or `httpx2`.
        pool: the module `httpcore` or `httpcore2`.
    """

    name: EngineName
    library: Any
    pool: Any

    @property
    def version(self) -> str:
        """Its name and version: `httpx 0.28.1`."""
        return f"{self.name} {self.library.__version__}"


def load_engine(name: EngineName) -> Engine:
    """Imports an HTTP library.

    Raises:
        ConfigurationError: there is no engine of this name.
        MissingExtraError: it is not installed.
    """
    _check_name(name)
    try:
        library, pool = importlib.import_module(name), importlib.import_module(_POOL_PACKAGES[name])
    except ImportError as error:
        if name == "httpx2":
            raise MissingExtraError('engine="httpx2"', "httpx2") from error
        raise ConfigurationError(
            "engine",
            f'is "httpx", which cannot be imported ({error})',
            'Install httpx, or pass engine="httpx2", which needs the extra httpx2.',
        ) from error
    return Engine(name, library, pool)


def choose_engine(name: EngineName, transport: object = None) -> Engine:
    """Returns the library of a transport; without one, the library of this name.

    Raises:
        ConfigurationError: the transport belongs to neither library, or not to the one named.
        MissingExtraError: the library is not installed.
    """
    _check_name(name)
    if transport is None:
        return load_engine(name)
    for candidate in get_args(EngineName):
        # Whoever has a transport has imported its library.
        library = sys.modules.get(candidate)
        if isinstance(transport, getattr(library, "AsyncBaseTransport", ())):
            if candidate == "httpx" and name == "httpx2" and library is not sys.modules.get("httpx2"):
                raise ConfigurationError(
                    "transport",
                    f'must be one of httpx2 if engine is "httpx2", got {describe_type(transport)}',
                    "Leave engine out: a transport is used with its own library.",
                )
            return load_engine(candidate)
    raise ConfigurationError(
        "transport",
        f"must be an asynchronous transport of httpx, httpx2 or httpx_aiohttp, got {describe_type(transport)}",
        "Pass one such as httpx.AsyncHTTPTransport(), httpx2.AsyncHTTPTransport() or httpx_aiohttp.AiohttpTransport(); "
        "no client, no class, and no synchronous transport.",
    )


def _check_name(name: object) -> None:
    if name not in get_args(EngineName):
        raise ConfigurationError("engine", f'must be "httpx" or "httpx2", got {shorten_repr(name)}')


def describe_type(value: object) -> str:
    """The class of a value, with its module; a class is named as such."""
    kind = value if isinstance(value, type) else type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    )
    return f"the class {name}" if kind is value else name
