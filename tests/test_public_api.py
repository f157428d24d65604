"""What the package offers by name."""

import ast
import inspect
from pathlib import Path

import pytest

import iovox_async


def test_all_names_exactly_what_the_package_offers_sorted():
    """`__all__` is complete, exact and in order; checkers see what programs get."""
    tree = ast.parse(Path(iovox_async.__file__).read_text())
    shown = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(iovox_async.__all__) == shown == set(iovox_async._HOMES)
    assert list(iovox_async.__all__) == sorted(iovox_async.__all__)
    assert set(iovox_async.__all__) <= set(dir(iovox_async))
    for name in iovox_async.__all__:
        assert getattr(iovox_async, name)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = iovox_async.nonsense


def test_every_public_name_has_a_docstring_and_so_has_every_public_method():
    """`help()` has an answer for everything."""
    bare = []
    for name in iovox_async.__all__:
        thing = getattr(iovox_async, name)
        if not inspect.getdoc(thing):
            bare.append(name)
        if inspect.isclass(thing):
            bare += [
                f"{name}.{member}"
                for member, value in vars(thing).items()
                if not member.startswith("_")
                and (inspect.isfunction(value) or isinstance(value, property))
                and not inspect.getdoc(getattr(thing, member))
            ]
    assert bare == []


def test_help_of_the_session_is_a_tutorial():
    """The class docstring shows a program and tells of every argument."""
    text = inspect.getdoc(iovox_async.AsyncInsights)
    assert "async with AsyncInsights() as insights" in text
    for name in inspect.signature(iovox_async.AsyncInsights).parameters:
        assert f"{name}:" in text


def test_the_signatures_of_the_contract_hold():
    """Names, order and defaults that programs rely on."""
    signature = inspect.signature(iovox_async.AsyncInsights)
    assert list(signature.parameters)[:2] == ["username", "secure_key"]
    defaults = {name: p.default for name, p in signature.parameters.items()}
    assert defaults["concurrency"] == 8
    assert defaults["timeout"] == 60.0
    assert defaults["retry"] == iovox_async.RetryPolicy(
        max_attempts=5, initial_backoff=0.5, max_backoff=30.0, total_timeout=300.0, max_retry_after=120.0
    )
    stream = inspect.signature(iovox_async.AsyncInsights.stream).parameters
    assert [*stream][1:3] == ["start", "end"]
    assert stream["order"].default == "call_start_ASC"
    assert stream["ordered"].default is True
    assert stream["paging"].default == "auto"
    assert stream["fields"].default == iovox_async.Fields.DEFAULT
