"""Gives methods of the blocking classes the parameters and docstrings of the async ones, so that neither is written twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

__all__ = ["blocking_text", "documented_by", "like"]

P = ParamSpec("P")
T = TypeVar("T")

#: What the docstrings of async methods say, and what those of the blocking ones say.
_WORDS: Final = (
    ("async with", "with"),
    ("async for", "for"),
    ("`async ", "`"),
    ("await ", ""),
    ("awaited", "read"),
    ("an async iterator", "an iterator"),
    ("endless async iterator", "endless iterator"),
    ("AsyncInsights", "Insights"),
    ("aclose", "close"),
    ("asyncio task", "thread"),
    ("another task", "another thread"),
    ("in the event loop", "in the session's thread"),
    ("another event loop or process", "another process"),
)


def blocking_text(text: str | None) -> str | None:
    """The docstring of a blocking method: that of the async one, in other words where they differ."""
    for word, replacement in _WORDS:
        text = text and text.replace(word, replacement)
    return text


def like(
    original: Callable[Concatenate[Any, P], object],
) -> Callable[[Callable[..., T]], Callable[Concatenate[Any, P], T]]:
    """Decorates a blocking method with the parameters and the docstring of the async method that it calls."""

    def decorate(function: Callable[..., T]) -> Callable[Concatenate[Any, P], T]:
        signature = inspect.signature(original)
        result = function.__annotations__.get("return", signature.return_annotation)
        function.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
        function.__doc__ = blocking_text(original.__doc__)
        return function

    return decorate


def documented_by(original: type) -> Callable[[type[T]], type[T]]:
    """Decorates a blocking class: the arguments and errors of the async one are added to its docstring."""

    def decorate(cls: type[T]) -> type[T]:
        _, marker, arguments = (original.__doc__ or "").partition("    Args:\n")
        cls.__doc__ = f"{cls.__doc__}\n{marker}{blocking_text(arguments)}"
        return cls

    return decorate
