"""The public names of the package, their documentation and their signatures."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import iovox_async


def test_given_the_table_of_names_when_compared_with_the_modules_then_type_checkers_see_the_same_names():
    """Given the names that load lazily, when the imports for type checkers are read, then both are the same."""
    tree = ast.parse(Path(iovox_async.__file__).read_text())
    imports = [
        node
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    ]
    seen_by_checkers = {}
    for node in imports:
        names = [alias.name for alias in node.names]
        if names == ["*"]:
            names = importlib.import_module(f"iovox_async.{node.module}").__all__
        seen_by_checkers |= dict.fromkeys(names, node.module)
    assert seen_by_checkers == iovox_async._MODULE_OF


def test_given_the_public_names_when_used_then_each_is_found_and_an_unknown_name_is_not():
    """Given `__all__`, when each name is read, then it exists; when an unknown one is read, then AttributeError is raised."""
    assert list(iovox_async.__all__) == sorted(iovox_async.__all__)
    assert set(iovox_async.__all__) <= set(dir(iovox_async))
    for name in iovox_async.__all__:
        assert getattr(iovox_async, name)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = iovox_async.nonsense


def test_given_the_public_names_when_help_is_shown_then_each_name_and_method_has_a_docstring():
    """Given every public name, when its docstring and those of its public methods are read, then none is missing."""
    undocumented = []
    for name in iovox_async.__all__:
        value = getattr(iovox_async, name)
        if not inspect.getdoc(value):
            undocumented.append(name)
        if inspect.isclass(value):
            undocumented += [
                f"{name}.{member}"
                for member, method in vars(value).items()
                if not member.startswith("_")
                and (inspect.isfunction(method) or isinstance(method, property))
                and not inspect.getdoc(getattr(value, member))
            ]
    assert undocumented == []


def test_given_the_client_when_help_is_shown_then_it_has_an_example_and_describes_every_argument():
    """Given the docstring of `AsyncInsights`, when it is read, then it shows a program and lists all arguments."""
    text = inspect.getdoc(iovox_async.AsyncInsights)
    assert "async with AsyncInsights() as insights" in text
    for name in inspect.signature(iovox_async.AsyncInsights).parameters:
        assert f"{name}:" in text


def test_given_the_client_when_its_signatures_are_read_then_names_order_and_defaults_are_those_of_the_contract():
    """Given `AsyncInsights`, when its signatures are read, then programs find the names and defaults they rely on."""
    signature = inspect.signature(iovox_async.AsyncInsights)
    assert list(signature.parameters)[:2] == ["username", "secure_key"]
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    assert defaults["concurrency"] == 8
    assert defaults["timeout"] == 60.0
    assert defaults["retry"] == iovox_async.RetryPolicy(
        max_attempts=5, initial_backoff=0.1, max_backoff=30.0, total_timeout=300.0, max_retry_after=120.0
    )
    stream = inspect.signature(iovox_async.AsyncInsights.stream).parameters
    assert [*stream][1:3] == ["start", "end"]
    assert stream["order"].default == "call_start_ASC"
    assert stream["ordered"].default is True
    assert stream["paging"].default == "auto"
    assert stream["fields"].default == iovox_async.Fields.DEFAULT
    page = inspect.signature(iovox_async.AsyncInsights.page).parameters
    assert (page["page"].default, page["page_size"].default) == (1, 10_000)
