"""Gives methods of the blocking classes the parameters and docstrings of the async ones, so that neither is written twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from ..client import AsyncInsights
    from ._session import Insights

P = ParamSpec("P")
T = TypeVar("T")

#: What the docstrings of async methods say, and what those of the blocking ones say.
_WORDS: Final = (
    ("async with", "with"),
    ("awaited", "read"),
    ("async iterator", "iterator"),
    ("AsyncInsights", "Insights"),
    ("aclose", "close"),
    ("in the event loop", "in the session's thread"),
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
        _describe(function, original)
        return function

    return decorate


def like_with_session(
    original: Callable[Concatenate[Any, AsyncInsights, P], object],
) -> Callable[[Callable[..., T]], Callable[Concatenate[Any, Insights, P], T]]:
    """As `like`, for a method whose first argument is a session."""

    def decorate(function: Callable[..., T]) -> Callable[Concatenate[Any, Insights, P], T]:
        _describe(function, original)
        return function

    return decorate


def _describe(function: Callable[..., Any], original: Callable[..., Any]) -> None:
    signature, own = inspect.signature(original), function.__annotations__
    parameters = [
        parameter.replace(annotation=own.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    result = own.get("return", signature.return_annotation)
    function.__signature__ = signature.replace(parameters=parameters, return_annotation=result)  # type: ignore[attr-defined]
    function.__doc__ = blocking_text(original.__doc__)


def documented_by(original: type) -> Callable[[type[T]], type[T]]:
    """Decorates a blocking class: the arguments and errors of the async one are added to its docstring."""

    def decorate(cls: type[T]) -> type[T]:
        # Since Python 3.13, the interpreter removes the indentation of docstrings.
        _, marker, arguments = inspect.cleandoc(original.__doc__ or "").partition("Args:\n")
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{marker}{blocking_text(arguments)}"
        return cls

    return decorate
