"""The asyncio client for iovox call insights: every call of a date range, exactly once, fast, in flat memory.

The law of this room: it names what is public, and loads it when it is asked for, so that who needs one part (the pytest
plugin, say) does not pay for all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        AuthenticationError,
        BackfillError,
        BadRequest,
        ConfigurationError,
        DecodeError,
        ExchangeError,
        IovoxError,
        JobLocked,
        JobMismatch,
        ManifestDamaged,
        MissingExtraError,
        PagingError,
        PermissionDenied,
        QueryError,
        RateLimited,
        RecordError,
        ResponseError,
        ServerError,
        SessionError,
        TimedOut,
        TLSError,
        TransportError,
        UnexpectedRedirect,
    )
    from .fields import Field, Fields
    from .pacing import RetryPolicy
    from .query import Filters, InsightsQuery
    from .records import (
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
    from .session import AsyncInsights
    from .stream import CallStream, Page, StreamStats
    from .structure import make_converter

__all__ = [
    "AsyncInsights",
    "AuthenticationError",
    "BackfillError",
    "BadRequest",
    "Call",
    "CallStream",
    "Categories",
    "Category",
    "Comment",
    "ConfigurationError",
    "DecodeError",
    "ExchangeError",
    "Field",
    "Fields",
    "Filters",
    "InsightsQuery",
    "IovoxError",
    "JobLocked",
    "JobMismatch",
    "Keyword",
    "KeywordRule",
    "ManifestDamaged",
    "MissingExtraError",
    "Page",
    "PagingError",
    "PermissionDenied",
    "Phrase",
    "QueryError",
    "RateLimited",
    "RecordError",
    "ResponseError",
    "RetryPolicy",
    "ServerError",
    "SessionError",
    "StreamStats",
    "TLSError",
    "Tag",
    "Task",
    "TimedOut",
    "Transcription",
    "TransportError",
    "UnexpectedRedirect",
    "make_converter",
]

#: Where each name lives.
_HOMES = {
    name: room
    for room, names in {
        "errors": (
            "AuthenticationError",
            "BackfillError",
            "BadRequest",
            "ConfigurationError",
            "DecodeError",
            "ExchangeError",
            "IovoxError",
            "JobLocked",
            "JobMismatch",
            "ManifestDamaged",
            "MissingExtraError",
            "PagingError",
            "PermissionDenied",
            "QueryError",
            "RateLimited",
            "RecordError",
            "ResponseError",
            "ServerError",
            "SessionError",
            "TimedOut",
            "TLSError",
            "TransportError",
            "UnexpectedRedirect",
        ),
        "fields": ("Field", "Fields"),
        "pacing": ("RetryPolicy",),
        "query": ("Filters", "InsightsQuery"),
        "records": (
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
        "session": ("AsyncInsights",),
        "stream": ("CallStream", "Page", "StreamStats"),
        "structure": ("make_converter",),
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
