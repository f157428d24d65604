"""The asyncio client for iovox call insights: every call of a date range, exactly once, fast, in flat memory.

The law of this room: it names what is public, and imports nothing optional.
"""

from __future__ import annotations

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
