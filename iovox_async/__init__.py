"""The asyncio client for iovox call insights: every call of a date range, exactly once, fast, in flat memory.

The law of this room: it names what is public, and loads it when it is asked for, so that who needs one part (the pytest
plugin, say) does not pay for all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._parsing.lenient import make_converter
    from .client import AsyncInsights
    from .errors import (
        AuthenticationError,
        BackfillError,
        BackfillLockedError,
        BackfillMismatchError,
        BadRequestError,
        ConfigurationError,
        DecodeError,
        IovoxError,
        ManifestCorruptedError,
        MissingExtraError,
        PagingError,
        PermissionDeniedError,
        QueryError,
        RateLimitError,
        RecordError,
        RequestError,
        RequestTimeout,
        ResponseError,
        ServerError,
        SessionError,
        TLSError,
        TransportError,
        UnexpectedRedirectError,
    )
    from .fields import Field, Fields
    from .models import (
        Call,
        Categories,
        Category,
        Comment,
        Keyword,
        KeywordRule,
        Phrase,
        Tag,
        Task,
        Transcription,
    )
    from .query import Filters, InsightsQuery
    from .retry import RetryPolicy
    from .stream import CallStream, Page, StreamStats

__all__ = [
    "AsyncInsights",
    "AuthenticationError",
    "BackfillError",
    "BackfillLockedError",
    "BackfillMismatchError",
    "BadRequestError",
    "Call",
    "CallStream",
    "Categories",
    "Category",
    "Comment",
    "ConfigurationError",
    "DecodeError",
    "Field",
    "Fields",
    "Filters",
    "InsightsQuery",
    "IovoxError",
    "Keyword",
    "KeywordRule",
    "ManifestCorruptedError",
    "MissingExtraError",
    "Page",
    "PagingError",
    "PermissionDeniedError",
    "Phrase",
    "QueryError",
    "RateLimitError",
    "RecordError",
    "RequestError",
    "RequestTimeout",
    "ResponseError",
    "RetryPolicy",
    "ServerError",
    "SessionError",
    "StreamStats",
    "TLSError",
    "Tag",
    "Task",
    "Transcription",
    "TransportError",
    "UnexpectedRedirectError",
    "make_converter",
]

#: Where each name lives.
_HOMES = {
    name: room
    for room, names in {
        "errors": (
            "AuthenticationError",
            "BackfillError",
            "BadRequestError",
            "ConfigurationError",
            "DecodeError",
            "RequestError",
            "IovoxError",
            "BackfillLockedError",
            "BackfillMismatchError",
            "ManifestCorruptedError",
            "MissingExtraError",
            "PagingError",
            "PermissionDeniedError",
            "QueryError",
            "RateLimitError",
            "RecordError",
            "ResponseError",
            "ServerError",
            "SessionError",
            "RequestTimeout",
            "TLSError",
            "TransportError",
            "UnexpectedRedirectError",
        ),
        "fields": ("Field", "Fields"),
        "retry": ("RetryPolicy",),
        "query": ("Filters", "InsightsQuery"),
        "models": (
            "Call",
            "Categories",
            "Category",
            "Comment",
            "Keyword",
            "KeywordRule",
            "Phrase",
            "Tag",
            "Task",
            "Transcription",
        ),
        "client": ("AsyncInsights",),
        "results": ("Page", "StreamStats"),
        "stream": ("CallStream",),
        "_parsing.lenient": ("make_converter",),
    }.items()
    for name in names
}


if not TYPE_CHECKING:
    # Hidden from checkers, which would take any misspelt name for one of these.

    def __getattr__(name: str) -> Any:
        room = _HOMES.get(name)
        if room is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{room}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
