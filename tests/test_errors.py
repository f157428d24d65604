"""The tree of errors: complete, documented, picklable, and helpful."""

import importlib
import pickle
import re
import sys
import tomllib
from datetime import datetime
from pathlib import Path

import httpx
import pytest

import iovox_async
from iovox_async import errors

FAULT_KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.IovoxError)
    ),
    key=lambda kind: kind.__name__,
)
MADE = {
    errors.QueryError: lambda: errors.QueryError("limit", "give 1 to 20000"),
    errors.MissingExtraError: lambda: errors.MissingExtraError("Arrow", "arrow"),
    errors.RecordError: lambda: errors.RecordError(17, "$[17].call_start", "it is no date"),
    errors.UnexpectedRedirectError: lambda: errors.UnexpectedRedirectError(302, "https://elsewhere.example"),
    **{
        kind: lambda kind=kind: kind(
            (kind is errors.BadRequestError and 400) or 503, ("said",), attempts=3, page=2
        )
        for kind in FAULT_KINDS
        if issubclass(kind, errors.ResponseError) and kind is not errors.UnexpectedRedirectError
    },
}


def make(kind):
    return MADE.get(kind, lambda: kind("what happened"))()


@pytest.mark.parametrize("kind", FAULT_KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_all_it_knows(kind):
    """An error that crosses processes keeps its message, its attributes and its position."""
    error = make(kind)
    error.position = "1a-somewhere"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args


@pytest.mark.parametrize("kind", FAULT_KINDS, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_tree_of_the_module_docstring_under_its_base(kind):
    """The drawn tree is the real one, indentation included."""
    lines = errors.__doc__.splitlines()
    names = {
        line.split()[0]: len(line) - len(line.lstrip())
        for line in lines
        if line.startswith(("      ", "    Iovox"))
    }
    assert kind.__name__ in names
    base = kind.__mro__[1]
    if kind is not errors.IovoxError:
        assert names[kind.__name__] == names[base.__name__] + 2


@pytest.mark.parametrize("kind", FAULT_KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_public(kind):
    """Whatever can be raised can be caught by name from the package."""
    assert getattr(iovox_async, kind.__name__) is kind
    assert kind.__name__ in errors.__all__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.QueryError, ValueError),
        (errors.SessionError, RuntimeError),
        (errors.MissingExtraError, ImportError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_errors_of_the_caller_are_also_the_builtin_that_a_caller_expects(kind, builtin):
    """`except ValueError` catches a wrong argument."""
    assert issubclass(kind, builtin)


def test_a_missing_extra_is_told_with_its_packages_and_the_line_that_installs_it():
    """In one wording, whichever door is tried; and the packages are those of pyproject.toml."""
    told = str(errors.MissingExtraError("iovox_async.integrations.dask", "dask"))
    assert told == (
        "iovox_async.integrations.dask needs the extra dask (dask[dataframe], distributed, numpy, pyarrow). "
        'Install it with: pip install "iovox-async[dask]"'
    )
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = {
        extra: tuple(re.match(r"[\w-]+(\[\w+\])?", package)[0] for package in packages)
        for extra, packages in project["optional-dependencies"].items()
        if extra not in {"all", "dev"}
    }
    assert wanted == errors.EXTRAS


@pytest.mark.parametrize(
    ("door", "package"),
    [
        ("aiohttp", "aiohttp"),
        ("dask", "dask.dataframe"),
        ("dlt", "dlt"),
        ("fastapi", "fastapi"),
        ("otel", "opentelemetry"),
    ],
)
def test_each_door_to_a_framework_names_its_extra_in_the_same_words(door, package, monkeypatch):
    """And what could not be imported is the cause, in case it is there and broken."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"iovox_async.integrations.{door}", raising=False)
    with pytest.raises(errors.MissingExtraError) as caught:
        importlib.import_module(f"iovox_async.integrations.{door}")
    assert str(caught.value).startswith(f"iovox_async.integrations.{door} needs the extra {door} (")
    assert caught.value.extra == door
    assert isinstance(caught.value.__cause__, ImportError)


def test_an_error_of_an_exchange_tells_attempts_window_and_page():
    """Where it happened is part of the message, wherever that became known."""
    error = errors.ServerError(500, ("Internal Server Error",))
    assert str(error) == "HTTP 500: Internal Server Error. The server failed; try again later."
    error.attempts, error.window, error.page = 5, (datetime(2024, 1, 1), datetime(2024, 1, 2)), 1
    assert str(error) == (
        "HTTP 500: Internal Server Error after 5 attempts (window 2024-01-01 00:00:00 .. 2024-01-02 00:00:00, page 1). "
        "The server failed; try again later."
    )


@pytest.mark.parametrize(
    ("said", "parameter", "cure"),
    [
        ("Request Method must be GET. POST attempted", None, "GET"),
        ("Order Field Invalid", "order", "allowed fields"),
        ("Order Direction Invalid", "order", "_ASC or _DESC"),
        ("Page number not an integer", "page", "non-numerics"),
        ("Limit not an integer", "limit", "non-numerics"),
        ("Limit must be between 1 and 20000", "limit", "20000"),
        ("Start Date invalid", "start_date", "start_date"),
        ("End Date invalid", "end_date", "end_date"),
        ("Iovox Number not an integer", "iovox_number", "digits"),
        ("Required fields olvalid: fieldone, fieldtwo", "response_fields", "invalid fields"),
        ("Something new", None, "Correct the request"),
    ],
)
def test_a_bad_request_names_the_parameter_and_the_cure_of_the_endpoints_own_table(said, parameter, cure):
    """Each row of the endpoint's error table is known by its words."""
    error = errors.BadRequestError(400, (said,))
    assert error.parameter == parameter
    assert cure in error.hint
    assert error.hint in str(error)


def test_a_message_that_begins_with_the_status_does_not_make_it_come_twice():
    """The endpoint's own begin like that."""
    error = errors.AuthenticationError(401, ("HTTP 401: Unauthorized",))
    assert str(error).startswith("HTTP 401: Unauthorized")
    assert error.messages == ("HTTP 401: Unauthorized",)


def test_a_refused_key_is_told_about_the_list_of_addresses():
    """A right key from an unlisted address gets 401 too, and the message says so."""
    assert "IP addresses" in str(errors.AuthenticationError(401))


def test_a_long_wait_is_told_with_its_length():
    """The server's own Retry-After reaches the reader of the message."""
    assert "Wait 900 seconds" in str(errors.RateLimitError(429, retry_after=900.0))


async def test_the_error_of_an_exchange_is_in_no_ring_of_causes(open_session):
    """What pickles causes too, as Dask does, would go round and round."""

    class Down(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise httpx.ConnectError("refused") from OSError("refused")

    async with open_session(transport=Down()) as insights:
        with pytest.raises(errors.TransportError) as caught:
            await insights.page("2024-01-01", "2024-01-02")
    todo, seen = [(caught.value, ())], []
    while todo:
        error, path = todo.pop()
        assert error not in path, "a ring"
        seen.append(error)
        inside = [arg for arg in error.args if isinstance(arg, BaseException)]
        todo += [
            (one, (*path, error)) for one in (error.__cause__, error.__context__, *inside) if one is not None
        ]
    assert len(seen) > 2
