"""The HTTP libraries that requests may be sent with: httpx, and its fork httpx2, which has the same API.

Invariants:

- The package works with either library while the other cannot be imported.
- A library is not chosen because it is installed.
- httpx2 is imported when a session that has chosen it opens, in a thread, and never otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec

from .._redaction import shorten_repr
from ..errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    import httpx
    import httpx2

    #: What sends one request.
    Transport: TypeAlias = httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport

EngineName: TypeAlias = Literal["httpx", "httpx2"]
#: The package of the connection pool below each library.
_POOL_PACKAGES: Final[dict[EngineName, str]] = {"httpx": "httpcore", "httpx2": "httpcore2"}


class Engine(msgspec.Struct, frozen=True):
    """An HTTP library.

    Attributes:
        name: its name.
        library: the module `httpx` or `httpx2`.
    """

    name: EngineName
    library: Any


def load_engine(name: EngineName) -> Engine:
    """Imports an HTTP library. It takes a tenth of a second the first time.

    Raises:
        ConfigurationError, MissingExtraError: it is not installed.
    """
    try:
        return Engine(name, importlib.import_module(name))
    except ImportError as error:
        raise _not_installed(name) from error


def load_pool_package(name: EngineName) -> Any:
    """Imports the package of the connection pool below a library.

    Raises:
        ConfigurationError, MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(_POOL_PACKAGES[name])
    except ImportError as error:
        raise _not_installed(name) from error


def check_engine(name: EngineName, transport: object = None) -> EngineName:
    """Returns the library of a transport; without one, the library of this name. Imports nothing.

    Raises:
        ConfigurationError: the transport belongs to neither library, or not to the one named.
        MissingExtraError: the library is not installed.
    """
    if name not in get_args(EngineName):
        raise ConfigurationError("engine", f'must be "httpx" or "httpx2", got {shorten_repr(name)}')
    if transport is None:
        if not is_installed(name):
            raise _not_installed(name)
        return name
    for candidate in _POOL_PACKAGES:
        # Whoever has a transport has imported its library.
        library = sys.modules.get(candidate)
        if isinstance(transport, getattr(library, "AsyncBaseTransport", ())):
            if name == "httpx2" and candidate != "httpx2":
                raise ConfigurationError(
                    "transport",
                    f'must be one of httpx2 if engine is "httpx2", got {describe_type(transport)}',
                    "Leave engine out: a transport is used with its own library.",
                )
            return candidate
    raise ConfigurationError(
        "transport",
        f"must be an asynchronous transport of httpx, httpx2 or httpx_aiohttp, got {describe_type(transport)}",
        "Pass one such as httpx.AsyncHTTPTransport(), httpx2.AsyncHTTPTransport() or httpx_aiohttp.AiohttpTransport(); "
        "no client, no class, and no synchronous transport.",
    )


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it. Packages that were found once are not searched for again."""
    if package in sys.modules:
        return sys.modules[package] is not None
    if package not in _installed:
        try:
            if importlib.util.find_spec(package) is None:
                return False
        except (ImportError, ValueError):
            return False
        _installed.add(package)
    return True


#: Packages that are installed. Searched for when this module is imported, because a search reads folders, which would block
#: an event loop.
_installed: Final[set[str]] = set()
for _name in get_args(EngineName):
    is_installed(_name)


def _not_installed(name: EngineName) -> ConfigurationError | MissingExtraError:
    if name == "httpx2":
        return MissingExtraError('engine="httpx2"', "httpx2")
    return ConfigurationError(
        "engine",
        'is "httpx", which cannot be imported',
        'Install httpx, or pass engine="httpx2", which needs the extra httpx2.',
    )


def describe_type(value: object) -> str:
    """The class of a value, with its module; a class is named as such."""
    kind = value if isinstance(value, type) else type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    )
    return f"the class {name}" if kind is value else name


# The default library is imported with the client. Otherwise the first session that opens would import it, for more than a tenth
# of a second: the thread that imports holds the interpreter's lock, so the event loop stops, and the first record waits.
with contextlib.suppress(ImportError):
    importlib.import_module("httpx")
    importlib.import_module("httpcore")
