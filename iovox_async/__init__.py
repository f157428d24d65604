"""The asyncio client for the iovox call insights endpoint: `AsyncInsights` and everything it takes, returns and raises.

Modules are imported when a name is first used, so that a program (such as the pytest plugin) pays only for what it uses.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

#: The version of the package. The metadata of the installed package, which takes milliseconds to read, get it from here.
__version__ = "0.2.0"

if TYPE_CHECKING:
    from ._parsing.lenient import make_converter as make_converter
    from .client import *  # noqa: F403
    from .errors import *  # noqa: F403
    from .fields import *  # noqa: F403
    from .models import *  # noqa: F403
    from .query import *  # noqa: F403
    from .results import *  # noqa: F403
    from .retry import *  # noqa: F403
    from .stream import *  # noqa: F403
else:
    # Hidden from type checkers, which would accept any misspelled name because of `__getattr__`.

    #: The public names of each module. A test compares them with the `__all__` of the modules.
    _NAMES = {
        "_parsing.lenient": "make_converter",
        "client": "AsyncInsights",
        "errors": (
            "AuthenticationError BackfillError BackfillLockedError BackfillMismatchError BadRequestError "
            "ConfigurationError DecodeError IovoxError ManifestCorruptedError MissingExtraError PagingError "
            "PermissionDeniedError QueryError RateLimitError RecordError RequestError RequestTimeout ResponseError "
            "ServerError SessionError TLSError TransportError UnexpectedRedirectError"
        ),
        "fields": "Field Fields",
        "models": ("Call Categories Category Comment Keyword KeywordRule Phrase Tag Task Transcription"),
        "query": "Filters InsightsQuery",
        "results": "Page StreamStats",
        "retry": "RetryPolicy",
        "stream": "CallStream",
    }
    _MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
    __all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - a list

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Imports make thousands of objects that all stay, so each run of the garbage collector would be for nothing.
        collects_garbage = gc.isenabled()
        gc.disable()
        try:
            if name == "AsyncInsights":
                # Otherwise the first record would import cattrs, and the first retry tenacity, which stops the event loop.
                importlib.import_module("._parsing.lenient", __name__)
                importlib.import_module("tenacity")
            value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        finally:
            if collects_garbage:
                gc.enable()
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
